//! Disks that are full, read-only or damaged: training survives, or says what is wrong.

use super::{text, workspace};
use accord_harness::{coordinator, finish, metric_lines};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own on a folder; None, said, where this process may not mount.
struct Mount<'a>(&'a Path);

impl Mount<'_> {
    fn new<'a>(folder: &'a Path, options: &str) -> Option<Mount<'a>> {
        std::fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(folder).output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(Mount(folder)),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_string(),
            Err(error) => format!("mount: {error}"),
        };
        println!("SKIPPED: {why}");
        None
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// Makes a run directory of the same job, started and without a step; its folder for checkpoints.
fn started(run_dir: &Path, like: &Path) -> PathBuf {
    std::fs::create_dir_all(run_dir).unwrap();
    for file in ["job.toml", "job_root.txt"] {
        std::fs::copy(like.join(file), run_dir.join(file)).unwrap();
    }
    run_dir.join("checkpoints")
}

fn events(run_dir: &Path, name: &str) -> usize {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap();
    text.lines().filter(|line| line.contains(&format!("\"event\":\"{name}\""))).count()
}

#[test]
fn training_survives_checkpoints_that_cannot_be_written_and_says_so() {
    let (folder, job) = workspace("irllrec", 20);
    let plain = folder.path().join("undisturbed");
    let sets = ["--set", "checkpoint.every_steps=20", "--workers", "2", "--threads", "1"];
    let run = |dir: &Path, more: &[&str]| {
        let mut args = vec!["run", text(&job), "--run-dir", text(dir)];
        args.extend(sets.iter().chain(more));
        finish(&mut coordinator(&args))
    };
    assert_eq!(run(&plain, &[]).code, Some(0));
    for (name, options, why) in [("full", "size=16k", "No space left"), ("read-only", "ro", "Read-only file system")] {
        let run_dir = folder.path().join(name);
        let checkpoints = started(&run_dir, &plain);
        let Some(_disk) = Mount::new(&checkpoints, options) else { return };
        let done = run(&run_dir, &["--set", "checkpoint.max_failures=1000"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(metric_lines(&run_dir), metric_lines(&plain));
        assert!(events(&run_dir, "checkpoint_failed") >= 10, "{name}");
        let said = done.stdout + &done.stderr;
        assert!(said.contains(why) && said.contains(text(&checkpoints)), "{said}");
    }
}

#[test]
fn a_job_that_can_never_save_ends_with_the_reason() {
    let (folder, job) = workspace("lightgcn", 20);
    let first = folder.path().join("first");
    let (first, run_dir) = (first.as_path(), folder.path().join("run"));
    let run = |dir: &Path, more: &[&str]| {
        let mut args = vec!["run", text(&job), "--run-dir", text(dir), "--set", "checkpoint.every_steps=5"];
        args.extend(more);
        finish(&mut coordinator(&args))
    };
    assert_eq!(run(first, &[]).code, Some(0));
    let checkpoints = started(&run_dir, first);
    let Some(_disk) = Mount::new(&checkpoints, "size=4k") else { return };
    let done = run(&run_dir, &["--set", "checkpoint.max_failures=3"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("3 checkpoints in a row failed (checkpoint.max_failures)"), "{}", done.stderr);
    assert!(done.stderr.contains("No space left"), "{}", done.stderr);
}

#[test]
fn a_run_directory_that_is_full_or_read_only_is_named() {
    let (folder, job) = workspace("lightgcn", 5000);
    for (name, options, why) in [("small", "size=24k", "No space left"), ("ro", "ro", "Read-only file system")] {
        let run_dir = folder.path().join(name);
        let Some(_disk) = Mount::new(&run_dir, options) else { return };
        let done = finish(&mut coordinator(&["run", text(&job), "--run-dir", text(&run_dir)]));
        assert_eq!(done.code, Some(1), "{name}: {}", done.stderr);
        assert!(done.stderr.contains(why) && done.stderr.contains(text(&run_dir)), "{name}: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    }
}
