//! `coordinator logs`: what one rank of a job said.

use super::client::CoordinatorArgs;
use super::output;
use accord_proto::job::LogsRequest;
use accord_proto::status::ApiError;
use clap::Args;

/// Print what a worker of a job said; kept after the worker is gone
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator logs ml-100k-irllrec-0a1b2c3d4e
  coordinator logs ml-100k-irllrec-0a1b2c3d4e -f --rank 1")]
pub(super) struct LogsArgs {
    /// Job id, as `submit` and `ps` print it
    #[arg(value_name = "JOB")]
    job: String,
    /// Go on until the job is over
    #[arg(short, long)]
    follow: bool,
    /// Which worker
    #[arg(long, value_name = "R", default_value_t = 0)]
    rank: u32,
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

/// # Errors
/// A job or coordinator that is not there.
pub(super) fn run(args: LogsArgs) -> anyhow::Result<()> {
    super::block_on(async {
        let mut client = args.coordinator.connect().await?;
        let wanted = LogsRequest { job_id: args.job, rank: args.rank, follow: args.follow };
        let mut lines = client.logs(wanted).await.map_err(ApiError::from)?.into_inner();
        while let Some(batch) = lines.message().await.map_err(ApiError::from)? {
            batch.lines.iter().for_each(output::line);
        }
        Ok(())
    })
}
