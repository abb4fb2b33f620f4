//! The same run twice, and interrupted runs: their epochs and evaluations are the same lines, bit for bit.

use super::{text, workspace};
use accord_harness::{collect, coordinator, finish, metric_lines, signal, wait_until};
use std::path::Path;
use std::process::{Child, Stdio};

const EPOCHS: u32 = 12;

fn run(job: &Path, run_dir: &Path) -> Vec<String> {
    let done = finish(&mut coordinator(&["run", text(job), "--run-dir", text(run_dir)]));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    metric_lines(run_dir)
}

#[test]
fn the_same_run_twice_is_bitwise_equal() {
    for model in ["lightgcn", "rlmrec-con", "irllrec"] {
        let (folder, job) = workspace(model, EPOCHS);
        let [first, second] = ["a", "b"].map(|name| run(&job, &folder.path().join(name)));
        assert_eq!(
            first.len(),
            EPOCHS as usize + 5 + 1,
            "12 epochs, evaluations after 0, 3, 6, 9 and the last, the test"
        );
        assert_eq!(first, second, "{model}");
        let embeddings = ["a", "b"]
            .map(|name| std::fs::read(folder.path().join(name).join("export/embeddings.safetensors")).unwrap());
        assert!(embeddings[0] == embeddings[1], "{model}: the embeddings differ");
    }
}

/// A run that trains: metrics.jsonl has `lines` lines, and some that this process wrote.
fn start(job: &Path, run_dir: &Path, lines: usize) -> Child {
    let metrics = run_dir.join("metrics.jsonl");
    let count = || std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    let wanted = lines.max(count() + 2);
    let mut command = coordinator(&["run", text(job), "--run-dir", text(run_dir)]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("metrics", || count() >= wanted);
    child
}

#[test]
fn an_interrupted_run_goes_on_as_if_undisturbed() {
    // enough epochs that the run is not over before the signal lands
    for (model, epochs) in [("lightgcn", 200), ("irllrec", 60)] {
        let (folder, job) = workspace(model, epochs);
        let undisturbed = run(&job, &folder.path().join("undisturbed"));
        let run_dir = folder.path().join("interrupted");
        for lines in [2, 9] {
            let child = start(&job, &run_dir, lines);
            signal("INT", child.id());
            let done = collect(child);
            assert_eq!(done.code, Some(130), "{model}: {}", done.stderr);
        }
        assert_eq!(run(&job, &run_dir), undisturbed, "{model}");
    }
}

#[test]
fn a_killed_coordinator_takes_its_worker_along_and_the_run_goes_on() {
    let (folder, job) = workspace("irllrec", 60);
    let undisturbed = run(&job, &folder.path().join("undisturbed"));
    let run_dir = folder.path().join("killed");
    for lines in [3, 8] {
        let child = start(&job, &run_dir, lines);
        let worker = worker_of(child.id());
        signal("KILL", child.id());
        collect(child);
        wait_until("the worker to end", || !Path::new(&format!("/proc/{worker}")).exists());
    }
    assert_eq!(run(&job, &run_dir), undisturbed);
}

/// The one process that a coordinator started, once it has.
fn worker_of(coordinator: u32) -> u32 {
    let mut workers = Vec::new();
    wait_until("the worker to start", || {
        workers = children_of(coordinator);
        !workers.is_empty()
    });
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers[0]
}

/// Ids of the processes that `parent` started.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let is_child = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|p| p.trim() == parent.to_string()))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}
