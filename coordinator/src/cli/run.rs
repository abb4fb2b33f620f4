//! `coordinator run`: a control plane of its own and local workers in one command. Nothing outlives it but the run
//! directory.

mod finished;

use super::client::{self, answer, request};
use super::job_file::{self, JobFile};
use super::watch::{self, Interrupts, Seen, Watch};
use super::{Interrupted, Usage, output};
use crate::control_loop::RunDirs;
use crate::launcher::{LocalLauncher, find_worker_binary};
use crate::plane::{self, Plane, PlaneOptions};
use crate::run_dir::data::{self, Current};
use crate::run_dir::{self, RunDirError, State, config};
use crate::server::ServerOptions;
use crate::store::MemoryStore;
use accord_proto::job::{JobRequest, SubmitRequest};
use accord_spec::Override;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Signals this close are one: `timeout` and the shell signal a process and then its group.
const SAME_INTERRUPT: Duration = Duration::from_millis(300);

/// Train on this machine, here and now
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator run configs/ml-100k.toml
  coordinator run job.toml --run-dir runs/small --set loss.kd_weight=0.02 --set optim.epochs=50

Ctrl-C saves a checkpoint and stops (a second Ctrl-C stops at once); the same command goes on from there. A run that
is finished shows its result instead of training again.

The run directory holds metrics.jsonl, summary.json, dataset.json, job.toml as run, checkpoints/, export/ and logs/.")]
pub(super) struct RunArgs {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    job: PathBuf,
    /// Worker processes (cluster.workers)
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// CPU threads of each worker (cluster.threads_per_worker; 0 shares the cores)
    #[arg(long, value_name = "N")]
    threads: Option<u32>,
    /// Where the run is kept [default: runs/JOB-NAME]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Override a key of the job file, such as loss.kd_weight=0.02; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<Override>,
    /// Start over: clears the run directory first, if it is one
    #[arg(long)]
    fresh: bool,
    /// The worker program [default: `worker` beside this one]
    #[arg(long, env = "ACCORD_WORKER_BINARY", value_name = "PATH")]
    worker_binary: Option<PathBuf>,
}

/// Trains, or shows a finished run.
///
/// # Errors
/// [`Usage`] for bad input, else what failed.
pub(super) fn run(args: RunArgs) -> anyhow::Result<()> {
    let mut sets = args.sets;
    let flags = [("cluster.workers", args.workers), ("cluster.threads_per_worker", args.threads)];
    sets.extend(flags.into_iter().filter_map(|(key, n)| Some(Override { key: key.into(), value: n?.to_string() })));
    let job = job_file::read(&args.job, sets)?;
    let shown_dir = args.run_dir.unwrap_or_else(|| Path::new("runs").join(&job.spec.job.name));
    let dir = std::path::absolute(&shown_dir)?;
    let worker = || find_worker_binary(args.worker_binary.as_deref()).map_err(|e| Usage(e.to_string()));
    let found = run_dir::inspect(&dir).map_err(usage)?;
    let goes_on = match (found, args.fresh) {
        (State::Empty, fresh) => {
            if fresh {
                run_dir::clear(&dir).map_err(usage)?;
            }
            false
        }
        (State::Started(_) | State::Finished(..), true) => {
            worker()?;
            has_data(&job)?;
            run_dir::clear(&dir).map_err(usage)?;
            false
        }
        (State::Started(old), false) => {
            same_training(&old, &job, &shown_dir)?;
            output::note(format!("going on with the run in {}", shown_dir.display()));
            true
        }
        (State::Finished(old, summary), false) => {
            same_training(&old, &job, &shown_dir)?;
            if finished::is_shown(&dir, &shown_dir, &old, &summary, &job)? {
                return Ok(());
            }
            true
        }
    };
    let worker = worker()?;
    super::block_on(async {
        let plane = start(worker, dir).await?;
        let result = train(&plane, job, &shown_dir, goes_on).await;
        plane.shut_down().await;
        result
    })
}

pub(super) fn usage(error: RunDirError) -> anyhow::Error {
    if error.is_bad_input() { Usage(error.to_string()).into() } else { error.into() }
}

fn same_training(old: &accord_spec::JobSpec, job: &JobFile, dir: &Path) -> anyhow::Result<()> {
    let differences = config::differences(old, &job.spec);
    if differences.is_empty() {
        return Ok(());
    }
    Err(usage(RunDirError::Differs { dir: dir.into(), differences }))
}

/// A run that could not start again is not cleared.
fn has_data(job: &JobFile) -> anyhow::Result<()> {
    let refused = |why: String| Usage(format!("{why}\n  hint: --fresh cleared nothing; it wants data to train on"));
    match data::current(&job.spec, &job.root) {
        Current::Digest(_) | Current::OutOfReach(_) => Ok(()),
        Current::Gone => Err(refused(format!("{} is missing, or empty", job.spec.data.path)).into()),
        Current::Spoilt(error) => Err(refused(error.to_string()).into()),
    }
}

async fn start(worker: PathBuf, dir: PathBuf) -> anyhow::Result<Plane> {
    let options = PlaneOptions {
        listener: TcpListener::bind(("127.0.0.1", 0)).await?,
        store: Arc::new(MemoryStore::new()),
        launcher: Arc::new(LocalLauncher::new(worker)),
        run_dirs: RunDirs::Fixed(dir),
        max_running_jobs: 1,
        coordinators: Vec::new(),
        // a loopback port of its own
        server: ServerOptions::default(),
    };
    Ok(plane::start(options).await?)
}

async fn train(plane: &Plane, job: JobFile, shown_dir: &Path, goes_on: bool) -> anyhow::Result<()> {
    let mut interrupts = Interrupts::listen()?;
    let mut client = client::connect(&format!("http://{}", plane.address)).await?;
    let submission = SubmitRequest {
        submission_id: uuid::Uuid::new_v4().to_string(),
        job_toml: job.text,
        overrides: job.overrides.into_iter().map(Into::into).collect(),
        job_root: job.root.display().to_string(),
    };
    let job_id = answer(client.submit(request(submission)).await)?.job_id;
    let mut watch = Watch::start(&mut client, &job_id).await?;

    let mut asked: Option<Instant> = None;
    let status = loop {
        match watch.follow(&mut interrupts).await? {
            Seen::Over(status) => break status,
            Seen::Interrupt if asked.is_some_and(|at| at.elapsed() < SAME_INTERRUPT) => {}
            Seen::Interrupt if asked.is_some() => {
                let wanted = JobRequest { job_id: job_id.clone() };
                answer(client.cancel(request(wanted)).await)?;
                let text = "stopped at once; the same command goes on from the last checkpoint";
                return Err(Interrupted(text.into()).into());
            }
            Seen::Interrupt => {
                asked = Some(Instant::now());
                watch.say("saving a checkpoint, then stopping (Ctrl-C again stops at once)");
                // a job that is over just now refuses; its end is on the way
                let _ = client.suspend(request(JobRequest { job_id: job_id.clone() })).await;
            }
        }
    };
    drop(watch);
    let mut status = *status;
    // the user knows it by this name
    status.run_dir = shown_dir.display().to_string();
    if status.phase() == accord_proto::job::Phase::Suspended {
        let text = match status.progress {
            Some(_) => "its state is saved; the same command goes on from there",
            None if goes_on => "stopped before it trained further; the same command goes on from the last checkpoint",
            None => "stopped before training began; the same command starts it again",
        };
        return Err(Interrupted(text.into()).into());
    }
    watch::conclude(&status)
}
