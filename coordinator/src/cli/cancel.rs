//! `coordinator cancel`: ends a job now.

use super::client::{CoordinatorArgs, answer, request};
use super::{output, shown};
use accord_proto::job::JobRequest;
use clap::Args;

/// End a job now; what it has saved stays
#[derive(Args, Debug)]
#[command(after_help = "Example:
  coordinator cancel ml-100k-irllrec-0a1b2c3d4e")]
pub(super) struct CancelArgs {
    /// Job id, as `submit` and `ps` print it
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

/// # Errors
/// A job or coordinator that is not there.
pub(super) fn run(args: CancelArgs) -> anyhow::Result<()> {
    super::block_on(async {
        let mut client = args.coordinator.connect().await?;
        let status = answer(client.cancel(request(JobRequest { job_id: args.job })).await)?;
        output::line(format!("{} is {}", status.job_id, shown::phase_name(status.phase())));
        Ok(())
    })
}
