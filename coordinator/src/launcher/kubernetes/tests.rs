//! Objects as they are meant, and the mistakes that are caught before they are created.

use super::objects::{Blueprint, BlueprintError, Objects, Platform, name_of, objects};
use super::{KubernetesSettings, check};
use crate::job::JobId;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

fn platform() -> Platform {
    let settings = KubernetesSettings {
        namespace: None,
        image: "accord-worker:0.1.0".into(),
        service_account: "accord-worker".into(),
        runs_claim: Some("accord-runs".into()),
        data_claim: None,
        data_dir: "/data".into(),
        env_secret: Some("accord-s3".into()),
        tls_secret: Some("accord-tls".into()),
    };
    Platform { settings, namespace: "accord".into(), runs_dir: "/var/lib/accord/runs".into(), tls_name: None }
}

const JOB: &str = "[job]\nname = \"a\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\n[cluster]\nworkers = 2\n";

pub(super) fn made(more: &str, workers: u32) -> Result<Objects, BlueprintError> {
    let spec = accord_spec::parse(&format!("{JOB}{more}"), &[]).unwrap();
    objects(Blueprint {
        job: &JobId("a-0011223344".into()),
        spec: &spec,
        workers,
        token: "secret",
        coordinators: &["https://accord-coordinator-0:7411".into()],
        detect_within_ms: 5000,
        alone_ms: 600_000,
        platform: &platform(),
    })
}

fn annotation(objects: &Objects, key: &str) -> String {
    objects.job.metadata.annotations.as_ref().unwrap()[key].clone()
}

#[test]
fn the_number_of_workers_may_change_and_nothing_else() {
    let hash = |more, workers| annotation(&made(more, workers).unwrap(), super::objects::HASH_ANNOTATION);
    assert_eq!(hash("", 2), hash("", 3));
    assert_ne!(hash("", 2), hash("[kubernetes]\nmemory = \"9Gi\"\n", 2));
}

#[test]
fn a_long_name_is_cut_before_its_digest_and_begins_with_a_letter() {
    let long = JobId(format!("{}-0011223344", "very-long-name".repeat(4)));
    let name = name_of(&long);
    assert!(name.len() <= 58 && name.ends_with("-0011223344") && name.starts_with("very-long-name"), "{name}");
    assert_eq!(name_of(&JobId("2025-0011223344".into())), "j-2025-0011223344");
}

#[test]
fn a_queue_holds_the_job_back_and_a_gpu_is_asked_for_whole() {
    let job = made("[kubernetes]\nqueue = \"training\"\ngpus_per_worker = 1\n", 2).unwrap().job;
    assert_eq!(job.metadata.labels.unwrap()["kueue.x-k8s.io/queue-name"], "training");
    let spec = job.spec.unwrap();
    assert_eq!(spec.suspend, Some(true));
    let resources = spec.template.spec.unwrap().containers[0].resources.clone().unwrap();
    assert_eq!(resources.requests, resources.limits);
    assert_eq!(made("device = \"cuda\"\n", 2).unwrap_err(), BlueprintError::NoGpu);
}

/// The value at a path of keys and numbers, to be replaced.
fn set(job: &mut Value, path: &str, value: Value) {
    let mut at = job;
    for key in path.split('/') {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[key],
        };
    }
    *at = value;
}

#[test]
fn every_planted_mistake_is_caught() {
    let sound = serde_json::to_value(made("[kubernetes]\ngpus_per_worker = 1\n", 2).unwrap().job).unwrap();
    let pod = "spec/template/spec";
    let container = format!("{pod}/containers/0");
    let gpu = |amount: &str| json!({ "cpu": "1", "memory": "1Gi", "nvidia.com/gpu": amount });
    let rules = |values: Value, name: &str| json!([{ "action": "FailJob", "onExitCodes": { "containerName": name, "operator": "In", "values": values } }]);
    let two = json!({ "grpc": { "port": 1 }, "tcpSocket": { "port": 1 } });
    let mount = json!([{ "name": "nowhere", "mountPath": "/x" }]);
    for (what, path, value, says) in [
        ("restartPolicy Always", format!("{pod}/restartPolicy"), json!("Always"), "restartPolicy Always"),
        ("OnFailure with podFailurePolicy", format!("{pod}/restartPolicy"), json!("OnFailure"), "OnFailure with"),
        ("GPU limit is not the request", format!("{container}/resources/limits"), gpu("2"), "must be the same"),
        ("GPU 500m", format!("{container}/resources/requests"), gpu("500m"), "no whole number"),
        ("bad quantity", format!("{container}/resources/limits/memory"), json!("8 GB"), "no quantity"),
        ("unknown volume", format!("{container}/volumeMounts"), mount, "`nowhere`, which is not there"),
        ("bad name", "metadata/name".into(), json!("A_job"), "no name for a Service"),
        ("long name", "metadata/name".into(), json!("a".repeat(62)), "longer than the 63"),
        ("no image", format!("{container}/image"), json!(""), "has no image"),
        ("two probe handlers", format!("{container}/livenessProbe"), two, "2 handlers"),
        ("wrong completionMode", "spec/completionMode".into(), json!("NonIndexed"), "completionMode is NonIndexed"),
        ("limit per index without index", "spec/completionMode".into(), Value::Null, "need completionMode Indexed"),
        ("exit code 0", "spec/podFailurePolicy/rules".into(), rules(json!([0]), "worker"), "is no failure"),
        ("exit code twice", "spec/podFailurePolicy/rules".into(), rules(json!([3, 3]), "worker"), "twice"),
        ("wrong containerName", "spec/podFailurePolicy/rules".into(), rules(json!([3]), "wroker"), "`wroker`"),
        ("hostNetwork", format!("{pod}/hostNetwork"), json!(true), "hostNetwork"),
        ("workers that differ", "spec/parallelism".into(), json!(7), "parallelism differ"),
    ] {
        let mut job = sound.clone();
        set(&mut job, &path, value);
        let found = check::mistakes(&serde_json::from_value::<Job>(job).unwrap());
        assert!(found.iter().any(|mistake| mistake.contains(says)), "{what}: {found:?}");
    }
    assert!(check::mistakes(&serde_json::from_value::<Job>(sound).unwrap()).is_empty());
}

#[test]
fn a_job_file_takes_no_account_and_no_secret_that_is_not_the_workers() {
    let refused = |overlay: &str| match made(&format!("[kubernetes.pod_template.spec]\n{overlay}"), 2) {
        Err(BlueprintError::Mistakes(mistakes)) => mistakes.join("; "),
        other => panic!("{overlay}: {other:?}"),
    };
    assert!(refused("serviceAccountName = \"accord-coordinator\"\n").contains("service account"));
    assert!(refused("automountServiceAccountToken = true\n").contains("service account"));
    let volume = "[[kubernetes.pod_template.spec.volumes]]\nname = \"x\"\n";
    assert!(refused(&format!("{volume}secret = {{ secretName = \"accord-tokens\" }}\n")).contains("`accord-tokens`"));
    assert!(refused(&format!("{volume}secret = {{ secretName = \"accord-tls\" }}\n")).contains("ca.crt alone"));
    assert!(refused(&format!("{volume}hostPath = {{ path = \"/\" }}\n")).contains("may not mount"));
    let container = "[[kubernetes.pod_template.spec.containers]]\nname = \"worker\"\n";
    let variable =
        "env = [{ name = \"X\", valueFrom = { secretKeyRef = { name = \"accord-tokens\", key = \"submit\" } } }]\n";
    assert!(refused(&format!("{container}{variable}")).contains("`accord-tokens`"));
}
