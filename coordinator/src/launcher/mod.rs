//! LAUNCHER: starts and ends the worker processes of a generation. Launching the same (job, generation) twice is
//! harmless. Decides nothing about jobs.

mod local;

pub use local::{LocalLauncher, find_worker_binary};

use crate::job::JobId;
use crate::log_store::RankLog;
use futures::future::BoxFuture;
use std::time::Duration;

/// The workers of one generation.
pub struct LaunchRequest {
    pub job: JobId,
    pub generation: u64,
    /// Where they find the coordinators.
    pub coordinators: Vec<String>,
    /// A coordinator silent for so long is gone.
    pub detect_within_ms: u64,
    /// How long they go on without one, if they may at all.
    pub alone_ms: u64,
    /// What they prove themselves with.
    pub token: String,
    pub workers: Vec<LaunchWorker>,
    /// Told once for each worker that ends, however it ends.
    pub exited: ExitSink,
}

pub struct LaunchWorker {
    pub name: String,
    /// Takes what the process itself prints: its last words.
    pub log: RankLog,
}

/// How a worker's process ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    pub worker: String,
    pub pid: u32,
    /// `exited with status 3`, `was killed by signal 9 (SIGKILL)`.
    pub how: String,
}

/// Takes [`Exit`]s; must not fail, whoever listens may be gone.
pub type ExitSink = std::sync::Arc<dyn Fn(Exit) -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("cannot start {binary}: {source}")]
    Spawn { binary: String, source: std::io::Error },
    #[error("the processes of this machine cannot be listed: {0}")]
    Processes(std::io::Error),
    #[error("no worker binary at {0}: build it, or name it with --worker-binary")]
    NoBinary(String),
}

impl LaunchError {
    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, LaunchError::Spawn { .. })
    }
}

/// The one interface of every launcher.
pub trait Launcher: Send + Sync {
    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<(), LaunchError>>;

    /// Takes over the workers of a generation that another coordinator launched; returns how many there are. Those that
    /// end are told of through [`LaunchRequest::exited`].
    fn adopt(&self, request: LaunchRequest) -> BoxFuture<'_, Result<usize, LaunchError>>;

    /// Gives the generation's workers `grace` to end by themselves, then kills them. Returns at once; the ends are
    /// told through [`LaunchRequest::exited`].
    fn release(&self, job: &JobId, generation: u64, grace: Duration);

    /// Ends every worker of this launcher and waits for it, within `grace`.
    fn shut_down(&self, grace: Duration) -> BoxFuture<'_, ()>;

    /// Looks after none of its workers any more: another coordinator will.
    fn let_go(&self);
}
