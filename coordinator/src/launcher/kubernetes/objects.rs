//! A job as Kubernetes objects (pure): one headless Service and one Indexed Job. What you see here, with `[kubernetes]` of
//! the job file merged in, is what runs; `coordinator render` prints it.

use super::overlay::{self, OverlayError};
use super::{KubernetesSettings, check};
use crate::job::JobId;
use crate::launcher::ENVIRONMENT;
use accord_spec::{Device, JobSpec, Kubernetes};
use k8s_openapi::api::batch::v1::{
    Job, JobSpec as BatchSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvFromSource, EnvVar, EnvVarSource,
    GRPCAction, KeyToPath, ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodAffinity, PodAffinityTerm,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretEnvSource,
    SecretVolumeSource, SecurityContext, Service, ServicePort, ServiceSpec, Toleration, Volume, VolumeMount,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::path::Path;

/// The container that trains; pod failure rules name it.
pub const CONTAINER: &str = "worker";
/// Where the kubelet asks a worker how it is.
pub const HEALTH_PORT: i32 = 7412;
/// The job file or the arguments cannot be used (the worker's `pod` module): every other pod would end the same way.
pub const USELESS_EXITS: [i32; 2] = [64, 78];
/// It left when it was told to.
pub const LEFT_EXIT: i32 = 75;
/// On both objects and on the pods: the name of the objects.
pub const JOB_LABEL: &str = "accord.dev/job";
pub const APP_LABEL: &str = "app.kubernetes.io/name";
pub const APP: &str = "accord-worker";
/// On both objects: the id that `coordinator` knows the job by, which may be longer than a label.
pub const ID_ANNOTATION: &str = "accord.dev/job-id";
/// Digest of what may not change while the objects live.
pub const HASH_ANNOTATION: &str = "accord.dev/spec-hash";
const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";
const GPU: &str = "nvidia.com/gpu";
/// Who a worker is in its container; the platform's manifests know it too.
const USER: i64 = 65532;
/// A pod on a node that does not answer is replaced after this.
const NODE_LOST_SECONDS: i64 = 30;
/// `<name>-<index>` is a host name of at most 63 characters, and a job has at most 1024 workers.
const LONGEST_NAME: usize = 58;
const TLS_DIR: &str = "/etc/accord/tls";
/// An emptyDir of `[kubernetes] scratch`.
const SCRATCH_DIR: &str = "/tmp";

/// What the objects of a job are made from.
#[derive(Clone, Copy)]
pub struct Blueprint<'a> {
    pub job: &'a JobId,
    pub spec: &'a JobSpec,
    pub workers: u32,
    pub token: &'a str,
    pub coordinators: &'a [String],
    pub detect_within_ms: u64,
    pub alone_ms: u64,
    pub platform: &'a Platform,
}

/// What all jobs share.
#[derive(Clone, Debug)]
pub struct Platform {
    pub settings: KubernetesSettings,
    pub namespace: String,
    /// Where the run directories are mounted.
    pub runs_dir: std::path::PathBuf,
    /// A name in the coordinator's certificate.
    pub tls_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    pub service: Service,
    pub job: Job,
}

/// Why a job file makes no objects.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BlueprintError {
    #[error("kubernetes.gpus_per_worker: 0 with cluster.device = \"cuda\"\n  hint: use 1, or cluster.device = \"cpu\"")]
    NoGpu,
    #[error(
        "checkpoint.uri: `{0}` is a folder of the run directory, which this coordinator does not share with its workers\n  \
         hint: use s3://bucket/prefix, a prefix for each job; or `runs_claim` in the coordinator's settings"
    )]
    NoSharedRunDir(String),
    #[error("kubernetes.pod_template: {0}")]
    Overlay(#[from] OverlayError),
    #[error("the job's pods would not work: {}", .0.join("; "))]
    Mistakes(Vec<String>),
}

/// The name of a job's objects: its id, or as much of it as fits before the digest at its end.
pub fn name_of(job: &JobId) -> String {
    // a Service's name begins with a letter
    let id = if job.0.starts_with(|c: char| c.is_ascii_digit()) { format!("j-{job}") } else { job.0.clone() };
    if id.len() <= LONGEST_NAME {
        return id;
    }
    let (name, digest) = id.rsplit_once('-').unwrap_or((&id, ""));
    let room = LONGEST_NAME - digest.len() - 1;
    format!("{}-{digest}", name[..room.min(name.len())].trim_end_matches('-'))
}

