//! LAUNCHER: starts and ends the workers of a generation. Launching the same (job, generation) twice is harmless. Decides
//! nothing about jobs.
//!
//! # Layout
//! * here: the one interface of every launcher.
//! * `local`: processes of this machine, anew for each generation. [`kubernetes`]: pods, which outlive generations.

pub mod kubernetes;
mod local;

pub use local::{LocalLauncher, find_worker_binary};

use crate::job::{Failure, JobId};
use crate::log_store::RankLog;
use accord_spec::JobSpec;
use futures::future::BoxFuture;
use std::time::Duration;

/// What a worker process is told about its memory and threads, unless the user's environment says otherwise.
const ENVIRONMENT: [(&str, &str); 5] = [
    // glibc gives every block of 128 kB and more back to the kernel when it is freed. A training step frees and
    // allocates the same large buffers again and again, and each fresh one costs a page fault every 4 kB. With these
    // they stay with the process and are used again.
    ("MALLOC_MMAP_THRESHOLD_", "4294967296"),
    ("MALLOC_TRIM_THRESHOLD_", "4294967296"),
    ("MALLOC_TOP_PAD_", "67108864"),
    // The trainer's thread would get an arena of its own, whose heaps hold blocks up to 64 MB; larger ones would be
    // mapped afresh each time, whatever the thresholds say (200 MB blocks: 50 times fewer faults with one arena).
    ("MALLOC_ARENA_MAX", "1"),
    // libtorch's OpenMP threads would spin between its operators and take the cores from our own kernels.
    ("OMP_WAIT_POLICY", "passive"),
];

/// The workers of one generation.
pub struct LaunchRequest {
    pub job: JobId,
    pub generation: u64,
    pub spec: JobSpec,
    /// Workers that the job wants: more than `workers` while some could not be replaced.
    pub wanted: u32,
    /// Where they find the coordinators.
    pub coordinators: Vec<String>,
    /// A coordinator silent for so long is gone.
    pub detect_within_ms: u64,
    /// How long they go on without one, if they may at all.
    pub alone_ms: u64,
    /// What they prove themselves with.
    pub token: String,
    pub workers: Vec<LaunchWorker>,
    pub sink: SightSink,
}

pub struct LaunchWorker {
    pub name: String,
    /// Takes what the process itself prints: its last words.
    pub log: RankLog,
}

/// What a launcher sees of the workers it started.
#[derive(Clone, Debug, PartialEq)]
pub enum Sighting {
    /// Once for each worker that ends, however it ends.
    Exit(Exit),
    /// What keeps workers from coming, in words; none: nothing any more.
    Waits(Option<String>),
    /// They cannot be run at all.
    Broken(Failure),
}

/// How a worker's process ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Its name, or that of the host that ended with it.
    pub worker: String,
    pub pid: u32,
    /// `exited with status 3`, `was killed by signal 9 (SIGKILL)`.
    pub how: String,
}

/// Takes [`Sighting`]s; must not fail, whoever listens may be gone.
pub type SightSink = std::sync::Arc<dyn Fn(Sighting) -> BoxFuture<'static, ()> + Send + Sync>;

/// What comes after a generation that is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another generation of the job.
    Generation,
    /// Nothing: its workers did all there was to do, and end by themselves.
    Success,
    /// Nothing, or nothing soon.
    End,
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("cannot start {binary}: {source}")]
    Spawn { binary: String, source: std::io::Error },
    #[error("the processes of this machine cannot be listed: {0}")]
    Processes(std::io::Error),
    #[error("no worker binary at {0}: build it, or name it with --worker-binary")]
    NoBinary(String),
    #[error("the cluster refuses the job: {0}")]
    Refused(String),
    #[error("the cluster cannot be asked: {0}")]
    Unreachable(String),
}

impl LaunchError {
    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, LaunchError::Spawn { .. } | LaunchError::Unreachable(_))
    }
}

/// The one interface of every launcher.
pub trait Launcher: Send + Sync {
    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<(), LaunchError>>;

    /// Takes over the workers of a generation that another coordinator launched; returns how many there are. Those that
    /// end are told of through [`LaunchRequest::sink`].
    fn adopt(&self, request: LaunchRequest) -> BoxFuture<'_, Result<usize, LaunchError>>;

    /// Gives the generation's workers `grace` to end by themselves, then kills them. Returns at once; the ends are
    /// told through [`LaunchRequest::sink`].
    fn release(&self, job: &JobId, generation: u64, grace: Duration, next: Next);

    /// Ends every worker of this launcher and waits for it, within `grace`.
    fn shut_down(&self, grace: Duration) -> BoxFuture<'_, ()>;

    /// Looks after none of its workers any more: another coordinator will.
    fn let_go(&self);

    /// Whether its workers run elsewhere: they come when there is room for them, and count their own cores.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether its workers have the run directories of this coordinator. Without, checkpoints and results go into a bucket.
    fn shares_run_dirs(&self) -> bool {
        true
    }

    /// Whether it could run such a job.
    ///
    /// # Errors
    /// What is wrong with the job file, in words.
    fn check(&self, _job: &JobId, _spec: &JobSpec) -> Result<(), String> {
        Ok(())
    }

    /// Ends what an earlier coordinator left of jobs that ended without success. Returns at once.
    fn sweep(&self, _ended: Vec<JobId>) {}
}
