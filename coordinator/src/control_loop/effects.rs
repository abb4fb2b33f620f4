//! Carries out what a transition asks for. Each effect is idempotent by (job, generation).

use super::command::Command;
use super::live::{Live, Station};
use super::workers::bounded;
use super::{ControlLoop, Event};
use crate::job::{Effect, Failure, FailureKind, JobId};
use crate::launcher::{Exit, ExitSink, LaunchRequest, LaunchWorker};
use crate::log_store::RankLog;
use crate::membership::{Membership, Timeouts};
use crate::placement;
use crate::run_dir::open::{OpenRequest, Opened, open};
use crate::run_dir::scribe::{self, RecordSink, Run, Scribe};
use crate::run_dir::{RunDirError, config, metrics};
use accord_proto::worker::{self as wire, directive};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::WeakSender;

impl ControlLoop {
    pub(super) async fn perform(&mut self, id: &JobId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Launch { generation } => self.launch(id, generation).await,
                Effect::CheckpointAndStop { generation } => self.checkpoint_and_stop(id, generation),
                Effect::Abort { generation, why } => self.abort(id, generation, why),
                Effect::Release { generation } => self.release(id, generation),
            }
        }
    }

    /// First half of a launch: the run directory, off this thread.
    async fn launch(&mut self, id: &JobId, generation: u64) {
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
        };
        let timeouts = Timeouts::of(&spec.recovery);
        entry.live = Some(Live { generation, spec, timeouts, station: None });
        let (commands, job) = (self.commands.clone(), id.clone());
        tokio::task::spawn_blocking(move || {
            let result = Box::new(open(request));
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
        let address = self.options.address;
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
        if let Some(resume) = &resume {
            notices.push(format!("going on from the checkpoint of step {}", resume.step));
        }
        let run = Run {
            job: job.name.clone(),
            model: live.spec.model.kind.name().into(),
            generation,
            world: job.world,
            config_digest: config::digest(&live.spec),
            keep: live.spec.checkpoint.keep,
        };
        let (scribe, thread) = Scribe::start(run, opened, record_sink(commands.clone(), id.clone(), generation))
            .map_err(|e| format!("cannot start the scribe: {e}"))?;
        let workers = logs
            .iter()
            .map(|(rank, log)| LaunchWorker { name: placement::worker_name(*rank), log: log.clone() })
            .collect();
        live.station = Some(Station {
            membership: Membership::new(job.world, now),
            scribe,
            resume,
            logs,
            directives: BTreeMap::new(),
            stores: BTreeMap::new(),
            let_down: None,
            ready: BTreeSet::new(),
            done: BTreeSet::new(),
        });
        let request = LaunchRequest {
            job: id.clone(),
            generation,
            coordinator: address,
            token: job.token.clone(),
            workers,
            exited: exit_sink(commands, id.clone(), generation),
        };
        for notice in notices {
            entry.tell(accord_proto::job::watch_event::Event::Notice(notice));
        }
        self.scribes.retain(|thread| !thread.is_finished());
        self.scribes.push(thread);
        self.options.launcher.launch(request).await.map_err(|e| e.to_string())
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
        let event = match self.jobs.get(id).map(|e| &e.job.phase) {
            Some(crate::job::Phase::Cancelled) => Some(metrics::Event::Cancelled { generation }),
            Some(crate::job::Phase::Failed { failure }) => {
                Some(metrics::Event::Failed { generation, reason: failure.text.clone() })
            }
            Some(crate::job::Phase::Suspended) => Some(metrics::Event::Suspended { generation }),
            _ => None,
        };
        if let Some(station) = self.station(id, generation) {
            station.direct_all(generation, &directive::Directive::Abort(wire::Abort { why }));
            if let Some(event) = event
                && !station.scribe.tell(scribe::Entry::Event(event))
            {
                tracing::warn!(job = %id, "the run directory takes no more lines");
            }
        }
        self.release(id, generation);
    }

    fn release(&mut self, id: &JobId, generation: u64) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        // dropping it ends the scribe, when it has written all, and the workers' streams
        if let Some(live) = entry.live.take_if(|l| l.generation == generation) {
            let grace = Duration::from_millis(live.timeouts.grace_ms);
            self.options.launcher.release(id, generation, grace);
        }
    }

    /// The generation cannot go on.
    pub(super) async fn fail(&mut self, id: &JobId, generation: u64, kind: FailureKind, text: String) {
        // a worker's words may be long, a job's record may not
        let text = bounded(text);
        tracing::warn!(job = %id, generation, reason = text, "the generation failed");
        // boxed: failing performs effects, which may fail
        let event = Event::GenerationFailed { generation, failure: Failure { kind, text } };
        Box::pin(self.happen(id, event)).await;
    }

    pub(super) fn live(&mut self, id: &JobId, generation: u64) -> Option<&mut Live> {
        self.jobs.get_mut(id)?.live.as_mut().filter(|l| l.generation == generation)
    }

    pub(super) fn station(&mut self, id: &JobId, generation: u64) -> Option<&mut Station> {
        self.live(id, generation)?.station.as_mut()
    }
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

fn exit_sink(commands: WeakSender<Command>, job: JobId, generation: u64) -> ExitSink {
    Arc::new(move |exit: Exit| {
        let (commands, job) = (commands.clone(), job.clone());
        Box::pin(async move {
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::Exited { job, generation, exit }).await;
            }
        })
    })
}
