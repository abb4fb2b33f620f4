//! The tokio side of a worker: one stream to the coordinator. Registers, obeys directives, beats, ships log lines.
//! Touches no tensor.

pub mod log;

use crate::WorkerArgs;
use crate::observer::Orders;
use crate::rendezvous::MeetingPoint;
use crate::trainer_thread::{self, Assignment};
use accord_proto::MAX_MESSAGE_BYTES;
use accord_proto::job::LogLines;
use accord_proto::tls::{ClientTls, is_https};
use accord_proto::worker::workers_client::WorkersClient;
use accord_proto::worker::{Directive, Form, Heartbeat, Register, WorkerMessage, directive, worker_message::Message};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

/// To reach the coordinator, and for it to take the registration.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// From the last message until the coordinator closes the stream: it writes the summary before it does.
const CLOSE_WITHIN: Duration = Duration::from_secs(60);
/// Messages waiting for the coordinator; the trainer waits beyond it.
const BACKLOG: usize = 256;
/// Log lines go out at least this often.
const SHIP_EVERY: Duration = Duration::from_millis(100);
/// One batch of log lines: with their bounded length, far below a message's bound.
const LINES_A_BATCH: usize = 32;

/// Why a worker ends without having done what it was told.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot reach the coordinator: {0}")]
    Unreachable(String),
    #[error("the coordinator refused: {0}")]
    Refused(String),
    #[error("the connection to the coordinator broke")]
    Lost,
    #[error("cannot open a store where the workers could meet: {0}")]
    Store(String),
    #[error("cannot start the trainer's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Serves one generation, from registration to the last message.
///
/// # Errors
/// [`AgentError`]; a job that fails is not one: the coordinator was told.
pub async fn run(args: WorkerArgs, lines: mpsc::Receiver<String>) -> Result<(), AgentError> {
    let generation = args.generation;
    let (messages, outbox) = mpsc::channel(BACKLOG);
    let uplink = Uplink { generation, messages };
    let meeting = open_meeting_point(&args.coordinator).await?;
    let directives = connect(&args, &uplink, outbox, meeting.address()).await?;
    tracing::info!(job = args.job, generation, worker = args.name, "registered");
    let mut agent = Agent { uplink, directives, lines, orders: Arc::default(), stopping: false };
    agent.serve(meeting).await
}

/// Blocking calls, off the agent's threads.
async fn open_meeting_point(coordinator: &str) -> Result<MeetingPoint, AgentError> {
    let coordinator = coordinator.to_owned();
    let opened = tokio::task::spawn_blocking(move || MeetingPoint::open(&coordinator)).await;
    opened.map_err(|e| AgentError::Store(e.to_string()))?.map_err(|e| AgentError::Store(e.to_string()))
}

/// Sends messages of this worker's generation.
#[derive(Clone, Debug)]
pub struct Uplink {
    generation: u64,
    messages: mpsc::Sender<WorkerMessage>,
}

impl Uplink {
    /// For threads: waits while the stream is full. `false`: the stream is gone.
    pub fn send_blocking(&self, message: Message) -> bool {
        self.messages.blocking_send(self.stamp(message)).is_ok()
    }

    /// Leaves the message out when the stream is full or gone.
    pub fn send_or_drop(&self, message: Message) {
        let _ = self.messages.try_send(self.stamp(message));
    }

    async fn send(&self, message: Message) -> Result<(), AgentError> {
        self.messages.send(self.stamp(message)).await.map_err(|_| AgentError::Lost)
    }

    fn stamp(&self, message: Message) -> WorkerMessage {
        WorkerMessage { generation: self.generation, message: Some(message) }
    }

    /// An uplink into a channel.
    #[cfg(test)]
    pub(crate) fn to_channel(generation: u64) -> (Uplink, mpsc::Receiver<WorkerMessage>) {
        let (messages, outbox) = mpsc::channel(BACKLOG);
        (Uplink { generation, messages }, outbox)
    }
}

async fn connect(
    args: &WorkerArgs,
    uplink: &Uplink,
    outbox: mpsc::Receiver<WorkerMessage>,
    store: String,
) -> Result<Streaming<Directive>, AgentError> {
    let unreachable = |e: &dyn std::fmt::Display| AgentError::Unreachable(e.to_string());
    let mut endpoint = Endpoint::from_shared(args.coordinator.clone()).map_err(|e| unreachable(&e))?;
    if is_https(&args.coordinator) {
        let tls = ClientTls { ca: args.ca.clone(), identity: None, name: args.tls_name.clone() };
        let tls = tls.load().map_err(|e| unreachable(&e))?;
        endpoint = endpoint.tls_config(tls).map_err(|e| unreachable(&e))?;
    }
    let channel = endpoint.connect_timeout(CONNECT_WITHIN).tcp_nodelay(true).connect().await;
    let mut client = WorkersClient::new(channel.map_err(|e| unreachable(&e))?)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let register = Register {
        job_id: args.job.clone(),
        worker: args.name.clone(),
        token: args.token.clone(),
        host: host(),
        pid: std::process::id(),
        store,
    };
    uplink.send(Message::Register(register)).await?;
    match tokio::time::timeout(CONNECT_WITHIN, client.session(ReceiverStream::new(outbox))).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(AgentError::Refused(status.message().to_string())),
        Err(_) => Err(AgentError::Unreachable(format!("no answer within {} s", CONNECT_WITHIN.as_secs()))),
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "localhost".into(), |h| h.trim().to_string())
}