/// # Errors
/// [`BlueprintError`]: the job file is to be changed.
pub fn objects(from: Blueprint<'_>) -> Result<Objects, BlueprintError> {
    if from.spec.cluster.device == Device::Cuda && from.spec.kubernetes.gpus_per_worker == 0 {
        return Err(BlueprintError::NoGpu);
    }
    let checkpoint = &from.spec.checkpoint;
    if from.platform.settings.runs_claim.is_none() && !checkpoint.in_bucket() {
        return Err(BlueprintError::NoSharedRunDir(checkpoint.uri.clone()));
    }
    let mut job = job(from)?;
    let hash = spec_hash(&job);
    job.metadata.annotations.get_or_insert_default().insert(HASH_ANNOTATION.into(), hash);
    let objects = Objects { service: service(from), job };
    let settings = &from.platform.settings;
    let mut mistakes = check::mistakes(&objects.job);
    let secrets: Vec<&str> =
        [&settings.env_secret, &settings.tls_secret].into_iter().flatten().map(String::as_str).collect();
    mistakes.extend(check::trespasses(&objects.job, &settings.service_account, &secrets));
    if mistakes.is_empty() { Ok(objects) } else { Err(BlueprintError::Mistakes(mistakes)) }
}

/// The Service goes when the Job does.
pub fn owned_by(mut service: Service, job: &Job) -> Service {
    let (Some(name), Some(uid)) = (&job.metadata.name, &job.metadata.uid) else { return service };
    service.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: name.clone(),
        uid: uid.clone(),
        controller: None,
        block_owner_deletion: None,
    }]);
    service
}

/// Digest of all but the number of workers, which may change.
fn spec_hash(job: &Job) -> String {
    let mut fixed = job.clone();
    if let Some(spec) = &mut fixed.spec {
        (spec.completions, spec.parallelism) = (None, None);
    }
    let text = serde_json::to_vec(&fixed).unwrap_or_default();
    blake3::hash(&text).to_hex()[..32].to_string()
}

fn labels(name: &str) -> BTreeMap<String, String> {
    let managed_by = ("app.kubernetes.io/managed-by", "accord");
    [(APP_LABEL, APP), managed_by, (JOB_LABEL, name)].map(|(key, value)| (key.into(), value.into())).into()
}

fn metadata(from: Blueprint<'_>) -> ObjectMeta {
    let name = name_of(from.job);
    ObjectMeta {
        namespace: Some(from.platform.namespace.clone()),
        labels: Some(labels(&name)),
        annotations: Some([(ID_ANNOTATION.into(), from.job.0.clone())].into()),
        name: Some(name),
        ..ObjectMeta::default()
    }
}

fn service(from: Blueprint<'_>) -> Service {
    let port = ServicePort {
        name: Some("health".into()),
        protocol: Some("TCP".into()),
        port: HEALTH_PORT,
        target_port: Some(IntOrString::String("health".into())),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        cluster_ip: Some("None".into()),
        publish_not_ready_addresses: Some(true),
        selector: Some([(JOB_LABEL.into(), name_of(from.job))].into()),
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(from), spec: Some(spec), ..Service::default() }
}

fn job(from: Blueprint<'_>) -> Result<Job, BlueprintError> {
    let pods = &from.spec.kubernetes;
    let workers = i32::try_from(from.workers).unwrap_or(i32::MAX);
    let mut metadata = metadata(from);
    if let Some(queue) = &pods.queue {
        metadata.labels.get_or_insert_default().insert(QUEUE_LABEL.into(), queue.clone());
    }
    let template = overlay::merged(template(from), &pods.pod_template)?;
    let spec = BatchSpec {
        completion_mode: Some("Indexed".into()),
        completions: Some(workers),
        parallelism: Some(workers),
        // the coordinator bounds restarts within an hour; beyond that the Job is made anew
        backoff_limit_per_index: Some(i32::try_from(from.spec.recovery.max_restarts).unwrap_or(i32::MAX).max(3)),
        max_failed_indexes: Some(0),
        pod_replacement_policy: Some("Failed".into()),
        pod_failure_policy: Some(failure_policy()),
        ttl_seconds_after_finished: i32::try_from(pods.keep_finished_seconds).ok(),
        active_deadline_seconds: pods.active_deadline_seconds.and_then(|seconds| i64::try_from(seconds).ok()),
        // Kueue lets it go
        suspend: pods.queue.as_ref().map(|_| true),
        template,
        selector: None::<LabelSelector>,
        ..BatchSpec::default()
    };
    Ok(Job { metadata, spec: Some(spec), ..Job::default() })
}

