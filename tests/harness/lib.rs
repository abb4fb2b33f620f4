//! What the suites with real processes share: the binaries, built once, and commands with a deadline.

pub mod catalog;
pub mod compare;
pub mod served;
pub mod servers;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Longest any command of a test may take.
const DEADLINE: Duration = Duration::from_secs(300);
/// Longest a real training may take.
const TRAINING_DEADLINE: Duration = Duration::from_secs(3600);

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

/// The `coordinator` binary, built once with the `worker` beside it, in this build's profile; or that in the folder
/// `ACCORD_TEST_BINARIES`.
///
/// # Panics
/// When they do not build: `cargo test -p accord-tests` alone builds neither.
pub fn coordinator_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(folder) = std::env::var_os("ACCORD_TEST_BINARIES") {
            return Path::new(&folder).join("coordinator");
        }
        // the cargo that runs this test: another toolchain would build everything again
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // the features that `make test` builds with, so that nothing is built twice
        build
            .args(["build", "--workspace", "--bins", "--features", "accord-tests/torch,accord-tests/kubernetes"])
            .current_dir(root());
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        // what cargo says to this test, the build scripts below it (ring's) would take for a change
        let said = std::env::vars_os().filter(|(name, _)| is_of_this_package(&name.to_string_lossy()));
        said.for_each(|(name, _)| {
            build.env_remove(name);
        });
        let built = build.output().expect("cargo runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        // target/<profile>/deps/this-test
        let test = std::env::current_exe().expect("a test has a path");
        let profile = test.parent().and_then(Path::parent).expect("a test lies in target/<profile>/deps");
        profile.join("coordinator")
    })
}

/// Variables that cargo sets for the package it builds or tests.
fn is_of_this_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"]
        .iter()
        .any(|p| variable.starts_with(p))
        || variable == "OUT_DIR"
}

/// `coordinator ARGS`, run in the repository's root; not started yet.
pub fn coordinator(args: &[&str]) -> Command {
    let mut command = Command::new(coordinator_binary());
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// What a finished command left.
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not start, or is not over within five minutes (it is killed then).
pub fn finish(command: &mut Command) -> Finished {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    collect(child)
}

/// [`finish`] for a training of real size, or for data that are fetched and embedded first.
///
/// # Panics
/// When it does not start, or is not over within an hour (it is killed then).
pub fn finish_training(command: &mut Command) -> Finished {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    collect_within(child, TRAINING_DEADLINE)
}

/// Waits for a child whose output is piped.
///
/// # Panics
/// When it is not over within five minutes (it is killed then).
pub fn collect(child: Child) -> Finished {
    collect_within(child, DEADLINE)
}

fn collect_within(child: Child, deadline: Duration) -> Finished {
    let id = child.id();
    let waiting = std::thread::spawn(move || child.wait_with_output());
    let start = Instant::now();
    while !waiting.is_finished() {
        if start.elapsed() > deadline {
            signal("KILL", id);
            panic!("process {id} was not over within {deadline:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let Output { status, stdout, stderr } = waiting.join().expect("the waiting thread").expect("the child is ours");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Finished { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// `kill -NAME PID`
///
/// # Panics
/// When the signal cannot be sent.
pub fn signal(name: &str, id: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().expect("kill runs");
    assert!(sent.success(), "kill -{name} {id}");
}

/// Waits until `ready` says so.
///
/// # Panics
/// When it has not within five minutes.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    wait_for(what, || ready().then_some(()));
}

/// Waits until `sought` finds something. To ask again for what was seen a moment ago may find it gone.
///
/// # Panics
/// When it has not within five minutes.
pub fn wait_for<T>(what: &str, sought: impl FnMut() -> Option<T>) -> T {
    wait_within(what, DEADLINE, sought)
}

fn wait_within<T>(what: &str, deadline: Duration, mut sought: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        let asked = Instant::now();
        if let Some(found) = sought() {
            return found;
        }
        assert!(start.elapsed() < deadline, "waited too long for {what}");
        // to ask may be to start a process: it leaves the machine to what is waited for
        std::thread::sleep((3 * asked.elapsed()).clamp(Duration::from_millis(5), Duration::from_millis(500)));
    }
}

/// A loopback address that nobody listens on just now.
///
/// # Panics
/// When loopback has no free port.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound listener has an address").to_string()
}

/// Lines of a run's metrics.jsonl that must not depend on interruptions: epochs and evaluations, without their seconds.
///
/// # Panics
/// When the file is not there or a line is not JSON.
pub fn metric_lines(run_dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).expect("metrics.jsonl");
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON line"))
        .filter(|line| line["kind"] == "epoch" || line["kind"] == "eval")
        .map(|mut line| {
            line.as_object_mut().expect("an object").remove("seconds");
            line.to_string()
        })
        .collect()
}
