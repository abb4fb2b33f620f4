//! THE CONTROL LOOP: the single owner of live jobs. Requests come in by the [`Handle`], one at a time; the order is
//! always apply, persist, reply, effects. What to do is decided in `job`, `membership` and `placement`.
//!
//! # Layout
//! * `handle`: the way in. `command`: what can come in.
//! * `submission`: a submission becomes a job.
//! * `live`: what is held beside the persisted jobs, and the status a user sees.
//! * `effects`: carries out what a transition asks for.
//! * `sessions`: workers' streams. `workers`: what workers and their scribe say, and what time says about them.

mod command;
mod effects;
mod handle;
mod live;
mod sessions;
mod submission;
mod workers;

pub use command::AtTheEnd;
pub use handle::{Handle, Session, Submission};
pub use submission::RunDirs;

use crate::election::Term;
use crate::job::{Effect, Event, Illegal, JobId, Phase, UnixMs};
use crate::launcher::Launcher;
use crate::metrics::Metrics;
use crate::placement::{self, Waiting};
use crate::run_dir;
use crate::store::{ClusterStore, Precondition, StoreError, Version, Write};
use accord_proto::job as wire;
use accord_proto::status::{ApiError, ErrorCode};
use accord_spec::TestMetrics;
use command::Command;
use live::{Entry, key};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

/// Commands waiting for the loop; senders wait beyond it.
const BACKLOG: usize = 1024;
/// How often time-outs are looked at.
const TICK: Duration = Duration::from_millis(50);
/// A loop that was away for longer heard nobody: its process was stopped, its machine frozen, or its store slow.
const AWAY: Duration = Duration::from_millis(500);
/// A store that does not answer within this is unavailable.
const STORE_WITHIN: Duration = Duration::from_secs(10);
/// Between tries to persist an event of a worker.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long workers and scribes have to end when the loop does.
const SHUT_DOWN_WITHIN: Duration = Duration::from_secs(5);

/// What a control loop works with.
pub struct Options {
    pub store: Arc<dyn ClusterStore>,
    pub launcher: Arc<dyn Launcher>,
    pub run_dirs: RunDirs,
    /// Where workers find the coordinators.
    pub coordinators: Vec<String>,
    /// What every write depends on, where several coordinators stand by for each other.
    pub term: Option<Term>,
    /// Jobs that train at the same time; the rest wait.
    pub max_running_jobs: usize,
    /// Cores shared by the workers of a job.
    pub cores: usize,
    pub metrics: Metrics,
}

/// Loads the jobs of the store and starts the loop, which `handle` leads to from then on. Workers that train are adopted;
/// other unfinished jobs start again from their checkpoints.
///
/// # Errors
/// When the store cannot be read.
pub async fn start(options: Options, handle: &Handle) -> Result<(), StoreError> {
    let (commands, inbox) = mpsc::channel(BACKLOG);
    let mut control = ControlLoop {
        options,
        jobs: BTreeMap::new(),
        commands: commands.downgrade(),
        awake_at: 0,
        clock: Clock::start(),
        scribes: Vec::new(),
        sessions: 0,
    };
    handle.lead(commands);
    control.load().await?;
    tokio::spawn(control.run(inbox));
    Ok(())
}

struct ControlLoop {
    options: Options,
    jobs: BTreeMap<JobId, Entry>,
    /// To itself, through tasks. Weak: the loop ends when every handle is gone.
    commands: mpsc::WeakSender<Command>,
    clock: Clock,
    /// When the loop last looked at anything.
    awake_at: UnixMs,
    /// Threads that may still write, of generations that are over.
    scribes: Vec<(JobId, thread::JoinHandle<()>)>,
    /// Streams of workers so far.
    sessions: u64,
}

/// Unix time that never goes back.
struct Clock {
    origin: Instant,
    unix_ms: UnixMs,
}

impl Clock {
    fn start() -> Clock {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clock { origin: Instant::now(), unix_ms: unix.as_millis() as UnixMs }
    }

