//! `coordinator checkpoints`: what a job could go on from.

use super::client::{CoordinatorArgs, answer, request};
use super::output;
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
    /// Best validation Recall at the largest k up to here, none before the first, and its epoch.
    best: Option<f64>,
    best_epoch: u64,
    generation: u64,
    workers: u32,
    bytes: u64,
    address: String,
}

impl From<Checkpoint> for Shown {
    fn from(checkpoint: Checkpoint) -> Shown {
        let Checkpoint { step, epoch, best, best_epoch, generation, world: workers, bytes, address } = checkpoint;
        Shown { step, epoch, best, best_epoch, generation, workers, bytes, address }
    }
}

/// # Errors
/// A job or coordinator that is not there, or checkpoints that cannot be read.
pub(super) fn run(args: CheckpointsArgs) -> anyhow::Result<()> {
    super::block_on(async {
        let mut client = args.coordinator.connect().await?;
        let reply = answer(client.checkpoints(request(JobRequest { job_id: args.job })).await)?;
        let all: Vec<Shown> = reply.checkpoints.into_iter().map(Shown::from).collect();
        if args.json {
            return output::json(&all);
        }
        if all.is_empty() {
            output::note("there is no checkpoint yet");
            return Ok(());
        }
        let row = |c: &Shown| {
            let best = c.best.map_or("-".into(), |best| format!("{best:.4} (epoch {})", c.best_epoch));
            let size = format!("{:.1} MB", c.bytes as f64 / 1e6);
            vec![c.step.to_string(), c.epoch.to_string(), best, c.workers.to_string(), size, c.address.clone()]
        };
        output::table(&["step", "epoch", "best", "workers", "size", "address"], all.iter().map(row).collect());
        Ok(())
    })
}
