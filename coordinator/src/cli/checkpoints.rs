//! `coordinator checkpoints`: what a job could go on from.

use super::client::{CoordinatorArgs, answer, request};
use super::{output, shown};
use accord_proto::job::{Checkpoint, JobRequest};
use clap::Args;
use serde::Serialize;

/// List a job's checkpoints, newest first
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator checkpoints ml-100k-irllrec-0a1b2c3d4e
  coordinator checkpoints ml-100k-irllrec-0a1b2c3d4e --json

`coordinator verify ADDRESS` checks one, where its files can be read.")]
pub(super) struct CheckpointsArgs {
    /// Job id, as `submit` and `ps` print it
    #[arg(value_name = "JOB")]
    job: String,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

/// What `--json` prints of each (stable).
#[derive(Serialize)]
struct Shown {
    step: u64,
    epoch: u64,
    /// Best validation value of the job's selecting metric up to here, none before the first evaluation, and its epoch.
    best: Option<f64>,
    best_epoch: u64,
    /// The first that holds the best state so far.
    holds_best: bool,
    generation: u64,
    workers: u32,
    bytes: u64,
    committed_at_unix_ms: Option<u64>,
    address: String,
}

impl From<Checkpoint> for Shown {
    fn from(checkpoint: Checkpoint) -> Shown {
        Shown {
            step: checkpoint.step,
            epoch: checkpoint.epoch,
            best: checkpoint.best,
            best_epoch: checkpoint.best_epoch,
            holds_best: checkpoint.holds_best,
            generation: checkpoint.generation,
            workers: checkpoint.world,
            bytes: checkpoint.bytes,
            committed_at_unix_ms: checkpoint.committed_at_unix_ms,
            address: checkpoint.address,
        }
    }
}

/// # Errors
/// A job or coordinator that is not there, or checkpoints that cannot be read.
pub(super) fn run(args: CheckpointsArgs) -> anyhow::Result<()> {
    super::block_on(async {
        let mut client = args.coordinator.connect().await?;
        let reply = answer(client.checkpoints(request(JobRequest { job_id: args.job })).await)?;
        if reply.more {
            output::note("there are older checkpoints, which are not listed");
        }
        let all: Vec<Shown> = reply.checkpoints.into_iter().map(Shown::from).collect();
        if args.json {
            return output::json(&all);
        }
        if all.is_empty() {
            output::note("there is no checkpoint yet");
            return Ok(());
        }
        let header = ["step", "epoch", "best", "generation", "workers", "size", "age", "address"];
        output::table(&header, all.iter().map(row).collect());
        if all.iter().any(|c| c.holds_best) {
            output::note("* holds the best state: it is kept with the newest ones");
        }
        Ok(())
    })
}

fn row(c: &Shown) -> Vec<String> {
    let mark = if c.holds_best { " *" } else { "" };
    vec![
        c.step.to_string(),
        c.epoch.to_string(),
        c.best.map_or("-".into(), |best| format!("{best:.4} (epoch {}){mark}", c.best_epoch)),
        c.generation.to_string(),
        c.workers.to_string(),
        format!("{:.1} MB", c.bytes as f64 / 1e6),
        c.committed_at_unix_ms.map_or("-".into(), shown::age),
        c.address.clone(),
    ]
}
