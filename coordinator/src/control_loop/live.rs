//! What the loop holds beside the persisted job: the live generation, and what watchers see.

use crate::job::{FailureKind, Job, JobId, Phase, Stopping, UnixMs};
use crate::log_store::RankLog;
use crate::membership::{Membership, Timeouts};
use crate::placement;
use crate::run_dir::open::Resume;
use crate::run_dir::scribe::Scribe;
use crate::store::Version;
use accord_proto::job as wire;
use accord_proto::worker::{Directive, Heartbeat, directive};
use accord_spec::JobSpec;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{broadcast, mpsc};

/// Events a slow watcher may lag behind before it misses some.
const WATCH_BACKLOG: usize = 256;

/// What a list of jobs says of each one's reason at most.
const LISTED_REASON_BYTES: usize = 200;

/// One job in the loop.
pub(super) struct Entry {
    pub(super) job: Job,
    /// Of its record in the store.
    pub(super) version: Version,
    pub(super) live: Option<Live>,
    pub(super) watchers: broadcast::Sender<wire::WatchEvent>,
    pub(super) progress: Option<wire::Step>,
    pub(super) last_epoch: Option<wire::Epoch>,
    pub(super) validation: Option<wire::Eval>,
    pub(super) test: Option<wire::Eval>,
}

/// A worker that has not asked for so long is gone: it asks every second.
const ASKS_AGAIN_WITHIN_MS: u64 = 5000;

/// The workers of the generation that runs now.
pub(super) struct Live {
    pub(super) generation: u64,
    pub(super) spec: JobSpec,
    pub(super) timeouts: Timeouts,
    /// The newest step that a worker reported.
    pub(super) step: u64,
    /// Its workers train under an earlier coordinator: they are adopted, not launched.
    pub(super) is_adopted: bool,
    /// Steps whose checkpoint failed, since one was committed.
    pub(super) unsaved: BTreeSet<u64>,
    /// None until the run directory is ours.
    pub(super) station: Option<Station>,
}

/// A live generation whose run directory is open and whose workers are launched.
pub(super) struct Station {
    pub(super) membership: Membership,
    pub(super) scribe: Scribe,
    pub(super) resume: Option<Resume>,
    /// By rank.
    pub(super) logs: BTreeMap<u32, RankLog>,
    /// By rank: its session's number, and the way to it.
    pub(super) directives: BTreeMap<u32, (u64, mpsc::Sender<Directive>)>,
    /// By rank, the number of the newest message that must not be lost.
    pub(super) heard: BTreeMap<u32, u64>,
    /// The newest step whose checkpoint is known to be committed; 0: none.
    pub(super) settled: u64,
    /// Where each rank's store listens; the workers meet at that of rank 0.
    pub(super) stores: BTreeMap<u32, String>,
    /// By rank, where it stood when it last said so.
    pub(super) positions: BTreeMap<u32, Heartbeat>,
    /// A rank could not go on because another one is gone or late: since when, and its words. What became of the other
    /// explains more, and comes soon.
    pub(super) let_down: Option<(UnixMs, String)>,
    /// Ranks whose trainer stands.
    pub(super) ready: BTreeSet<u32>,
    /// Ranks that said their last message: their end is no loss.
    pub(super) done: BTreeSet<u32>,
    /// When a worker last came after the generation had formed, and would be of the next. It asks again every second.
    pub(super) asked_for_seat_at: Option<UnixMs>,
    /// What keeps workers from coming, in the launcher's words.
    pub(super) waits: Option<String>,
}

impl Live {
    /// Whether a worker is there that would be of the next generation. Those of a job that is as good as over have
    /// finished, and only ask whether it is.
    pub(super) fn is_asked_for_seat(&self, now: UnixMs) -> bool {
        let station = self.station.as_ref().filter(|station| station.done.is_empty());
        let asked = station.and_then(|station| station.asked_for_seat_at);
        asked.is_some_and(|at| now.saturating_sub(at) <= ASKS_AGAIN_WITHIN_MS)
    }
}

impl Station {
    /// To every worker that is there. One whose queue is full is not reading: its silence will tell.
    pub(super) fn direct_all(&self, generation: u64, what: &directive::Directive) {
        for (_, directives) in self.directives.values() {
            let directive = Directive { generation, directive: Some(what.clone()) };
            if directives.try_send(directive).is_err() {
                tracing::debug!(generation, "a worker takes no directive");
            }
        }
    }

    /// Who it was (`pid`: of one that never registered), what became of it, where it stood, and its last words.
    pub(super) fn culprit(&self, rank: u32, pid: Option<u32>, how: &str) -> String {
        let name = placement::worker_name(rank);
        let member = self.membership.members.iter().find(|m| m.name == name);
        let who = match (member, pid) {
            (Some(member), _) => format!("{name} (rank {rank}, pid {} on {})", member.pid, member.host),
            (None, Some(pid)) => format!("{name} (pid {pid})"),
            (None, None) => name,
        };
        let stood = match self.positions.get(&rank) {
            None => String::new(),
            Some(Heartbeat { step, exchange }) if exchange.is_empty() => format!(" after step {step}"),
            Some(Heartbeat { step, exchange }) => format!(" after step {step} (its last exchange: {exchange})"),
        };
        format!("{who} {how}{stood}{}", self.last_words(rank))
    }

    /// The newest log lines of a rank, as they go under a failure's reason.
    pub(super) fn last_words(&self, rank: u32) -> String {
        let words = self.logs.get(&rank).map(RankLog::last_words).unwrap_or_default();
        if words.is_empty() {
            return "; it left no log".into();
        }
        words.iter().fold(String::from("; its last words:"), |text, line| text + "\n  " + line)
    }
}

