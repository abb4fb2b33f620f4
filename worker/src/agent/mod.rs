//! The tokio side of a worker: one stream to the coordinator. Registers, obeys directives, beats, ships log lines.
//! Touches no tensor.
//!
//! # Layout
//! * here: what comes from the trainer and from the coordinator, and where it goes.
//! * `link`: the stream, and the way to the next one when it breaks. `ledger`: what a new coordinator has to be told.
//! * [`log`]: log lines on their way.

mod ledger;
mod link;
pub mod log;

use crate::WorkerArgs;
use crate::observer::Orders;
use crate::pod::{self, Ending, Notice};
use crate::rendezvous::MeetingPoint;
use crate::trainer_thread::{self, Assignment};
use accord_proto::job::{FailureKind, LogLines};
use accord_proto::worker::{Directive, Form, Heartbeat, Leaving, Welcome, directive, worker_message::Message};
use ledger::Ledger;
use link::{Caller, Link, may_return};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;

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
/// Until the form says how often to beat.
const FIRST_BEATS: Duration = Duration::from_millis(200);

/// Why a worker ends without having done what it was told.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot reach the coordinator: {0}")]
    Unreachable(String),
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// Its job is over.
    #[error("{0}")]
    NotNeeded(String),
    #[error("the connection to the coordinator broke")]
    Lost,
    #[error("no coordinator was there for {seconds} s: {why}")]
    Alone { seconds: u64, why: String },
    #[error("too much happened since the newest checkpoint to go on without the coordinator that knows it")]
    Torn,
    #[error("cannot open a store where the workers could meet: {0}")]
    Store(String),
    #[error("cannot start the trainer's thread: {0}")]
    Thread(std::io::Error),
    #[error("cannot answer health checks, or listen for SIGTERM: {0}")]
    Pod(std::io::Error),
}

/// Serves one generation, from registration to the last message.
///
/// # Errors
/// [`AgentError`]; a job that fails is not one: the coordinator was told.
pub async fn run(args: WorkerArgs, lines: mpsc::Receiver<String>) -> Result<Ending, AgentError> {
    if let Some(port) = args.health_port {
        pod::answer_probes(args.address, port).await.map_err(AgentError::Pod)?;
    }
    let mut notice = Notice::listen(args.is_pod()).map_err(AgentError::Pod)?;
    let begun = tokio::select! {
        begun = begin(&args) => begun?,
        () = notice.given() => return Ok(Ending::Left),
    };
    let Begun { caller, link, meeting, form } = match begun {
        Ok(begun) => begun,
        Err(ending) => return Ok(ending),
    };
    let settled = form.resume.as_ref().map_or(0, |resume| resume.step);
    let generation = caller.generation();
    let (messages, inbox) = mpsc::channel(BACKLOG);
    let agent = Agent {
        caller,
        alone_ms: args.alone_ms,
        line: Line::Up { link: Box::new(link), is_known: true },
        inbox,
        ledger: Ledger::new(generation, settled),
        lines,
        orders: Arc::default(),
        stopping: false,
        leaving: false,
        ending: Ending::Again,
    };
    agent.serve(Uplink { messages }, generation, meeting, form, notice).await
}

/// A worker that is told to train.
struct Begun {
    caller: Caller,
    link: Link,
    meeting: MeetingPoint,
    form: Form,
}

/// The inner error: an end before there was anything to do.
async fn begin(args: &WorkerArgs) -> Result<Result<Begun, Ending>, AgentError> {
    let meeting = open_meeting_point(args.address, args.coordinator.first().cloned().unwrap_or_default()).await?;
    let caller = Caller::new(args.clone(), meeting.address());
    let (caller, mut link) = match args.is_pod() {
        true => match caller.find_seat().await {
            Err(AgentError::NotNeeded(why)) => {
                tracing::info!(why, "there is nothing to do");
                return Ok(Err(Ending::Over));
            }
            seat => seat?,
        },
        false => {
            let link = caller.connect(None).await?;
            (caller, link)
        }
    };
    tracing::info!(job = args.job, generation = caller.generation(), worker = caller.name(), "registered");
    let mut ledger = Ledger::new(caller.generation(), 0);
    let form = wait_for_form(&mut link, &mut ledger, args.is_pod()).await?;
    Ok(form.map(|form| Begun { caller, link, meeting, form }).ok_or(Ending::Again))
}

/// Blocking calls, off the agent's threads.
async fn open_meeting_point(own: Option<IpAddr>, coordinator: String) -> Result<MeetingPoint, AgentError> {
    let opened = tokio::task::spawn_blocking(move || MeetingPoint::open(own, &coordinator)).await;
    opened.map_err(|e| AgentError::Store(e.to_string()))?.map_err(|e| AgentError::Store(e.to_string()))
}

