//! The way into the control loop: one cloneable handle, one method a request. Every call has an answer or a deadline.

use super::command::{AtTheEnd, Command, Reply};
use crate::job::JobId;
use accord_proto::job::{JobStatus, WatchEvent};
use accord_proto::status::{ApiError, ErrorCode};
use accord_proto::worker::{Directive, Register, WorkerMessage};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// How long the loop has to answer: it only ever waits for its store.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A job as a client submits it.
#[derive(Clone, Debug)]
pub struct Submission {
    pub submission_id: String,
    pub job_toml: String,
    pub overrides: Vec<accord_spec::Override>,
    pub job_root: PathBuf,
}

/// Names one stream of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub job: JobId,
    pub generation: u64,
    pub rank: u32,
    /// Of all sessions of this coordinator: a worker that comes back has another.
    pub number: u64,
}

/// What to say to the control loop; without one, every request is refused.
#[derive(Clone, Default)]
pub struct Handle {
    seat: Arc<RwLock<Seat>>,
}

#[derive(Clone, Default)]
enum Seat {
    #[default]
    StandsBy,
    Leads(mpsc::Sender<Command>),
    Over,
}

impl Handle {
    pub(super) fn lead(&self, commands: mpsc::Sender<Command>) {
        self.sit(Seat::Leads(commands));
    }

    fn sit(&self, seat: Seat) {
        *self.seat.write().unwrap_or_else(PoisonError::into_inner) = seat;
    }

    fn commands(&self) -> Result<mpsc::Sender<Command>, ApiError> {
        match self.seat.read().unwrap_or_else(PoisonError::into_inner).clone() {
            Seat::Leads(commands) => Ok(commands),
            Seat::StandsBy => Err(stands_by()),
            Seat::Over => Err(going_down()),
        }
    }

    /// Why a worker's directives end, unless its work is done.
    pub(crate) fn interruption(&self) -> Option<ApiError> {
        let stands_by = matches!(*self.seat.read().unwrap_or_else(PoisonError::into_inner), Seat::StandsBy);
        stands_by.then(self::stands_by)
    }

    /// The job, and whether this submission id was known already.
    ///
    /// # Errors
    /// [`ErrorCode::BadInput`] for a job file that cannot be used.
    pub async fn submit(&self, submission: Submission) -> Result<(JobId, bool), ApiError> {
        self.ask(|reply| Command::Submit { submission, reply }).await?
    }

    /// Every job, oldest first.
    ///
    /// # Errors
    /// When the loop does not answer.
    pub async fn list(&self) -> Result<Vec<JobStatus>, ApiError> {
        self.ask(|reply| Command::List { reply }).await
    }

    /// # Errors
    /// [`ErrorCode::UnknownJob`].
    pub async fn status(&self, job: JobId) -> Result<JobStatus, ApiError> {
        self.ask(|reply| Command::Status { job, reply }).await?
    }

    /// The job's status now, and everything after it.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownJob`].
    pub async fn watch(&self, job: JobId) -> Result<(JobStatus, broadcast::Receiver<WatchEvent>), ApiError> {
        self.ask(|reply| Command::Watch { job, reply }).await?
    }

    /// # Errors
    /// [`ErrorCode::UnknownJob`].
    pub async fn cancel(&self, job: JobId) -> Result<JobStatus, ApiError> {
        self.ask(|reply| Command::Cancel { job, reply }).await?
    }

    /// # Errors
    /// [`ErrorCode::UnknownJob`], or [`ErrorCode::WrongPhase`] when the job is over.
    pub async fn suspend(&self, job: JobId) -> Result<JobStatus, ApiError> {
        self.ask(|reply| Command::Suspend { job, reply }).await?
    }

    /// # Errors
    /// [`ErrorCode::UnknownJob`], or [`ErrorCode::WrongPhase`] when the job succeeded or was cancelled.
    pub async fn resume(&self, job: JobId) -> Result<JobStatus, ApiError> {
        self.ask(|reply| Command::Resume { job, reply }).await?
    }

    /// # Errors
    /// [`ErrorCode::UnknownJob`], [`ErrorCode::BadInput`] for a number of workers that no job can have, or
    /// [`ErrorCode::WrongPhase`] when the job is over.
    pub async fn scale(&self, job: JobId, workers: u32) -> Result<JobStatus, ApiError> {
        self.ask(|reply| Command::Scale { job, workers, reply }).await?
    }

    /// Opens a worker's session; `directives` is its stream.
    ///
    /// # Errors
    /// [`ErrorCode::WrongToken`], [`ErrorCode::StaleGeneration`], [`ErrorCode::UnknownJob`].
    pub async fn register(
        &self,
        generation: u64,
        register: Register,
        directives: mpsc::Sender<Directive>,
    ) -> Result<Session, ApiError> {
        self.ask(|reply| Command::Register { generation, register, directives, reply }).await?
    }

    /// Hands over a worker's message.
    ///
    /// # Errors
    /// [`ErrorCode::StaleGeneration`] when the session's generation is not the live one.
    pub async fn worker_says(&self, session: Session, message: WorkerMessage) -> Result<(), ApiError> {
        self.ask(|reply| Command::WorkerSays { session, message, reply }).await?
    }

    /// A worker's stream ended.
    pub async fn session_closed(&self, session: Session) {
        // a loop that is gone has nobody to tell
        if let Ok(commands) = self.commands() {
            let _ = commands.send(Command::SessionClosed { session }).await;
        }
    }

    /// Ends the loop and its scribes. Jobs keep their phase in the store. Requests are refused from now on.
    pub async fn shut_down(&self, workers: AtTheEnd) {
        let commands = self.commands();
        self.sit(match workers {
            AtTheEnd::EndWorkers => Seat::Over,
            AtTheEnd::LeaveWorkers => Seat::StandsBy,
        });
        if let Ok(commands) = commands {
            let _ = ask(&commands, |reply| Command::ShutDown { workers, reply }).await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ApiError> {
        ask(&self.commands()?, command).await
    }
}

async fn ask<T>(commands: &mpsc::Sender<Command>, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ApiError> {
    let (reply, answer) = oneshot::channel();
    let exchange = async {
        commands.send(command(reply)).await.map_err(|_| going_down())?;
        answer.await.map_err(|_| going_down())
    };
    match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
        Ok(result) => result,
        Err(_) => {
            let text = format!("no answer from the coordinator within {} s", ANSWER_WITHIN.as_secs());
            Err(ApiError::new(ErrorCode::Deadline, text))
        }
    }
}

fn going_down() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the coordinator is going down")
}

fn stands_by() -> ApiError {
    let text = "this coordinator stands by: another one leads, or the next is being elected";
    ApiError::new(ErrorCode::Unavailable, text)
}
