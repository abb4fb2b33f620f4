//! What the API server lets the coordinator's own service account do, and what not.

use super::Cluster;
use crate::control_plane::NAMESPACE;

#[test]
fn the_coordinator_may_do_what_it_needs_and_nothing_else() {
    let Some(cluster) = Cluster::start() else { return };
    let own = cluster.plane.coordinators_kubeconfig();
    let may = |verb: &str, what: &str, namespace: &str| {
        let (what, part) = what.split_once('/').unwrap_or((what, ""));
        let part = format!("--subresource={part}");
        cluster.plane.kubectl_as(&own, &["auth", "can-i", verb, what, &part, "-n", namespace], None).0
    };
    for (verbs, what) in [
        (&["get", "list", "watch", "create", "patch", "delete"][..], "jobs.batch"),
        (&["get", "create", "patch", "delete"][..], "services"),
        (&["get", "list", "watch"][..], "pods"),
        (&["list"][..], "events"),
    ] {
        for verb in verbs {
            assert!(may(verb, what, NAMESPACE), "{verb} {what}");
            assert!(!may(verb, what, "default"), "{verb} {what} in another namespace");
        }
    }
    for (verb, what) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "secrets"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "pods/exec"),
        ("get", "pods/log"),
        ("get", "nodes"),
        ("list", "nodes"),
        ("create", "leases.coordination.k8s.io"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("deletecollection", "jobs.batch"),
        ("update", "jobs.batch"),
    ] {
        assert!(!may(verb, what, NAMESPACE), "{verb} {what}");
    }
    // not only by the rules: asked for, they are refused
    for refused in [&["get", "secrets"][..], &["get", "nodes"], &["run", "a-pod", "--image=a"], &["get", "pods", "-A"]]
    {
        let (done, text) = cluster.plane.kubectl_as(&own, refused, None);
        assert!(!done && text.contains("forbidden"), "{refused:?}: {text}");
    }
}

#[test]
fn a_coordinator_without_rights_says_which() {
    let Some(cluster) = Cluster::start() else { return };
    let (done, text) = cluster.plane.kubectl(&["delete", "rolebinding", "accord-coordinator"], None);
    assert!(done, "{text}");
    let job = cluster.job("lightgcn", 5);
    let served = cluster.submit(&job, &[]);
    let mut reason = String::new();
    accord_harness::wait_until("the refusal", || {
        let status = served.status().unwrap_or_default();
        reason = status["reason"].as_str().unwrap_or_default().into();
        status["phase"] == "failed"
    });
    assert!(reason.contains("the cluster refuses the job") && reason.contains("jobs.batch"), "{reason}");
}