/// None: told to end before there was anything to do.
async fn wait_for_form(link: &mut Link, ledger: &mut Ledger, is_pod: bool) -> Result<Option<Form>, AgentError> {
    // waiting is the coordinator's decision, bounded there; a coordinator that dies closes the stream
    let mut beat = tokio::time::interval(FIRST_BEATS);
    loop {
        let directive = tokio::select! {
            directive = link.next() => directive,
            _ = beat.tick() => {
                link.send(ledger.enter(Message::Heartbeat(Heartbeat::default())));
                continue;
            }
        };
        let directive = match directive {
            Ok(Some(directive)) => directive,
            // this coordinator is gone, or forms this generation no more: the next seat is another's to give
            Ok(None) | Err(_) if is_pod => return Ok(None),
            Ok(None) => return Err(AgentError::Lost),
            Err(status) => return Err(AgentError::Refused(status.message().to_string())),
        };
        match directive.directive {
            Some(directive::Directive::Form(form)) => return Ok(Some(form)),
            Some(directive::Directive::Abort(_) | directive::Directive::CheckpointAndStop(_)) => return Ok(None),
            Some(
                directive::Directive::Welcome(_) | directive::Directive::Settled(_) | directive::Directive::Seat(_),
            )
            | None => {}
        }
    }
}

/// The trainer's way to the agent.
#[derive(Clone, Debug)]
pub struct Uplink {
    messages: mpsc::Sender<Message>,
}

impl Uplink {
    /// For threads: waits while there is no room. `false`: the agent is gone.
    pub fn send_blocking(&self, message: Message) -> bool {
        self.messages.blocking_send(message).is_ok()
    }

    /// Leaves the message out when there is no room, or nobody.
    pub fn send_or_drop(&self, message: Message) {
        let _ = self.messages.try_send(message);
    }

    /// An uplink into a channel.
    #[cfg(test)]
    pub(crate) fn to_channel() -> (Uplink, mpsc::Receiver<Message>) {
        let (messages, inbox) = mpsc::channel(BACKLOG);
        (Uplink { messages }, inbox)
    }
}

/// The coordinator, as far as it is there.
enum Line {
    /// `is_known`: it said what it has heard; before that it is told nothing.
    Up {
        link: Box<Link>,
        is_known: bool,
    },
    Down {
        next: Pin<Box<dyn Future<Output = Result<Link, AgentError>> + Send>>,
    },
}

/// What a line has to say.
enum News {
    Directive(Option<Directive>),
    Broke(Status),
    Connected(Result<Link, AgentError>),
}

impl Line {
    /// Cancel-safe.
    async fn next(&mut self) -> News {
        match self {
            Line::Up { link, .. } => match link.next().await {
                Ok(directive) => News::Directive(directive),
                Err(status) => News::Broke(status),
            },
            Line::Down { next } => News::Connected(next.await),
        }
    }

    /// Whether the trainer may go on talking: without a coordinator, to the ledger.
    fn has_room(&self) -> bool {
        match self {
            Line::Up { link, .. } => link.has_room(),
            Line::Down { .. } => true,
        }
    }
}

struct Agent {
    caller: Caller,
    /// How long to go on without a coordinator; 0: not at all.
    alone_ms: u64,
    line: Line,
    inbox: mpsc::Receiver<Message>,
    ledger: Ledger,
    lines: mpsc::Receiver<String>,
    orders: Arc<Orders>,
    /// Told to end at once: how the trainer ends is of no interest any more.
    stopping: bool,
    /// Told to leave: the generation ends as it may, and there is none after it for this worker.
    leaving: bool,
    ending: Ending,
}

/// Nothing more to do.
type IsOver = bool;

impl Agent {
    async fn serve(
        mut self,
        uplink: Uplink,
        generation: u64,
        meeting: MeetingPoint,
        form: Form,
        mut notice: Notice,
    ) -> Result<Ending, AgentError> {
        let mut beat = tokio::time::interval(Duration::from_millis(form.heartbeat_ms.max(1)));
        let mut ship = tokio::time::interval(SHIP_EVERY);
        let assignment = Assignment { form, generation, meeting, uplink, orders: Arc::clone(&self.orders) };
        let mut trainer = trainer_thread::start(assignment).map_err(AgentError::Thread)?;
        loop {
            tokio::select! {
                news = self.line.next() => if self.hear(news)? { return Ok(self.ending()) },
                () = notice.given() => {
                    tracing::info!("told to leave (SIGTERM)");
                    self.leaving = true;
                    self.say(Message::Leaving(Leaving {}));
                }
                Some(message) = self.inbox.recv(), if self.line.has_room() => self.say(message),
                _ = beat.tick() => self.beat(),
                _ = ship.tick() => self.ship_log(),
                ending = &mut trainer => {
                    // a sender that is gone without a word: the thread was killed from inside
                    return self.conclude(ending.unwrap_or_else(|_| trainer_thread::vanished())).await;
                }
            }
        }
    }

