//! The transition table: `apply` and nothing else. Every pair of phase and event is written out.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

use super::{Effect, Event, Failure, FailureKind, Grow, History, Illegal, Job, Phase, Stopping, UnixMs};
use super::{FRUITLESS_LIMIT, RESTART_WINDOW_MS};

/// Longest wait between two tries for all workers.
const GROW_WAIT_AT_MOST_MS: u64 = 3_600_000;

impl Job {
    /// Takes one event.
    ///
    /// # Errors
    /// [`Illegal`] when the phase does not allow the event; the job is unchanged then.
    pub fn apply(&mut self, now: UnixMs, event: Event) -> Result<Vec<Effect>, Illegal> {
        match self.phase.clone() {
            Phase::Queued => self.queued(now, event),
            Phase::Starting { generation } | Phase::Recovering { generation, .. } => {
                self.forming(now, generation, event)
            }
            Phase::Running { generation } => self.running(now, generation, event),
            Phase::Suspended => self.suspended(now, event),
            Phase::Failed { .. } => self.failed(now, event),
            Phase::Succeeded | Phase::Cancelled => self.over(event),
        }
    }

    fn queued(&mut self, now: UnixMs, event: Event) -> Result<Vec<Effect>, Illegal> {
        match event {
            Event::Placed => {
                self.world = self.workers;
                Ok(vec![self.start(now)])
            }
            Event::SuspendAsked => {
                self.enter(now, Phase::Suspended);
                Ok(vec![])
            }
            Event::CancelAsked => {
                self.enter(now, Phase::Cancelled);
                Ok(vec![])
            }
            Event::ScaleAsked { workers } => {
                self.want(workers);
                Ok(vec![])
            }
            Event::CoordinatorRestarted | Event::ResumeAsked => Ok(vec![]),
            Event::Ready { .. }
            | Event::Finished { .. }
            | Event::Stopped { .. }
            | Event::GenerationFailed { .. }
            | Event::Incomplete { .. }
            | Event::WorkersGone { .. }
            | Event::Leaving { .. }
            | Event::GrowDue => Err(self.wrong_phase()),
        }
    }

    /// Starting or recovering: workers come and load, and nothing is trained yet, so the newest checkpoint, if any, is
    /// the state.
    fn forming(&mut self, now: UnixMs, live: u64, event: Event) -> Result<Vec<Effect>, Illegal> {
        match event {
            Event::Ready { generation } => {
                same(generation, live)?;
                self.enter(now, Phase::Running { generation });
                Ok(vec![])
            }
            Event::GenerationFailed { generation, failure, step } => {
                same(generation, live)?;
                Ok(self.lose(now, live, failure, step))
            }
            Event::Incomplete { generation, present } => {
                same(generation, live)?;
                Ok(self.go_on_with(now, live, present))
            }
            Event::SuspendAsked => Ok(self.end(now, live, Phase::Suspended, "the job was suspended")),
            Event::CancelAsked => Ok(self.end(now, live, Phase::Cancelled, "the job was cancelled")),
            Event::ScaleAsked { workers } => {
                self.want(workers);
                if self.world == workers {
                    return Ok(vec![]);
                }
                self.world = workers;
                let abort = Effect::Abort { generation: live, why: "the job was scaled".into() };
                Ok(vec![abort, self.start(now)])
            }
            Event::CoordinatorRestarted => {
                self.enter(now, Phase::Queued);
                Ok(vec![])
            }
            Event::ResumeAsked => Ok(vec![]),
            // there is nothing to save yet; its end will tell
            Event::Leaving { generation } => {
                same(generation, live)?;
                Ok(vec![])
            }
            Event::Finished { generation } | Event::Stopped { generation } | Event::WorkersGone { generation } => {
                same(generation, live)?;
                Err(self.wrong_phase())
            }
            Event::Placed | Event::GrowDue => Err(self.wrong_phase()),
        }
    }

