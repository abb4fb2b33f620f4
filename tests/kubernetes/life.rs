//! A job's life on a cluster, from `submit` to its end.

use super::{Cluster, SETS};
use accord_harness::served::{same_run, undisturbed};
use accord_harness::{coordinator, finish, finish_training, root, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};

pub(crate) fn steer(cluster: &Cluster, arguments: &[&str]) -> String {
    let url = cluster.coordinator.url();
    let done = finish(&mut coordinator(&[arguments, &["--coordinator", &url]].concat()));
    assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
    done.stdout + &done.stderr
}

fn workers(status: &Value) -> usize {
    status["workers"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_job_trains_as_pods_to_the_numbers_of_a_run_and_goes_on_after_a_pod_is_deleted() {
    let Some(cluster) = Cluster::start() else { return };
    let job = cluster.job("irllrec", 150);
    let plain = cluster.folder.path().join("undisturbed");
    let two = [&SETS[..], &["cluster.workers=2"]].concat();
    undisturbed(&job, &plain, &two);

    let served = cluster.submit(&job, &["cluster.workers=2"]);
    let status = served.trains();
    assert_eq!(cluster.list("jobs").len(), 1);
    assert_eq!(cluster.list("services").len(), 1);
    let host = |status: &Value, rank: usize| {
        let workers = status["workers"].as_array().unwrap();
        workers.iter().find(|w| w["rank"] == rank).unwrap()["host"].as_str().unwrap().to_string()
    };
    let before: Vec<String> = (0..2).map(|rank| host(&status, rank)).collect();
    assert!(before[1].starts_with(&format!("{}-1-", served.id)), "{before:?}");

    // deleted as `kubectl drain` does it: it saves the job's state, and another takes its place
    cluster.delete_pod(&before[1]);
    let again = served.wait_for("the next generation", |s| s["generation"] == 2 && s["phase"] == "running");
    assert_eq!((workers(&again), &again["restarts"]), (2, &0.into()), "{again}");
    assert_eq!(host(&again, 0), before[0], "the other pod stays");
    assert_ne!(host(&again, 1), before[1]);
    let run_dir = served.succeeds();
    same_run(&run_dir, &plain);
    // its pods end by themselves, and the Job with them
    wait_until("the Job to be complete", || {
        let job = &cluster.list("jobs")[0];
        let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "Complete" && c["status"] == "True")
    });
    let logs = steer(&cluster, &["logs", &served.id, "--rank", "1"]);
    assert!(logs.contains("told to leave"), "the deleted pod's log is kept: {logs}");
}

/// What `make demo` has prepared, or the same again in `folder`. None, said, where it cannot be fetched.
fn movielens(folder: &Path) -> Option<PathBuf> {
    let prepared = root().join("data/ml-100k");
    if prepared.join("trn.npz").exists() {
        return Some(prepared);
    }
    let data = folder.join("ml-100k");
    let done = finish_training(&mut coordinator(&["data", "fetch", "ml-100k", "--dest", data.to_str().unwrap()]));
    if done.code != Some(0) {
        println!("SKIPPED: MovieLens-100K cannot be fetched: {}", done.stderr);
        return None;
    }
    Some(data)
}

#[test]
fn movielens_trains_as_pods_to_the_numbers_of_a_run() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(data) = movielens(cluster.folder.path()) else { return };
    let job = root().join("configs/ml-100k.toml");
    let plain = cluster.folder.path().join("undisturbed");
    let path = format!("data.path={}", data.display());
    let short = ["cluster.workers=2", "optim.epochs=6", &path];
    undisturbed(&job, &plain, &[&SETS[..], &short].concat());
    let served = cluster.submit(&job, &short);
    served.wait_for("a step", |s| s["step"].as_u64().is_some());
    cluster.delete_pod(&cluster.pods()[0]);
    same_run(&served.succeeds(), &plain);
}

