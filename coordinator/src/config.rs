//! The settings of `coordinator serve`: defaults < file < environment < flags, checked before use.
//!
//! # Layout
//! * here: the file and its rules. `security`: certificates and tokens.

mod security;

pub(crate) use security::usable as usable_token;
pub use security::{TlsSettings, TokenSettings};

use crate::cli::Usage;
use crate::launcher::kubernetes::KubernetesSettings;
use crate::server::{Access, DataRoots};
use crate::store::EtcdConfig;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a coordinator listens unless told otherwise, and where clients look for one.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7411";

/// What `serve.toml` may say; every key may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Address of the gRPC server. One that is not loopback asks for TLS and a token.
    pub listen: SocketAddr,
    /// Folder of the store and of the jobs' run directories.
    pub state_dir: PathBuf,
    /// Absent: the `worker` beside the coordinator's own executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_binary: Option<PathBuf>,
    /// Jobs that train at the same time; the rest wait. Each uses every core unless its job file says otherwise.
    pub max_running_jobs: usize,
    /// Folders and buckets (`s3://bucket/prefix`; `s3://` for all) that the data of jobs must lie in. Absent: anywhere
    /// for a loopback address without tokens, else the current folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_roots: Option<Vec<PathBuf>>,
    /// Where workers find this coordinator and those that stand by for it: `http://` or `https://` addresses, tried in
    /// turn. Empty: where it listens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coordinators: Vec<String>,
    /// Absent: the jobs are kept in a file in `state_dir`, and there is one coordinator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdConfig>,
    /// With etcd: a leader that is silent for this long is followed by another.
    pub leader_within_ms: u64,
    /// Address of `/metrics` (HTTP). Absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// Absent: no TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// Empty: clients need none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenSettings>,
    /// Present: workers are pods. Absent: processes of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesSettings>,
}

impl Default for ServeConfig {
    fn default() -> ServeConfig {
        ServeConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 7411)),
            state_dir: "accord-state".into(),
            worker_binary: None,
            max_running_jobs: 1,
            data_roots: None,
            coordinators: Vec::new(),
            etcd: None,
            leader_within_ms: 5000,
            metrics_listen: None,
            tls: None,
            tokens: Vec::new(),
            kubernetes: None,
        }
    }
}

/// What the environment and the flags say (clap reads both; flags win).
#[derive(Clone, Debug, Default)]
pub struct ServeOverrides {
    pub listen: Option<SocketAddr>,
    pub state_dir: Option<PathBuf>,
    pub worker_binary: Option<PathBuf>,
    pub max_running_jobs: Option<usize>,
    /// Empty: those of the file.
    pub data_roots: Vec<PathBuf>,
    pub metrics_listen: Option<SocketAddr>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_client_ca: Option<PathBuf>,
    /// Listen anywhere without TLS or tokens. No file can say so.
    pub insecure: bool,
}