struct Agent {
    uplink: Uplink,
    directives: Streaming<Directive>,
    lines: mpsc::Receiver<String>,
    orders: Arc<Orders>,
    /// Told to end at once: how the trainer ends is of no interest any more.
    stopping: bool,
}

impl Agent {
    async fn serve(&mut self, meeting: MeetingPoint) -> Result<(), AgentError> {
        let Some(form) = self.wait_for_form().await? else { return Ok(()) };
        let mut beat = tokio::time::interval(Duration::from_millis(form.heartbeat_ms.max(1)));
        let mut ship = tokio::time::interval(SHIP_EVERY);
        let generation = self.uplink.generation;
        let (uplink, orders) = (self.uplink.clone(), Arc::clone(&self.orders));
        let assignment = Assignment { form, generation, meeting, uplink, orders };
        let mut trainer = trainer_thread::start(assignment)?;
        loop {
            tokio::select! {
                directive = self.directives.message() => match self.obey(directive) {
                    Ok(()) => {}
                    // told to end, and the coordinator hung up
                    Err(_) if self.stopping => return Ok(()),
                    Err(error) => return Err(error),
                },
                _ = beat.tick() => self.uplink.send_or_drop(Message::Heartbeat(self.orders.position())),
                _ = ship.tick() => self.ship_log(),
                ending = &mut trainer => {
                    self.ship_log();
                    if self.stopping {
                        return Ok(());
                    }
                    // a sender that is gone without a word: the thread was killed from inside
                    let ending = ending.unwrap_or_else(|_| trainer_thread::vanished());
                    self.uplink.send(ending).await?;
                    return self.wait_for_close().await;
                }
            }
        }
    }

    /// None: told to end before there was anything to do.
    async fn wait_for_form(&mut self) -> Result<Option<Form>, AgentError> {
        // waiting is the coordinator's decision, bounded there; a coordinator that dies closes the stream
        let mut beat = tokio::time::interval(Duration::from_millis(200));
        loop {
            let directive = tokio::select! {
                directive = self.directives.message() => directive,
                _ = beat.tick() => {
                    self.uplink.send_or_drop(Message::Heartbeat(Heartbeat::default()));
                    continue;
                }
            };
            let directive = directive.map_err(|status| AgentError::Refused(status.message().to_string()))?;
            match directive.ok_or(AgentError::Lost)?.directive {
                Some(directive::Directive::Form(form)) => return Ok(Some(form)),
                Some(directive::Directive::Abort(_) | directive::Directive::CheckpointAndStop(_)) => return Ok(None),
                None => {}
            }
        }
    }

    fn obey(&mut self, directive: Result<Option<Directive>, tonic::Status>) -> Result<(), AgentError> {
        let directive = directive.map_err(|status| AgentError::Refused(status.message().to_string()))?;
        match directive.ok_or(AgentError::Lost)?.directive {
            Some(directive::Directive::CheckpointAndStop(_)) => self.orders.checkpoint_and_stop(),
            Some(directive::Directive::Abort(abort)) => {
                tracing::info!(why = abort.why, "told to end");
                self.stopping = true;
                self.orders.stop();
            }
            // a generation forms once
            Some(directive::Directive::Form(_)) | None => {}
        }
        Ok(())
    }

    fn ship_log(&mut self) {
        loop {
            let mut lines = Vec::new();
            while lines.len() < LINES_A_BATCH
                && let Ok(line) = self.lines.try_recv()
            {
                lines.push(line);
            }
            if lines.is_empty() {
                return;
            }
            self.uplink.send_or_drop(Message::Log(LogLines { lines }));
        }
    }

    /// The coordinator hangs up when it has taken the last message. Beats go on: it may have much to write.
    async fn wait_for_close(&mut self) -> Result<(), AgentError> {
        let mut beat = tokio::time::interval(Duration::from_millis(200));
        let closed = async {
            loop {
                tokio::select! {
                    directive = self.directives.message() => match directive {
                        Ok(Some(_)) => {}
                        Ok(None) | Err(_) => return,
                    },
                    _ = beat.tick() => self.uplink.send_or_drop(Message::Heartbeat(self.orders.position())),
                }
            }
        };
        // it was told; that it does not hang up is its own affair
        let _ = tokio::time::timeout(CLOSE_WITHIN, closed).await;
        Ok(())
    }
}
