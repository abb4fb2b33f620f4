//! Whatever is killed or frozen, the run goes on by itself, or by the same command, with the numbers of an undisturbed
//! one.

use super::resume::children_of;
use super::{text, workspace};
use accord_harness::{collect, coordinator, finish_training, metric_lines, signal, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest that a frozen worker may go unnoticed in these runs.
const DETECT_WITHIN_MS: u64 = 2000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Disturbance {
    Kill(u32),
    Freeze(u32),
    KillCoordinator,
}

/// One run to disturb.
struct Subject {
    job: PathBuf,
    workers: u32,
    sets: Vec<String>,
}

/// What a disturbance cost; times since the signal.
pub(super) struct Cost {
    pub(super) noticed_ms: Option<u64>,
    pub(super) trains_again_ms: Option<u64>,
    pub(super) steps_redone: Option<u64>,
}

impl Subject {
    fn start(&self, run_dir: &Path) -> Child {
        let workers = self.workers.to_string();
        let mut command = coordinator(&["run", text(&self.job), "--run-dir", text(run_dir)]);
        command.args(["--workers", &workers, "--threads", "1"]);
        command.args(["--set", &format!("recovery.detect_within_ms={DETECT_WITHIN_MS}")]);
        // a run may be disturbed more often than any real one
        command.args(["--set", "recovery.max_restarts=1000"]);
        command.args(self.sets.iter().flat_map(|set| ["--set", set]));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn undisturbed(&self, run_dir: &Path) -> Vec<String> {
        let done = finish_training(&mut {
            let mut command = coordinator(&["run", text(&self.job), "--run-dir", text(run_dir)]);
            command.args(["--workers", &self.workers.to_string(), "--threads", "1"]);
            command.args(self.sets.iter().flat_map(|set| ["--set", set]));
            command
        });
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        lines(run_dir)
    }
}

/// Epochs and evaluations; of which generation they are is all that a recovery may change.
fn lines(run_dir: &Path) -> Vec<String> {
    let without = |line: String| {
        let mut line: Value = serde_json::from_str(&line).unwrap();
        line.as_object_mut().unwrap().remove("generation");
        line.to_string()
    };
    metric_lines(run_dir).into_iter().map(without).collect()
}

pub(super) fn events(run_dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["kind"] == "event").collect()
}

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Counter-based, so that a printed seed plays the same schedule again.
pub(super) fn draw(seed: u64, at: u64) -> u64 {
    let x = (seed ^ at.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 29)
}

/// The worker of a rank in the newest generation.
fn worker(coordinator: u32, rank: u32) -> Option<u32> {
    let argument = |id: u32, name: &str| -> Option<String> {
        let arguments = std::fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        let mut arguments = arguments.split('\0');
        arguments.find(|argument| *argument == name)?;
        arguments.next().map(String::from)
    };
    let named = |id: &u32| argument(*id, "--name").is_some_and(|name| name == format!("worker-{rank}"));
    let generation = |id: &u32| argument(*id, "--generation").and_then(|g| g.parse::<u64>().ok()).unwrap_or(0);
    children_of(coordinator).into_iter().filter(named).max_by_key(generation)
}

/// Waits until the run trains (its newest start is followed by progress), then a little longer.
fn let_it_train(child: &mut Child, run_dir: &Path, extra: Duration) -> bool {
    let count = || std::fs::read_to_string(run_dir.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    let mut over = false;
    let before = count();
    wait_until("progress", || {
        over = child.try_wait().unwrap().is_some();
        over || count() > before.max(2)
    });
    std::thread::sleep(extra);
    !over && child.try_wait().unwrap().is_none()
}

pub(super) fn cost(run_dir: &Path, at: u64) -> Cost {
    let after = |name: &str| {
        events(run_dir).into_iter().find(|e| e["event"] == name && e["at_unix_ms"].as_u64().unwrap() >= at)
    };
    let since = |event: &Value| event["at_unix_ms"].as_u64().unwrap() - at;
    let (lost, again, resumed) = (after("lost"), after("recovered"), after("resumed"));
    let step = |event: &Value| event["step"].as_u64().unwrap();
    Cost {
        noticed_ms: lost.as_ref().map(since),
        trains_again_ms: again.as_ref().map(since),
        steps_redone: lost.as_ref().map(|lost| {
            let redone = step(lost).checked_sub(resumed.as_ref().map_or(0, step));
            redone.unwrap_or_else(|| panic!("resumed from beyond where it was seen: {lost}, {resumed:?}"))
        }),
    }
}

/// Disturbs a run again and again until it is over; its lines must be those of the undisturbed one.
fn soak(name: &str, subject: &Subject, disturbances: &[Disturbance], seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = subject.undisturbed(&folder.path().join("undisturbed"));
    let run_dir = folder.path().join("disturbed");
    println!("{name}, {} workers, seed {seed}", subject.workers);
    println!("{:<18}{:>12}{:>16}{:>14}", "disturbance", "noticed ms", "trains again ms", "steps redone");
    let mut child = subject.start(&run_dir);
    let mut made = 0;
    for (at, disturbance) in disturbances.iter().enumerate() {
        if !let_it_train(&mut child, &run_dir, Duration::from_millis(draw(seed, at as u64) % 400)) {
            break;
        }
        let time = now_ms();
        let hit = match *disturbance {
            Disturbance::KillCoordinator => Some(("KILL", child.id())),
            Disturbance::Kill(rank) => worker(child.id(), rank).map(|id| ("KILL", id)),
            Disturbance::Freeze(rank) => worker(child.id(), rank).map(|id| ("STOP", id)),
        };
        let Some((how, id)) = hit else { continue };
        signal(how, id);
        made += 1;
        if *disturbance == Disturbance::KillCoordinator {
            collect(child);
            wait_until("the workers to end", || !Path::new(&format!("/proc/{id}")).exists());
            child = subject.start(&run_dir);
            println!("{:<18}{:>12}{:>16}{:>14}", format!("{disturbance:?}"), "-", "-", "-");
            continue;
        }
        let recovered = || cost(&run_dir, time).trains_again_ms.is_some();
        wait_until("the recovery", || recovered() || child.try_wait().unwrap().is_some());
        let Cost { noticed_ms, trains_again_ms, steps_redone } = cost(&run_dir, time);
        let shown = |value: Option<u64>| value.map_or("-".into(), |value| value.to_string());
        println!(
            "{:<18}{:>12}{:>16}{:>14}",
            format!("{disturbance:?}"),
            shown(noticed_ms),
            shown(trains_again_ms),
            shown(steps_redone)
        );
    }
    let done = collect(child);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(made > 0, "{name}: the run was over before it was disturbed");
    let disturbed = lines(&run_dir);
    let difference = disturbed.iter().zip(&undisturbed).find(|(ours, theirs)| ours != theirs);
    assert_eq!(difference, None, "{name}, seed {seed}: the first line that differs");
    assert_eq!(disturbed.len(), undisturbed.len(), "{name}, seed {seed}");
    let embeddings = ["undisturbed", "disturbed"]
        .map(|run| std::fs::read(folder.path().join(run).join("export/embeddings.safetensors")).unwrap());
    assert!(embeddings[0] == embeddings[1], "{name}, seed {seed}: the embeddings differ");
    println!("{made} disturbances: metrics and embeddings as undisturbed");
}

pub(super) fn seed() -> u64 {
    std::env::var("ACCORD_SOAK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2023)
}

#[test]
fn whatever_is_killed_or_frozen_the_run_is_the_undisturbed_one() {
    use Disturbance::{Freeze, Kill, KillCoordinator};
    for (model, epochs, workers) in [("irllrec", 150, 3), ("lightgcn", 400, 2)] {
        let (_folder, job) = workspace(model, epochs);
        let subject = Subject { job, workers, sets: vec!["checkpoint.every_steps=20".into()] };
        let last = workers - 1;
        soak(model, &subject, &[Kill(last), Freeze(0), KillCoordinator, Kill(0)], seed());
    }
}

#[test]
fn a_job_that_dies_of_itself_again_and_again_ends_with_its_culprit() {
    let (folder, job) = workspace("irllrec", 5000);
    let run_dir = folder.path().join("run");
    let mut command = coordinator(&["run", text(&job), "--run-dir", text(&run_dir), "--workers", "2"]);
    // with one it would go on
    command.args(["--set", "cluster.min_workers=2"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut killed = 0;
    // each generation dies before it takes a step
    wait_until("the job to be given up", || {
        if let Some(id) = worker(child.id(), 1).filter(|id| *id != killed) {
            killed = id;
            signal("KILL", id);
        }
        child.try_wait().unwrap().is_some()
    });
    let done = collect(child);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("3 times in a row no step further than 0"), "{}", done.stderr);
    assert!(done.stderr.contains("worker-1") && done.stderr.contains("signal 9"), "{}", done.stderr);
}
