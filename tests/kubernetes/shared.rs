//! Clusters that others use too: a quota that has no room, and a queue that lets jobs go and takes them back.

use super::{Cluster, SETS};
use accord_harness::served::{Served, same_epochs, same_run, undisturbed};
use accord_harness::wait_until;
use serde_json::{Value, json};
use std::path::Path;

fn waits_for(served: &Served, words: &str) -> Value {
    served.wait_for(words, |s| s["reason"].as_str().is_some_and(|reason| reason.contains(words)))
}

fn there(status: &Value) -> usize {
    status["workers"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_quota_is_named_and_the_job_goes_on_with_fewer_and_grows_when_there_is_room() {
    let Some(cluster) = Cluster::start() else { return };
    // longer than the cluster takes to find its room
    let job = cluster.job("irllrec", 100_000);
    let quota = |pods: u32| {
        json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few" },
            "spec": { "hard": { "pods": pods.to_string() } } })
        .to_string()
    };
    // the coordinator's own StatefulSet has a pod too
    cluster.plane.apply(&["-f", "-"], Some(&quota(2)));
    wait_until("the quota to count", || cluster.plane.kubectl(&["get", "quota", "few"], None).1.contains("pods:"));
    let sets = [
        "cluster.workers=2",
        "cluster.min_workers=1",
        "kubernetes.form_within_ms=20000",
        "recovery.replace_within_ms=5000",
    ];
    let served = cluster.submit(&job, &sets);
    waits_for(&served, "1 of 2 pods pending: exceeded quota: few, requested: pods=1");
    let fewer = served.wait_for("it to go on with one", |s| s["phase"] == "running" && s["step"].is_u64());
    assert_eq!((there(&fewer), &fewer["workers_wanted"]), (1, &2.into()), "{fewer}");

    cluster.plane.apply(&["-f", "-"], Some(&quota(9)));
    let all = served.wait_for("all of them", |s| there(s) == 2 && s["phase"] == "running");
    assert_eq!(all["restarts"], 0, "to grow is no failure: {all}");
    let grown =
        served.wait_for("steps of all", |s| s["step"].as_u64().unwrap_or(0) > all["step"].as_u64().unwrap_or(0) + 50);
    served.cancel();
    // one worker alone is the faster on so small a catalog
    let run_dir = Path::new(grown["run_dir"].as_str().unwrap());
    same_epochs(run_dir, &job, &cluster.folder.path().join("undisturbed"), &SETS);
}

#[test]
fn a_queue_lets_a_job_go_and_takes_it_back() {
    let Some(cluster) = Cluster::start() else { return };
    let job = cluster.job("irllrec", 150);
    let plain = cluster.folder.path().join("undisturbed");
    undisturbed(&job, &plain, &[&SETS[..], &["cluster.workers=2"]].concat());
    let served = cluster.submit(&job, &["cluster.workers=2", "kubernetes.queue=training"]);
    waits_for(&served, "2 of 2 pods pending: no queue has admitted the Job");
    assert!(cluster.pods().is_empty());
    // what Kueue does when it admits a job, and when it preempts one
    let suspend = |suspend: bool| {
        let name = cluster.list("jobs")[0]["metadata"]["name"].as_str().unwrap().to_string();
        let patch = json!({ "spec": { "suspend": suspend } }).to_string();
        let (done, text) = cluster.plane.kubectl(&["patch", "job", &name, "--type=merge", "-p", &patch], None);
        assert!(done, "{text}");
    };
    suspend(false);
    served.trains();
    suspend(true);
    waits_for(&served, "no queue has admitted the Job");
    wait_until("the pods to go", || cluster.pods().is_empty());
    suspend(false);
    let status = served.wait_for("it to go on", |s| s["phase"] == "running" && s["step"].is_u64());
    assert_eq!(status["restarts"], 0, "to be taken back is no failure: {status}");
    same_run(&served.succeeds(), &plain);
}
