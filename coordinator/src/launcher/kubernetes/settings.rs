//! `[kubernetes]` of serve.toml: what all jobs of a coordinator share on a cluster.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Present: workers are pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSettings {
    /// Absent: that of the service account or of the kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of the workers, unless a job file names another.
    pub image: String,
    #[serde(default = "default_service_account")]
    pub service_account: String,
    /// A claim that many nodes may mount, which holds the run directories: mounted at `<state_dir>/runs` here and in
    /// every worker. Absent: only the coordinator has them, and each job keeps its checkpoints and results in a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_claim: Option<String>,
    /// A claim that holds the data, mounted read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_claim: Option<String>,
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// A Secret whose keys become variables of the workers, such as those of an object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_secret: Option<String>,
    /// A Secret whose `ca.crt` workers check the coordinator by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<String>,
}

fn default_service_account() -> String {
    "accord-worker".into()
}

fn default_data_dir() -> PathBuf {
    "/data".into()
}
