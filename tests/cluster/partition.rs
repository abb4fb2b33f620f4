//! A worker in a network namespace of its own is cut off: the job goes on without it, it comes back, and the result is
//! that of an undisturbed run. Needs root and iproute2.

use super::workspace;
use accord_harness::coordinator_binary;
use accord_harness::served::{Served, same_epochs};
use accord_harness::servers::Server;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const SETS: [&str; 7] = [
    "cluster.workers=2",
    "cluster.min_workers=1",
    "cluster.threads_per_worker=1",
    "recovery.detect_within_ms=2000",
    "recovery.replace_within_ms=3000",
    "recovery.max_restarts=1000",
    "checkpoint.every_steps=20",
];

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|done| done.status.success())
}

/// A namespace joined to this one by a pair of interfaces: 10.88.P.1 here, 10.88.P.2 there.
struct Namespace {
    name: String,
    here: String,
}

impl Namespace {
    /// None, said, where this process may not make one.
    fn new() -> Option<Namespace> {
        let (process, part) = (std::process::id(), std::process::id() % 250 + 1);
        let (name, pair) = (format!("accord-{process}"), format!("ac{process}"));
        let made = ip(&format!("netns add {name}"))
            && ip(&format!("link add {pair} type veth peer name eth0 netns {name}"))
            && ip(&format!("addr add 10.88.{part}.1/24 dev {pair}"))
            && ip(&format!("link set {pair} up"))
            && ip(&format!("-n {name} addr add 10.88.{part}.2/24 dev eth0"))
            && ip(&format!("-n {name} link set lo up"))
            && ip(&format!("-n {name} link set eth0 up"));
        let namespace = Namespace { name, here: format!("10.88.{part}.1") };
        if !made {
            println!("SKIPPED: this process may make no network namespace (root and iproute2 are needed)");
            return None;
        }
        Some(namespace)
    }

    fn cut_off(&self) {
        assert!(ip(&format!("-n {} link set eth0 down", self.name)));
    }

    fn heal(&self) {
        assert!(ip(&format!("-n {} link set eth0 up", self.name)));
    }

    /// A worker program whose rank 1 lives in the namespace.
    fn worker(&self, folder: &Path) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let worker = coordinator_binary().with_file_name("worker");
        let worker = worker.display();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *'--name worker-1'*) exec ip netns exec {} {worker} \"$@\" ;; esac\nexec {worker} \"$@\"\n",
            self.name
        );
        let path = folder.join("worker-or-namespace");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // the pair goes with it
        ip(&format!("netns del {}", self.name));
    }
}

fn events(run_dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["kind"] == "event")
        .collect()
}

#[test]
fn a_worker_that_is_cut_off_is_done_without_and_taken_in_again() {
    let Some(namespace) = Namespace::new() else { return };
    // longer than the lost one is away, on any machine
    let (folder, job) = workspace("irllrec", 100_000);
    let server = Server::reached_at(folder.path(), &namespace.here, &namespace.worker(folder.path()));
    let served = Served::submit(&job, server.url(), &SETS);
    let run_dir = served.trains()["run_dir"].as_str().unwrap().to_string();
    let run_dir = Path::new(&run_dir);

    namespace.cut_off();
    let alone = |s: &Value| s["phase"] == "running" && s["workers"].as_array().is_some_and(|w| w.len() == 1);
    served.wait_for("one worker to go on", alone);
    namespace.heal();
    let both = |s: &Value| s["phase"] == "running" && s["workers"].as_array().is_some_and(|w| w.len() == 2);
    let step = |s: &Value| s["step"].as_u64().unwrap_or(0);
    let again = step(&served.wait_for("both to train again", both));
    served.wait_for("steps of both", |s| both(s) && step(s) > again + 50);
    served.cancel();

    same_epochs(run_dir, &job, &folder.path().join("undisturbed"), &["cluster.threads_per_worker=1"]);
    let told = events(run_dir);
    let lost = told.iter().find(|event| event["event"] == "lost").expect("it was noticed");
    assert!(lost["reason"].as_str().unwrap().contains("worker-"), "{lost}");
    // whoever commits is of a newer generation than all who committed before
    let committed: Vec<u64> =
        told.iter().filter(|e| e["event"] == "committed").map(|e| e["generation"].as_u64().unwrap()).collect();
    assert!(committed.is_sorted() && committed.len() > 2, "{committed:?}");
}
