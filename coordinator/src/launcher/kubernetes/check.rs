//! Mistakes that the API server's schemas let pass, or refuse only when it is too late for the user (pure): everything
//! here is said before a job is taken.

use super::objects::CONTAINER;
use k8s_openapi::api::batch::v1::{Job, JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{Container, PodSpec, Probe, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::{BTreeMap, BTreeSet};

/// Longest host name, and so the longest name of a Service or of a pod of an Indexed Job.
const LONGEST_LABEL: usize = 63;
/// Resources of devices: whole, and the same as request and limit.
const DEVICE_PREFIXES: [&str; 2] = ["nvidia.com/", "rdma/"];

/// What is wrong with a Job and its pods, in words; empty: nothing that is known.
pub(super) fn mistakes(job: &Job) -> Vec<String> {
    let mut found = Vec::new();
    let spec = job.spec.clone().unwrap_or_default();
    let pod = spec.template.spec.clone().unwrap_or_default();
    name(job.metadata.name.as_deref().unwrap_or_default(), spec.completions.unwrap_or(1), &mut found);
    indexed(&spec, &mut found);
    restart_policy(&spec, &pod, &mut found);
    for rule in spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules) {
        failure_rule(rule, &pod, &mut found);
    }
    confinement(&pod, &mut found);
    volumes(&pod, &mut found);
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        one_container(container, &pod, &mut found);
    }
    if pod.containers.iter().all(|c| c.name != CONTAINER) {
        found.push(format!("there is no container `{CONTAINER}`"));
    }
    found
}

/// What a job file may not take: another account, a token for the API server, secrets that are not the workers'.
pub(super) fn trespasses(job: &Job, account: &str, secrets: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let pod = job.spec.clone().unwrap_or_default().template.spec.unwrap_or_default();
    if pod.service_account_name.as_deref() != Some(account) || pod.automount_service_account_token != Some(false) {
        found.push(format!("workers run as the service account `{account}`, without a token for the API server"));
    }
    let mut named = Vec::new();
    for volume in pod.volumes.iter().flatten() {
        named.extend(volume.secret.iter().map(|secret| secret.secret_name.clone().unwrap_or_default()));
        if volume.projected.is_some() || volume.host_path.is_some() || volume.csi.is_some() {
            found.push(format!("volume `{}` is of a kind that workers may not mount", volume.name));
        }
    }
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let whole = container.env_from.iter().flatten().filter_map(|from| from.secret_ref.as_ref());
        named.extend(whole.map(|secret| secret.name.clone()));
        let each = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
        named.extend(each.filter_map(|from| from.secret_key_ref.as_ref()).map(|key| key.name.clone()));
    }
    let foreign = named.iter().filter(|name| !secrets.contains(&name.as_str()));
    found.extend(foreign.map(|name| format!("the secret `{name}` is not for workers")));
    for volume in pod.volumes.iter().flatten() {
        let items = volume.secret.as_ref().map(|secret| secret.items.clone().unwrap_or_default());
        if items.is_some_and(|items| items.len() != 1 || items[0].key != "ca.crt") {
            found.push(format!("volume `{}`: of a secret, workers mount ca.crt alone", volume.name));
        }
    }
    found
}

fn name(name: &str, completions: i32, found: &mut Vec<String>) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || name.ends_with('-') || !name.chars().all(plain) {
        found.push(format!("`{name}` is no name for a Service: lower-case letters, digits and inner dashes"));
    }
    let last = format!("{name}-{}", completions.max(1) - 1);
    if last.len() > LONGEST_LABEL {
        found.push(format!("`{last}` is longer than the {LONGEST_LABEL} characters of a host name"));
    }
}

fn indexed(spec: &JobSpec, found: &mut Vec<String>) {
    let is_indexed = spec.completion_mode.as_deref() == Some("Indexed");
    if !is_indexed {
        let mode = spec.completion_mode.as_deref().unwrap_or("NonIndexed");
        found.push(format!("completionMode is {mode}: workers are told apart by their index"));
        if spec.backoff_limit_per_index.is_some() || spec.max_failed_indexes.is_some() {
            found.push("backoffLimitPerIndex and maxFailedIndexes need completionMode Indexed".into());
        }
    }
    if spec.completions != spec.parallelism {
        found.push("completions and parallelism differ: all workers run at once, and only both can be scaled".into());
    }
}

fn restart_policy(spec: &JobSpec, pod: &PodSpec, found: &mut Vec<String>) {
    match pod.restart_policy.as_deref() {
        Some("Never") => {}
        Some("OnFailure") if spec.pod_failure_policy.is_none() => {}
        Some("OnFailure") => found.push("restartPolicy OnFailure with a podFailurePolicy: use Never".into()),
        other => found.push(format!("restartPolicy {}: a Job's pods have Never", other.unwrap_or("is missing"))),
    }
}