/// The first rule that fits wins. What is ignored counts for no limit: the coordinator bounds restarts itself.
fn failure_policy() -> PodFailurePolicy {
    let exits = |action: &str, values: &[i32]| PodFailurePolicyRule {
        action: action.into(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(CONTAINER.into()),
            operator: "In".into(),
            values: values.to_vec(),
        }),
        on_pod_conditions: None,
    };
    let disrupted = PodFailurePolicyOnPodConditionsPattern { type_: "DisruptionTarget".into(), status: "True".into() };
    let disrupted =
        PodFailurePolicyRule { action: "Ignore".into(), on_exit_codes: None, on_pod_conditions: Some(vec![disrupted]) };
    PodFailurePolicy { rules: vec![exits("FailJob", &USELESS_EXITS), disrupted, exits("Ignore", &[LEFT_EXIT])] }
}

fn template(from: Blueprint<'_>) -> PodTemplateSpec {
    let name = name_of(from.job);
    let pods = &from.spec.kubernetes;
    let spec = PodSpec {
        subdomain: Some(name.clone()),
        restart_policy: Some("Never".into()),
        service_account_name: Some(from.platform.settings.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(i64::from(pods.grace_seconds)),
        priority_class_name: pods.priority_class.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        affinity: Some(together(&name)),
        tolerations: Some(tolerations(pods)),
        containers: vec![container(from)],
        volumes: Some(volumes(from)),
        ..PodSpec::default()
    };
    let metadata = ObjectMeta { labels: Some(labels(&name)), ..ObjectMeta::default() };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
}

fn container(from: Blueprint<'_>) -> Container {
    let pods = &from.spec.kubernetes;
    let probe = |service: &str, period_seconds, failure_threshold| {
        Some(Probe {
            grpc: Some(GRPCAction { port: HEALTH_PORT, service: Some(service.into()) }),
            period_seconds: Some(period_seconds),
            timeout_seconds: Some(5),
            failure_threshold: Some(failure_threshold),
            ..Probe::default()
        })
    };
    Container {
        name: CONTAINER.into(),
        image: Some(pods.image.clone().unwrap_or_else(|| from.platform.settings.image.clone())),
        args: Some(arguments(from)),
        env: Some(environment(from)),
        env_from: from.platform.settings.env_secret.as_ref().map(|name| {
            let secret_ref = Some(SecretEnvSource { name: name.clone(), optional: Some(true) });
            vec![EnvFromSource { secret_ref, ..EnvFromSource::default() }]
        }),
        ports: Some(vec![ContainerPort {
            name: Some("health".into()),
            container_port: HEALTH_PORT,
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        resources: Some(resources(pods)),
        startup_probe: probe("startup", 2, 60),
        // a frozen process is replaced; progress and the coordinator are no business of the kubelet
        liveness_probe: probe("liveness", 10, 3),
        readiness_probe: probe("readiness", 5, 3),
        // the coordinator reads a dead worker's last words from its pod's status
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                // RDMA pins memory
                add: pods.rdma_resource.as_ref().map(|_| vec!["IPC_LOCK".into()]),
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(from)),
        ..Container::default()
    }
}

fn arguments(from: Blueprint<'_>) -> Vec<String> {
    let pairs = [
        ("--coordinator", from.coordinators.join(",")),
        ("--job", from.job.0.clone()),
        // any: a pod outlives generations
        ("--generation", "0".into()),
        ("--name", "worker-$(JOB_COMPLETION_INDEX)".into()),
        ("--detect-ms", from.detect_within_ms.to_string()),
        ("--alone-ms", from.alone_ms.to_string()),
        ("--health-port", HEALTH_PORT.to_string()),
    ];
    pairs.into_iter().flat_map(|(name, value)| [name.to_string(), value]).collect()
}

fn environment(from: Blueprint<'_>) -> Vec<EnvVar> {
    let pods = &from.spec.kubernetes;
    let plain = |name: &str, value: &str| EnvVar { name: name.into(), value: Some(value.into()), value_from: None };
    let field = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path: path.into() }),
            ..EnvVarSource::default()
        }),
    };
    let mut all = vec![
        plain("ACCORD_WORKER_TOKEN", from.token),
        field("ACCORD_POD_NAME", "metadata.name"),
        field("ACCORD_POD_IP", "status.podIP"),
        // where datasets in a bucket are fetched to
        plain("XDG_CACHE_HOME", SCRATCH_DIR),
    ];
    all.extend(ENVIRONMENT.iter().map(|(name, value)| plain(name, value)));
    if from.platform.settings.tls_secret.is_some() {
        all.push(plain("ACCORD_WORKER_CA", &format!("{TLS_DIR}/ca.crt")));
        all.extend(from.platform.tls_name.as_ref().map(|name| plain("ACCORD_WORKER_TLS_NAME", name)));
    }
    all.extend(pods.nccl_socket_ifname.as_ref().map(|names| plain("NCCL_SOCKET_IFNAME", names)));
    all.extend(pods.nccl_debug.as_ref().map(|level| plain("NCCL_DEBUG", level)));
    all
}

