//! One stream to a coordinator, and the way to the next one when it breaks.

use super::{AgentError, BACKLOG, CONNECT_WITHIN};
use crate::WorkerArgs;
use accord_proto::MAX_MESSAGE_BYTES;
use accord_proto::status::{ApiError, ErrorCode};
use accord_proto::tls::{ClientTls, is_https};
use accord_proto::worker::workers_client::WorkersClient;
use accord_proto::worker::{Directive, Register, Seat, Underway, WorkerMessage, directive, worker_message::Message};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

/// Between two tries to find a coordinator: the first and the longest wait.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A stream that is open.
pub(super) struct Link {
    outbox: mpsc::Sender<WorkerMessage>,
    directives: Streaming<Directive>,
    /// On their way out.
    pending: VecDeque<WorkerMessage>,
}

impl Link {
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < BACKLOG
    }

    pub(super) fn send(&mut self, message: WorkerMessage) {
        self.pending.push_back(message);
    }

    /// The next directive; none when the coordinator hung up. What is pending goes out meanwhile. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Directive>, Status> {
        loop {
            tokio::select! {
                directive = self.directives.message() => return directive,
                permit = self.outbox.reserve(), if !self.pending.is_empty() => match permit {
                    Ok(permit) => if let Some(message) = self.pending.pop_front() { permit.send(message) },
                    // the stream takes nothing more: its other half says why
                    Err(_) => return self.directives.message().await,
                },
            }
        }
    }
}

/// Whether a stream that ended so, or was refused so, may be followed by another.
pub(super) fn may_return(status: &Status) -> bool {
    // what the coordinator itself says, it means; the rest is the network's
    !status.metadata().contains_key(accord_proto::status::KEY) || ApiError::from(status.clone()).is_retryable()
}

/// What a worker tells of itself, to whichever coordinator there is.
#[derive(Clone)]
pub(super) struct Caller {
    args: WorkerArgs,
    /// The generation in `args` is that of its seat.
    is_pod: bool,
    /// Where this worker's store listens.
    store: String,
}

impl Caller {
    pub(super) fn new(args: WorkerArgs, store: String) -> Caller {
        Caller { is_pod: args.is_pod(), args, store }
    }

    pub(super) fn is_pod(&self) -> bool {
        self.is_pod
    }

    pub(super) fn generation(&self) -> u64 {
        self.args.generation
    }

    pub(super) fn name(&self) -> &str {
        &self.args.name
    }

    /// The first coordinator that takes this worker.
    pub(super) async fn connect(&self, underway: Option<Underway>) -> Result<Link, AgentError> {
        let mut failure = AgentError::Unreachable("no address is given".into());
        for coordinator in &self.args.coordinator {
            match self.try_one(coordinator, underway).await {
                Ok(link) => return Ok(link),
                Err(error @ (AgentError::Refused(_) | AgentError::NotNeeded(_))) => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// A pod's seat in the generation that forms, and who it is from then on. Tries for as long as it would train alone.
    pub(super) async fn find_seat(mut self) -> Result<(Caller, Link), AgentError> {
        let mut link = self.persist(None).await?;
        let first = tokio::time::timeout(self.within(), link.next()).await;
        match first {
            Ok(Ok(Some(Directive { generation, directive: Some(directive::Directive::Seat(Seat { rank })) }))) => {
                self.args.generation = generation;
                self.args.name = format!("worker-{rank}");
                Ok((self, link))
            }
            Ok(Ok(_)) => Err(AgentError::Unreachable("the coordinator hung up".into())),
            Ok(Err(status)) => Err(AgentError::Unreachable(status.message().to_string())),
            Err(_) => Err(AgentError::Unreachable("no seat was given".into())),
        }
    }

    /// Tries until a coordinator takes this worker back, or says that it has no use for it.
    pub(super) async fn reconnect(self, underway: Underway) -> Result<Link, AgentError> {
        self.persist(Some(underway)).await
    }

    async fn persist(&self, underway: Option<Underway>) -> Result<Link, AgentError> {
        let within = Duration::from_millis(self.args.alone_ms);
        let until = Instant::now() + within;
        let mut wait = FIRST_WAIT;
        loop {
            tokio::time::sleep(wait).await;
            wait = (2 * wait).min(LONGEST_WAIT);
            match self.connect(underway).await {
                Err(AgentError::Unreachable(why)) if Instant::now() >= until => {
                    return Err(AgentError::Alone { seconds: within.as_secs(), why });
                }
                Err(AgentError::Unreachable(why)) => tracing::debug!(why, "no coordinator yet"),
                over => return over,
            }
        }
    }

    async fn try_one(&self, coordinator: &str, underway: Option<Underway>) -> Result<Link, AgentError> {
        let unreachable = |e: &dyn std::fmt::Display| AgentError::Unreachable(format!("{coordinator}: {e}"));
        let channel = self.endpoint(coordinator)?.connect().await.map_err(|e| unreachable(&e))?;
        let mut client = WorkersClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (outbox, messages) = mpsc::channel(BACKLOG);
        let register = Message::Register(self.registration(underway));
        let first = WorkerMessage { generation: self.args.generation, number: 0, message: Some(register) };
        // there is room for the first
        let _ = outbox.try_send(first);
        match tokio::time::timeout(self.within(), client.session(ReceiverStream::new(messages))).await {
            Ok(Ok(response)) => Ok(Link { outbox, directives: response.into_inner(), pending: VecDeque::new() }),
            Ok(Err(status)) if may_return(&status) => Err(unreachable(&status.message())),
            Ok(Err(status)) if ApiError::from(status.clone()).code == ErrorCode::JobOver => {
                Err(AgentError::NotNeeded(status.message().to_string()))
            }
            Ok(Err(status)) => Err(AgentError::Refused(status.message().to_string())),
            Err(_) => Err(unreachable(&format!("no answer within {:.1} s", self.within().as_secs_f64()))),
        }
    }

    /// To reach a coordinator, and for it to take the registration.
    fn within(&self) -> Duration {
        match self.args.alone_ms {
            0 => CONNECT_WITHIN,
            // another one may be there to be asked
            _ => Duration::from_millis(self.args.detect_ms).min(CONNECT_WITHIN),
        }
    }

    fn endpoint(&self, coordinator: &str) -> Result<Endpoint, AgentError> {
        let unusable = |e: &dyn std::fmt::Display| AgentError::Refused(format!("{coordinator} cannot be used: {e}"));
        let mut endpoint = Endpoint::from_shared(coordinator.to_string()).map_err(|e| unusable(&e))?;
        if is_https(coordinator) {
            let tls = ClientTls { ca: self.args.ca.clone(), identity: None, name: self.args.tls_name.clone() };
            endpoint = endpoint.tls_config(tls.load().map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
        }
        if self.args.alone_ms > 0 {
            // a coordinator whose machine is gone says nothing: it is asked
            let detect = Duration::from_millis(self.args.detect_ms);
            endpoint =
                endpoint.http2_keep_alive_interval(detect / 5).keep_alive_timeout(detect).keep_alive_while_idle(true);
        }
        Ok(endpoint.connect_timeout(self.within()).tcp_nodelay(true))
    }

    fn registration(&self, underway: Option<Underway>) -> Register {
        Register {
            job_id: self.args.job.clone(),
            worker: self.args.name.clone(),
            token: self.args.token.clone(),
            host: self.args.host.clone().unwrap_or_else(host),
            pid: std::process::id(),
            store: self.store.clone(),
            underway,
        }
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "localhost".into(), |h| h.trim().to_string())
}
