//! The user API.

use super::checkpoints::Checkpoints;
use super::{DataRoots, limits};
use crate::control_loop::{Handle, Submission};
use crate::job::JobId;
use crate::log_store::LogReader;
use crate::run_dir::events::EventReader;
use accord_proto::job::{
    CheckpointsReply, EventsRequest, JobRequest, JobStatus, ListReply, ListRequest, LogLines, LogsRequest, Phase,
    ScaleRequest, SubmitReply, SubmitRequest, WatchEvent, jobs_server, watch_event,
};
use accord_proto::status::{ApiError, ErrorCode};
use futures::Stream;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Events or batches of lines waiting for a client.
const BACKLOG: usize = 16;
/// How often a followed log is looked at.
const LOG_POLL: Duration = Duration::from_millis(200);

type Reply<T> = Result<Response<T>, Status>;
type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) struct Jobs {
    handle: Handle,
    data_roots: DataRoots,
    checkpoints: Checkpoints,
}

impl Jobs {
    pub(super) fn new(handle: Handle, data_roots: DataRoots) -> Jobs {
        Jobs { handle, data_roots, checkpoints: Checkpoints::new() }
    }

    async fn check(&self, request: &SubmitRequest) -> Result<(), Status> {
        limits::submission(request)?;
        let (roots, request) = (self.data_roots.clone(), request.clone());
        let checked = tokio::task::spawn_blocking(move || roots.check(&request)).await;
        checked.map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))??;
        Ok(())
    }

    fn lines<F>(&self, job: JobId, next: F, follow: bool) -> Replies<LogLines>
    where
        F: FnMut() -> io::Result<Vec<String>> + Send + 'static,
    {
        let (sender, lines) = mpsc::channel(BACKLOG);
        tokio::spawn(read_lines(self.handle.clone(), job, next, follow, sender));
        Box::pin(ReceiverStream::new(lines))
    }
}

/// The job a request is for; the request's span names it.
fn job(id: String) -> Result<JobId, Status> {
    limits::job_id(&id)?;
    tracing::Span::current().record("job", &id);
    Ok(JobId(id))
}

fn id(request: Request<JobRequest>) -> Result<JobId, Status> {
    job(request.into_inner().job_id)
}

#[tonic::async_trait]
impl jobs_server::Jobs for Jobs {
    type WatchStream = Replies<WatchEvent>;
    type LogsStream = Replies<LogLines>;
    type EventsStream = Replies<LogLines>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Reply<SubmitReply> {
        let request = request.into_inner();
        self.check(&request).await?;
        let SubmitRequest { submission_id, job_toml, overrides, job_root } = request;
        let overrides = overrides.into_iter().map(Into::into).collect();
        let submission = Submission { submission_id, job_toml, overrides, job_root: job_root.into() };
        let (job, repeated) = self.handle.submit(submission).await?;
        Ok(Response::new(SubmitReply { job_id: job.0, repeated }))
    }

    async fn list(&self, _: Request<ListRequest>) -> Reply<ListReply> {
        let mut jobs = self.handle.list().await?;
        // many jobs share one reply
        jobs.iter_mut().for_each(|job| job.last_epoch = None);
        Ok(Response::new(ListReply { jobs }))
    }

    async fn status(&self, request: Request<JobRequest>) -> Reply<JobStatus> {
        Ok(Response::new(self.handle.status(id(request)?).await?))
    }

    async fn cancel(&self, request: Request<JobRequest>) -> Reply<JobStatus> {
        Ok(Response::new(self.handle.cancel(id(request)?).await?))
    }

    async fn suspend(&self, request: Request<JobRequest>) -> Reply<JobStatus> {
        Ok(Response::new(self.handle.suspend(id(request)?).await?))
    }

    async fn resume(&self, request: Request<JobRequest>) -> Reply<JobStatus> {
        Ok(Response::new(self.handle.resume(id(request)?).await?))
    }

    async fn scale(&self, request: Request<ScaleRequest>) -> Reply<JobStatus> {
        let ScaleRequest { job_id, workers } = request.into_inner();
        Ok(Response::new(self.handle.scale(job(job_id)?, workers).await?))
    }

