//! What workers, their launcher and their scribe say, and what time says about them.

use super::ControlLoop;
use super::handle::Session;
use super::live::Entry;
use super::sessions::stale;
use crate::job::{Event, FailureKind, Job, JobId, Phase};
use crate::membership::Verdict;
use crate::placement;
use crate::run_dir::scribe::{self, Record};
use crate::run_dir::{config, metrics};
use accord_proto::job::watch_event::Event as Seen;
use accord_proto::status::{ApiError, ErrorCode};
use accord_proto::worker::{self as wire, Directive, WorkerMessage, directive, worker_message::Message};
use std::time::Duration;

/// A worker's words are quoted up to here: a list of jobs must fit a message, a job's record its store.
const MAX_REASON_BYTES: usize = 4 * 1024;

impl ControlLoop {
    pub(super) async fn worker_says(&mut self, session: &Session, message: WorkerMessage) -> Result<(), ApiError> {
        let Session { job: id, generation, rank, .. } = session;
        let now = self.clock.now();
        if message.generation != *generation {
            return Err(stale(id, message.generation));
        }
        let Some(station) = self.station(id, *generation) else { return Err(stale(id, *generation)) };
        let name = placement::worker_name(*rank);
        if let Some(member) = station.membership.members.iter_mut().find(|m| m.name == name) {
            member.last_heard = now;
        }
        // said again, after its stream broke
        if message.number > 0 && station.has_heard(*rank, message.number) {
            return Ok(());
        }
        let Some(message) = message.message else { return Ok(()) };
        if matches!(message, Message::Finished(_) | Message::Stopped(_)) {
            station.done.insert(*rank);
        }
        match message {
            Message::Heartbeat(beat) => {
                let step = beat.step;
                station.positions.insert(*rank, bounded_beat(beat));
                self.reached(id, *generation, step);
            }
            Message::Register(_) => {
                return Err(ApiError::new(ErrorCode::BadInput, "a worker registers once, with its first message"));
            }
            Message::Ready(ready) => return self.ready(session, ready).await,
            Message::Failed(failed) if failed.kind() == accord_proto::job::FailureKind::WorkerLost => {
                station.done.insert(*rank);
                station.let_down.get_or_insert((now, format!("{name}: {}", failed.reason)));
            }
            Message::Failed(failed) => {
                let kind = match failed.kind() {
                    accord_proto::job::FailureKind::BadInput => FailureKind::BadInput,
                    accord_proto::job::FailureKind::Training => FailureKind::Training,
                    accord_proto::job::FailureKind::WorkerLost => FailureKind::WorkerLost,
                    accord_proto::job::FailureKind::Internal | accord_proto::job::FailureKind::Unspecified => {
                        FailureKind::Internal
                    }
                };
                self.fail(id, *generation, kind, failed.reason).await;
            }
            Message::Log(lines) => {
                if let Some(log) = station.logs.get(rank) {
                    lines.lines.iter().for_each(|line| log.append(line));
                }
            }
            // what every rank says alike is heard from rank 0
            Message::Notice(text) if *rank == 0 => self.tell(id, Seen::Notice(bounded(text))),
            Message::Step(step) if *rank == 0 => {
                self.reached(id, *generation, step.step);
                self.see(id, |entry| entry.progress = Some(step));
                self.tell(id, Seen::Step(step));
            }
            Message::Epoch(epoch) if *rank == 0 => {
                self.reached(id, *generation, epoch.step);
                self.write(session, scribe::Entry::Epoch(epoch.clone())).await;
                // step reports are throttled: an epoch's end is exact
                let epoch = bounded_epoch(epoch);
                self.see(id, |entry| {
                    if let Some(progress) = &mut entry.progress {
                        (progress.epoch, progress.step, progress.losses) = (epoch.epoch, epoch.step, epoch.losses);
                    }
                    entry.last_epoch = Some(epoch.clone());
                });
                self.tell(id, Seen::Epoch(epoch));
            }
            Message::Eval(eval) if *rank == 0 => {
                self.write(session, scribe::Entry::Eval(eval.clone())).await;
                self.see(id, |entry| entry.validation = Some(eval.clone()));
                self.tell(id, Seen::Eval(eval));
            }
            Message::SnapshotTaken(taken) if *rank == 0 => {
                let wire::SnapshotTaken { step, stall_seconds } = taken;
                // step reports may be dropped: a job does not resume from beyond where it was seen
                self.reached(id, *generation, step);
                // of a worker that may say anything
                let stall = Duration::try_from_secs_f64(stall_seconds).unwrap_or_default();
                self.options.metrics.checkpoint_stalled(stall);
                let event = metrics::Event::Checkpoint { step, generation: *generation, stall_seconds };
                self.write(session, scribe::Entry::Event(event)).await;
            }
            Message::Notice(_)
            | Message::Step(_)
            | Message::Epoch(_)
            | Message::Eval(_)
            | Message::SnapshotTaken(_) => {}
            Message::ShardWritten(shard) => {
                self.write(session, scribe::Entry::Shard { rank: *rank, shard }).await;
            }
            Message::ShardFailed(failed) => {
                let (step, reason) = (failed.step, bounded(failed.reason));
                self.tell(id, Seen::Notice(format!("the checkpoint of step {step} failed: {reason}")));
                let event = metrics::Event::CheckpointFailed { step, generation: *generation, reason: reason.clone() };
                self.write(session, scribe::Entry::Event(event)).await;
                self.not_committed(id, *generation, step, reason).await;
            }
            Message::Finished(report) => {
                self.write(session, scribe::Entry::Finished { rank: *rank, report }).await;
            }
            Message::Stopped(_) => self.write(session, scribe::Entry::Stopped { rank: *rank }).await,
            Message::Leaving(_) => {
                self.tell(id, Seen::Notice(format!("{name} was told to end: the job saves its state")));
                self.happen(id, Event::Leaving { generation: *generation }).await;
            }
        }
        Ok(())
    }

