//! `coordinator cancel`, `suspend`, `resume`, `scale`: what a user asks of one job. Each prints the phase that it led to.

use super::client::{Client, CoordinatorArgs, answer, request};
use super::output;
use super::shown::{self, Shown};
use accord_proto::job::{JobRequest, JobStatus, ScaleRequest};
use accord_proto::status::ApiError;
use clap::Args;

/// End a job now; what it has saved stays
#[derive(Args, Debug)]
#[command(after_help = "Example:
  coordinator cancel ml-100k-irllrec-0a1b2c3d4e")]
pub(super) struct CancelArgs {
    #[command(flatten)]
    job: JobArgs,
}

/// Save a job's state and put it aside
#[derive(Args, Debug)]
#[command(after_help = "Example:
  coordinator suspend ml-100k-irllrec-0a1b2c3d4e

The job saves a checkpoint first; `resume` goes on from it.")]
pub(super) struct SuspendArgs {
    #[command(flatten)]
    job: JobArgs,
}

/// Put a suspended or failed job back into the queue
#[derive(Args, Debug)]
#[command(after_help = "Example:
  coordinator resume ml-100k-irllrec-0a1b2c3d4e

It goes on from its newest good checkpoint, with the numbers of an undisturbed run.")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    job: JobArgs,
}

/// Go on with another number of workers
#[derive(Args, Debug)]
#[command(after_help = "Example:
  coordinator scale ml-100k-irllrec-0a1b2c3d4e 4

A running job saves a checkpoint, and goes on from it with the new number; its numbers stay the same.")]
pub(super) struct ScaleArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Workers from now on
    #[arg(value_name = "N")]
    workers: u32,
}

#[derive(Args, Debug)]
struct JobArgs {
    /// Job id, as `submit` and `ps` print it
    #[arg(value_name = "JOB")]
    job: String,
    /// Print the job's status, as `status --json` does
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

impl JobArgs {
    /// Asks, and prints what became of the job.
    ///
    /// # Errors
    /// A job or coordinator that is not there, or a phase in which the job cannot do it.
    fn run(self, ask: impl AsyncFnOnce(&mut Client, String) -> Result<JobStatus, ApiError>) -> anyhow::Result<()> {
        super::block_on(async {
            let mut client = self.coordinator.connect().await?;
            let status = ask(&mut client, self.job).await?;
            if self.json {
                return output::json(&Shown::from(&status));
            }
            output::line(format!("{} is {}: {}", status.job_id, shown::phase_name(status.phase()), status.reason));
            Ok(())
        })
    }
}

/// # Errors
/// As [`JobArgs::run`].
pub(super) fn cancel(args: CancelArgs) -> anyhow::Result<()> {
    args.job.run(async |client, job_id| answer(client.cancel(request(JobRequest { job_id })).await))
}

/// # Errors
/// As [`JobArgs::run`].
pub(super) fn suspend(args: SuspendArgs) -> anyhow::Result<()> {
    args.job.run(async |client, job_id| answer(client.suspend(request(JobRequest { job_id })).await))
}

/// # Errors
/// As [`JobArgs::run`].
pub(super) fn resume(args: ResumeArgs) -> anyhow::Result<()> {
    args.job.run(async |client, job_id| answer(client.resume(request(JobRequest { job_id })).await))
}

/// # Errors
/// As [`JobArgs::run`].
pub(super) fn scale(args: ScaleArgs) -> anyhow::Result<()> {
    let workers = args.workers;
    args.job.run(async |client, job_id| answer(client.scale(request(ScaleRequest { job_id, workers })).await))
}
