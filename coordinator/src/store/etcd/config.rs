//! Where etcd is and how it is spoken to.

use super::super::StoreError;
use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pings on an idle connection; etcd closes one that sends them more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);

/// The settings of an [`super::EtcdStore`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdConfig {
    /// The members, such as `http://10.0.0.1:2379`; `https://` with `tls`.
    pub endpoints: Vec<String>,
    /// In front of every key, so that one etcd serves many.
    pub prefix: String,
    /// Bound on every call, over all members that are tried.
    pub timeout_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<EtcdUser>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<EtcdTls>,
}

/// A user of etcd. The password is a file's text, so that no setting that is shown or logged holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdUser {
    pub name: String,
    pub password_file: PathBuf,
}

/// TLS, with PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdTls {
    /// Who signed the members' certificates.
    pub ca_file: PathBuf,
    /// Our own certificate, where etcd asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<EtcdIdentity>,
}

/// A client's certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdIdentity {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

impl Default for EtcdConfig {
    fn default() -> EtcdConfig {
        EtcdConfig {
            endpoints: vec!["http://127.0.0.1:2379".into()],
            prefix: "/accord/".into(),
            timeout_ms: 4_000,
            user: None,
            tls: None,
        }
    }
}

impl EtcdConfig {
    /// Reads the files it names. `share` is what one member may take of a call.
    pub(super) fn options(&self, share: Duration) -> Result<ConnectOptions, StoreError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(share)
            .with_keep_alive(PING_EVERY, share)
            // a member that lost the others says so, instead of keeping a watch that hears nothing
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(user) = &self.user {
            let password = String::from_utf8_lossy(&read(&user.password_file)?).trim_end().to_string();
            options = options.with_user(&user.name, password);
        }
        if let Some(tls) = &self.tls {
            let mut wanted = TlsOptions::new().ca_certificate(Certificate::from_pem(read(&tls.ca_file)?));
            if let Some(own) = &tls.identity {
                wanted = wanted.identity(Identity::from_pem(read(&own.cert_file)?, read(&own.key_file)?));
            }
            options = options.with_tls(wanted);
        }
        Ok(options)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|e| StoreError::Refused(format!("{}: {e}", path.display())))
}
