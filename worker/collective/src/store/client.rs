//! Asks the store, with a connection for each request: there are few, and nothing is left open or locked by a wait.

use super::wire::{self, Answer, Request, Verb};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(super) host: String,
    pub(super) port: u16,
    deadline: Duration,
}

/// The server's answer to a wait that ended in vain must still arrive.
const GRACE: Duration = Duration::from_secs(5);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);

impl Client {
    pub(super) fn new(host: String, port: u16, deadline: Duration) -> Client {
        Client { host, port, deadline }
    }

    /// The same with another deadline.
    pub(crate) fn within(&self, deadline: Duration) -> Client {
        Client { deadline, ..self.clone() }
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Returns when the store has answered; keeps trying until the deadline, for it may just be starting.
    ///
    /// # Errors
    /// Where nobody answered, and why.
    pub(super) fn greet(&self) -> Result<(), String> {
        let until = Instant::now() + self.deadline;
        let greeting = Request { verb: Verb::Wait, wait: Duration::ZERO, keys: vec![], value: vec![] };
        loop {
            match self.ask(&greeting) {
                Ok(_) => return Ok(()),
                Err(reason) if Instant::now() + PAUSE >= until => return Err(reason),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// # Errors
    /// Where nobody answered, and why.
    pub(crate) fn ask(&self, request: &Request) -> Result<Answer, String> {
        self.try_to_ask(request).map_err(|e| {
            let Client { host, port, deadline } = self;
            format!(
                "no store answered at {host}:{port} within {deadline:?} ({e}); is the worker that serves it running?"
            )
        })
    }

    fn try_to_ask(&self, request: &Request) -> io::Result<Answer> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.deadline) {
                Ok(mut stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(self.deadline))?;
                    let wait = if request.wait.is_zero() { self.deadline } else { request.wait + GRACE };
                    stream.set_read_timeout(Some(wait))?;
                    request.write(&mut stream)?;
                    return wire::read_answer(&mut stream);
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}