    fn now(&self) -> UnixMs {
        self.unix_ms + self.origin.elapsed().as_millis() as UnixMs
    }
}

impl ControlLoop {
    async fn load(&mut self) -> Result<(), StoreError> {
        for (name, stored) in self.options.store.list("jobs/").await? {
            match serde_json::from_slice::<crate::job::Job>(&stored.value) {
                Ok(job) => {
                    let mut entry = Entry::new(job, stored.version);
                    if entry.job.phase == Phase::Succeeded {
                        entry.test = recorded_test(&entry.job.run_dir);
                    }
                    self.jobs.insert(entry.job.id.clone(), entry);
                }
                Err(error) => tracing::error!(key = name, %error, "a job's record cannot be read; it is left alone"),
            }
        }
        let ended = self.jobs.values().filter(|e| e.job.phase.is_over() && e.job.phase != Phase::Succeeded);
        self.options.launcher.sweep(ended.map(|e| e.job.id.clone()).collect());
        let ids: Vec<JobId> = self.jobs.keys().cloned().collect();
        for id in ids {
            self.happen(&id, Event::CoordinatorRestarted).await;
        }
        Ok(())
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.awake_at = self.clock.now();
        loop {
            let command = tokio::select! {
                command = inbox.recv() => Some(command),
                _ = tick.tick() => None,
            };
            let was_away = self.wake();
            let Some(command) = command else {
                // what was said meanwhile is heard first
                if !was_away {
                    self.review_all().await;
                }
                self.place().await;
                continue;
            };
            match command {
                Some(Command::ShutDown { workers, reply }) => {
                    self.shut_down(workers).await;
                    // whoever asked may have given up
                    let _ = reply.send(());
                    return;
                }
                Some(command) => self.obey(command).await,
                None => return self.shut_down(AtTheEnd::EndWorkers).await,
            }
        }
    }

    /// Whether the loop was away since it last looked. Workers are not blamed for that time.
    fn wake(&mut self) -> bool {
        let now = self.clock.now();
        let gap = now - std::mem::replace(&mut self.awake_at, now);
        if u128::from(gap) < AWAY.as_millis() {
            return false;
        }
        tracing::warn!(gap_ms = gap, "the coordinator was away; its workers get that time on top");
        let stations = self.jobs.values_mut().filter_map(|e| e.live.as_mut()?.station.as_mut());
        stations.for_each(|station| station.membership.forgive(gap));
        true
    }

