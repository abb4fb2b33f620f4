//! `[kubernetes]`: how a job's workers run as pods. Read by a coordinator that launches on Kubernetes, and by nobody
//! else. Whether the values make a valid pod is checked where the pod is built.

use serde::{Deserialize, Serialize};

/// What one worker's pod asks for, and how the cluster treats it. Sizes are Kubernetes quantities (`8Gi`, `500m`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// Absent: the coordinator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `nvidia.com/gpu` of each worker.
    pub gpus_per_worker: u32,
    pub cpu: String,
    pub memory: String,
    /// Of `/dev/shm`, which counts as memory.
    pub shared_memory: String,
    /// Of `/tmp`.
    pub scratch: String,
    /// A Kueue LocalQueue that admits the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// How long a job that starts waits for all its pods before it goes on with `cluster.min_workers`.
    pub form_within_ms: u64,
    /// From SIGTERM to SIGKILL: about twice what a checkpoint takes.
    pub grace_seconds: u32,
    /// The cluster ends a job that took longer. Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u64>,
    /// How long the objects of a job that succeeded stay to be looked at.
    pub keep_finished_seconds: u32,
    /// Network interfaces that NCCL may use. Absent: it chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nccl_socket_ifname: Option<String>,
    /// `WARN`, `INFO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nccl_debug: Option<String>,
    /// Name of the cluster's RDMA resource, such as `rdma/hca`: each worker gets one, and may lock memory, which a
    /// namespace with the `restricted` Pod Security Standard refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma_resource: Option<String>,
    /// Merged into the pod template: what no key above says.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub pod_template: toml::Table,
}

impl Default for Kubernetes {
    fn default() -> Kubernetes {
        Kubernetes {
            image: None,
            gpus_per_worker: 0,
            cpu: "2".into(),
            memory: "8Gi".into(),
            shared_memory: "1Gi".into(),
            scratch: "10Gi".into(),
            queue: None,
            priority_class: None,
            form_within_ms: 300_000,
            grace_seconds: 120,
            active_deadline_seconds: None,
            keep_finished_seconds: 86_400,
            nccl_socket_ifname: None,
            nccl_debug: None,
            rdma_resource: None,
            pod_template: toml::Table::new(),
        }
    }
}