    async fn ready(&mut self, session: &Session, ready: wire::Ready) -> Result<(), ApiError> {
        let Session { job: id, generation, rank, .. } = session;
        if *rank == 0 {
            let dataset = scribe::Entry::Dataset { json: ready.dataset_json, digest: ready.data_digest };
            self.write(session, dataset).await;
        }
        let Some(station) = self.station(id, *generation) else { return Ok(()) };
        station.ready.insert(*rank);
        if station.ready.len() == station.membership.world as usize {
            let failed_at = self.jobs.get(id).and_then(|entry| match entry.job.phase {
                Phase::Recovering { .. } => Some(entry.job.since),
                _ => None,
            });
            self.happen(id, Event::Ready { generation: *generation }).await;
            if let Some(since) = failed_at {
                let seconds = self.clock.now().saturating_sub(since) as f64 / 1000.0;
                self.options.metrics.recovered(Duration::from_secs_f64(seconds));
                let event = metrics::Event::Recovered { generation: *generation, seconds };
                self.write(session, scribe::Entry::Event(event)).await;
                self.tell(id, Seen::Notice(format!("recovered in {seconds:.1} s")));
            }
        }
        Ok(())
    }

    /// To the scribe; when it takes nothing more, the job cannot keep its promises.
    async fn write(&mut self, session: &Session, entry: scribe::Entry) {
        let Session { job: id, generation, .. } = session;
        if self.station(id, *generation).is_some_and(|s| !s.scribe.tell(entry)) {
            let text = "the run directory cannot be written fast enough: its disk is stuck or full".into();
            self.fail(id, *generation, FailureKind::Internal, text).await;
        }
    }