    async fn watch(&self, request: Request<JobRequest>) -> Reply<Self::WatchStream> {
        let (sender, events) = mpsc::channel(BACKLOG);
        tokio::spawn(watch(self.handle.clone(), id(request)?, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Reply<Self::LogsStream> {
        let LogsRequest { job_id, rank, follow } = request.into_inner();
        let job = job(job_id)?;
        let status = self.handle.status(job.clone()).await?;
        let mut reader = LogReader::new(Path::new(&status.run_dir), rank);
        Ok(Response::new(self.lines(job, move || reader.next_lines(), follow)))
    }

    async fn events(&self, request: Request<EventsRequest>) -> Reply<Self::EventsStream> {
        let EventsRequest { job_id, follow } = request.into_inner();
        let job = job(job_id)?;
        let status = self.handle.status(job.clone()).await?;
        let mut reader = EventReader::new(Path::new(&status.run_dir));
        Ok(Response::new(self.lines(job, move || reader.next_lines(), follow)))
    }

    async fn checkpoints(&self, request: Request<JobRequest>) -> Reply<CheckpointsReply> {
        let run_dir = self.handle.status(id(request)?).await?.run_dir;
        Ok(Response::new(self.checkpoints.of(run_dir.into()).await?))
    }
}

type Events<T> = mpsc::Sender<Result<T, Status>>;

/// Sends until the job is over or the client gone.
async fn watch(handle: Handle, job: JobId, client: Events<WatchEvent>) {
    let (status, mut events) = match handle.watch(job.clone()).await {
        Ok(both) => both,
        Err(error) => {
            let _ = client.send(Err(error.into())).await;
            return;
        }
    };
    let mut next = WatchEvent { event: Some(watch_event::Event::Status(status)) };
    loop {
        let over = matches!(&next.event, Some(watch_event::Event::Status(status)) if is_over(status.phase()));
        if client.send(Ok(next)).await.is_err() || over {
            return;
        }
        next = match events.recv().await {
            Ok(event) => event,
            // what was missed shows in the status
            Err(RecvError::Lagged(_)) => match handle.status(job.clone()).await {
                Ok(status) => WatchEvent { event: Some(watch_event::Event::Status(status)) },
                Err(_) => return,
            },
            Err(RecvError::Closed) => {
                let gone = ApiError::new(ErrorCode::Unavailable, "the coordinator is going down");
                let _ = client.send(Err(gone.into())).await;
                return;
            }
        };
    }
}

/// Nothing more happens to a job in this phase by itself.
pub(crate) fn is_over(phase: Phase) -> bool {
    match phase {
        Phase::Unspecified | Phase::Queued | Phase::Starting | Phase::Running | Phase::Recovering => false,
        Phase::Succeeded | Phase::Failed | Phase::Cancelled | Phase::Suspended => true,
    }
}

/// Sends the lines of a file, and what comes to it until the job is over. `next`: those since its last call.
async fn read_lines<F>(handle: Handle, job: JobId, mut next: F, follow: bool, client: Events<LogLines>)
where
    F: FnMut() -> io::Result<Vec<String>> + Send + 'static,
{
    let mut looked_again = false;
    loop {
        // asked before reading: what a job said before it was over is read
        let over = handle.status(job.clone()).await.map_or(true, |status| is_over(status.phase()));
        let read = tokio::task::spawn_blocking(move || (next(), next)).await;
        let Ok((lines, back)) = read else { return };
        next = back;
        match lines {
            Ok(lines) if lines.is_empty() => {
                // the last line is written when the job is already over
                if !follow || (over && std::mem::replace(&mut looked_again, true)) {
                    return;
                }
                tokio::time::sleep(LOG_POLL).await;
            }
            Ok(lines) => {
                if client.send(Ok(LogLines { lines })).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let error = ApiError::new(ErrorCode::Internal, format!("the file cannot be read: {error}"));
                let _ = client.send(Err(error.into())).await;
                return;
            }
        }
    }
}
