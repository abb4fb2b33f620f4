//! A real S3 server: SeaweedFS.

use accord_objects::{Options, open_with};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// With the bucket `accord`, until it is dropped.
pub(crate) struct Server {
    process: Child,
    port: u16,
    /// What it leaves outside its folder.
    sockets: Vec<PathBuf>,
    data: tempfile::TempDir,
}

impl Server {
    /// None where there is no SeaweedFS; the caller says so.
    pub(crate) fn start() -> Option<Server> {
        let binary =
            Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(".deps/seaweedfs/weed"));
        let binary = binary.into_iter().find(|binary| binary.exists())?;
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
        Some(server)
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

    pub(crate) fn options(&self) -> Options {
        super::options(&format!("http://127.0.0.1:{}", self.port), DEADLINE)
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
