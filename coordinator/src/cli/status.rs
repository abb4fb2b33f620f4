//! `coordinator status`: one job, and why it is in its phase.

use super::client::{self, CoordinatorArgs};
use super::output;
use super::shown::{self, Shown};
use clap::Args;

/// Show one job: its phase and why, how far it is, its workers
#[derive(Args, Debug)]
#[command(after_help = "Example:
  coordinator status ml-100k-irllrec-0a1b2c3d4e --json")]
pub(super) struct StatusArgs {
    /// Job id, as `submit` and `ps` print it
    #[arg(value_name = "JOB")]
    job: String,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    coordinator: CoordinatorArgs,
}

/// # Errors
/// A job or coordinator that is not there.
pub(super) fn run(args: StatusArgs) -> anyhow::Result<()> {
    super::block_on(async {
        let mut client = args.coordinator.connect().await?;
        let job = Shown::from(&client::status(&mut client, &args.job).await?);
        if args.json {
            return output::json(&job);
        }
        print(&job);
        Ok(())
    })
}

fn print(job: &Shown) {
    let mut rows = vec![
        ("job", job.job_id.clone()),
        ("phase", job.phase.to_string()),
        ("why", job.reason.clone()),
        ("age", shown::age(job.submitted_at_unix_ms)),
        ("generation", job.generation.to_string()),
        ("run directory", job.run_dir.clone()),
    ];
    if let (Some(epoch), Some(step), Some(loss)) = (job.epoch, job.step, job.loss) {
        rows.push(("progress", format!("epoch {epoch}, step {step}, loss {loss:.5}")));
    }
    if let (Some(best), Some(epoch)) = (job.best, job.best_epoch) {
        let best = shown::selected(job.select.as_deref().unwrap_or_default(), best);
        rows.push(("best validation", format!("{best} at epoch {epoch}")));
    }
    for worker in &job.workers {
        rows.push(("worker", format!("rank {} pid {} on {}", worker.rank, worker.pid, worker.host)));
    }
    for (name, value) in rows {
        output::line(format!("{name:<16}{value}"));
    }
    if let Some(test) = &job.test {
        output::line(format!("test metrics over {} users", test.users));
        let (header, rows) = shown::metric_table(&test.values);
        output::table(&header, rows);
    }
}
