//! What the objects of a job say about it (pure): why workers do not come, how one ended, whether the Job can go on at all.

use super::objects::{CONTAINER, LEFT_EXIT, USELESS_EXITS};
use crate::job::{Failure, FailureKind};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Event, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;

/// Of a pod's last words.
const LAST_WORDS_BYTES: usize = 1000;

/// The objects as they were last seen.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) job: Option<Job>,
    /// By name; those of the Job alone.
    pub(super) pods: BTreeMap<String, Pod>,
    /// Of the Job, such as that its pods may not be created.
    pub(super) events: Vec<Event>,
}

impl Picture {
    /// Pods that have not ended.
    pub(super) fn live(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(|pod| end_of(pod).is_none() && !succeeded(pod))
    }

    /// What keeps the `wanted` pods from running; none: nothing.
    pub(super) fn waits(&self, wanted: u32) -> Option<String> {
        let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
        let mut there = 0;
        for pod in self.live() {
            there += 1;
            if let Some(reason) = pending(pod) {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        let missing = wanted.saturating_sub(there);
        if missing > 0 {
            *reasons.entry(self.why_missing()).or_default() += missing;
        }
        let waiting: u32 = reasons.values().sum();
        let mut reasons: Vec<(String, u32)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, pods)| std::cmp::Reverse(*pods));
        match reasons.as_slice() {
            [] => None,
            [(reason, _)] => Some(format!("{waiting} of {wanted} pods pending: {reason}")),
            several => {
                let each: Vec<String> = several.iter().map(|(reason, pods)| format!("{pods}: {reason}")).collect();
                Some(format!("{waiting} of {wanted} pods pending, {}", each.join(", ")))
            }
        }
    }

    fn why_missing(&self) -> String {
        let Some(job) = &self.job else { return "the cluster has not taken the Job yet".into() };
        let spec = job.spec.as_ref();
        if job.metadata.deletion_timestamp.is_some() {
            return "the pods of before are still ending".into();
        }
        if spec.and_then(|spec| spec.suspend) == Some(true) {
            return "no queue has admitted the Job".into();
        }
        if let Some(refusal) = self.newest_refusal() {
            return refusal;
        }
        let last = self.pods.values().filter_map(|pod| Some((pod, end_of(pod)?)));
        let last = last.max_by_key(|(pod, _)| pod.metadata.creation_timestamp.clone());
        match last {
            Some((pod, how)) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                format!("{name} {how}, and another is to come")
            }
            None => "they are to be created".into(),
        }
    }

    /// Why the newest pod could not be created, if none was created since.
    fn newest_refusal(&self) -> Option<String> {
        let refusals = self.events.iter().filter(|event| event.reason.as_deref() == Some("FailedCreate"));
        let refusal = refusals.max_by_key(|event| time_of(event))?;
        let newest_pod = self.pods.values().filter_map(|pod| Some(pod.metadata.creation_timestamp.as_ref()?.0)).max();
        let message = refusal.message.as_deref().filter(|_| time_of(refusal) >= newest_pod)?;
        // before it stands a pod's name, another one at each try
        Some(message.split_once(" is forbidden: ").map_or(message, |(_, why)| why).to_string())
    }
}

fn time_of(event: &Event) -> Option<Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

fn succeeded(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == CONTAINER)?.state.as_ref()?.terminated.as_ref()
}

/// Why a pod that has not ended does not run yet.
fn pending(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref();
    if status.and_then(|status| status.phase.as_deref()) == Some("Running") {
        return None;
    }
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|condition| condition.status == "False") {
        return Some(unschedulable(scheduled.message.as_deref().unwrap_or("not scheduled yet")));
    }
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let waiting = containers.into_iter().flatten().find_map(|status| status.state.as_ref()?.waiting.as_ref());
    match waiting.and_then(|waiting| Some((waiting.reason.as_deref()?, waiting.message.as_deref()))) {
        Some((reason, Some(message))) => Some(format!("{reason}: {message}")),
        Some(("ContainerCreating" | "PodInitializing", None)) => Some("their containers are being created".into()),
        Some((reason, None)) => Some(reason.into()),
        None if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) => {
            Some("their containers are being created".into())
        }
        None => Some("not scheduled yet".into()),
    }
}

