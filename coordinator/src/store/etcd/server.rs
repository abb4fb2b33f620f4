//! Real etcd members on loopback ports, for tests. Each is killed by its own process id when it is dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Until every member serves clients.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What etcd says then.
const READY: &str = "ready to serve client requests";
/// Somebody else may take a port between our finding it free and etcd's binding it.
const TRIES: usize = 5;

/// One etcd process, and all that is needed to start it again.
pub(crate) struct Member {
    pub(crate) endpoint: String,
    command: Vec<String>,
    binary: PathBuf,
    process: Option<Child>,
    _data: TempDir,
}

/// `count` members of one etcd; None, with a line that says so, where there is no etcd-server.
pub(crate) fn start(count: usize) -> Option<Vec<Member>> {
    start_with(count, "http", &[])
}

/// The same, with flags of their own, and clients that come by `http` or `https`.
pub(crate) fn start_with(count: usize, scheme: &str, flags: &[String]) -> Option<Vec<Member>> {
    let Some(binary) = binary() else {
        eprintln!("SKIPPED: no etcd-server in .deps (`make servers`) or on the PATH");
        return None;
    };
    let started = (0..TRIES).find_map(|_| start_on_free_ports(&binary, count, scheme, flags));
    Some(started.expect("etcd does not start"))
}

fn start_on_free_ports(binary: &Path, count: usize, scheme: &str, flags: &[String]) -> Option<Vec<Member>> {
    // all are held at once, so that none is given out twice
    let held: Vec<TcpListener> = (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> = held.iter().map(|l| l.local_addr().unwrap().to_string()).collect();
    drop(held);
    let (clients, peers) = addresses.split_at(count);
    let cluster: Vec<String> = peers.iter().enumerate().map(|(i, peer)| format!("m{i}=http://{peer}")).collect();
    let member = |i: usize| {
        let (client, peer) = (format!("{scheme}://{}", clients[i]), format!("http://{}", peers[i]));
        let mut member = Member::new(binary, i, &client, &peer, &cluster.join(","));
        member.command.extend_from_slice(flags);
        member
    };
    let mut members: Vec<Member> = (0..count).map(member).collect();
    start_all(&mut members).then_some(members)
}

/// Whether all of them became ready: a member waits for the majority.
fn start_all(members: &mut [Member]) -> bool {
    let until = Instant::now() + READY_WITHIN;
    let lines: Vec<mpsc::Receiver<()>> = members.iter_mut().map(Member::spawn).collect();
    lines.iter().all(|ready| ready.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok())
}

impl Member {
    fn new(binary: &Path, index: usize, client: &str, peer: &str, cluster: &str) -> Member {
        let data = tempfile::tempdir().unwrap();
        let flags = [
            ("--name", format!("m{index}")),
            ("--data-dir", data.path().join("etcd").to_str().unwrap().to_string()),
            ("--listen-client-urls", client.to_string()),
            ("--advertise-client-urls", client.to_string()),
            ("--listen-peer-urls", peer.to_string()),
            ("--initial-advertise-peer-urls", peer.to_string()),
            ("--initial-cluster", cluster.to_string()),
        ];
        let command = flags.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]).collect();
        Member { endpoint: client.to_string(), command, binary: binary.into(), process: None, _data: data }
    }

    /// Its log is read to the end, or it would stop when the pipe is full.
    fn spawn(&mut self) -> mpsc::Receiver<()> {
        let mut command = Command::new(&self.binary);
        command.args(&self.command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let log = process.stderr.take().unwrap();
        self.process = Some(process);
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || follow(log, &sender));
        ready
    }

    /// Starts it again, on the same data.
    pub(crate) fn restart(&mut self) {
        assert!(start_all(std::slice::from_mut(self)), "etcd does not start again");
    }

    /// SIGSTOP: it neither answers nor closes anything.
    pub(crate) fn freeze(&self) {
        let pid = self.process.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn follow(log: impl Read, ready: &mpsc::Sender<()>) {
    for line in BufReader::new(log).lines() {
        let Ok(line) = line else { return };
        if line.contains(READY) {
            // a test that has given up does not listen
            let _ = ready.send(());
        }
    }
}

fn binary() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/etcd/bin/etcd");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own).chain(std::env::split_paths(&path).map(|dir| dir.join("etcd"))).find(|file| file.is_file())
}
