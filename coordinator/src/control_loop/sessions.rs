//! Streams of workers: who comes, who comes back, whose stream or process ends.

use super::ControlLoop;
use super::handle::Session;
use super::live::Station;
use super::workers::bounded;
use crate::job::{FailureKind, JobId};
use crate::launcher::{Exit, Sighting};
use crate::membership::Member;
use crate::placement;
use accord_proto::job::watch_event::Event as Seen;
use accord_proto::status::{ApiError, ErrorCode};
use accord_proto::worker::{self as wire, Directive, Register, Underway, directive};
use std::time::Duration;
use tokio::sync::mpsc;

/// A worker of this generation outlives generations, and asks for a seat in the one that forms.
const ANY_GENERATION: u64 = 0;

impl ControlLoop {
    pub(super) fn register(
        &mut self,
        generation: u64,
        register: Register,
        directives: mpsc::Sender<Directive>,
    ) -> Result<Session, ApiError> {
        let now = self.clock.now();
        let id = JobId(register.job_id.clone());
        let job = &self.entry(&id)?.job;
        if !same_secret(&job.token, &register.token) {
            tracing::warn!(job = %id, worker = register.worker, "a worker came with a wrong token");
            return Err(ApiError::new(ErrorCode::WrongToken, format!("the token is not that of job {id}")));
        }
        let asks_for_seat = generation == ANY_GENERATION;
        let (generation, rank) = match asks_for_seat {
            true => self.seat(&id, &register)?,
            false => (generation, placement::rank_of(&register.worker)),
        };
        let world = self.entry(&id)?.job.world;
        let Some(rank) = rank.filter(|rank| *rank < world) else {
            return Err(ApiError::new(ErrorCode::BadInput, format!("{} is no worker of job {id}", register.worker)));
        };
        self.sessions += 1;
        let session = Session { job: id.clone(), generation, rank, number: self.sessions };
        let Some(live) = self.live(&id, generation) else { return Err(stale(&id, generation)) };
        let Some(station) = live.station.as_mut() else {
            return Err(ApiError::new(ErrorCode::Unavailable, format!("job {id} is being taken up")));
        };
        let Register { host, pid, store, underway, .. } = register;
        let member = Member { name: placement::worker_name(rank), host, pid, last_heard: now, broken_since: None };
        match underway {
            Some(underway) => station.take_back(member, &session, underway, directives)?,
            None if asks_for_seat => {
                let seat = directive::Directive::Seat(wire::Seat { rank });
                // a queue of its own, still empty
                let _ = directives.try_send(Directive { generation, directive: Some(seat) });
                station.membership.rejoin(member);
                station.directives.insert(rank, (session.number, directives));
                station.stores.insert(rank, store);
            }
            None => {
                let taken = format!("{} is registered already", member.name);
                if !station.membership.join(member) {
                    return Err(ApiError::new(ErrorCode::BadInput, taken));
                }
                station.directives.insert(rank, (session.number, directives));
                station.stores.insert(rank, store);
            }
        }
        Ok(session)
    }

    /// A seat in the generation that forms, for a worker that outlives generations.
    fn seat(&mut self, id: &JobId, register: &Register) -> Result<(u64, Option<u32>), ApiError> {
        let phase = self.entry(id)?.job.phase.clone();
        if phase.is_over() {
            let text = format!("job {id} is {}: it needs no workers", phase.name());
            return Err(ApiError::new(ErrorCode::JobOver, text));
        }
        let now = self.clock.now();
        let none = |why: String| Err(ApiError::new(ErrorCode::Unavailable, why));
        let Some(live) = self.jobs.get_mut(id).and_then(|entry| entry.live.as_mut()) else {
            return none(format!("job {id} forms no generation now"));
        };
        let generation = live.generation;
        match &mut live.station {
            None => none(format!("job {id} is being taken up")),
            Some(station) if station.membership.formed => {
                station.asked_for_seat_at = Some(now);
                none(format!("generation {generation} of job {id} has formed: the next one may need this worker"))
            }
            Some(station) => {
                let preferred = placement::rank_of(&register.worker);
                match station.membership.seat(&register.host, preferred) {
                    Some(rank) => Ok((generation, Some(rank))),
                    None => none(format!("every seat of generation {generation} of job {id} is taken")),
                }
            }
        }
    }

    /// The process's end, which comes soon after, explains more than the stream's, and the worker may come back: both
    /// have until `exit_report_ms`.
    pub(super) fn session_closed(&mut self, session: &Session) {
        let now = self.clock.now();
        let Some(station) = self.station(&session.job, session.generation) else { return };
        // one that came back has another stream by now
        if station.directives.get(&session.rank).is_none_or(|(number, _)| *number != session.number) {
            return;
        }
        station.directives.remove(&session.rank);
        if station.done.contains(&session.rank) {
            return;
        }
        let name = placement::worker_name(session.rank);
        if let Some(member) = station.membership.members.iter_mut().find(|m| m.name == name) {
            member.broken_since = Some(now);
        }
    }

