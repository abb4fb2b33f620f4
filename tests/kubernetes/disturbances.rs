//! Pods that end in every way that pods end: the job goes on with the same numbers, or fails with the reason.

use super::{Cluster, SETS};
use accord_harness::served::{Served, same_run, undisturbed};
use accord_harness::{signal, wait_until};
use serde_json::{Value, json};

fn restarts(served: &Served) -> u64 {
    served.status().unwrap()["restarts"].as_u64().unwrap()
}

fn runs_as(served: &Served, generation: u64) -> Value {
    served.wait_for("the next generation", |s| s["generation"] == generation && s["phase"] == "running")
}

fn further(served: &Served) {
    let before = served.status().unwrap()["step"].as_u64().unwrap_or(0);
    served.wait_for("a step more", |s| s["step"].as_u64().is_some_and(|step| step > before + 25));
}

fn events(served: &Served) -> Vec<Value> {
    let run_dir = served.status().unwrap()["run_dir"].as_str().unwrap().to_string();
    let text = std::fs::read_to_string(format!("{run_dir}/metrics.jsonl")).unwrap();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["kind"] == "event")
        .collect()
}

/// Why the newest generation that failed did so.
fn culprit(served: &Served) -> String {
    let lost = events(served).into_iter().rfind(|event| event["event"] == "lost").unwrap();
    lost["reason"].as_str().unwrap().into()
}

#[test]
fn a_crash_an_eviction_a_frozen_pod_and_a_lost_node_change_no_number() {
    let Some(cluster) = Cluster::start() else { return };
    let job = cluster.job("irllrec", 150);
    let plain = cluster.folder.path().join("undisturbed");
    undisturbed(&job, &plain, &[&SETS[..], &["cluster.workers=2"]].concat());
    let served = cluster.submit(&job, &["cluster.workers=2"]);
    served.trains();

    // its process is killed: the Job replaces the pod, and the culprit is named
    let (pod, id) = cluster.kubelet.pods().pop_last().unwrap();
    signal("KILL", id);
    runs_as(&served, 2);
    assert_eq!(restarts(&served), 1);
    let reason = culprit(&served);
    assert!(reason.contains(&pod) && reason.contains("was killed by signal 9"), "{reason}");
    further(&served);

    // evicted by the API, as a drain and a preemption are: the state is saved first, and it is no failure
    let (pod, _) = cluster.kubelet.pods().pop_first().unwrap();
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": pod, "namespace": "accord" } });
    let path = format!("/api/v1/namespaces/accord/pods/{pod}/eviction");
    let (done, text) = cluster.plane.kubectl(&["create", "--raw", &path, "-f", "-"], Some(&eviction.to_string()));
    assert!(done, "{text}");
    runs_as(&served, 3);
    assert_eq!(restarts(&served), 1, "leaving is no failure");
    further(&served);

    // frozen: the coordinator notices by its silence, the kubelet by its probe
    let (_, id) = cluster.kubelet.pods().pop_last().unwrap();
    signal("STOP", id);
    runs_as(&served, 4);
    assert!(culprit(&served).contains("was silent for"), "{}", culprit(&served));
    further(&served);

    // its node is gone: the pod garbage collector finds out, after a minute, and another node takes over
    let (pod, _) = cluster.kubelet.pods().pop_first().unwrap();
    let (_, node) = cluster.plane.kubectl(&["get", "pod", &pod, "-o", "jsonpath={.spec.nodeName}"], None);
    let (done, text) = cluster.plane.kubectl(&["delete", "node", &node], None);
    assert!(done, "{text}");
    served.wait_for("another generation", |s| s["generation"].as_u64() >= Some(5) && s["phase"] == "running");
    same_run(&served.succeeds(), &plain);
    for event in events(&served).iter().filter(|event| event["event"] == "lost") {
        println!("{}", event["reason"].as_str().unwrap().lines().next().unwrap_or_default());
    }
}

#[test]
fn exit_codes_decide_whether_another_pod_is_worth_a_try() {
    let Some(cluster) = Cluster::start() else { return };
    let job = cluster.job("lightgcn", 5);
    let ends = |code: u32| {
        let image = format!("kubernetes.image=fake/exit-{code}");
        cluster.submit(&job, &["cluster.workers=2", "cluster.min_workers=2", &image])
    };
    // the arguments or the job file cannot be used: the Job fails as a whole, and so does the job
    for code in [64, 78] {
        let served = ends(code);
        let mut status = Value::Null;
        wait_until("the failure", || {
            status = served.status().unwrap_or_default();
            status["phase"] == "failed"
        });
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains("PodFailurePolicy") && reason.contains(&format!("exit code {code}")), "{reason}");
        assert_eq!(status["failure"], "bad_input", "{status}");
    }
    cluster.nothing_is_left();
    // a crash before it came: the Job tries again, and the job waits and says what it sees
    let served = ends(1);
    let says = |s: &Value| s["reason"].as_str().is_some_and(|r| r.contains("exited with code 1, saying: out of luck"));
    let status = served.wait_for("the pod's last words", says);
    assert_eq!(status["phase"], "starting", "{status}");
    // left: ignored, so that it counts for no limit
    let left = ends(75);
    wait_until("some that left", || {
        let jobs = cluster.list("jobs");
        let job = jobs.iter().find(|job| job["metadata"]["name"] == left.id.as_str());
        cluster.list("pods").iter().filter(|pod| pod["status"]["phase"] == "Failed").count() > 3
            && job.is_some_and(|job| {
                job["status"]["conditions"].is_null()
                    && job["status"]["failedIndexes"].as_str().unwrap_or_default().is_empty()
            })
    });
    for job in [&served, &left] {
        let url = cluster.coordinator.url();
        let done =
            accord_harness::finish(&mut accord_harness::coordinator(&["cancel", &job.id, "--coordinator", &url]));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    cluster.nothing_is_left();
}
