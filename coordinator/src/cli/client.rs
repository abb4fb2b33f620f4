//! The way to a coordinator: where it is, and a connection with deadlines.

use accord_proto::MAX_MESSAGE_BYTES;
use accord_proto::job::JobStatus;
use accord_proto::job::jobs_client::JobsClient;
use accord_proto::status::ApiError;
use anyhow::Context;
use clap::Args;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// For calls that are answered once; streams have none.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub(super) type Client = JobsClient<Channel>;

/// Which coordinator to talk to.
#[derive(Args, Debug)]
pub(super) struct CoordinatorArgs {
    /// Address of the coordinator
    #[arg(long, env = "ACCORD_COORDINATOR", value_name = "URL", default_value_t = format!("http://{}", crate::config::DEFAULT_LISTEN))]
    pub(super) coordinator: String,
}

impl CoordinatorArgs {
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        connect(&self.coordinator).await.with_context(|| {
            format!(
                "no coordinator at {} (start one with `coordinator serve`, or name it with --coordinator)",
                self.coordinator
            )
        })
    }
}

pub(super) async fn connect(url: &str) -> anyhow::Result<Client> {
    let endpoint = Endpoint::from_shared(url.to_string())?.connect_timeout(CONNECT_WITHIN);
    let channel = endpoint.connect().await?;
    Ok(JobsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
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
