//! Ranks as threads of this process, and as processes that run one test of this binary again.

use accord_collective::{Collective, Options, Store, gloo};
use std::io::{BufRead, BufReader};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HOST: &str = "127.0.0.1";
/// "rank size generation port" of a child
const VARIABLE: &str = "ACCORD_COLLECTIVE_TEST_RANK";

pub(crate) fn options(rank: usize, size: usize, generation: u64, deadline: Duration) -> Options {
    Options { rank, size, host: HOST.into(), generation, deadline }
}

/// A store and the generation that meets in it.
pub(crate) struct Meeting {
    _store: Store,
    port: u16,
    generation: AtomicU64,
    deadline: Duration,
}

impl Meeting {
    pub(crate) fn new(deadline: Duration) -> Meeting {
        let (store, port) = Store::serve(HOST, deadline).unwrap();
        Meeting { _store: store, port, generation: AtomicU64::new(1), deadline }
    }

    /// The next ranks meet under another generation.
    pub(crate) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn store(&self) -> Store {
        Store::connect(HOST, self.port, self.deadline).unwrap()
    }

    pub(crate) fn options(&self, rank: usize, size: usize) -> Options {
        options(rank, size, self.generation.load(Ordering::Relaxed), self.deadline)
    }

    /// Runs `body` as each rank in a thread of its own; a panic of one is a panic here. The results in rank order.
    pub(crate) fn threads<T: Send>(&self, size: usize, body: impl Fn(Box<dyn Collective>) -> T + Sync) -> Vec<T> {
        self.ranks(size, |_, store, options| body(gloo::connect(&store, &options).unwrap()))
    }

    pub(crate) fn ranks<T: Send>(&self, size: usize, body: impl Fn(usize, Store, Options) -> T + Sync) -> Vec<T> {
        let body = &body;
        let results = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..size).map(|rank| scope.spawn(move || body(rank, self.store(), self.options(rank, size)))).collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        results.into_iter().map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    }

    /// Starts this binary's `test` again as `rank`; there [`Child::this`] is some.
    pub(crate) fn child(&self, test: &str, rank: usize, size: usize) -> Running {
        let generation = self.generation.load(Ordering::Relaxed);
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads", "1"])
            .env(VARIABLE, format!("{rank} {size} {generation} {}", self.port))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // the test harness says "running 1 test" when the process, with all of libtorch, has been loaded
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("running") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended before its test");
        }
        Running { process, _output: output }
    }
}

/// The rank that this process was started as.
pub(crate) struct Child {
    pub(crate) rank: usize,
    size: usize,
    generation: u64,
    port: u16,
}

impl Child {
    pub(crate) fn this() -> Option<Child> {
        let text = std::env::var(VARIABLE).ok()?;
        let number: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
        let [rank, size, generation, port] = number[..] else { panic!("{text}") };
        Some(Child { rank: rank as usize, size: size as usize, generation, port: port as u16 })
    }

    pub(crate) fn join(&self, deadline: Duration) -> Box<dyn Collective> {
        let store = Store::connect(HOST, self.port, deadline).unwrap();
        gloo::connect(&store, &options(self.rank, self.size, self.generation, deadline)).unwrap()
    }
}

/// A child process, killed on drop.
pub(crate) struct Running {
    process: std::process::Child,
    /// open as long as the child may write
    _output: BufReader<ChildStdout>,
}

impl Running {
    /// STOP, KILL, ..
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    /// Waits until it is stopped by a signal.
    pub(crate) fn stopped(&self) {
        let limit = Instant::now() + Duration::from_secs(30);
        let path = format!("/proc/{}/stat", self.process.id());
        let state = || std::fs::read_to_string(&path).unwrap().rsplit_once(") ").unwrap().1.chars().next();
        while state() != Some('T') {
            assert!(Instant::now() < limit, "the child did not stop");
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn succeed(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "a child still runs after {limit:?}");
            thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "a child failed: {status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap();
    assert!(status.success());
}
