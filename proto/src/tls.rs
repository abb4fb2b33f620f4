//! How a connection to a coordinator is checked, for its clients and its workers alike.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Whom a client trusts, and what it shows of itself. Not looked at for an `http://` address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM file of the authorities that may have signed the coordinator's certificate; absent: the machine's own.
    pub ca: Option<PathBuf>,
    /// PEM files of this client's certificate and its key, for a coordinator that asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the coordinator's certificate; absent: the host of its address.
    pub name: Option<String>,
}

impl ClientTls {
    /// # Errors
    /// A file that cannot be read, by name.
    pub fn load(&self) -> Result<ClientTlsConfig, io::Error> {
        choose_provider();
        let mut config = ClientTlsConfig::new();
        config = match &self.ca {
            Some(ca) => config.ca_certificate(Certificate::from_pem(read(ca)?)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(name) = &self.name {
            config = config.domain_name(name);
        }
        Ok(config)
    }
}

/// Whether an address asks for TLS.
pub fn is_https(url: &str) -> bool {
    url.starts_with("https://")
}

/// A PEM file.
///
/// # Errors
/// That of reading it, with its name.
pub fn read(path: &Path) -> Result<Vec<u8>, io::Error> {
    fs::read(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// Makes ring the process's provider of cryptography. Where another crate compiles a second one in, rustls would not
/// choose by itself and panic. Any number of calls is fine; one that was chosen before stays.
pub fn choose_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let tls = ClientTls { ca: Some("no/such/ca.pem".into()), ..ClientTls::default() };
        let error = tls.load().expect_err("there is no such file");
        assert!(error.to_string().starts_with("no/such/ca.pem: "), "{error}");
    }
}