    fn running(&mut self, now: UnixMs, live: u64, event: Event) -> Result<Vec<Effect>, Illegal> {
        match event {
            Event::Finished { generation } => {
                same(generation, live)?;
                self.enter(now, Phase::Succeeded);
                Ok(vec![Effect::Release { generation }])
            }
            Event::Stopped { generation } => {
                same(generation, live)?;
                Ok(self.stopped(now, generation))
            }
            Event::GenerationFailed { generation, failure, step } => {
                same(generation, live)?;
                Ok(self.lose(now, live, failure, step))
            }
            Event::Leaving { generation } => {
                same(generation, live)?;
                // what a user asked for stands
                Ok(if self.stopping.is_some() { vec![] } else { self.stop(now, live, Stopping::Regroup) })
            }
            Event::SuspendAsked => Ok(self.stop(now, live, Stopping::Suspend)),
            Event::ScaleAsked { workers } => {
                self.want(workers);
                if self.world == workers {
                    return Ok(vec![]);
                }
                Ok(self.stop(now, live, Stopping::Regroup))
            }
            Event::GrowDue => {
                if self.world >= self.workers || self.stopping.is_some() {
                    return Ok(vec![]);
                }
                Ok(self.stop(now, live, Stopping::Regroup))
            }
            Event::CancelAsked => Ok(self.end(now, live, Phase::Cancelled, "the job was cancelled")),
            // they train on meanwhile
            Event::CoordinatorRestarted => Ok(vec![Effect::Adopt { generation: live }]),
            Event::WorkersGone { generation } => {
                same(generation, live)?;
                let suspending = self.stopping == Some(Stopping::Suspend);
                self.enter(now, if suspending { Phase::Suspended } else { Phase::Queued });
                Ok(vec![])
            }
            Event::ResumeAsked => match self.stopping {
                // it goes on as soon as its state is saved
                Some(_) => Ok(self.stop(now, live, Stopping::Regroup)),
                None => Ok(vec![]),
            },
            Event::Ready { generation } | Event::Incomplete { generation, .. } => {
                same(generation, live)?;
                Err(self.wrong_phase())
            }
            Event::Placed => Err(self.wrong_phase()),
        }
    }

    fn suspended(&mut self, now: UnixMs, event: Event) -> Result<Vec<Effect>, Illegal> {
        match event {
            Event::CancelAsked => {
                self.enter(now, Phase::Cancelled);
                Ok(vec![])
            }
            Event::ResumeAsked => {
                self.enter(now, Phase::Queued);
                Ok(vec![])
            }
            Event::ScaleAsked { workers } => {
                self.want(workers);
                Ok(vec![])
            }
            Event::SuspendAsked | Event::CoordinatorRestarted => Ok(vec![]),
            Event::Placed
            | Event::Ready { .. }
            | Event::Finished { .. }
            | Event::Stopped { .. }
            | Event::GenerationFailed { .. }
            | Event::Incomplete { .. }
            | Event::WorkersGone { .. }
            | Event::Leaving { .. }
            | Event::GrowDue => Err(self.wrong_phase()),
        }
    }

    /// Whoever resumes a failed job has done something about the reason.
    fn failed(&mut self, now: UnixMs, event: Event) -> Result<Vec<Effect>, Illegal> {
        if event == Event::ResumeAsked {
            self.history = History::default();
            self.enter(now, Phase::Queued);
            return Ok(vec![]);
        }
        self.over(event)
    }

    fn over(&mut self, event: Event) -> Result<Vec<Effect>, Illegal> {
        match event {
            Event::CancelAsked | Event::CoordinatorRestarted => Ok(vec![]),
            Event::Placed
            | Event::Ready { .. }
            | Event::Finished { .. }
            | Event::Stopped { .. }
            | Event::GenerationFailed { .. }
            | Event::Incomplete { .. }
            | Event::SuspendAsked
            | Event::ResumeAsked
            | Event::ScaleAsked { .. }
            | Event::WorkersGone { .. }
            | Event::Leaving { .. }
            | Event::GrowDue => Err(self.wrong_phase()),
        }
    }

    /// How many workers are enough when one ended before it came: it is replaced first, and when that did not help, training
    /// goes on with `min_workers`.
    pub fn enough_without_replacement(&self) -> u32 {
        if self.history.fruitless == 0 { self.world } else { self.policy.min_workers }
    }

    /// The next generation begins.
    fn start(&mut self, now: UnixMs) -> Effect {
        self.generation += 1;
        let generation = self.generation;
        self.enter(now, Phase::Starting { generation });
        Effect::Launch { generation }
    }

    /// Asks the workers to save and end; asked again, only the reason may change.
    fn stop(&mut self, now: UnixMs, generation: u64, why: Stopping) -> Vec<Effect> {
        if self.stopping.replace(why).is_some() {
            return vec![];
        }
        // the deadline for saving counts from here
        self.since = now;
        vec![Effect::CheckpointAndStop { generation }]
    }

