//! The transition table: `apply` and nothing else. Every pair of phase and event is written out.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

use super::{Effect, Event, Failure, FailureKind, Illegal, Job, Phase, UnixMs};

impl Job {
    /// Takes one event.
    ///
    /// # Errors
    /// [`Illegal`] when the phase does not allow the event; the job is unchanged then.
    pub fn apply(&mut self, now: UnixMs, event: Event) -> Result<Vec<Effect>, Illegal> {
        match self.phase.clone() {
            Phase::Queued => self.queued(now, event),
            Phase::Starting { generation } => self.starting(now, generation, event),
            Phase::Running { generation } => self.running(now, generation, event),
            Phase::Suspended => self.suspended(now, event),
            Phase::Succeeded | Phase::Failed { .. } | Phase::Cancelled => self.over(event),
        }
    }

    fn queued(&mut self, now: UnixMs, event: Event) -> Result<Vec<Effect>, Illegal> {
        match event {
            Event::Placed => {
                self.generation += 1;
                let generation = self.generation;
                self.enter(now, Phase::Starting { generation });
                Ok(vec![Effect::Launch { generation }])
            }
            Event::SuspendAsked => {
                self.enter(now, Phase::Suspended);
                Ok(vec![])
            }
            Event::CancelAsked => {
                self.enter(now, Phase::Cancelled);
                Ok(vec![])
            }
            Event::CoordinatorRestarted => Ok(vec![]),
            Event::Ready { .. } | Event::Finished { .. } | Event::Stopped { .. } | Event::GenerationFailed { .. } => {
                Err(self.wrong_phase())
            }
        }
    }

    fn starting(&mut self, now: UnixMs, live: u64, event: Event) -> Result<Vec<Effect>, Illegal> {
        match event {
            Event::Ready { generation } => {
                same(generation, live)?;
                self.enter(now, Phase::Running { generation });
                Ok(vec![])
            }
            Event::GenerationFailed { generation, failure } => self.fail(now, live, generation, failure),
            // nothing is trained yet: the last checkpoint, if any, is the state
            Event::SuspendAsked => {
                self.enter(now, Phase::Suspended);
                Ok(vec![Effect::Abort { generation: live, why: "the job was suspended".into() }])
            }
            Event::CancelAsked => self.cancel(now, live),
            Event::CoordinatorRestarted => {
                self.enter(now, Phase::Queued);
                Ok(vec![])
            }
            Event::Finished { generation } | Event::Stopped { generation } => {
                same(generation, live)?;
                Err(self.wrong_phase())
            }
            Event::Placed => Err(self.wrong_phase()),
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
                if self.stopping {
                    self.enter(now, Phase::Suspended);
                    return Ok(vec![Effect::Release { generation }]);
                }
                let text = "the worker stopped without being asked".into();
                self.fail(now, live, generation, Failure { kind: FailureKind::Internal, text })
            }
            Event::GenerationFailed { generation, failure } => self.fail(now, live, generation, failure),
            Event::SuspendAsked => {
                if self.stopping {
                    return Ok(vec![]);
                }
                self.stopping = true;
                // the deadline for saving counts from here
                self.since = now;
                Ok(vec![Effect::CheckpointAndStop { generation: live }])
            }
            Event::CancelAsked => self.cancel(now, live),
            Event::CoordinatorRestarted => {
                let phase = if self.stopping { Phase::Suspended } else { Phase::Queued };
                self.enter(now, phase);
                Ok(vec![])
            }
            Event::Ready { generation } => {
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
            Event::SuspendAsked | Event::CoordinatorRestarted => Ok(vec![]),
            Event::Placed
            | Event::Ready { .. }
            | Event::Finished { .. }
            | Event::Stopped { .. }
            | Event::GenerationFailed { .. } => Err(self.wrong_phase()),
        }
    }

    fn over(&mut self, event: Event) -> Result<Vec<Effect>, Illegal> {
        match event {
            Event::CancelAsked | Event::CoordinatorRestarted => Ok(vec![]),
            Event::Placed
            | Event::Ready { .. }
            | Event::Finished { .. }
            | Event::Stopped { .. }
            | Event::GenerationFailed { .. }
            | Event::SuspendAsked => Err(self.wrong_phase()),
        }
    }

    fn fail(&mut self, now: UnixMs, live: u64, generation: u64, failure: Failure) -> Result<Vec<Effect>, Illegal> {
        same(generation, live)?;
        self.enter(now, Phase::Failed { failure });
        Ok(vec![Effect::Abort { generation, why: "the job failed".into() }])
    }

    fn cancel(&mut self, now: UnixMs, generation: u64) -> Result<Vec<Effect>, Illegal> {
        self.enter(now, Phase::Cancelled);
        Ok(vec![Effect::Abort { generation, why: "the job was cancelled".into() }])
    }

    fn enter(&mut self, now: UnixMs, phase: Phase) {
        self.phase = phase;
        self.since = now;
        self.stopping = false;
    }

    fn wrong_phase(&self) -> Illegal {
        Illegal::WrongPhase { job: self.id.clone(), phase: self.phase.name() }
    }
}

fn same(event: u64, live: u64) -> Result<(), Illegal> {
    if event == live { Ok(()) } else { Err(Illegal::StaleGeneration { event, live }) }
}