impl ServeConfig {
    /// # Errors
    /// [`Usage`] when the file cannot be read or a setting cannot be used.
    pub fn load(file: Option<&Path>, over: ServeOverrides) -> Result<ServeConfig, Usage> {
        let mut config = match file {
            None => ServeConfig::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Usage(format!("{}: {e}", path.display())))?;
                toml::from_str(&text).map_err(|e| Usage(format!("{}: {}", path.display(), e.to_string().trim_end())))?
            }
        };
        config.listen = over.listen.unwrap_or(config.listen);
        config.state_dir = over.state_dir.unwrap_or(config.state_dir);
        config.worker_binary = over.worker_binary.or(config.worker_binary);
        config.max_running_jobs = over.max_running_jobs.unwrap_or(config.max_running_jobs);
        if !over.data_roots.is_empty() {
            config.data_roots = Some(over.data_roots);
        }
        config.metrics_listen = over.metrics_listen.or(config.metrics_listen);
        config.tls = security::overridden(config.tls, over.tls_cert, over.tls_key, over.tls_client_ca)?;
        config.validate(over.insecure)?;
        Ok(config)
    }

    fn validate(&self, insecure: bool) -> Result<(), Usage> {
        let missing = self.missing_protection();
        if !missing.is_empty() && !insecure {
            return Err(Usage(format!(
                "listen: {} can be reached from other machines, and {} missing\n  hint: give [tls] with cert and key, \
                 and at least one of [[tokens]]; or a loopback address such as {DEFAULT_LISTEN}; or --insecure, where \
                 everyone who reaches the address may do everything",
                self.listen,
                match missing.as_slice() {
                    [one] => format!("{one} is"),
                    all => format!("{} are", all.join(" and ")),
                }
            )));
        }
        if self.max_running_jobs == 0 {
            return Err(Usage("max_running_jobs: 0 would never start a job\n  hint: use 1 or more".into()));
        }
        if self.data_roots.as_ref().is_some_and(Vec::is_empty) {
            return Err(Usage(
                "data_roots: without a folder or bucket no job could read data\n  hint: name one".into(),
            ));
        }
        if !(2000..=600_000).contains(&self.leader_within_ms) {
            let text = format!("leader_within_ms: {} is out of range", self.leader_within_ms);
            return Err(Usage(format!("{text}\n  hint: use 2000 to 600000 milliseconds")));
        }
        if let Some(address) =
            self.coordinators.iter().find(|a| !a.starts_with("http://") && !a.starts_with("https://"))
        {
            let text = format!("coordinators: {address} is no address");
            return Err(Usage(format!("{text}\n  hint: such as http://10.0.0.7:7411")));
        }
        self.check_kubernetes()?;
        security::check_names(&self.tokens)
    }

    fn check_kubernetes(&self) -> Result<(), Usage> {
        let Some(kubernetes) = &self.kubernetes else { return Ok(()) };
        if self.coordinators.is_empty() {
            let text = "kubernetes: pods do not know where the coordinator is\n  hint: give `coordinators`, such as \
                        [\"https://accord-coordinator-0.accord-coordinator.accord.svc:7411\"]";
            return Err(Usage(text.into()));
        }
        if self.tls.is_some() && kubernetes.tls_secret.is_none() {
            let text = "kubernetes: workers could not check the coordinator's certificate\n  hint: give `tls_secret`, a \
                        Secret whose ca.crt is the authority that signed it";
            return Err(Usage(text.into()));
        }
        Ok(())
    }

    /// Where jobs keep their run directories.
    pub fn runs_dir(state_dir: &Path) -> PathBuf {
        state_dir.join("runs")
    }

    /// What an address that other machines reach should have and this one has not.
    pub fn missing_protection(&self) -> Vec<&'static str> {
        if self.listen.ip().is_loopback() {
            return Vec::new();
        }
        let tls = self.tls.is_none().then_some("TLS");
        let tokens = self.tokens.is_empty().then_some("a token");
        tls.into_iter().chain(tokens).collect()
    }

    /// What clients have to show. Reads the token files.
    ///
    /// # Errors
    /// [`Usage`] for a token that cannot be read or used.
    pub fn access(&self) -> Result<Access, Usage> {
        let tokens = self.tokens.iter().map(TokenSettings::load).collect::<Result<Vec<_>, Usage>>()?;
        let certificate = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        Ok(Access { tokens: tokens.into(), certificate })
    }

    /// Where the data of jobs may lie. `here`: the current folder.
    ///
    /// # Errors
    /// [`Usage`] for a folder that is not there.
    pub fn roots(&self, here: &Path) -> Result<DataRoots, Usage> {
        let roots = match &self.data_roots {
            Some(roots) => roots.clone(),
            None if self.tokens.is_empty() && self.listen.ip().is_loopback() => return Ok(DataRoots::Anywhere),
            None => vec![here.to_path_buf()],
        };
        DataRoots::under(&roots).map_err(|e| {
            Usage(format!("data_roots: {e}\n  hint: make the folder, or name another; a bucket is s3://bucket/prefix"))
        })
    }

    /// The settings as a file that [`ServeConfig::load`] reads.
    ///
    /// # Errors
    /// When a path is not Unicode.
    pub fn dump(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(self)?)
    }
}

#[cfg(test)]
mod tests;