/// `0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: ...` -> `Insufficient nvidia.com/gpu (4 nodes)`.
fn unschedulable(message: &str) -> String {
    let Some((_, causes)) = message.split_once("nodes are available: ") else { return message.into() };
    // what preemption could do about it says nothing new
    let causes = causes.split(". ").next().unwrap_or(causes).trim_end_matches('.');
    let cause = |text: &str| match text.split_once(' ') {
        Some((nodes, why)) if nodes.bytes().all(|b| b.is_ascii_digit()) => format!("{why} ({nodes} nodes)"),
        _ => text.to_string(),
    };
    causes.split(", ").map(cause).collect::<Vec<_>>().join(", ")
}

/// How a pod that failed did so, after its name; none: it lives, or did all there was to do.
pub(super) fn end_of(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Failed") {
        return None;
    }
    if let Some(disrupted) = condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True") {
        let reason = disrupted.reason.as_deref().unwrap_or("DisruptionTarget");
        let message = disrupted.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        return Some(format!("was evicted ({reason}{message})"));
    }
    let Some(end) = terminated(pod) else {
        let reason = status.reason.as_deref().unwrap_or("no reason is given");
        let message = status.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        return Some(format!("failed ({reason}{message})"));
    };
    let how = match (end.reason.as_deref(), end.signal, end.exit_code) {
        (Some("OOMKilled"), ..) => "ran out of the memory it asked for (OOMKilled; kubernetes.memory)".into(),
        (_, _, LEFT_EXIT) => format!("left when it was told to (exit code {LEFT_EXIT})"),
        (_, Some(signal), _) if signal > 0 => format!("was killed by signal {signal}"),
        (_, _, code) if code > 128 => format!("was killed by signal {}", code - 128),
        (_, _, code) => format!("exited with code {code}"),
    };
    let words = end.message.as_deref().unwrap_or_default().trim();
    let words = &words[words.ceil_char_boundary(words.len().saturating_sub(LAST_WORDS_BYTES))..];
    Some(if words.is_empty() { how } else { format!("{how}, saying: {words}") })
}

/// Why the Job runs no more pods, if it does not.
pub(super) fn broken(job: &Job) -> Option<Failure> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let failed =
        conditions.iter().find(|c| matches!(c.type_.as_str(), "Failed" | "FailureTarget") && c.status == "True")?;
    let (reason, message) =
        (failed.reason.as_deref().unwrap_or_default(), failed.message.as_deref().unwrap_or_default());
    let kind = match reason {
        // of the rules, only those for exits that no other pod would do better fail the Job
        "PodFailurePolicy" => FailureKind::BadInput,
        // the user asked for it, and the next would be late too
        "DeadlineExceeded" => FailureKind::Training,
        _ => FailureKind::WorkerLost,
    };
    let hint = match reason {
        "PodFailurePolicy" => format!(" (exit codes {USELESS_EXITS:?}: the job file or the arguments cannot be used)"),
        "DeadlineExceeded" => " (kubernetes.active_deadline_seconds)".into(),
        _ => String::new(),
    };
    Some(Failure { kind, text: format!("the cluster failed the Job: {reason}: {message}{hint}") })
}

/// Whether the Job will run no pod again.
pub(super) fn is_finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ends = |kind: &str| matches!(kind, "Complete" | "Failed" | "SuccessCriteriaMet" | "FailureTarget");
    conditions.into_iter().flatten().any(|c| ends(&c.type_) && c.status == "True")
}