#[test]
fn a_job_is_scaled_suspended_resumed_and_cancelled_and_nothing_is_left() {
    let Some(cluster) = Cluster::start() else { return };
    let job = cluster.job("lightgcn", 100_000);
    let served = cluster.submit(&job, &["cluster.workers=2"]);
    served.trains();
    for wanted in ["3", "1"] {
        steer(&cluster, &["scale", &served.id, wanted]);
        let there = |s: &Value| s["phase"] == "running" && workers(s).to_string() == wanted;
        served.wait_for("the new number of workers", there);
        wait_until("the pods", || cluster.pods().len().to_string() == wanted);
        assert_eq!(cluster.list("jobs")[0]["spec"]["completions"].to_string(), wanted);
    }
    steer(&cluster, &["suspend", &served.id]);
    served.wait_for("suspension", |s| s["phase"] == "suspended");
    cluster.nothing_is_left();
    steer(&cluster, &["resume", &served.id]);
    let status = served.wait_for("it to go on", |s| s["phase"] == "running");
    assert!(status["step"].as_u64().is_none_or(|step| step > 30), "it goes on, it does not begin: {status}");
    served.cancel();
    cluster.nothing_is_left();
}

#[test]
fn a_restarted_coordinator_adopts_the_pods_and_ends_what_was_cancelled() {
    let Some(mut cluster) = Cluster::start() else { return };
    let job = cluster.job("irllrec", 150);
    let plain = cluster.folder.path().join("undisturbed");
    undisturbed(&job, &plain, &[&SETS[..], &["cluster.workers=2"]].concat());
    let served = cluster.submit(&job, &["cluster.workers=2"]);
    served.trains();
    let pods = cluster.pods();
    cluster.coordinator.kill();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(cluster.pods(), pods, "the pods train on");
    cluster.coordinator.start();
    let status = served.wait_for("adoption", |s| workers(s) == 2);
    assert_eq!((&status["generation"], &status["restarts"]), (&1.into(), &0.into()), "{status}");
    same_run(&served.succeeds(), &plain);
    assert_eq!(cluster.list("pods").len(), 2, "no pod was replaced");
}

#[test]
fn what_keeps_pods_from_running_is_said_within_seconds() {
    let Some(mut cluster) = Cluster::start() else { return };
    let job = cluster.job("lightgcn", 5);
    // two nodes have a GPU each
    let sets = ["cluster.workers=3", "cluster.device=auto", "kubernetes.gpus_per_worker=1", "cluster.min_workers=3"];
    let submitted = std::time::Instant::now();
    let served = cluster.submit(&job, &sets);
    let wanted = "waiting: 1 of 3 pods pending: Insufficient nvidia.com/gpu (2 nodes)";
    let status = served.wait_for("the reason", |s| s["reason"].as_str().is_some_and(|r| r.contains(wanted)));
    println!("the scheduler's reason after {:.1} s", submitted.elapsed().as_secs_f64());
    assert_eq!(status["phase"], "starting");
    // pods that wait for the others outlast their coordinator
    wait_until("two pods", || cluster.pods().len() == 2);
    cluster.coordinator.kill();
    cluster.coordinator.start();
    served.wait_for("the two to be back", |s| {
        s["reason"].as_str().is_some_and(|r| r.starts_with("2 of 3 workers registered"))
    });
    // room comes, and nobody had to ask again
    cluster.plane.apply(&["-f", "-"], Some(&super::node_of("node-c")));
    served.succeeds();
}

#[test]
fn what_is_rendered_is_what_runs_and_applies_twice() {
    let Some(mut cluster) = Cluster::start() else { return };
    let rendered = finish(&mut coordinator(&["render", "configs/amazon-8gpu.toml"]));
    assert_eq!(rendered.code, Some(0), "{}", rendered.stderr);
    cluster.plane.apply(&["-f", "-"], Some(&rendered.stdout));
    let again = cluster.plane.apply(&["-f", "-"], Some(&rendered.stdout));
    assert_eq!(again.matches("unchanged").count(), 2, "{again}");
    // a coordinator sweeps after itself alone
    cluster.coordinator.kill();
    cluster.coordinator.start();
    wait_until("it to lead", || cluster.coordinator.leads());
    assert_eq!(cluster.list("jobs").len(), 1, "a Job of nobody's is left alone");
}
