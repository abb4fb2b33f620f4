//! A server that fails or does not answer is said within the deadline, with its address and what it said; addresses that
//! make no sense are refused before anyone is asked.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

#[path = "../../data/tests/checkpoint_suite/mod.rs"]
mod checkpoint_suite;
mod support;

use accord_data::checkpoint::{CheckpointError, CheckpointStore};
use accord_objects::{Options, open_with};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(3);
/// Of a busy test machine, on top of the deadline.
const SLACK: Duration = Duration::from_secs(4);

/// Answers every connection with `answer`, and keeps those it has no answer for.
fn server(answer: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            match answer {
                Some(answer) => reply(&mut stream, answer),
                None => kept.push(stream),
            }
        }
    });
    address
}

fn reply(stream: &mut TcpStream, answer: &str) {
    // the whole of a small request; what is not read of a larger one is no matter
    let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|n| n > 0) {}
    let _ = stream.write_all(answer.as_bytes());
}

fn store(endpoint: &str) -> CheckpointStore {
    open_with("s3://bucket/run", Path::new("unused"), &support::options(endpoint, DEADLINE)).unwrap()
}

/// What every kind of call says. Each has to come back within the deadline.
fn failures(store: &CheckpointStore) -> Vec<String> {
    type Call = fn(&CheckpointStore) -> CheckpointError;
    let calls: [Call; 5] = [
        |s| s.write_shard(1, 1, 0, &checkpoint_suite::snapshot(1, 0, 1)).unwrap_err(),
        |s| s.commit(1, &checkpoint_suite::manifest(1, vec![])).unwrap_err(),
        |s| s.newest_good().unwrap_err(),
        |s| s.read(1, None).unwrap_err(),
        |s| s.retain(1, None).unwrap_err(),
    ];
    calls
        .map(|call| {
            let begun = Instant::now();
            let error = call(store);
            assert!(begun.elapsed() < DEADLINE + SLACK, "{error} took {:?}", begun.elapsed());
            assert!(error.is_retryable(), "{error}");
            error.to_string()
        })
        .into()
}

#[test]
fn server_that_fails_is_said_with_its_status() {
    let address = server(Some(
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 14\r\nconnection: close\r\n\r\ndisk is broken",
    ));
    for said in failures(&store(&format!("http://{address}"))) {
        assert!(said.contains("s3://bucket/run"), "{said}");
        assert!(said.contains(&address.to_string()) && said.contains("500 Internal Server Error"), "{said}");
    }
}

#[test]
fn server_that_does_not_answer_is_said_within_the_deadline() {
    let address = server(None);
    for said in failures(&store(&format!("http://{address}"))) {
        assert!(said.contains("s3://bucket/run") && said.contains(&address.to_string()), "{said}");
    }
}

#[test]
fn server_that_is_not_there_is_said() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for said in failures(&store(&format!("http://{address}"))) {
        assert!(said.contains(&address.to_string()), "{said}");
    }
}

#[test]
fn calls_work_from_an_asynchronous_thread() {
    let address = server(Some("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let said = runtime.block_on(async { store(&format!("http://{address}")).list().unwrap_err().to_string() });
    assert!(said.contains("403 Forbidden"), "{said}");
}

#[test]
fn addresses_that_make_no_sense_are_refused() {
    let refused = |uri: &str, options: &Options| open_with(uri, Path::new("run"), options).unwrap_err().to_string();
    let options = support::options("http://127.0.0.1:1", DEADLINE);
    assert_eq!(refused("gs://bucket/run", &options), "`gs://bucket/run`: checkpoints in gs:// are not supported");
    assert_eq!(refused("../up", &options), "`../up` is not a folder inside the run directory");
    assert!(refused("s3://b/x", &options).contains("is not s3://bucket/prefix"));
    let odd = support::options("minio:9000", DEADLINE);
    assert_eq!(
        refused("s3://bucket/run", &odd),
        "AWS_ENDPOINT_URL is `minio:9000`: use http://host:port or https://host"
    );
    for (uri, address) in
        [("saved", "run/saved"), ("file://saved", "run/saved"), ("s3://bucket/a/b/", "s3://bucket/a/b")]
    {
        assert_eq!(open_with(uri, Path::new("run"), &options).unwrap().place().address(""), address);
    }
}
