//! Where the ranks of a generation meet: a key-value store that one process serves. c10d reads and writes it through
//! `crate::ffi`. It carries addresses, no tensors.
//!
//! c10d's own TCP store would do, but it looks up the name of every peer's address: without a name server that answers,
//! each connection takes ten seconds. It also listens on every address of the machine.

mod client;
mod server;
mod wire;

pub(crate) use client::Client;
use server::Server;
use std::net::{IpAddr, TcpListener};
use std::time::Duration;
pub(crate) use wire::{Request, VERBS};

use crate::{CollectiveError, ffi, form};

/// It has no access control: bind it to an address that only workers reach.
pub struct Store {
    pub(crate) client: Client,
    /// of the process that serves
    _server: Option<Server>,
}

impl Store {
    /// Serves on `bind_host` and a free port, which is returned, until the store is dropped: keep it while ranks may
    /// still join.
    ///
    /// # Errors
    /// When the address is not one of this machine, or libtorch is not the version this was built for.
    pub fn serve(bind_host: &str, deadline: Duration) -> Result<(Store, u16), CollectiveError> {
        ffi::check_version()?;
        let fail =
            |e| CollectiveError::library(format!("cannot serve on {bind_host}: {e}; give an address of this machine"));
        let listener = TcpListener::bind((bind_host, 0)).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let server = Server::start(listener).map_err(fail)?;
        let client = Client::new(reachable(address.ip()), address.port(), deadline);
        Ok((Store { client, _server: Some(server) }, address.port()))
    }

    /// Refers to the store that another process serves.
    ///
    /// # Errors
    /// When it does not answer within the deadline, or libtorch is not the version this was built for.
    pub fn connect(host: &str, port: u16, deadline: Duration) -> Result<Store, CollectiveError> {
        ffi::check_version()?;
        let client = Client::new(host.to_owned(), port, deadline);
        client.greet().map_err(|reason| CollectiveError::Peer { operation: form::OPERATION, reason })?;
        Ok(Store { client, _server: None })
    }
}

/// Where a socket bound to `ip` is reached from this machine.
fn reachable(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(any) if any.is_unspecified() => "127.0.0.1".into(),
        IpAddr::V6(any) if any.is_unspecified() => "::1".into(),
        ip => ip.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::wire::Verb;
    use super::*;
    use std::time::Instant;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn ask(client: &Client, verb: Verb, keys: &[&str], value: &[u8], wait: Duration) -> Option<Vec<u8>> {
        let keys = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        client.ask(&Request { verb, wait, keys, value: value.to_vec() }).unwrap()
    }

    fn served() -> (Store, Client) {
        let (store, port) = Store::serve("127.0.0.1", DEADLINE).unwrap();
        let client = Store::connect("127.0.0.1", port, DEADLINE).unwrap().client;
        (store, client)
    }

    #[test]
    fn what_one_sets_the_other_gets() {
        let (store, client) = served();
        let large = vec![7; 100_000];
        assert_eq!(ask(&store.client, Verb::Set, &["a"], &large, DEADLINE), Some(vec![]));
        assert_eq!(ask(&client, Verb::Get, &["a"], &[], DEADLINE), Some(large));
        ask(&client, Verb::Set, &["a"], b"", DEADLINE);
        assert_eq!(ask(&store.client, Verb::Get, &["a"], &[], DEADLINE), Some(vec![]));
        assert_eq!(ask(&client, Verb::Delete, &["a"], &[], DEADLINE), Some(b"1".to_vec()));
        assert_eq!(ask(&client, Verb::Delete, &["a"], &[], DEADLINE), Some(b"0".to_vec()));
        assert_eq!(ask(&store.client, Verb::Get, &["a"], &[], Duration::ZERO), None);
    }

    #[test]
    fn a_get_waits_for_all_its_keys_until_its_time_is_over() {
        let (store, client) = served();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| ask(&client, Verb::Wait, &["a", "b"], &[], DEADLINE));
            ask(&store.client, Verb::Set, &["a"], b"1", DEADLINE);
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished());
            ask(&store.client, Verb::Set, &["b"], b"2", DEADLINE);
            assert_eq!(waiting.join().unwrap(), Some(vec![]));
        });
        let started = Instant::now();
        assert_eq!(ask(&client, Verb::Wait, &["a", "c"], &[], Duration::from_millis(60)), None);
        assert!(started.elapsed() >= Duration::from_millis(60));
    }

    #[test]
    fn additions_of_many_are_not_lost() {
        let (store, _) = served();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..25).for_each(|_| drop(ask(&store.client, Verb::Add, &["n"], b"2", DEADLINE))));
            }
        });
        assert_eq!(ask(&store.client, Verb::Add, &["n"], b"-1", DEADLINE), Some(b"399".to_vec()));
    }

    #[test]
    fn a_store_that_is_gone_is_an_error_also_for_one_who_waits() {
        let (store, client) = served();
        let request = Request { verb: Verb::Get, wait: DEADLINE, keys: vec![b"never".to_vec()], value: vec![] };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| client.ask(&request));
            std::thread::sleep(Duration::from_millis(50));
            drop(store);
            assert!(waiting.join().unwrap().is_err());
        });
        assert!(client.ask(&request).is_err());
    }

    #[test]
    fn nonsense_on_the_port_does_no_harm() {
        use std::io::{Read, Write};
        let (store, _) = served();
        for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[255; 64], &[]] {
            let mut stream = std::net::TcpStream::connect((&*store.client.host, store.client.port)).unwrap();
            stream.write_all(nonsense).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty());
        }
        store.client.greet().unwrap();
    }
}