    async fn obey(&mut self, command: Command) {
        // a client that went away is no concern of the loop: failed replies are dropped
        match command {
            Command::Submit { submission, reply } => {
                let _ = reply.send(self.submit(submission).await);
                self.place().await;
            }
            Command::List { reply } => {
                let mut all: Vec<&Entry> = self.jobs.values().collect();
                all.sort_by_key(|e| e.job.submitted_at);
                let queue = self.queue_reason();
                let _ = reply.send(all.into_iter().map(|e| live::brief(e.status(&queue))).collect());
            }
            Command::Status { job, reply } => {
                let _ = reply.send(self.entry(&job).map(|e| e.status(&self.queue_reason())));
            }
            Command::Watch { job, reply } => {
                let seen = self.entry(&job).map(|e| (e.status(&self.queue_reason()), e.watchers.subscribe()));
                let _ = reply.send(seen);
            }
            Command::Cancel { job, reply } => self.ask(&job, Event::CancelAsked, reply).await,
            Command::Suspend { job, reply } => self.ask(&job, Event::SuspendAsked, reply).await,
            Command::Resume { job, reply } => self.ask(&job, Event::ResumeAsked, reply).await,
            Command::Scale { job, workers, reply } => match submission::scalable(workers) {
                Ok(()) => self.ask(&job, Event::ScaleAsked { workers }, reply).await,
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Register { generation, register, directives, reply } => {
                let session = self.register(generation, register, directives);
                let job = session.as_ref().ok().map(|s| s.job.clone());
                let _ = reply.send(session);
                if let Some(job) = job {
                    self.review(&job).await;
                }
            }
            Command::WorkerSays { session, message, reply } => {
                let _ = reply.send(self.worker_says(&session, message).await);
            }
            Command::SessionClosed { session } => self.session_closed(&session),
            Command::Opened { job, generation, result } => self.opened(&job, generation, *result).await,
            Command::NotLaunched { job, generation, error } => self.not_launched(&job, generation, error).await,
            Command::Sighted { job, generation, sighting } => self.sighted(&job, generation, sighting).await,
            Command::NotAdopted { job, generation, why } => self.not_adopted(&job, generation, &why).await,
            Command::Recorded { job, generation, record } => self.recorded(&job, generation, record).await,
            Command::Retry { job, event } => self.happen(&job, event).await,
            // taken by `run`
            Command::ShutDown { .. } => {}
        }
    }

    async fn submit(&mut self, submission: Submission) -> Result<(JobId, bool), ApiError> {
        let (job, spec) = submission::job_of(submission, &self.options.run_dirs, self.clock.now())?;
        let checked = self.options.launcher.check(&job.id, &spec);
        checked.map_err(|why| ApiError::new(ErrorCode::BadInput, why))?;
        if let Some(known) = submission::known(&job, self.jobs.values().map(|e| &e.job))? {
            return Ok((known, true));
        }
        let id = job.id.clone();
        let version = self.persist(&job, Precondition::Absent).await?;
        tracing::info!(job = %id, "submitted");
        self.jobs.insert(id.clone(), Entry::new(job, version));
        Ok((id, false))
    }

    /// A user's event: they get the new status, or why not.
    async fn ask(&mut self, id: &JobId, event: Event, reply: command::Answer<wire::JobStatus>) {
        let decided = self.decide(id, event).await;
        let status = match &decided {
            Ok(_) => self.entry(id).map(|e| e.status(&self.queue_reason())),
            Err(error) => Err(error.clone()),
        };
        let _ = reply.send(status);
        if let Ok(effects) = decided {
            self.perform(id, effects).await;
        }
    }

    /// An event of the machinery: there is nobody to refuse it to.
    async fn happen(&mut self, id: &JobId, event: Event) {
        match self.decide(id, event.clone()).await {
            Ok(effects) => self.perform(id, effects).await,
            Err(error) if error.is_retryable() => {
                tracing::error!(job = %id, %error, "an event cannot be persisted; it will be tried again");
                let (commands, job) = (self.commands.clone(), id.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(RETRY_AFTER).await;
                    if let Some(commands) = commands.upgrade() {
                        let _ = commands.send(Command::Retry { job, event }).await;
                    }
                });
            }
            // such as the exit of a worker of a job that was cancelled
            Err(error) if matches!(error.code, ErrorCode::WrongPhase | ErrorCode::StaleGeneration) => {
                tracing::debug!(job = %id, ?event, %error, "an event came too late");
            }
            Err(error) => tracing::error!(job = %id, ?event, %error, "an event is lost"),
        }
    }

    /// Apply, then persist. The effects are for after the reply.
    async fn decide(&mut self, id: &JobId, event: Event) -> Result<Vec<Effect>, ApiError> {
        let now = self.clock.now();
        let entry = self.entry(id)?;
        let mut next = entry.job.clone();
        let effects = next.apply(now, event).map_err(|illegal| match illegal {
            Illegal::StaleGeneration { .. } => ApiError::new(ErrorCode::StaleGeneration, illegal.to_string()),
            Illegal::WrongPhase { .. } => ApiError::new(ErrorCode::WrongPhase, illegal.to_string()),
        })?;
        if next != entry.job {
            let version = self.persist(&next, Precondition::Version(entry.version)).await?;
            tracing::info!(job = %id, phase = next.phase.name(), generation = next.generation, "phase");
            let queue = self.queue_reason();
            if let Some(entry) = self.jobs.get_mut(id) {
                (entry.job, entry.version) = (next, version);
                entry.tell_status(&queue);
            }
        }
        Ok(effects)
    }

