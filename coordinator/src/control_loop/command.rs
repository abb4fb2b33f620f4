//! Everything the control loop can be told, by clients, workers, launchers, scribes and itself.

use super::handle::{Session, Submission};
use crate::job::{Event, JobId};
use crate::launcher::{LaunchError, Sighting};
use crate::run_dir::RunDirError;
use crate::run_dir::open::Opened;
use crate::run_dir::scribe::Record;
use accord_proto::job::{JobStatus, WatchEvent};
use accord_proto::status::ApiError;
use accord_proto::worker::{Directive, Register, WorkerMessage};
use tokio::sync::{broadcast, mpsc, oneshot};

pub(super) type Reply<T> = oneshot::Sender<T>;
pub(super) type Answer<T> = Reply<Result<T, ApiError>>;

pub(super) enum Command {
    Submit {
        submission: Submission,
        reply: Answer<(JobId, bool)>,
    },
    List {
        reply: Reply<Vec<JobStatus>>,
    },
    Status {
        job: JobId,
        reply: Answer<JobStatus>,
    },
    Watch {
        job: JobId,
        reply: Answer<(JobStatus, broadcast::Receiver<WatchEvent>)>,
    },
    Cancel {
        job: JobId,
        reply: Answer<JobStatus>,
    },
    Suspend {
        job: JobId,
        reply: Answer<JobStatus>,
    },
    Resume {
        job: JobId,
        reply: Answer<JobStatus>,
    },
    Scale {
        job: JobId,
        workers: u32,
        reply: Answer<JobStatus>,
    },
    Register {
        generation: u64,
        register: Register,
        directives: mpsc::Sender<Directive>,
        reply: Answer<Session>,
    },
    WorkerSays {
        session: Session,
        message: WorkerMessage,
        reply: Answer<()>,
    },
    SessionClosed {
        session: Session,
    },
    /// The run directory is ours, or is not.
    Opened {
        job: JobId,
        generation: u64,
        result: Box<Result<Opened, RunDirError>>,
    },
    /// The workers could not be started.
    NotLaunched {
        job: JobId,
        generation: u64,
        error: LaunchError,
    },
    /// The launcher saw something of its workers.
    Sighted {
        job: JobId,
        generation: u64,
        sighting: Sighting,
    },
    /// The scribe answers.
    Recorded {
        job: JobId,
        generation: u64,
        record: Record,
    },
    /// An event whose persisting failed is tried again.
    Retry {
        job: JobId,
        event: Event,
    },
    /// The workers of the generation that were to be adopted are not there.
    NotAdopted {
        job: JobId,
        generation: u64,
        why: String,
    },
    ShutDown {
        workers: AtTheEnd,
        reply: Reply<()>,
    },
}

/// What becomes of the workers when their control loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtTheEnd {
    EndWorkers,
    /// Another coordinator adopts them.
    LeaveWorkers,
}
