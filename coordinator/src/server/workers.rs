//! The worker API: one stream a worker. The first message registers; each later one goes to the control loop, whose
//! refusal ends the stream.

use super::limits;
use crate::control_loop::{Handle, Session};
use accord_proto::status::{ApiError, ErrorCode};
use accord_proto::worker::workers_server;
use accord_proto::worker::{Directive, WorkerMessage, worker_message::Message};
use futures::Stream;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

/// A peer that opens a stream and does not register is no worker.
const REGISTER_WITHIN: Duration = Duration::from_secs(5);
/// Directives waiting for a worker.
const BACKLOG: usize = 16;

pub(super) struct Workers {
    handle: Handle,
}

impl Workers {
    pub(super) fn new(handle: Handle) -> Workers {
        Workers { handle }
    }
}

#[tonic::async_trait]
impl workers_server::Workers for Workers {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<Directive, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut messages = request.into_inner();
        let first = tokio::time::timeout(REGISTER_WITHIN, messages.message()).await;
        let first = first.map_err(|_| ApiError::new(ErrorCode::Deadline, "no registration came"))??;
        let Some(WorkerMessage { generation, message: Some(Message::Register(register)), .. }) = first else {
            return Err(ApiError::new(ErrorCode::BadInput, "a worker's first message registers it").into());
        };
        limits::registration(&register)?;
        let (sender, directives) = mpsc::channel(BACKLOG);
        let session = self.handle.register(generation, register, sender).await?;
        let (refused, refusal) = mpsc::channel(1);
        let Session { job, generation, rank, .. } = &session;
        let span = tracing::info_span!("session", %job, generation, rank);
        tokio::spawn(listen(self.handle.clone(), session, messages, refused).instrument(span));
        let directives = until_interrupted(ReceiverStream::new(directives), self.handle.clone());
        // a refusal is the last the worker hears
        let refusal = ReceiverStream::new(refusal).map(|error: ApiError| Err(Status::from(error)));
        Ok(Response::new(Box::pin(until_refused(directives, refusal))))
    }
}

/// Directives, and at their end an error if another coordinator has more of them.
fn until_interrupted(
    directives: ReceiverStream<Directive>,
    handle: Handle,
) -> impl Stream<Item = Result<Directive, Status>> + Send + Unpin {
    let interruption = futures::stream::once(async move { handle.interruption() });
    let interruption = futures::StreamExt::filter_map(interruption, |e| async move { e.map(|e| Err(e.into())) });
    Box::pin(directives.map(Ok).chain(interruption))
}

/// Directives until they end, or until a refusal, which ends them.
fn until_refused(
    directives: impl Stream<Item = Result<Directive, Status>> + Send + Unpin + 'static,
    refusal: impl Stream<Item = Result<Directive, Status>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<Directive, Status>> + Send {
    futures::stream::unfold(Some((directives, refusal)), |state| async move {
        let (mut directives, mut refusal) = state?;
        tokio::select! {
            biased;
            Some(refused) = refusal.next() => Some((refused, None)),
            directive = directives.next() => directive.map(|d| (d, Some((directives, refusal)))),
        }
    })
}

async fn listen(
    handle: Handle,
    session: Session,
    mut messages: Streaming<WorkerMessage>,
    refused: mpsc::Sender<ApiError>,
) {
    // a broken stream and an ended one are the same to the job: the worker is gone
    while let Ok(Some(message)) = messages.message().await {
        if let Err(error) = handle.worker_says(session.clone(), message).await {
            // the worker may be gone by now
            let _ = refused.send(error).await;
            break;
        }
    }
    handle.session_closed(session).await;
}