    async fn persist(&self, job: &crate::job::Job, when: Precondition) -> Result<Version, ApiError> {
        let value = serde_json::to_vec(job).map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?;
        let put =
            Write::put(&key(&job.id), value, when).fenced(self.options.term.as_ref().map(|term| term.fence.clone()));
        let put = self.options.store.write(put);
        match tokio::time::timeout(STORE_WITHIN, put).await {
            Ok(Ok(version)) => Ok(version),
            Ok(Err(error @ StoreError::TooLarge { .. })) => Err(ApiError::new(ErrorCode::BadInput, error.to_string())),
            Ok(Err(error @ StoreError::PreconditionFailed { .. })) => {
                Err(ApiError::new(ErrorCode::Internal, format!("someone else wrote the job's record: {error}")))
            }
            Ok(Err(StoreError::Fenced { .. })) => {
                Err(ApiError::new(ErrorCode::Unavailable, "this coordinator leads no more"))
            }
            Ok(Err(error @ (StoreError::LeaseLost { .. } | StoreError::Refused(_)))) => {
                Err(ApiError::new(ErrorCode::Internal, error.to_string()))
            }
            Ok(Err(error @ StoreError::Unavailable(_))) => {
                Err(ApiError::new(ErrorCode::Unavailable, error.to_string()))
            }
            Err(_) => {
                let text = format!("the store did not answer within {} s", STORE_WITHIN.as_secs());
                Err(ApiError::new(ErrorCode::Unavailable, text))
            }
        }
    }

    /// Starts what there is room for.
    async fn place(&mut self) {
        let waiting = self.jobs.values().filter(|e| e.job.phase == Phase::Queued).map(|e| Waiting {
            id: e.job.id.clone(),
            priority: e.job.priority,
            submitted_at: e.job.submitted_at,
        });
        let start = placement::startable(waiting.collect(), self.running(), self.options.max_running_jobs);
        for id in start {
            self.happen(&id, Event::Placed).await;
        }
    }

    fn running(&self) -> usize {
        self.jobs.values().filter(|e| e.job.phase.live_generation().is_some()).count()
    }

    fn queue_reason(&self) -> String {
        format!("waits for room: {} of {} jobs run", self.running(), self.options.max_running_jobs)
    }

    fn entry(&self, id: &JobId) -> Result<&Entry, ApiError> {
        self.jobs.get(id).ok_or_else(|| ApiError::new(ErrorCode::UnknownJob, format!("there is no job {id}")))
    }

    async fn shut_down(&mut self, workers: AtTheEnd) {
        for entry in self.jobs.values_mut() {
            entry.live = None;
        }
        match workers {
            AtTheEnd::EndWorkers => self.options.launcher.shut_down(SHUT_DOWN_WITHIN).await,
            AtTheEnd::LeaveWorkers => self.options.launcher.let_go(),
        }
        let scribes = std::mem::take(&mut self.scribes);
        let all = tokio::task::spawn_blocking(move || scribes.into_iter().for_each(|(_, s)| drop(s.join())));
        if tokio::time::timeout(SHUT_DOWN_WITHIN, all).await.is_err() {
            tracing::warn!("a run directory is still being written");
        }
    }
}

/// The test metrics of a run that succeeded under an earlier coordinator.
fn recorded_test(dir: &std::path::Path) -> Option<wire::Eval> {
    let Ok(run_dir::State::Finished(_, summary)) = run_dir::inspect(dir) else { return None };
    let TestMetrics { users, values } = summary.test;
    Some(wire::Eval {
        split: wire::Split::Test.into(),
        users,
        metrics: wire::MetricValues::of(values),
        select: summary.select,
        best: summary.best_validation,
        best_epoch: summary.best_epoch,
        ..wire::Eval::default()
    })
}
