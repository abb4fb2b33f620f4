//! The user API.

use crate::control_loop::{Handle, Submission};
use crate::job::JobId;
use crate::log_store::LogReader;
use accord_proto::job::{
    JobRequest, JobStatus, ListReply, ListRequest, LogLines, LogsRequest, Phase, SubmitReply, SubmitRequest,
    WatchEvent, jobs_server, watch_event,
};
use accord_proto::status::{ApiError, ErrorCode};
use futures::Stream;
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
}

impl Jobs {
    pub(super) fn new(handle: Handle) -> Jobs {
        Jobs { handle }
    }
}

fn id(request: Request<JobRequest>) -> JobId {
    JobId(request.into_inner().job_id)
}

#[tonic::async_trait]
impl jobs_server::Jobs for Jobs {
    type WatchStream = Replies<WatchEvent>;
    type LogsStream = Replies<LogLines>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Reply<SubmitReply> {
        let SubmitRequest { submission_id, job_toml, overrides, job_root } = request.into_inner();
        let overrides = overrides.into_iter().map(Into::into).collect();
        let submission = Submission { submission_id, job_toml, overrides, job_root: job_root.into() };
        let (job, repeated) = self.handle.submit(submission).await?;
        Ok(Response::new(SubmitReply { job_id: job.0, repeated }))
    }

    async fn list(&self, _: Request<ListRequest>) -> Reply<ListReply> {
        Ok(Response::new(ListReply { jobs: self.handle.list().await? }))
    }

    async fn status(&self, request: Request<JobRequest>) -> Reply<JobStatus> {
        Ok(Response::new(self.handle.status(id(request)).await?))
    }

    async fn cancel(&self, request: Request<JobRequest>) -> Reply<JobStatus> {
        Ok(Response::new(self.handle.cancel(id(request)).await?))
    }

    async fn suspend(&self, request: Request<JobRequest>) -> Reply<JobStatus> {
        Ok(Response::new(self.handle.suspend(id(request)).await?))
    }

    async fn watch(&self, request: Request<JobRequest>) -> Reply<Self::WatchStream> {
        let (sender, events) = mpsc::channel(BACKLOG);
        tokio::spawn(watch(self.handle.clone(), id(request), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Reply<Self::LogsStream> {
        let LogsRequest { job_id, rank, follow } = request.into_inner();
        let job = JobId(job_id);
        let status = self.handle.status(job.clone()).await?;
        let reader = LogReader::new(Path::new(&status.run_dir), rank);
        let (sender, lines) = mpsc::channel(BACKLOG);
        tokio::spawn(read_log(self.handle.clone(), job, reader, follow, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(lines))))
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
fn is_over(phase: Phase) -> bool {
    match phase {
        Phase::Unspecified | Phase::Queued | Phase::Starting | Phase::Running => false,
        Phase::Succeeded | Phase::Failed | Phase::Cancelled | Phase::Suspended => true,
    }
}

async fn read_log(handle: Handle, job: JobId, mut reader: LogReader, follow: bool, client: Events<LogLines>) {
    loop {
        // asked before reading: what a job said before it was over is read
        let over = handle.status(job.clone()).await.map_or(true, |status| is_over(status.phase()));
        let read = tokio::task::spawn_blocking(move || (reader.next_lines(), reader)).await;
        let Ok((lines, back)) = read else { return };
        reader = back;
        match lines {
            Ok(lines) if lines.is_empty() => {
                if over || !follow {
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
                let error = ApiError::new(ErrorCode::Internal, format!("the log cannot be read: {error}"));
                let _ = client.send(Err(error.into())).await;
                return;
            }
        }
    }
}
