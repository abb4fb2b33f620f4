//! `coordinator logs`: what one rank of a job said.

use super::client::CoordinatorArgs;
use super::output;
use accord_proto::job::LogsRequest;
use accord_proto::status::ApiError;
use clap::Args;
use serde::Serialize;

/// Print what a worker of a job said; kept after the worker is gone
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator logs ml-100k-irllrec-0a1b2c3d4e
  coordinator logs ml-100k-irllrec-0a1b2c3d4e -f --rank 1
  coordinator logs ml-100k-irllrec-0a1b2c3d4e --json")]
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
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

/// What `--json` prints of a line (stable).
#[derive(Serialize)]
struct Said<'a> {
    rank: u32,
    line: &'a str,
}

/// # Errors
/// A job or coordinator that is not there.
pub(super) fn run(args: LogsArgs) -> anyhow::Result<()> {
    super::block_on(async {
        let mut client = args.coordinator.connect().await?;
        let wanted = LogsRequest { job_id: args.job, rank: args.rank, follow: args.follow };
        let mut lines = client.logs(wanted).await.map_err(ApiError::from)?.into_inner();
        while output::is_open()
            && let Some(batch) = lines.message().await.map_err(ApiError::from)?
        {
            for line in &batch.lines {
                match args.json {
                    true => output::line(serde_json::to_string(&Said { rank: args.rank, line })?),
                    false => output::line(line),
                }
            }
        }
        Ok(())
    })
}
