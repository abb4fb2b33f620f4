//! The behaviour suite of the checkpoint store, with its files in memory behind the client's interface and in a real S3
//! server.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is a failing test")]

#[path = "../../data/tests/checkpoint_suite/mod.rs"]
mod checkpoint_suite;
mod support;

use accord_data::checkpoint::{CheckpointStore, Manifest};
use accord_objects::{Objects, Options, open_with};
use object_store::memory::InMemory;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.deps/seaweedfs/weed");
    if !binary.exists() {
        println!("SKIPPED: no SeaweedFS in .deps; `make servers` fetches it");
        return;
    }
    let server = Server::start(&binary);
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

    let error = open_with("s3://absent-bucket/x", Path::new("unused"), &options).unwrap().list().unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with("s3://absent-bucket/x cannot be listed: ") && said.contains("NoSuchBucket"), "{said}");
}

/// A SeaweedFS with the bucket `accord`, until it is dropped.
struct Server {
    process: Child,
    port: u16,
    /// What it leaves outside its folder.
    sockets: Vec<PathBuf>,
    data: tempfile::TempDir,
}

impl Server {
    fn start(binary: &Path) -> Server {
        let data = tempfile::tempdir().unwrap();
        let ports = free_ports(10);
        let log = File::create(data.path().join("log")).unwrap();
        let mut command = Command::new(binary);
        command.arg("mini").arg(format!("-dir={}", data.path().display())).arg("-bucket=accord");
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]);
        command.args(["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        for name in ["filer", "s3"] {
            command.arg(format!("-{name}.localSocket={}/{name}", data.path().display()));
        }
        let mut sockets = Vec::new();
        for (name, pair) in ["s3", "master", "volume", "filer", "admin"].iter().zip(ports.chunks(2)) {
            command.args([format!("-{name}.port={}", pair[0]), format!("-{name}.port.grpc={}", pair[1])]);
            sockets.push(format!("/tmp/seaweedfs-{name}-grpc-{}.sock", pair[1]).into());
        }
        let process = command
            .env("AWS_ACCESS_KEY_ID", "accord")
            .env("AWS_SECRET_ACCESS_KEY", "accord-secret")
            .env("TMPDIR", data.path())
            .current_dir(data.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server { process, port: ports[0], sockets, data };
        server.wait();
        server
    }

    /// Until the bucket is there and an object was written.
    fn wait(&mut self) {
        let until = Instant::now() + DEADLINE;
        let store = open_with("s3://accord/ready", Path::new("unused"), &self.options()).unwrap();
        let mut number = 0;
        loop {
            // a client asked too early waits longer than the server takes to start
            let listens = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            number += 1;
            if listens && store.place().put_new(&format!("ready/{number}"), b"x").is_ok_and(|created| created) {
                return;
            }
            let log = || std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default();
            assert!(self.process.try_wait().unwrap().is_none(), "SeaweedFS ended: {}", log());
            assert!(Instant::now() < until, "SeaweedFS does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn options(&self) -> Options {
        support::options(&format!("http://127.0.0.1:{}", self.port), DEADLINE)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    listeners.iter().map(|l| l.local_addr().unwrap().port()).collect()
}