    /// The trainer ended. The coordinator hangs up when it has taken the last message. Beats go on until then: it may
    /// have much to write, and one that takes over wants to be told.
    async fn conclude(mut self, ending: Message) -> Result<Ending, AgentError> {
        self.ending = match &ending {
            Message::Failed(failed) if failed.kind() == FailureKind::BadInput => Ending::BadInput,
            // that this worker has finished does not say that the others have: whether the job is over, the coordinator
            // tells a pod that asks for another seat
            _ => Ending::Again,
        };
        while let Ok(message) = self.inbox.try_recv() {
            self.say(message);
        }
        self.ship_log();
        if self.stopping {
            return Ok(self.ending());
        }
        self.say(ending);
        let mut beat = tokio::time::interval(FIRST_BEATS);
        // counts while a coordinator is there
        let mut left = CLOSE_WITHIN;
        while !left.is_zero() {
            tokio::select! {
                news = self.line.next() => if self.hear(news)? { return Ok(self.ending()) },
                _ = beat.tick() => {
                    self.beat();
                    if matches!(self.line, Line::Up { .. }) {
                        left = left.saturating_sub(FIRST_BEATS);
                    }
                }
            }
        }
        // it was told; that it does not hang up is its own affair
        Ok(self.ending())
    }

    fn ending(&self) -> Ending {
        match self.ending {
            Ending::Again if self.leaving => Ending::Left,
            ending => ending,
        }
    }

    fn hear(&mut self, news: News) -> Result<IsOver, AgentError> {
        match news {
            News::Directive(Some(directive)) => self.obey(directive),
            // it hung up
            News::Directive(None) => return Ok(true),
            News::Broke(_) if self.stopping => return Ok(true),
            News::Broke(status) if self.alone_ms > 0 && may_return(&status) => {
                tracing::warn!(reason = status.message(), "the coordinator is gone; training goes on");
                let underway = self.ledger.underway().ok_or(AgentError::Torn)?;
                self.line = Line::Down { next: Box::pin(self.caller.clone().reconnect(underway)) };
            }
            News::Broke(status) if may_return(&status) => return Err(AgentError::Lost),
            // this generation has no use for it; the next may have
            News::Broke(_) | News::Connected(Err(AgentError::Refused(_))) if self.caller.is_pod() => return Ok(true),
            News::Broke(status) => return Err(AgentError::Refused(status.message().to_string())),
            News::Connected(Ok(link)) => {
                tracing::info!("a coordinator is there again");
                self.line = Line::Up { link: Box::new(link), is_known: false };
            }
            News::Connected(Err(error)) => return Err(error),
        }
        Ok(false)
    }

    fn obey(&mut self, directive: Directive) {
        match directive.directive {
            Some(directive::Directive::CheckpointAndStop(_)) => self.orders.checkpoint_and_stop(),
            Some(directive::Directive::Abort(abort)) => {
                tracing::info!(why = abort.why, "told to end");
                self.stopping = true;
                self.orders.stop();
            }
            Some(directive::Directive::Settled(settled)) => self.ledger.settle(settled.step),
            Some(directive::Directive::Welcome(Welcome { settled_step, heard })) => {
                self.ledger.settle(settled_step);
                if let Line::Up { link, is_known } = &mut self.line {
                    *is_known = true;
                    self.ledger.after(heard).for_each(|entry| link.send(entry));
                }
            }
            // a generation forms once, and its seats are given before
            Some(directive::Directive::Form(_) | directive::Directive::Seat(_)) | None => {}
        }
    }

    fn say(&mut self, message: Message) {
        let entry = self.ledger.enter(message);
        if let Line::Up { link, is_known: true } = &mut self.line {
            link.send(entry);
        }
    }

    /// What matters only now.
    fn say_or_drop(&mut self, message: Message) {
        if matches!(&self.line, Line::Up { link, is_known: true } if link.has_room()) {
            self.say(message);
        }
    }

    fn beat(&mut self) {
        let position = self.orders.position();
        self.say_or_drop(Message::Heartbeat(position));
    }

    /// Without a coordinator they wait, and beyond their bound go to stderr.
    fn ship_log(&mut self) {
        while matches!(&self.line, Line::Up { link, is_known: true } if link.has_room()) {
            let mut lines = Vec::new();
            while lines.len() < LINES_A_BATCH
                && let Ok(line) = self.lines.try_recv()
            {
                lines.push(line);
            }
            if lines.is_empty() {
                return;
            }
            self.say(Message::Log(LogLines { lines }));
        }
    }
}