    pub(super) async fn recorded(&mut self, id: &JobId, generation: u64, record: Record) {
        if self.live(id, generation).is_none() {
            return;
        }
        match record {
            Record::Committed { step, notice } => {
                tracing::info!(job = %id, generation, step, "checkpoint committed");
                self.options.metrics.checkpoint_committed();
                if let Some(live) = self.live(id, generation) {
                    live.unsaved.clear();
                    live.station.iter_mut().for_each(|station| station.settle(generation, step));
                }
                if let Some(notice) = notice {
                    self.tell(id, Seen::Notice(notice));
                }
            }
            Record::NotCommitted { step, reason } => {
                self.tell(id, Seen::Notice(format!("the checkpoint of step {step} failed: {reason}")));
                self.not_committed(id, generation, step, reason).await;
            }
            Record::Finished { test } => {
                self.see(id, |entry| entry.test = Some((*test).clone()));
                self.tell(id, Seen::Eval(*test));
                self.happen(id, Event::Finished { generation }).await;
            }
            Record::Stopped => self.happen(id, Event::Stopped { generation }).await,
            Record::NotSaved { reason } => {
                let text = format!("the state could not be saved: {reason}");
                self.fail(id, generation, FailureKind::Internal, text).await;
            }
            Record::Broken { reason } => self.fail(id, generation, FailureKind::Internal, reason).await,
        }
    }

    /// Training goes on, but not forever without a state to recover from.
    async fn not_committed(&mut self, id: &JobId, generation: u64, step: u64, reason: String) {
        self.options.metrics.checkpoint_failed();
        let Some(live) = self.live(id, generation) else { return };
        live.unsaved.insert(step);
        let failures = live.unsaved.len();
        if failures >= live.spec.checkpoint.max_failures as usize {
            let text = format!("{failures} checkpoints in a row failed (checkpoint.max_failures); the last: {reason}");
            self.fail(id, generation, FailureKind::Internal, text).await;
        }
    }

    pub(super) async fn review_all(&mut self) {
        let ids: Vec<JobId> = self.jobs.values().filter(|e| e.live.is_some()).map(|e| e.job.id.clone()).collect();
        for id in ids {
            self.review(&id).await;
        }
        let now = self.clock.now();
        let may_grow =
            |job: &Job| matches!(job.phase, Phase::Running { .. }) && job.stopping.is_none() && job.world < job.workers;
        // a launcher of this machine finds out by trying; elsewhere, whoever is there has asked
        let is_remote = self.options.launcher.is_remote();
        let due = |e: &&Entry| {
            let is_asked = e.live.as_ref().is_some_and(|live| live.is_asked_for_seat(now));
            let grow = e.job.history.grow.filter(|_| may_grow(&e.job) && (is_asked || !is_remote));
            grow.is_some_and(|grow| grow.is_due(now, is_asked))
        };
        let ids: Vec<JobId> = self.jobs.values().filter(due).map(|e| e.job.id.clone()).collect();
        for id in ids {
            self.happen(&id, Event::GrowDue).await;
        }
    }

    /// Forms a generation that is complete; fails one that lost a worker.
    pub(super) async fn review(&mut self, id: &JobId) {
        let now = self.clock.now();
        let Some(live) = self.jobs.get(id).and_then(|e| e.live.as_ref()) else { return };
        let Some(station) = &live.station else { return };
        // a rank that said its last message need not be heard again
        let mut membership = station.membership.clone();
        membership.members.iter_mut().for_each(|member| {
            if placement::rank_of(&member.name).is_some_and(|rank| station.done.contains(&rank)) {
                (member.last_heard, member.broken_since) = (now, None);
            }
        });
        let generation = live.generation;
        if let Some((since, text)) = &station.let_down
            && now.saturating_sub(*since) >= live.timeouts.let_down_ms()
        {
            let text = bounded(text.clone());
            return self.fail(id, generation, FailureKind::WorkerLost, text).await;
        }
        match membership.review(now, &live.timeouts) {
            Verdict::Wait(_) => {}
            Verdict::Complete(reason) => {
                tracing::info!(job = %id, generation, reason, "the generation is complete");
                self.form(id, generation);
            }
            Verdict::Incomplete(present) => self.happen(id, Event::Incomplete { generation, present }).await,
            Verdict::Lost { worker, how } => {
                let rank = placement::rank_of(&worker).unwrap_or_default();
                let text = station.culprit(rank, None, &how);
                self.noticed(id, generation, rank);
                self.fail(id, generation, FailureKind::WorkerLost, text).await;
            }
            Verdict::NotSaved(text) => self.fail(id, generation, FailureKind::WorkerLost, text).await,
        }
    }

