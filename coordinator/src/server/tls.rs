//! The server's side of TLS: its certificate, and whose certificates it takes from clients. Files are read once, when
//! the server starts.

use accord_proto::tls::{ClientTls, choose_provider, read};
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::{Certificate, Endpoint, Identity, Server, ServerTlsConfig};

/// For the handshake alone.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The server's certificate, and those between it and its authority.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Authorities that sign clients' certificates; absent: clients need none.
    pub client_ca: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error("{} and {} cannot be used: {why}", cert.display(), key.display())]
    Unusable { cert: PathBuf, key: PathBuf, why: String },
}

impl ServerTls {
    /// # Errors
    /// A file that cannot be read, or a certificate and a key that do not belong together.
    pub fn load(&self) -> Result<ServerTlsConfig, TlsError> {
        choose_provider();
        let identity = Identity::from_pem(read(&self.cert)?, read(&self.key)?);
        let mut config = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_WITHIN);
        if let Some(client_ca) = &self.client_ca {
            // one that is shown is checked here; that one is shown is asked of clients alone, for a worker has its
            // job's token and must not get a certificate that makes a client of it (access.rs)
            config = config.client_ca_root(Certificate::from_pem(read(client_ca)?)).client_auth_optional(true);
        }
        match Server::builder().tls_config(config.clone()) {
            Ok(_) => Ok(config),
            Err(error) => {
                Err(TlsError::Unusable { cert: self.cert.clone(), key: self.key.clone(), why: innermost(&error) })
            }
        }
    }

    /// Lets a client with these settings connect to a server of this certificate at this address of the machine, which
    /// answers nothing.
    ///
    /// # Errors
    /// Why it does not get through, in words.
    pub async fn try_out(&self, ip: IpAddr, client: &ClientTls) -> Result<(), String> {
        let config = self.load().map_err(|e| e.to_string())?;
        let listener = TcpListener::bind((ip, 0)).await.map_err(|e| e.to_string())?;
        let address: SocketAddr = listener.local_addr().map_err(|e| e.to_string())?;
        let mut server = Server::builder().tls_config(config).map_err(|e| innermost(&e))?;
        let serving = server.add_routes(Routes::default()).serve_with_incoming(TcpListenerStream::new(listener));
        let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(|e| innermost(&e))?;
        let endpoint = endpoint.connect_timeout(HANDSHAKE_WITHIN);
        let endpoint = endpoint.tls_config(client.load().map_err(|e| e.to_string())?).map_err(|e| innermost(&e))?;
        tokio::select! {
            connected = endpoint.connect() => connected.map(drop).map_err(|e| innermost(&e)),
            ended = serving => ended.map_err(|e| innermost(&e)),
        }
    }
}

/// tonic says `transport error`; what is below it says why.
fn innermost(error: &tonic::transport::Error) -> String {
    let mut error: &dyn Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_certificate_and_a_file_that_is_no_certificate_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let own = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
        std::fs::write(path("cert.pem"), own.cert.pem()).unwrap();
        std::fs::write(path("key.pem"), own.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("other.pem"), other.signing_key.serialize_pem()).unwrap();
        std::fs::write(path("empty.pem"), "").unwrap();
        let load = |cert: &str, key: &str| ServerTls { cert: path(cert), key: path(key), client_ca: None }.load();
        assert!(load("cert.pem", "key.pem").is_ok());
        for (cert, key, named) in
            [("cert.pem", "other.pem", "other.pem"), ("empty.pem", "key.pem", "empty.pem"), ("none", "key.pem", "none")]
        {
            let error = load(cert, key).expect_err(named);
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