/// Whether a pod belongs to this very Job, and not to one of before with its name.
pub(super) fn is_of(pod: &Pod, job: &Job) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.map(|owner| &owner.uid).any(|uid| Some(uid) == job.metadata.uid.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    fn pod(name: &str, status: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": name }, "status": status })).unwrap()
    }

    fn terminated_with(state: Value) -> Pod {
        let status = json!({ "name": "worker", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": { "terminated": state } });
        pod("a-0", json!({ "phase": "Failed", "containerStatuses": [status] }))
    }

    fn time(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    fn picture(pods: Vec<Pod>) -> Picture {
        let job: Job = serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
        let pods = pods.into_iter().map(|pod| (pod.metadata.name.clone().unwrap(), pod)).collect();
        Picture { job: Some(job), pods, events: Vec::new() }
    }

    #[test]
    fn pods_without_a_node_name_the_schedulers_reason() {
        let message = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: 0/4 nodes are available";
        let condition =
            json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message });
        let pending = json!({ "phase": "Pending", "conditions": [condition] });
        let running = json!({ "phase": "Running" });
        let mut pods: Vec<Pod> = (0..3).map(|n| pod(&format!("a-{n}"), pending.clone())).collect();
        pods.extend((3..8).map(|n| pod(&format!("a-{n}"), running.clone())));
        let picture = picture(pods);
        assert_eq!(picture.waits(8).unwrap(), "3 of 8 pods pending: Insufficient nvidia.com/gpu (4 nodes)");
        assert_eq!(unschedulable("1/2 is odd"), "1/2 is odd");
    }

    #[test]
    fn images_that_cannot_be_pulled_and_queues_and_quotas_are_named() {
        let waiting = json!({ "name": "worker", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": { "waiting": { "reason": "ImagePullBackOff", "message": "not found" } } });
        let unpulled = picture(vec![pod("a-0", json!({ "phase": "Pending", "containerStatuses": [waiting] }))]);
        assert_eq!(unpulled.waits(1).unwrap(), "1 of 1 pods pending: ImagePullBackOff: not found");

        let mut queued = picture(vec![]);
        queued.job.as_mut().unwrap().spec = serde_json::from_value(json!({ "suspend": true, "template": {} })).unwrap();
        assert_eq!(queued.waits(2).unwrap(), "2 of 2 pods pending: no queue has admitted the Job");

        let mut refused = picture(vec![]);
        let message = "Error creating: pods \"a-0-t4xfn\" is forbidden: exceeded quota";
        let event = json!({ "metadata": {}, "involvedObject": {}, "reason": "FailedCreate", "message": message });
        refused.events.push(serde_json::from_value(event).unwrap());
        assert_eq!(refused.waits(2).unwrap(), "2 of 2 pods pending: exceeded quota");
        // a quota that has room for some
        let mut some = pod("a-0", json!({ "phase": "Running" }));
        some.metadata.creation_timestamp = Some(time("2026-01-01T00:00:10Z"));
        refused.pods.insert("a-0".into(), some);
        refused.events[0].last_timestamp = Some(time("2026-01-01T00:00:10Z"));
        assert_eq!(refused.waits(2).unwrap(), "1 of 2 pods pending: exceeded quota");
        refused.events[0].last_timestamp = Some(time("2026-01-01T00:00:09Z"));
        assert_eq!(refused.waits(2).unwrap(), "1 of 2 pods pending: they are to be created");
        assert_eq!(picture(vec![pod("a-0", json!({ "phase": "Running" }))]).waits(1), None);
    }

    #[test]
    fn an_end_says_what_the_pod_says() {
        let ends = |state: Value| end_of(&terminated_with(state)).unwrap();
        assert_eq!(
            ends(json!({ "exitCode": 1, "message": "out of luck\n" })),
            "exited with code 1, saying: out of luck"
        );
        assert_eq!(ends(json!({ "exitCode": 137 })), "was killed by signal 9");
        assert!(ends(json!({ "exitCode": 137, "reason": "OOMKilled" })).contains("kubernetes.memory"));
        assert_eq!(ends(json!({ "exitCode": 75 })), "left when it was told to (exit code 75)");
        let condition =
            json!({ "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "m" });
        let evicted = pod("a-0", json!({ "phase": "Failed", "conditions": [condition] }));
        assert_eq!(end_of(&evicted).unwrap(), "was evicted (EvictionByEvictionAPI: m)");
        assert_eq!(end_of(&pod("a-0", json!({ "phase": "Succeeded" }))), None);
    }

    #[test]
    fn a_failed_job_says_whether_another_try_would_help() {
        let failed = |reason: &str| {
            let condition = json!({ "type": "Failed", "status": "True", "reason": reason, "message": "m" });
            let job: Job =
                serde_json::from_value(json!({ "metadata": {}, "status": { "conditions": [condition] } })).unwrap();
            assert!(is_finished(&job));
            broken(&job).unwrap().kind
        };
        assert_eq!(failed("PodFailurePolicy"), FailureKind::BadInput);
        assert_eq!(failed("DeadlineExceeded"), FailureKind::Training);
        assert_eq!(failed("FailedIndexes"), FailureKind::WorkerLost);
    }
}