    fn form(&mut self, id: &JobId, generation: u64) {
        let cores = self.options.cores;
        let is_remote = self.options.launcher.is_remote();
        let shares_run_dirs = self.options.launcher.shares_run_dirs();
        let Some(entry) = self.jobs.get_mut(id) else { return };
        let Entry { job, live: Some(live), .. } = entry else { return };
        let (spec, timeouts) = (&live.spec, live.timeouts);
        let config_digest = config::digest(spec);
        let Some(station) = live.station.as_mut() else { return };
        station.membership.formed = true;
        for (rank, (_, directives)) in &station.directives {
            let resume = station.resume.as_ref();
            let form = wire::Form {
                rank: *rank,
                world: job.world,
                job_toml: job.job_toml.clone(),
                job_root: job.job_root.display().to_string(),
                run_dir: if shares_run_dirs { job.run_dir.display().to_string() } else { String::new() },
                threads: match is_remote {
                    true => spec.cluster.threads_per_worker as u32,
                    false => placement::threads(spec.cluster.threads_per_worker, cores, job.world),
                },
                heartbeat_ms: timeouts.heartbeat_ms,
                resume: resume.map(|r| wire::Resume { step: r.step, data_digest: r.data_digest.clone() }),
                store: station.stores.get(&0).cloned().unwrap_or_default(),
                config_digest: config_digest.clone(),
            };
            let directive = Directive { generation, directive: Some(directive::Directive::Form(form)) };
            if directives.try_send(directive).is_err() {
                tracing::warn!(job = %id, rank, "a worker takes no directive; its silence will tell");
            }
        }
        let queue = self.queue_reason();
        if let Ok(entry) = self.entry(id) {
            entry.tell_status(&queue);
        }
    }

    /// A worker came this far.
    fn reached(&mut self, id: &JobId, generation: u64, step: u64) {
        if let Some(live) = self.live(id, generation) {
            live.step = live.step.max(step);
        }
    }

    pub(super) fn tell(&self, id: &JobId, event: Seen) {
        if let Ok(entry) = self.entry(id) {
            entry.tell(event);
        }
    }

    fn see(&mut self, id: &JobId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.jobs.get_mut(id) {
            change(entry);
        }
    }
}

/// A worker's words are bounded: they are kept, and shown.
/// Phases of a step are few, and their names short.
fn bounded_epoch(mut epoch: accord_proto::job::Epoch) -> accord_proto::job::Epoch {
    const MOST: usize = 32;
    const LONGEST: usize = 64;
    epoch.phases.truncate(MOST);
    for phase in &mut epoch.phases {
        phase.phase.truncate(phase.phase.floor_char_boundary(LONGEST));
    }
    epoch
}

fn bounded_beat(beat: wire::Heartbeat) -> wire::Heartbeat {
    const LONGEST: usize = 100;
    let end = beat.exchange.floor_char_boundary(LONGEST);
    wire::Heartbeat { step: beat.step, exchange: beat.exchange[..end].into() }
}

/// Keeps the beginning, which says what, and the end, which says why.
pub(super) fn bounded(text: String) -> String {
    const GAP: &str = "\n[...]\n";
    if text.len() <= MAX_REASON_BYTES {
        return text;
    }
    let half = (MAX_REASON_BYTES - GAP.len()) / 2;
    let head = &text[..text.floor_char_boundary(half)];
    let tail = &text[text.ceil_char_boundary(text.len() - half)..];
    format!("{head}{GAP}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_keeps_its_beginning_and_its_end() {
        let text = format!("worker-0 crashed {} out of memory", "é".repeat(MAX_REASON_BYTES));
        let short = bounded(text);
        assert!(short.len() <= MAX_REASON_BYTES);
        assert!(short.starts_with("worker-0 crashed é") && short.ends_with("é out of memory"));
        assert_eq!(bounded("short".into()), "short");
    }
}