impl Entry {
    pub(super) fn new(job: Job, version: Version) -> Entry {
        let watchers = broadcast::Sender::new(WATCH_BACKLOG);
        Entry { job, version, live: None, watchers, progress: None, last_epoch: None, validation: None, test: None }
    }

    /// Tells whoever watches; nobody watching is fine.
    pub(super) fn tell(&self, event: wire::watch_event::Event) {
        let _ = self.watchers.send(wire::WatchEvent { event: Some(event) });
    }

    pub(super) fn tell_status(&self, queue: &str) {
        self.tell(wire::watch_event::Event::Status(self.status(queue)));
    }

    /// What the user sees. `queue`: why a queued job waits.
    pub(super) fn status(&self, queue: &str) -> wire::JobStatus {
        let job = &self.job;
        let (phase, failure) = phase(&job.phase);
        let station = self.live.as_ref().and_then(|l| l.station.as_ref());
        let workers = station.map(|s| s.membership.members.as_slice()).unwrap_or_default();
        wire::JobStatus {
            job_id: job.id.0.clone(),
            name: job.name.clone(),
            phase: phase.into(),
            generation: job.generation,
            reason: self.reason(queue),
            failure: failure.into(),
            submitted_at_unix_ms: job.submitted_at,
            run_dir: job.run_dir.display().to_string(),
            progress: self.progress,
            last_epoch: self.last_epoch.clone(),
            validation: self.validation.clone(),
            test: self.test.clone(),
            workers: workers
                .iter()
                .map(|m| {
                    let rank = placement::rank_of(&m.name).unwrap_or_default();
                    let stood = station.and_then(|s| s.positions.get(&rank)).cloned().unwrap_or_default();
                    let (name, host) = (m.name.clone(), m.host.clone());
                    wire::WorkerStatus { rank, name, host, pid: m.pid, step: stood.step, exchange: stood.exchange }
                })
                .collect(),
            workers_wanted: job.workers,
            world: job.world,
            restarts: job.history.restarts.len() as u32,
        }
    }

    fn reason(&self, queue: &str) -> String {
        let station = self.live.as_ref().map(|l| l.station.as_ref());
        match (&self.job.phase, station) {
            (Phase::Queued, _) => queue.into(),
            (Phase::Starting { .. }, station) => forming(station.flatten()),
            (Phase::Recovering { culprit, .. }, station) => {
                format!("{}; {}", culprit.text, forming(station.flatten()))
            }
            (Phase::Running { .. }, _) => match self.job.stopping {
                Some(Stopping::Suspend) => "saving its state before it stops".into(),
                Some(Stopping::Regroup) => {
                    format!("saving its state, to go on with {} workers", self.job.workers)
                }
                None if self.job.world < self.job.workers => {
                    format!("training with {} of {} workers", self.job.world, self.job.workers)
                }
                None => "training".into(),
            },
            (Phase::Failed { failure }, _) => failure.text.clone(),
            (Phase::Succeeded, _) => "training is over".into(),
            (Phase::Cancelled, _) => "cancelled by a user".into(),
            (Phase::Suspended, _) if self.job.generation == 0 => "stopped before training began".into(),
            (Phase::Suspended, _) if self.progress.is_some() => "stopped by a user; its state is saved".into(),
            // while it was starting, or under an earlier coordinator
            (Phase::Suspended, _) => "stopped by a user".into(),
        }
    }
}

fn forming(station: Option<&Station>) -> String {
    let Some(station) = station else { return "the run directory is being opened".into() };
    let membership = &station.membership;
    if membership.formed {
        return "workers load their data".into();
    }
    let here = format!("{} of {} workers registered", membership.members.len(), membership.world);
    match &station.waits {
        None => here,
        Some(waits) => format!("{here}; waiting: {waits}"),
    }
}

fn phase(phase: &Phase) -> (wire::Phase, wire::FailureKind) {
    use wire::FailureKind as Kind;
    match phase {
        Phase::Queued => (wire::Phase::Queued, Kind::Unspecified),
        Phase::Starting { .. } => (wire::Phase::Starting, Kind::Unspecified),
        Phase::Running { .. } => (wire::Phase::Running, Kind::Unspecified),
        Phase::Recovering { .. } => (wire::Phase::Recovering, Kind::Unspecified),
        Phase::Succeeded => (wire::Phase::Succeeded, Kind::Unspecified),
        Phase::Cancelled => (wire::Phase::Cancelled, Kind::Unspecified),
        Phase::Suspended => (wire::Phase::Suspended, Kind::Unspecified),
        Phase::Failed { failure } => {
            let kind = match failure.kind {
                FailureKind::BadInput => Kind::BadInput,
                FailureKind::Training => Kind::Training,
                FailureKind::WorkerLost => Kind::WorkerLost,
                FailureKind::Internal => Kind::Internal,
            };
            (wire::Phase::Failed, kind)
        }
    }
}

/// One of many in a list, which must fit a message: the first line of its reason, cut.
pub(super) fn brief(mut status: wire::JobStatus) -> wire::JobStatus {
    let line = status.reason.lines().next().unwrap_or_default();
    status.reason = line[..line.floor_char_boundary(LISTED_REASON_BYTES)].into();
    status
}

/// Where a job's record lies in the store.
pub(super) fn key(id: &JobId) -> String {
    format!("jobs/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_reason_is_one_short_line() {
        let reason = format!("worker-0 crashed {}\n  its last words", "é".repeat(300));
        let listed = brief(wire::JobStatus { reason, ..wire::JobStatus::default() }).reason;
        assert!(listed.starts_with("worker-0 crashed é") && listed.len() <= LISTED_REASON_BYTES, "{listed}");
        assert!(!listed.contains('\n'));
    }
}