fn failure_rule(rule: &PodFailurePolicyRule, pod: &PodSpec, found: &mut Vec<String>) {
    let Some(exits) = &rule.on_exit_codes else { return };
    if exits.operator == "In" && exits.values.contains(&0) {
        found.push("a failure rule is for exit code 0, which is no failure".into());
    }
    if exits.values.iter().collect::<BTreeSet<_>>().len() < exits.values.len() {
        found.push(format!("a failure rule names an exit code twice: {:?}", exits.values));
    }
    let mut names = pod.containers.iter().chain(pod.init_containers.iter().flatten()).map(|c| &c.name);
    if let Some(name) = &exits.container_name
        && !names.any(|known| known == name)
    {
        found.push(format!("a failure rule is for the container `{name}`, which is not there"));
    }
}

/// What no worker needs and no overlay may bring in.
fn confinement(pod: &PodSpec, found: &mut Vec<String>) {
    for (is_so, what) in [(pod.host_network, "hostNetwork"), (pod.host_pid, "hostPID"), (pod.host_ipc, "hostIPC")] {
        if is_so == Some(true) {
            found.push(format!("{what} takes the pod out of its namespaces"));
        }
    }
    let all = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    for container in all {
        if container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true)) {
            found.push(format!("container `{}` is privileged", container.name));
        }
    }
}

fn volumes(pod: &PodSpec, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for Volume { name, empty_dir, .. } in pod.volumes.iter().flatten() {
        if !seen.insert(name) {
            found.push(format!("two volumes are called `{name}`"));
        }
        if let Some(size) = empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref()) {
            quantity(&format!("the size of volume `{name}`"), size, found);
        }
    }
}

fn one_container(container: &Container, pod: &PodSpec, found: &mut Vec<String>) {
    let name = &container.name;
    if container.image.as_deref().unwrap_or_default().trim().is_empty() {
        found.push(format!("container `{name}` has no image"));
    }
    for mount in container.volume_mounts.iter().flatten() {
        if pod.volumes.iter().flatten().all(|volume| volume.name != mount.name) {
            found.push(format!("container `{name}` mounts the volume `{}`, which is not there", mount.name));
        }
    }
    let probes = [
        ("startupProbe", &container.startup_probe),
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
    ];
    for (kind, probe) in probes {
        if let Some(probe) = probe
            && handlers(probe) != 1
        {
            found.push(format!("{kind} of container `{name}` has {} handlers: it needs one", handlers(probe)));
        }
    }
    let resources = container.resources.clone().unwrap_or_default();
    let (requests, limits) = (resources.requests.unwrap_or_default(), resources.limits.unwrap_or_default());
    for (what, amounts) in [("request", &requests), ("limit", &limits)] {
        for (resource, amount) in amounts {
            quantity(&format!("the {what} of {resource}"), amount, found);
        }
    }
    devices(&requests, &limits, found);
}

fn handlers(probe: &Probe) -> usize {
    [probe.exec.is_some(), probe.grpc.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some()]
        .into_iter()
        .filter(|is_there| *is_there)
        .count()
}

fn devices(requests: &BTreeMap<String, Quantity>, limits: &BTreeMap<String, Quantity>, found: &mut Vec<String>) {
    let names: BTreeSet<&String> = requests.keys().chain(limits.keys()).collect();
    for name in names.into_iter().filter(|name| DEVICE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))) {
        let (request, limit) = (requests.get(name), limits.get(name));
        // an absent request is the limit
        if limit.is_none() || request.is_some_and(|request| Some(request) != limit) {
            let shown = |amount: Option<&Quantity>| amount.map_or("none", |a| a.0.as_str()).to_string();
            let (request, limit) = (shown(request), shown(limit));
            found.push(format!("{name}: request {request} and limit {limit} must be the same"));
        }
        let whole = |amount: &Quantity| !amount.0.is_empty() && amount.0.bytes().all(|b| b.is_ascii_digit());
        if let Some(amount) = [request, limit].into_iter().flatten().find(|amount| !whole(amount)) {
            found.push(format!("{name}: `{}` is no whole number of devices", amount.0));
        }
    }
}

/// `1`, `1.5`, `500m`, `8Gi`, `1e3`.
fn quantity(what: &str, amount: &Quantity, found: &mut Vec<String>) {
    const SUFFIXES: [&str; 15] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let text = amount.0.as_str();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let is_number = number.parse::<f64>().is_ok();
    let is_exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|power| power.parse::<i8>().is_ok());
    if !is_number || !(SUFFIXES.contains(&suffix) || suffix == "Ei" || is_exponent) {
        found.push(format!("{what}: `{text}` is no quantity such as 2, 500m or 8Gi"));
    }
}
