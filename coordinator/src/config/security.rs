//! The settings that name certificates and tokens.

use crate::cli::Usage;
use crate::server::{Role, ServerTls, Token};
use accord_proto::tls::ClientTls;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Shorter secrets can be guessed.
const MIN_TOKEN_BYTES: usize = 16;
/// What fits a header beside others.
const MAX_TOKEN_BYTES: usize = 1024;

/// `[tls]`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The server's certificate, and those between it and its authority.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Authorities that sign clients' certificates; present: a client needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// The authority by which workers check `cert`. Absent: `cert` itself, which does for one that signed itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A name that `cert` is for, where it is not for the address that workers reach the coordinator by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl TlsSettings {
    pub fn server(&self) -> ServerTls {
        ServerTls { cert: self.cert.clone(), key: self.key.clone(), client_ca: self.client_ca.clone() }
    }

    /// How workers check the coordinator.
    ///
    /// # Errors
    /// When the current folder is not known.
    pub fn for_workers(&self) -> std::io::Result<ClientTls> {
        let ca = std::path::absolute(self.ca.as_ref().unwrap_or(&self.cert))?;
        Ok(ClientTls { ca: Some(ca), identity: None, name: self.name.clone() })
    }
}

/// The file's `[tls]` under what flags and environment say.
pub(super) fn overridden(
    file: Option<TlsSettings>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<TlsSettings>, Usage> {
    let mut tls = match (file, cert, key) {
        (Some(tls), cert, key) => TlsSettings { cert: cert.unwrap_or(tls.cert), key: key.unwrap_or(tls.key), ..tls },
        (None, Some(cert), Some(key)) => TlsSettings { cert, key, client_ca: None, ca: None, name: None },
        (None, None, None) if client_ca.is_none() => return Ok(None),
        (None, ..) => {
            let text =
                "tls: a certificate and its key are needed\n  hint: give both --tls-cert and --tls-key, or [tls]";
            return Err(Usage(text.into()));
        }
    };
    tls.client_ca = client_ca.or(tls.client_ca);
    Ok(Some(tls))
}

/// One of `[[tokens]]`: a name for the log, what it allows, and the secret's file or digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    pub name: String,
    pub role: Role,
    /// Holds the token and nothing else; blanks and line ends around it do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// BLAKE3 of the token in hex (`printf %s TOKEN | b3sum`), so that this machine need not hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

impl TokenSettings {
    pub(super) fn load(&self) -> Result<Token, Usage> {
        let bad = |text: String| Usage(format!("tokens: `{}`: {text}", self.name));
        let digest = match (&self.token_file, &self.blake3) {
            (Some(file), None) => {
                let text = std::fs::read_to_string(file).map_err(|e| bad(format!("{}: {e}", file.display())))?;
                let secret = usable(text.trim()).map_err(|why| bad(format!("{}: {why}", file.display())))?;
                blake3::hash(secret.as_bytes())
            }
            (None, Some(hex)) => blake3::Hash::from_hex(hex).map_err(|e| bad(format!("blake3: {e}")))?,
            _ => return Err(bad("needs one of token_file and blake3".into())),
        };
        Ok(Token { name: self.name.clone(), role: self.role, digest })
    }
}

/// Whether a secret can be sent and is worth sending.
pub(crate) fn usable(secret: &str) -> Result<&str, String> {
    if !(MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&secret.len()) {
        let has = secret.len();
        return Err(format!(
            "a token has {MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES} characters, this one has {has}\n  hint: make one with \
             `openssl rand -hex 32`"
        ));
    }
    if !secret.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("a token is printable ASCII without blanks\n  hint: make one with `openssl rand -hex 32`".into());
    }
    Ok(secret)
}

/// The log tells tokens apart by their names.
pub(super) fn check_names(tokens: &[TokenSettings]) -> Result<(), Usage> {
    for (n, token) in tokens.iter().enumerate() {
        if token.name.is_empty() || tokens[..n].iter().any(|other| other.name == token.name) {
            return Err(Usage(format!(
                "tokens: the name `{}` is empty or there twice\n  hint: name each token after who holds it",
                token.name
            )));
        }
    }
    Ok(())
}
