//! Serves the store: a thread that accepts, and one for each request, which may have to wait for its keys.

use super::wire::{self, Answer, Request, Verb};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Until it is dropped.
pub(super) struct Server {
    state: Arc<State>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    values: HashMap<Vec<u8>, Vec<u8>>,
    closing: bool,
}

/// For one who has connected to send a request and take its answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    pub(super) fn start(listener: TcpListener) -> io::Result<Server> {
        let address = listener.local_addr()?;
        let state: Arc<State> = Arc::default();
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("store".into());
        let accepting = thread.spawn(move || accept(&listener, &shared))?;
        Ok(Server { state, address, accepting: Some(accepting) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.lock().closing = true;
        self.state.changed.notify_all();
        // a connection ends the accept that is waiting for one
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken)
            && accepting.join().is_err()
        {
            tracing::warn!("the store's thread panicked");
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.lock().closing {
            return;
        }
        let state = Arc::clone(state);
        let serve = move |stream: TcpStream| {
            let thread = std::thread::Builder::new().name("store-request".into());
            thread.spawn(move || {
                if let Err(reason) = serve(stream, &state) {
                    tracing::debug!(%reason, "a request to the store failed");
                }
            })
        };
        if let Err(reason) = stream.and_then(serve) {
            tracing::warn!(%reason, "the store cannot take a request");
            // out of sockets or threads: others may be about to end
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = Request::read(&mut stream)?;
    match state.answer(request) {
        Some(answer) => wire::write_answer(&answer, &mut stream),
        // the store is closing, which the end of the connection says
        None => Ok(()),
    }
}

impl State {
    /// None when the store is closing.
    fn answer(&self, request: Request) -> Option<Answer> {
        let Request { verb, wait, keys, value } = request;
        let mut held = self.lock();
        if matches!(verb, Verb::Get | Verb::Wait) {
            return self.wait_for(held, &keys, wait).map(|held| held.find(verb, &keys));
        }
        let key = keys.into_iter().next().unwrap_or_default();
        let answer = held.change(verb, key, value);
        self.changed.notify_all();
        Some(Some(answer))
    }

    /// Returns when all keys are there or the time is over; none when the store is closing.
    fn wait_for<'a>(
        &'a self,
        mut held: MutexGuard<'a, Held>,
        keys: &[Vec<u8>],
        wait: Duration,
    ) -> Option<MutexGuard<'a, Held>> {
        let started = Instant::now();
        while !held.closing && !keys.iter().all(|key| held.values.contains_key(key)) {
            let Some(left) = wait.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
                return Some(held);
            };
            held = self.changed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (!held.closing).then_some(held)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn find(&self, verb: Verb, keys: &[Vec<u8>]) -> Answer {
        let there = keys.iter().all(|key| self.values.contains_key(key));
        let value = keys.first().filter(|_| verb == Verb::Get).and_then(|key| self.values.get(key));
        there.then(|| value.cloned().unwrap_or_default())
    }

    fn change(&mut self, verb: Verb, key: Vec<u8>, value: Vec<u8>) -> Vec<u8> {
        match verb {
            Verb::Set => {
                self.values.insert(key, value);
                Vec::new()
            }
            Verb::Add => {
                let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
                let before: i64 = self.values.get(&key).and_then(|value| number(value)).unwrap_or(0);
                let sum = before.wrapping_add(number(&value).unwrap_or(0)).to_string().into_bytes();
                self.values.insert(key, sum.clone());
                sum
            }
            Verb::Delete => {
                if self.values.remove(&key).is_some() {
                    b"1".to_vec()
                } else {
                    b"0".to_vec()
                }
            }
            Verb::Get | Verb::Wait => Vec::new(),
        }
    }
}
