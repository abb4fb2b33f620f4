//! S3, and servers that speak it, set up by the variables that other programs read too.

use crate::objects::Objects;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// Attempts after the first, for a server that is busy or restarts.
const RETRIES: usize = 4;

/// How an object store is reached. Holds credentials, so it cannot be printed.
#[derive(Clone)]
pub struct Options {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` and what else
    /// the object_store crate knows; others are ignored.
    pub variables: Vec<(String, String)>,
    /// Bounds each request with all its retries.
    pub deadline: Duration,
}

impl Options {
    /// The process's variables, and two minutes: four requests of 8 MiB at a time then ask for 1 MB a second.
    pub fn from_env() -> Options {
        let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Options { variables: variables.collect(), deadline: Duration::from_secs(120) }
    }
}

/// # Errors
/// What is wrong with the variables.
pub(crate) fn connect(bucket: &str, prefix: &str, options: &Options) -> Result<Objects, String> {
    // reqwest has none of its own; one that the process has chosen before stays
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = AmazonS3Builder::new();
    for (name, value) in options.variables.iter().filter(|(name, _)| name.starts_with("AWS_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let plain = match &endpoint {
        Some(endpoint) if endpoint.starts_with("http://") => true,
        Some(endpoint) if !endpoint.starts_with("https://") => {
            return Err(format!("AWS_ENDPOINT_URL is `{endpoint}`: use http://host:port or https://host"));
        }
        _ => false,
    };
    let address = match prefix {
        "" => format!("s3://{bucket}"),
        prefix => format!("s3://{bucket}/{prefix}"),
    };
    let client = |key| AmazonS3ConfigKey::Client(key);
    // one request may take a third and repeating it another: then the client itself says what failed before we do
    let third = options.deadline / 3;
    let store = builder
        .with_bucket_name(bucket)
        .with_config(client(ClientConfigKey::AllowHttp), plain.to_string())
        .with_config(client(ClientConfigKey::Timeout), format!("{} ms", third.as_millis()))
        .with_config(client(ClientConfigKey::ConnectTimeout), format!("{} ms", (third / 3).as_millis()))
        .with_retry(RetryConfig {
            backoff: BackoffConfig { max_backoff: third / 8, ..BackoffConfig::default() },
            max_retries: RETRIES,
            retry_timeout: third,
        })
        .build()
        .map_err(|e| format!("{address}: {e}"))?;
    let asked = endpoint.map_or_else(|| address.clone(), |endpoint| format!("{address} at {endpoint}"));
    Objects::new(Arc::new(store), prefix, address, asked, options.deadline).map_err(|e| e.to_string())
}
