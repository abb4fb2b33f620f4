//! The way to a coordinator: where it is, what is shown to it, and a connection with deadlines.

use super::Usage;
use accord_proto::MAX_MESSAGE_BYTES;
use accord_proto::job::JobStatus;
use accord_proto::job::jobs_client::JobsClient;
use accord_proto::status::ApiError;
use accord_proto::tls::{ClientTls, is_https};
use anyhow::Context;
use clap::Args;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks for a coordinator that leads.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// For calls that are answered once; streams have none.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The token itself, for where there is no file; never an argument, since arguments are visible to every user.
const TOKEN_VARIABLE: &str = "ACCORD_TOKEN";

pub(super) type Client = JobsClient<InterceptedService<Channel, Bearer>>;

/// Puts the token, where there is one, on every call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Which coordinator to talk to
#[derive(Args, Debug)]
#[command(next_help_heading = "Coordinator")]
pub(super) struct CoordinatorArgs {
    /// Address of the coordinator, http:// or https://; several, with commas between, where some stand by
    #[arg(long, env = "ACCORD_COORDINATOR", value_name = "URL,...", default_value_t = format!("http://{}", crate::config::DEFAULT_LISTEN))]
    pub(super) coordinator: String,
    /// Authority that signed the coordinator's certificate (PEM) [default: those this machine trusts]
    #[arg(long, env = "ACCORD_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate to show to a coordinator that asks for one (PEM)
    #[arg(long, env = "ACCORD_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, env = "ACCORD_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// File with the token to show [default: the environment variable ACCORD_TOKEN]
    #[arg(long, env = "ACCORD_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the token even where others can read it: over http:// to another machine
    #[arg(long)]
    insecure: bool,
}

impl CoordinatorArgs {
    /// # Errors
    /// [`Usage`] for files that cannot be used and for a token that others could read; else a coordinator that is not
    /// there.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let token = self.token()?;
        let addresses: Vec<&str> = self.coordinator.split(',').map(str::trim).collect();
        if let Some(address) = addresses.iter().find(|address| !is_private(address))
            && token.is_some()
            && !self.insecure
        {
            return Err(Usage(format!(
                "a token sent to {address} could be read on its way\n  hint: use an https:// address, or --insecure \
                 where the network is your own"
            ))
            .into());
        }
        let tls = ClientTls { ca: self.ca.clone(), identity: self.cert.clone().zip(self.key.clone()), name: None };
        let endpoints = addresses.into_iter().map(|address| endpoint(address, &tls)).collect::<Result<Vec<_>, _>>()?;
        let channel = match endpoints.as_slice() {
            [one] => one.connect().await.map_err(anyhow::Error::from),
            several => leading(several).await,
        };
        channel.map(|channel| client(channel, Bearer(token))).with_context(|| {
            format!(
                "no coordinator at {} (start one with `coordinator serve`, or name it with --coordinator)",
                self.coordinator
            )
        })
    }

    fn token(&self) -> Result<Option<MetadataValue<Ascii>>, Usage> {
        match (&self.token_file, std::env::var(TOKEN_VARIABLE)) {
            (Some(file), _) => read_token(file).map(Some),
            (None, Ok(token)) if !token.is_empty() => {
                header(&token).map(Some).map_err(|why| Usage(format!("{TOKEN_VARIABLE}: {why}")))
            }
            (None, _) => Ok(None),
        }
    }
}

fn read_token(file: &Path) -> Result<MetadataValue<Ascii>, Usage> {
    let named = |why: String| Usage(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| named(e.to_string()))?;
    header(&text).map_err(named)
}

fn header(token: &str) -> Result<MetadataValue<Ascii>, String> {
    let token = crate::config::usable_token(token.trim())?;
    let mut value = MetadataValue::try_from(format!("Bearer {token}")).map_err(|e| e.to_string())?;
    // kept out of debug output
    value.set_sensitive(true);
    Ok(value)
}

/// Whether nobody but this machine and the coordinator can read what is sent.
fn is_private(url: &str) -> bool {
    let host = url.parse::<tonic::transport::Uri>().ok().and_then(|uri| uri.host().map(ToString::to_string));
    let host = host.unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    is_https(url) || host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

/// To a coordinator on loopback that asks for nothing.
pub(super) async fn connect(url: &str) -> anyhow::Result<Client> {
    Ok(client(endpoint(url, &ClientTls::default())?.connect().await?, Bearer(None)))
}

fn client(channel: Channel, token: Bearer) -> Client {
    JobsClient::with_interceptor(channel, token).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// The first of several that leads. They may be electing one just now.
async fn leading(endpoints: &[Endpoint]) -> anyhow::Result<Channel> {
    let until = Instant::now() + CONNECT_WITHIN;
    loop {
        for endpoint in endpoints {
            if let Ok(channel) = endpoint.connect().await
                && serves(channel.clone()).await
            {
                return Ok(channel);
            }
        }
        if Instant::now() >= until {
            anyhow::bail!("none of them leads");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn serves(channel: Channel) -> bool {
    let asked = HealthClient::new(channel).check(request(HealthCheckRequest::default())).await;
    asked.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

fn endpoint(url: &str, tls: &ClientTls) -> anyhow::Result<Endpoint> {
    let unusable = |e| Usage(format!("{url} cannot be used: {:#}", anyhow::Error::new(e)));
    let mut endpoint = Endpoint::from_shared(url.to_string()).map_err(unusable)?;
    if is_https(url) {
        let tls = tls.load().map_err(|e| Usage(e.to_string()))?;
        endpoint = endpoint.tls_config(tls).map_err(unusable)?;
    }
    Ok(endpoint.connect_timeout(CONNECT_WITHIN))
}

/// A request that is given up after a while.
pub(super) fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_WITHIN);
    request
}

/// The answer, or the coordinator's own error.
pub(super) fn answer<T>(result: Result<tonic::Response<T>, tonic::Status>) -> Result<T, ApiError> {
    result.map(tonic::Response::into_inner).map_err(ApiError::from)
}

/// One job's status.
pub(super) async fn status(client: &mut Client, job: &str) -> Result<JobStatus, ApiError> {
    let wanted = accord_proto::job::JobRequest { job_id: job.into() };
    answer(client.status(request(wanted)).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_where_only_the_coordinator_reads_it() {
        for url in ["https://accord.example:7411", "http://127.0.0.1:7411", "http://[::1]:1", "http://localhost:7411"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://10.0.0.7:7411", "http://accord.example", "http://127.0.0.1.example", "nonsense", ""] {
            assert!(!is_private(url), "{url}");
        }
    }

    #[test]
    fn a_token_is_no_part_of_debug_output() {
        let value = header("0123456789abcdef\n").unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer 0123456789abcdef");
        assert!(!format!("{value:?}").contains("0123456789abcdef"));
        assert!(header("short").is_err());
    }
}
