//! Carries out what a transition asks for. Each effect is idempotent by (job, generation).

use super::command::Command;
use super::live::{Live, Station};
use super::workers::bounded;
use super::{ControlLoop, Event};
use crate::job::{Effect, Failure, FailureKind, JobId, Phase};
use crate::launcher::{LaunchError, LaunchRequest, LaunchWorker, Next, SightSink};
use crate::log_store::RankLog;
use crate::membership::{Membership, Patience, Timeouts};
use crate::placement;
use crate::run_dir::open::{OpenRequest, Opened, open};
use crate::run_dir::scribe::{self, RecordSink, Run, Scribe};
use crate::run_dir::{RunDirError, config, metrics};
use accord_proto::worker::{self as wire, directive};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::WeakSender;

/// How long workers have to end whose generation failed: the next one waits for their memory and devices.
const MAKE_WAY_WITHIN: Duration = Duration::from_millis(100);
/// A writer that has not ended by then hangs on its disk.
const SCRIBE_ENDS_WITHIN: Duration = Duration::from_secs(30);

impl ControlLoop {
    pub(super) async fn perform(&mut self, id: &JobId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Launch { generation } => self.take_up(id, generation, false).await,
                Effect::Adopt { generation } => self.take_up(id, generation, true).await,
                Effect::CheckpointAndStop { generation } => self.checkpoint_and_stop(id, generation),
                Effect::Abort { generation, why } => self.abort(id, generation, why),
                Effect::Release { generation } => self.release(id, generation, None),
            }
        }
    }

    /// First half of a launch or an adoption: the run directory, off this thread.
    async fn take_up(&mut self, id: &JobId, generation: u64, is_adopted: bool) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        let spec = match accord_spec::parse(&entry.job.job_toml, &[]) {
            Ok(spec) => spec,
            Err(error) => return self.fail(id, generation, FailureKind::BadInput, error.to_string()).await,
        };
        let request = OpenRequest {
            dir: entry.job.run_dir.clone(),
            spec: spec.clone(),
            job_toml: entry.job.job_toml.clone(),
            job_root: entry.job.job_root.clone(),
            generation,
            is_adopted,
            // whoever holds it leads no more
            take_lock: self.options.term.is_some(),
        };
        let timeouts = match self.options.launcher.is_remote() {
            true => Timeouts::of_remote(&spec.recovery),
            false => Timeouts::of(&spec.recovery),
        };
        entry.live =
            Some(Live { generation, spec, timeouts, step: 0, is_adopted, unsaved: BTreeSet::new(), station: None });
        let (commands, job) = (self.commands.clone(), id.clone());
        let earlier = self.scribes.extract_if(.., |(of, _)| of == id).map(|(_, thread)| thread).collect();
        tokio::task::spawn_blocking(move || {
            let result = Box::new(after(earlier, &request.dir).and_then(|()| open(request)));
            tell(&commands, Command::Opened { job, generation, result });
        });
    }

    /// Second half: the scribe, then the workers.
    pub(super) async fn opened(&mut self, id: &JobId, generation: u64, result: Result<Opened, RunDirError>) {
        if self.live(id, generation).is_none() {
            return;
        }
        let opened = match result {
            Ok(opened) => opened,
            Err(error) => {
                let kind = if error.is_bad_input() { FailureKind::BadInput } else { FailureKind::Internal };
                return self.fail(id, generation, kind, error.to_string()).await;
            }
        };
        if let Err(error) = self.man(id, generation, opened).await {
            self.fail(id, generation, FailureKind::Internal, error).await;
        }
    }

    async fn man(&mut self, id: &JobId, generation: u64, opened: Opened) -> Result<(), String> {
        let now = self.clock.now();
        let commands = self.commands.clone();
        let coordinators = self.options.coordinators.clone();
        let Some(entry) = self.jobs.get_mut(id) else { return Ok(()) };
        let Some(live) = entry.live.as_mut() else { return Ok(()) };
        let job = &entry.job;

        let mut logs = BTreeMap::new();
        for rank in 0..job.world {
            let log = RankLog::open(&job.run_dir, rank).map_err(|e| format!("{}/logs: {e}", job.run_dir.display()))?;
            logs.insert(rank, log);
        }
        let mut notices = opened.warnings.clone();
        for warning in &notices {
            tracing::warn!(job = %id, generation, "{warning}");
            if let Some(log) = logs.get(&0) {
                log.append(&format!("coordinator: {warning}"));
            }
        }
        let resume = opened.resume.clone();
        let is_adopted = live.is_adopted;
        if let Some(resume) = resume.as_ref().filter(|_| !is_adopted) {
            notices.push(format!("going on from the checkpoint of step {}", resume.step));
        }
        let settled = resume.as_ref().map_or(0, |resume| resume.step);
        live.step = settled;
        let run = Run {
            job: job.name.clone(),
            model: live.spec.model.kind.name().into(),
            generation,
            world: job.world,
            config_digest: config::digest(&live.spec),
            keep: live.spec.checkpoint.keep,
            term: self.options.term.clone(),
        };
        let event = match is_adopted {
            false => metrics::Event::Started { generation, world: job.world },
            true => metrics::Event::Adopted { generation, step: settled },
        };
        let (scribe, thread) = Scribe::start(run, opened, record_sink(commands.clone(), id.clone(), generation))
            .map_err(|e| format!("cannot start the scribe: {e}"))?;
        scribe.tell(scribe::Entry::Event(event));
        let workers = logs
            .iter()
            .map(|(rank, log)| LaunchWorker { name: placement::worker_name(*rank), log: log.clone() })
            .collect();
        let mut membership =
            if is_adopted { Membership::adopted(job.world, now) } else { Membership::new(job.world, now) };
        membership.stopping_since = job.stopping.map(|_| now);
        if self.options.launcher.is_remote() {
            let pods = &live.spec.kubernetes;
            let within_ms = if resume.is_none() { pods.form_within_ms } else { job.policy.replace_within_ms };
            membership.patience = Some(Patience { at_least: job.policy.min_workers, within_ms });
        }
        live.station = Some(Station {
            membership,
            scribe,
            resume,
            logs,
            directives: BTreeMap::new(),
            heard: BTreeMap::new(),
            settled,
            stores: BTreeMap::new(),
            positions: BTreeMap::new(),
            let_down: None,
            ready: BTreeSet::new(),
            done: BTreeSet::new(),
            asked_for_seat_at: None,
            waits: None,
        });
        let request = LaunchRequest {
            job: id.clone(),
            generation,
            spec: live.spec.clone(),
            wanted: job.workers,
            coordinators,
            detect_within_ms: live.timeouts.silent_ms,
            alone_ms: live.spec.recovery.coordinator_within_ms,
            token: job.token.clone(),
            workers,
            sink: sight_sink(commands.clone(), id.clone(), generation),
        };
        for notice in notices {
            entry.tell(accord_proto::job::watch_event::Event::Notice(notice));
        }
        self.scribes.retain(|(_, thread)| !thread.is_finished());
        self.scribes.push((id.clone(), thread));
        let (launcher, job) = (Arc::clone(&self.options.launcher), id.clone());
        // it may have to wait until the workers before these are gone
        tokio::spawn(async move {
            let failed = if is_adopted {
                let found = launcher.adopt(request).await;
                let why = found.map_or_else(|e| Some(e.to_string()), |n| (n == 0).then(|| "they are gone".into()));
                why.map(|why| Command::NotAdopted { job, generation, why })
            } else {
                let launched = launcher.launch(request).await;
                launched.err().map(|error| Command::NotLaunched { job, generation, error })
            };
            if let (Some(failed), Some(commands)) = (failed, commands.upgrade()) {
                let _ = commands.send(failed).await;
            }
        });
        Ok(())
    }

    /// Its workers ended while there was no coordinator: it goes on from its newest checkpoint.
    pub(super) async fn not_adopted(&mut self, id: &JobId, generation: u64, why: &str) {
        tracing::warn!(job = %id, generation, why, "no workers to adopt");
        if let Some(entry) = self.jobs.get_mut(id) {
            entry.live.take_if(|live| live.generation == generation);
        }
        self.happen(id, Event::WorkersGone { generation }).await;
    }

    pub(super) async fn not_launched(&mut self, id: &JobId, generation: u64, error: LaunchError) {
        let kind = if error.is_retryable() { FailureKind::WorkerLost } else { FailureKind::Internal };
        self.fail(id, generation, kind, error.to_string()).await;
    }

    fn checkpoint_and_stop(&mut self, id: &JobId, generation: u64) {
        let now = self.clock.now();
        if let Some(station) = self.station(id, generation) {
            station.membership.stopping_since = Some(now);
            let stop = directive::Directive::CheckpointAndStop(wire::CheckpointAndStop {});
            station.direct_all(generation, &stop);
        }
    }

    fn abort(&mut self, id: &JobId, generation: u64, why: String) {
        let step = self.live(id, generation).map_or(0, |live| live.step);
        let Some(entry) = self.jobs.get(id) else { return };
        let mut grace = None;
        let event = match &entry.job.phase {
            Phase::Cancelled => Some(metrics::Event::Cancelled { generation }),
            Phase::Failed { failure } => Some(metrics::Event::Failed { generation, reason: failure.text.clone() }),
            Phase::Suspended => Some(metrics::Event::Suspended { generation }),
            Phase::Recovering { generation: next, culprit } => {
                grace = Some(MAKE_WAY_WITHIN);
                self.options.metrics.restarted(id);
                let notice = format!("{}\ngeneration {next} takes over", culprit.text);
                entry.tell(accord_proto::job::watch_event::Event::Notice(notice));
                Some(metrics::Event::Lost { generation, step, reason: culprit.text.clone() })
            }
            Phase::Starting { .. } => {
                grace = Some(MAKE_WAY_WITHIN);
                None
            }
            Phase::Queued | Phase::Running { .. } | Phase::Succeeded => None,
        };
        if let Some(station) = self.station(id, generation) {
            station.direct_all(generation, &directive::Directive::Abort(wire::Abort { why }));
            if let Some(event) = event
                && !station.scribe.tell(scribe::Entry::Event(event))
            {
                tracing::warn!(job = %id, "the run directory takes no more lines");
            }
        }
        self.release(id, generation, grace);
    }

    /// `grace`: how long its workers have to end; none: the job's own.
    fn release(&mut self, id: &JobId, generation: u64, grace: Option<Duration>) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        // dropping it ends the scribe, when it has written all, and the workers' streams
        if let Some(live) = entry.live.take_if(|l| l.generation == generation) {
            let grace = grace.unwrap_or(Duration::from_millis(live.timeouts.grace_ms));
            let next = match &entry.job.phase {
                Phase::Starting { .. } | Phase::Running { .. } | Phase::Recovering { .. } => Next::Generation,
                Phase::Succeeded => Next::Success,
                Phase::Queued | Phase::Failed { .. } | Phase::Cancelled | Phase::Suspended => Next::End,
            };
            self.options.launcher.release(id, generation, grace, next);
        }
    }

    /// The generation cannot go on.
    pub(super) async fn fail(&mut self, id: &JobId, generation: u64, kind: FailureKind, text: String) {
        // a worker's words may be long, a job's record may not
        let text = bounded(text);
        tracing::warn!(job = %id, generation, reason = text, "the generation failed");
        // boxed: failing performs effects, which may fail
        let step = self.live(id, generation).map_or(0, |live| live.step);
        let event = Event::GenerationFailed { generation, failure: Failure { kind, text }, step };
        Box::pin(self.happen(id, event)).await;
    }

    pub(super) fn live(&mut self, id: &JobId, generation: u64) -> Option<&mut Live> {
        self.jobs.get_mut(id)?.live.as_mut().filter(|l| l.generation == generation)
    }

    pub(super) fn station(&mut self, id: &JobId, generation: u64) -> Option<&mut Station> {
        self.live(id, generation)?.station.as_mut()
    }
}

/// The writers of earlier generations have a last line to write, and the directory's lock.
fn after(earlier: Vec<thread::JoinHandle<()>>, dir: &Path) -> Result<(), RunDirError> {
    let until = Instant::now() + SCRIBE_ENDS_WITHIN;
    while earlier.iter().any(|thread| !thread.is_finished()) {
        if Instant::now() >= until {
            return Err(RunDirError::Busy(dir.into()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// From a thread that may wait. A loop that is gone wants to know nothing.
fn tell(commands: &WeakSender<Command>, command: Command) {
    if let Some(commands) = commands.upgrade() {
        let _ = commands.blocking_send(command);
    }
}

fn record_sink(commands: WeakSender<Command>, job: JobId, generation: u64) -> RecordSink {
    Box::new(move |record| tell(&commands, Command::Recorded { job: job.clone(), generation, record }))
}

fn sight_sink(commands: WeakSender<Command>, job: JobId, generation: u64) -> SightSink {
    Arc::new(move |sighting| {
        let (commands, job) = (commands.clone(), job.clone());
        Box::pin(async move {
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::Sighted { job, generation, sighting }).await;
            }
        })
    })
}
