//! The behaviour suite of the checkpoint store, with its files in memory behind the client's interface and in a real S3
//! server.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is a failing test")]

#[path = "../../data/tests/checkpoint_suite/mod.rs"]
mod checkpoint_suite;
mod support;
#[path = "support/written_export.rs"]
mod written_export;

use accord_data::checkpoint::{CheckpointStore, Manifest};
use accord_data::export::{EMBEDDINGS, Export};
use accord_objects::results::{get_export, put_export};
use accord_objects::{Objects, Options, open_with};
use object_store::memory::InMemory;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::seaweedfs::Server;
use written_export::write_export;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn every_behaviour_holds_in_memory() {
    let bucket = Arc::new(InMemory::new());
    let mut number = 0;
    checkpoint_suite::run(|| {
        number += 1;
        let prefix = format!("runs/{number}");
        let address = format!("memory://{prefix}");
        let place = Objects::new(bucket.clone(), &prefix, address.clone(), address, DEADLINE).unwrap();
        CheckpointStore::at(Arc::new(place))
    });
}

#[test]
fn every_behaviour_holds_in_an_s3_server() {
    let Some(server) = Server::start() else {
        eprintln!("SKIPPED: no SeaweedFS in .deps; `make servers` fetches it");
        return;
    };
    let options = server.options();
    let mut number = 0;
    checkpoint_suite::run(|| {
        number += 1;
        open_with(&format!("s3://accord/runs/{number}"), Path::new("unused"), &options).unwrap()
    });

    // two clients that know nothing of each other
    let open = || open_with("s3://accord/race/", Path::new("unused"), &options).unwrap();
    let files = open().write_shard(1, 1, 0, &checkpoint_suite::snapshot(1, 0, 1)).unwrap();
    let commit = |generation| {
        let manifest = Manifest { generation, ..checkpoint_suite::manifest(1, files.clone()) };
        move || open().commit(1, &manifest).is_ok()
    };
    let won: Vec<u64> = std::thread::scope(|scope| {
        let committers: Vec<_> = (1..=8).map(|g| (g, scope.spawn(commit(g)))).collect();
        committers.into_iter().filter_map(|(g, thread)| thread.join().unwrap().then_some(g)).collect()
    });
    assert_eq!(won.len(), 1);
    assert_eq!(open().list().unwrap()[0].1.generation, won[0]);

    exports_go_and_come(&options);
    let error = open_with("s3://absent-bucket/x", Path::new("unused"), &options).unwrap().list().unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with("s3://absent-bucket/x cannot be listed: ") && said.contains("NoSuchBucket"), "{said}");
}

fn exports_go_and_come(options: &Options) {
    const URI: &str = "s3://accord/results";
    let root = tempfile::tempdir().unwrap();
    let (sent, got) = (root.path().join("sent"), root.path().join("deep/er/got"));
    assert!(!get_export(URI, &got, options).unwrap(), "there is none yet");
    // several parts, and several blocks; then the same again
    let many: Vec<u8> = (0..(40u32 << 20)).map(|n| (n % 251) as u8).collect();
    for bytes in [&many[..], b"newer", b"newer"] {
        write_export(&sent, bytes);
        assert_eq!(put_export(URI, &sent, options, Duration::ZERO).unwrap(), "s3://accord/results/export");
        assert!(get_export(URI, &got, options).unwrap());
        assert!(std::fs::read(got.join(EMBEDDINGS)).unwrap() == bytes);
        let manifest = |folder| Export::open(folder).unwrap().unwrap().manifest;
        assert_eq!(manifest(&got), manifest(&sent));
    }
    assert!(put_export("checkpoints", &sent, options, Duration::ZERO).is_err());
}