    pub(super) async fn sighted(&mut self, id: &JobId, generation: u64, sighting: Sighting) {
        match sighting {
            Sighting::Exit(exit) => self.exited(id, generation, exit).await,
            Sighting::Waits(waits) => {
                let Some(station) = self.station(id, generation) else { return };
                let waits = waits.map(bounded);
                if station.waits == waits {
                    return;
                }
                station.waits.clone_from(&waits);
                if let Some(waits) = waits {
                    self.tell(id, Seen::Notice(format!("waiting: {waits}")));
                }
                let queue = self.queue_reason();
                if let Ok(entry) = self.entry(id) {
                    entry.tell_status(&queue);
                }
            }
            Sighting::Broken(failure) => self.fail(id, generation, failure.kind, failure.text).await,
        }
    }

    async fn exited(&mut self, id: &JobId, generation: u64, exit: Exit) {
        let Some(station) = self.station(id, generation) else { return };
        // the end of a host that never came says nothing of this generation
        let rank = placement::rank_of(&exit.worker).or_else(|| station.membership.rank_at(&exit.worker));
        let Some(rank) = rank else { return };
        if station.done.contains(&rank) {
            return;
        }
        let text = station.culprit(rank, Some(exit.pid), &exit.how);
        let enough = self.entry(id).map_or(u32::MAX, |entry| entry.job.enough_without_replacement());
        let does_without =
            |station: &mut Station| station.membership.does_without(&placement::worker_name(rank), enough);
        if self.station(id, generation).is_some_and(does_without) {
            tracing::warn!(job = %id, generation, reason = text, "a worker does not come");
            self.tell(id, Seen::Notice(bounded(text)));
            return self.review(id).await;
        }
        self.noticed(id, generation, rank);
        self.fail(id, generation, FailureKind::WorkerLost, text).await;
    }

    /// A worker is lost. It failed after its last sign of life: the time since then is what noticing took at most.
    pub(super) fn noticed(&mut self, id: &JobId, generation: u64, rank: u32) {
        let now = self.clock.now();
        let name = placement::worker_name(rank);
        let Some(station) = self.station(id, generation) else { return };
        let Some(member) = station.membership.members.iter().find(|m| m.name == name) else { return };
        let after = Duration::from_millis(now.saturating_sub(member.last_heard));
        self.options.metrics.detected(after);
    }
}

impl Station {
    /// A worker whose stream broke, or that trains under an earlier coordinator: it is told where to go on talking.
    fn take_back(
        &mut self,
        member: Member,
        session: &Session,
        underway: Underway,
        directives: mpsc::Sender<Directive>,
    ) -> Result<(), ApiError> {
        let Session { job, generation, rank, number } = session;
        if !self.membership.formed {
            return Err(stale(job, *generation));
        }
        if underway.settled_step > self.settled {
            let text = format!(
                "{} has forgotten what it said before step {}, and the newest good checkpoint is of step {}",
                member.name, underway.settled_step, self.settled
            );
            return Err(ApiError::new(ErrorCode::StaleGeneration, text));
        }
        let heard = self.heard.get(rank).copied().unwrap_or(0);
        let welcome = wire::Welcome { settled_step: self.settled, heard };
        let mut wanted = vec![directive::Directive::Welcome(welcome)];
        if self.membership.stopping_since.is_some() {
            wanted.push(directive::Directive::CheckpointAndStop(wire::CheckpointAndStop {}));
        }
        for directive in wanted {
            let directive = Directive { generation: *generation, directive: Some(directive) };
            // a queue of its own, still empty
            let _ = directives.try_send(directive);
        }
        tracing::info!(%job, generation, rank, heard, "a worker is back");
        self.membership.rejoin(member);
        self.directives.insert(*rank, (*number, directives));
        Ok(())
    }

    /// Whether the message of that number came before; from now on it did.
    pub(super) fn has_heard(&mut self, rank: u32, number: u64) -> bool {
        let heard = self.heard.entry(rank).or_default();
        let before = number <= *heard;
        *heard = number.max(*heard);
        before
    }

    /// The checkpoint of `step` is committed: workers may forget what it stands for.
    pub(super) fn settle(&mut self, generation: u64, step: u64) {
        self.settled = self.settled.max(step);
        self.direct_all(generation, &directive::Directive::Settled(wire::Settled { step }));
    }
}

pub(super) fn stale(id: &JobId, generation: u64) -> ApiError {
    ApiError::new(ErrorCode::StaleGeneration, format!("generation {generation} of job {id} is not the live one"))
}

/// Compares without telling by its time how much was right.
fn same_secret(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}
