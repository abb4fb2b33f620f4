//! `coordinator ps`: every job of a coordinator.

use super::client::{CoordinatorArgs, answer, request};
use super::output;
use super::shown::{self, Shown};
use accord_proto::job::ListRequest;
use clap::Args;

/// List the jobs of a coordinator, oldest first
#[derive(Args, Debug)]
#[command(after_help = "Example:
  coordinator ps --json")]
pub(super) struct PsArgs {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

/// # Errors
/// A coordinator that is not there.
pub(super) fn run(args: PsArgs) -> anyhow::Result<()> {
    super::block_on(async {
        let mut client = args.coordinator.connect().await?;
        let jobs = answer(client.list(request(ListRequest {})).await)?.jobs;
        let jobs: Vec<Shown> = jobs.iter().map(Shown::from).collect();
        if args.json {
            return output::json(&jobs);
        }
        let number = |n: Option<u64>| n.map_or("-".into(), |n| n.to_string());
        let rows = jobs.into_iter().map(|job| {
            let age = shown::age(job.submitted_at_unix_ms);
            let best = job.best.map_or("-".into(), |b| format!("{b:.4}"));
            vec![job.job_id, job.phase.into(), number(job.epoch), number(job.step), best, age]
        });
        output::table(&["JOB", "PHASE", "EPOCH", "STEP", "BEST", "AGE"], rows.collect());
        Ok(())
    })
}