    /// The workers saved their state and ended.
    fn stopped(&mut self, now: UnixMs, generation: u64) -> Vec<Effect> {
        let release = Effect::Release { generation };
        match self.stopping {
            Some(Stopping::Suspend) => {
                self.enter(now, Phase::Suspended);
                vec![release]
            }
            Some(Stopping::Regroup) => {
                self.world = self.workers;
                vec![release, self.start(now)]
            }
            None => {
                let text = "the worker stopped without being asked".into();
                self.fail(now, generation, Failure { kind: FailureKind::Internal, text })
            }
        }
    }

    /// The generation failed: another one takes over, if that can help and has not been tried too often.
    fn lose(&mut self, now: UnixMs, live: u64, failure: Failure, step: u64) -> Vec<Effect> {
        match failure.kind {
            FailureKind::WorkerLost => {}
            // the same would happen again
            FailureKind::BadInput | FailureKind::Training | FailureKind::Internal => {
                return self.fail(now, live, failure);
            }
        }
        // what was to be saved is trained again when the job goes on: the same numbers
        if self.stopping == Some(Stopping::Suspend) {
            return self.end(now, live, Phase::Suspended, "the job was suspended");
        }
        let history = &mut self.history;
        history.restarts.retain(|at| now.saturating_sub(*at) < RESTART_WINDOW_MS);
        history.fruitless = if step > history.reached { 0 } else { history.fruitless + 1 };
        history.reached = history.reached.max(step);
        let tried = history.restarts.len();
        let Failure { kind, text } = &failure;
        if tried >= self.policy.max_restarts as usize {
            let text = match tried {
                0 => text.clone(),
                _ => format!("restarted {tried} times within an hour (recovery.max_restarts); the last time: {text}"),
            };
            return self.fail(now, live, Failure { kind: *kind, text });
        }
        if history.fruitless >= FRUITLESS_LIMIT {
            let (times, reached) = (history.fruitless, history.reached);
            let text = format!("{times} times in a row no step further than {reached}; the last time: {text}");
            return self.fail(now, live, Failure { kind: *kind, text });
        }
        history.restarts.push(now);
        if self.stopping == Some(Stopping::Regroup) {
            self.world = self.workers;
        }
        let abort = Effect::Abort { generation: live, why: failure.text.clone() };
        let launch = self.start(now);
        self.phase = Phase::Recovering { generation: self.generation, culprit: failure };
        vec![abort, launch]
    }

    /// Some workers did not come: with those that did, if that is enough.
    fn go_on_with(&mut self, now: UnixMs, live: u64, present: u32) -> Vec<Effect> {
        let wait = self.policy.replace_within_ms;
        let text = format!("{present} of {} workers registered in time", self.world);
        if present < self.policy.min_workers.max(1) || present >= self.world {
            return self.lose(now, live, Failure { kind: FailureKind::WorkerLost, text }, 0);
        }
        self.world = present;
        let wait_ms = self.history.grow.map_or(2 * wait, |grow| 2 * grow.wait_ms).min(GROW_WAIT_AT_MOST_MS);
        self.history.grow = Some(Grow { at: now + wait_ms, wait_ms });
        let abort = Effect::Abort { generation: live, why: text.clone() };
        let launch = self.start(now);
        let culprit = Failure { kind: FailureKind::WorkerLost, text };
        self.phase = Phase::Recovering { generation: self.generation, culprit };
        vec![abort, launch]
    }

    /// Another number of workers is wanted from now on.
    fn want(&mut self, workers: u32) {
        self.workers = workers;
        self.history.grow = None;
    }

    fn fail(&mut self, now: UnixMs, generation: u64, failure: Failure) -> Vec<Effect> {
        self.end(now, generation, Phase::Failed { failure }, "the job failed")
    }

    fn end(&mut self, now: UnixMs, generation: u64, phase: Phase, why: &str) -> Vec<Effect> {
        self.enter(now, phase);
        vec![Effect::Abort { generation, why: why.into() }]
    }

    fn enter(&mut self, now: UnixMs, phase: Phase) {
        self.phase = phase;
        self.since = now;
        self.stopping = None;
    }

    fn wrong_phase(&self) -> Illegal {
        Illegal::WrongPhase { job: self.id.clone(), phase: self.phase.name() }
    }
}

fn same(event: u64, live: u64) -> Result<(), Illegal> {
    if event == live { Ok(()) } else { Err(Illegal::StaleGeneration { event, live }) }
}