/// Requests are limits: a worker finds as many cores as it counts on, and is the last to be evicted.
fn resources(pods: &Kubernetes) -> ResourceRequirements {
    let mut all: BTreeMap<String, Quantity> =
        [("cpu".into(), Quantity(pods.cpu.clone())), ("memory".into(), Quantity(pods.memory.clone()))].into();
    if pods.gpus_per_worker > 0 {
        all.insert(GPU.into(), Quantity(pods.gpus_per_worker.to_string()));
    }
    if let Some(rdma) = &pods.rdma_resource {
        all.insert(rdma.clone(), Quantity("1".into()));
    }
    ResourceRequirements { requests: Some(all.clone()), limits: Some(all), claims: None }
}

fn tolerations(pods: &Kubernetes) -> Vec<Toleration> {
    let lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|key| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(NODE_LOST_SECONDS),
        ..Toleration::default()
    });
    let gpu = (pods.gpus_per_worker > 0).then(|| Toleration {
        key: Some(GPU.into()),
        operator: Some("Exists".into()),
        effect: Some("NoSchedule".into()),
        ..Toleration::default()
    });
    lost.into_iter().chain(gpu).collect()
}

/// Workers that share a host exchange rows without the network.
fn together(name: &str) -> Affinity {
    let term = PodAffinityTerm {
        topology_key: "kubernetes.io/hostname".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some([(JOB_LABEL.into(), name.into())].into()),
            match_expressions: None,
        }),
        ..PodAffinityTerm::default()
    };
    let preferred = vec![WeightedPodAffinityTerm { weight: 100, pod_affinity_term: term }];
    let pod_affinity =
        PodAffinity { preferred_during_scheduling_ignored_during_execution: Some(preferred), ..PodAffinity::default() };
    Affinity { pod_affinity: Some(pod_affinity), ..Affinity::default() }
}

fn volumes(from: Blueprint<'_>) -> Vec<Volume> {
    let (pods, settings) = (&from.spec.kubernetes, &from.platform.settings);
    let scratch = |name: &str, medium: Option<&str>, size: &str| Volume {
        name: name.into(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(String::from),
            size_limit: Some(Quantity(size.into())),
        }),
        ..Volume::default()
    };
    let claim = |name: &str, claim: &str, read_only: bool| Volume {
        name: name.into(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.into(),
            read_only: read_only.then_some(true),
        }),
        ..Volume::default()
    };
    let mut all = vec![scratch("shm", Some("Memory"), &pods.shared_memory), scratch("tmp", None, &pods.scratch)];
    all.extend(settings.runs_claim.as_ref().map(|name| claim("runs", name, false)));
    all.extend(settings.data_claim.as_ref().map(|name| claim("data", name, true)));
    all.extend(settings.tls_secret.as_ref().map(|name| Volume {
        name: "tls".into(),
        // never the key
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.clone()),
            items: Some(vec![KeyToPath { key: "ca.crt".into(), path: "ca.crt".into(), mode: None }]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }));
    all
}

fn mounts(from: Blueprint<'_>) -> Vec<VolumeMount> {
    let settings = &from.platform.settings;
    let mount = |name: &str, path: &Path, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.display().to_string(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut all = vec![mount("shm", Path::new("/dev/shm"), false), mount("tmp", Path::new(SCRATCH_DIR), false)];
    all.extend(settings.runs_claim.as_ref().map(|_| mount("runs", &from.platform.runs_dir, false)));
    all.extend(settings.data_claim.as_ref().map(|_| mount("data", &settings.data_dir, true)));
    all.extend(settings.tls_secret.as_ref().map(|_| mount("tls", Path::new(TLS_DIR), true)));
    all
}
