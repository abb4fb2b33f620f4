//! JOB STATE MACHINE (pure): what a job is, which phase it is in, and what each event makes of it.
//! `now` comes in as an argument; effects go out as data. No clock, no task, no network, no disk here.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

mod transition;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Milliseconds since 1970.
pub type UnixMs = u64;

/// `<job name>-<digest of the submission id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub String);

impl JobId {
    /// The same submission id gives the same job.
    pub fn of(name: &str, submission_id: &str) -> JobId {
        let digest = blake3::hash(submission_id.as_bytes()).to_hex();
        JobId(format!("{name}-{}", &digest[..10]))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything about a job that outlives the coordinator's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub name: String,
    /// Made by the client: a repeated submission is recognised by it.
    pub submission_id: String,
    /// The whole job file, every default and override in it.
    pub job_toml: String,
    /// Folder that `data.path` is relative to.
    pub job_root: PathBuf,
    pub run_dir: PathBuf,
    /// What its workers prove themselves with.
    pub token: String,
    pub priority: i32,
    /// Workers that are wanted.
    pub workers: u32,
    pub policy: Policy,
    /// Workers of the newest generation: fewer than are wanted after some could not be replaced.
    pub world: u32,
    pub submitted_at: UnixMs,
    pub phase: Phase,
    /// When the phase was entered.
    pub since: UnixMs,
    /// The newest generation ever started; 0 before the first.
    pub generation: u64,
    /// The workers are saving their state, to end or to come back as another generation.
    pub stopping: Option<Stopping>,
    pub history: History,
}

/// What a job's file says about recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Training may go on with this many workers.
    pub min_workers: u32,
    /// Within [`RESTART_WINDOW_MS`].
    pub max_restarts: u32,
    /// How long a missing worker is waited for.
    pub replace_within_ms: u64,
}

/// Restarts older than this are forgotten.
pub const RESTART_WINDOW_MS: u64 = 3_600_000;

/// Failures in a row without one step more than before are enough: the next would be the same.
pub const FRUITLESS_LIMIT: u32 = 3;

/// Why the workers of a running job were asked to save and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopping {
    /// To put the job aside.
    Suspend,
    /// To go on with the number of workers that is wanted.
    Regroup,
}

/// What failures left behind, so that they stay bounded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When generations were replaced after a failure, within the window.
    pub restarts: Vec<UnixMs>,
    /// The furthest step that any generation reported before it failed.
    pub reached: u64,
    /// Failures in a row that came no further than `reached`.
    pub fruitless: u32,
    /// With fewer workers than are wanted: when to try for all of them again, and how long to wait after that.
    pub grow: Option<Grow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grow {
    pub at: UnixMs,
    pub wait_ms: u64,
}

/// No worker that asks for a seat waits longer.
const ASKED_WAIT_AT_MOST_MS: u64 = 600_000;

impl Grow {
    /// Whether to try now. A try that may fail costs a restart and waits its time; a worker that is there and asks for a
    /// seat waits half of it, ten minutes at most.
    pub fn is_due(&self, now: UnixMs, is_asked: bool) -> bool {
        let wait = if is_asked { (self.wait_ms / 2).min(ASKED_WAIT_AT_MOST_MS) } else { self.wait_ms };
        self.at.saturating_sub(self.wait_ms) + wait <= now
    }
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum Phase {
    /// Waits for room.
    Queued,
    /// Workers are launched, register and load data.
    Starting {
        generation: u64,
    },
    Running {
        generation: u64,
    },
    /// As `Starting`, after a generation failed; who or what it was that failed.
    Recovering {
        generation: u64,
        culprit: Failure,
    },
    Succeeded,
    Failed {
        failure: Failure,
    },
    Cancelled,
    /// Checkpointed and put aside.
    Suspended,
}

impl Phase {
    /// The word a person reads.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Starting { .. } => "starting",
            Phase::Running { .. } => "running",
            Phase::Recovering { .. } => "recovering",
            Phase::Succeeded => "succeeded",
            Phase::Failed { .. } => "failed",
            Phase::Cancelled => "cancelled",
            Phase::Suspended => "suspended",
        }
    }

    /// Nothing more happens by itself.
    pub fn is_over(&self) -> bool {
        match self {
            Phase::Queued | Phase::Starting { .. } | Phase::Running { .. } | Phase::Recovering { .. } => false,
            Phase::Succeeded | Phase::Failed { .. } | Phase::Cancelled | Phase::Suspended => true,
        }
    }

    /// The generation whose workers hold resources now.
    pub fn live_generation(&self) -> Option<u64> {
        match self {
            Phase::Starting { generation } | Phase::Running { generation } | Phase::Recovering { generation, .. } => {
                Some(*generation)
            }
            Phase::Queued | Phase::Succeeded | Phase::Failed { .. } | Phase::Cancelled | Phase::Suspended => None,
        }
    }
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// In words, with the values.
    pub text: String,
}

/// What a program may branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The job file or its data cannot be used.
    BadInput,
    /// Training itself went wrong.
    Training,
    /// A worker died, fell silent or never came.
    WorkerLost,
    /// The control plane could not do its part.
    Internal,
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// There is room for its workers.
    Placed,
    /// Every worker of the generation loaded its data and stands.
    Ready {
        generation: u64,
    },
    /// Training is over and its result is recorded.
    Finished {
        generation: u64,
    },
    /// The workers saved their state and ended.
    Stopped {
        generation: u64,
    },
    /// The generation cannot go on.
    GenerationFailed {
        generation: u64,
        failure: Failure,
        /// The newest step it reported.
        step: u64,
    },
    /// Not every worker came within the time there is for it.
    Incomplete {
        generation: u64,
        present: u32,
    },
    SuspendAsked,
    CancelAsked,
    ResumeAsked,
    ScaleAsked {
        workers: u32,
    },
    /// It is time to try for all workers again.
    GrowDue,
    /// A worker was told to end by its cluster: the state is saved while it can be.
    Leaving {
        generation: u64,
    },
    /// A new coordinator process took the job over.
    CoordinatorRestarted,
    /// There are no workers of the generation that could be adopted.
    WorkersGone {
        generation: u64,
    },
}

/// What must be done after a transition is persisted. Each is idempotent by (job, generation).
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Open the run directory and start the workers.
    Launch { generation: u64 },
    /// Take over the workers that train under an earlier coordinator.
    Adopt { generation: u64 },
    /// Ask the workers to save and end.
    CheckpointAndStop { generation: u64 },
    /// Tell the workers to end at once, then see to it.
    Abort { generation: u64, why: String },
    /// The workers are done: see to it that they are gone.
    Release { generation: u64 },
}

/// An event that the phase does not allow; the job is unchanged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Illegal {
    #[error("the event is of generation {event}, the job is at generation {live}")]
    StaleGeneration { event: u64, live: u64 },
    #[error("job {job} is {phase}")]
    WrongPhase { job: JobId, phase: &'static str },
}

#[cfg(test)]
mod tests;
