//! What a worker said since the newest committed checkpoint (pure): a coordinator that takes the job over has it said
//! again, and cuts its own record back to that checkpoint. So the worker keeps it until a later one is committed.

use accord_proto::worker::{Underway, WorkerMessage, worker_message::Message};
use std::collections::VecDeque;

/// Messages that are kept: some hundred bytes each. A run whose checkpoints fail for that long is not taken over.
const AT_MOST: usize = 20_000;

/// The kept messages, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    generation: u64,
    /// Of the newest message that must not be lost.
    number: u64,
    /// Of the newest checkpoint that is known to be committed; 0: none.
    settled: u64,
    /// Stands before every checkpoint and is said to every coordinator.
    ready: Option<WorkerMessage>,
    kept: VecDeque<WorkerMessage>,
    /// Something was dropped that no checkpoint stands for.
    torn: bool,
}

impl Ledger {
    /// `settled`: the step this generation went on from.
    pub(super) fn new(generation: u64, settled: u64) -> Ledger {
        Ledger { generation, settled, ..Ledger::default() }
    }

    /// The message as it goes out. Those that must not be lost are kept.
    pub(super) fn enter(&mut self, message: Message) -> WorkerMessage {
        if !must_arrive(&message) {
            return WorkerMessage { generation: self.generation, number: 0, message: Some(message) };
        }
        self.number += 1;
        let entry = WorkerMessage { generation: self.generation, number: self.number, message: Some(message) };
        if matches!(entry.message, Some(Message::Ready(_))) {
            self.ready = Some(entry.clone());
        } else {
            self.kept.push_back(entry.clone());
        }
        if self.kept.len() > AT_MOST {
            self.kept.pop_front();
            self.torn = true;
        }
        entry
    }

    /// The checkpoint of `step` is committed: forgets what it stands for.
    pub(super) fn settle(&mut self, step: u64) {
        if step <= self.settled {
            return;
        }
        let snapshot = self.kept.iter().position(|entry| snapshot_of(entry) == Some(step));
        if let Some(at) = snapshot {
            self.kept.drain(..=at);
            self.torn = false;
        }
        self.kept.retain(|entry| shard_of(entry).is_none_or(|of| of > step));
        self.settled = step;
    }

    /// What is to be said to a coordinator that heard everything up to the message of that number.
    pub(super) fn after(&self, heard: u64) -> impl Iterator<Item = WorkerMessage> {
        self.ready.iter().chain(&self.kept).filter(move |entry| entry.number > heard).cloned()
    }

    /// None: too much was said since the newest checkpoint to be said again.
    pub(super) fn underway(&self) -> Option<Underway> {
        (!self.torn).then_some(Underway { settled_step: self.settled })
    }
}

/// The rest tells how things stand, and the next such message tells it anew.
fn must_arrive(message: &Message) -> bool {
    match message {
        Message::Register(_) | Message::Heartbeat(_) | Message::Step(_) | Message::Notice(_) | Message::Log(_) => false,
        Message::Ready(_)
        | Message::Epoch(_)
        | Message::Eval(_)
        | Message::SnapshotTaken(_)
        | Message::ShardWritten(_)
        | Message::ShardFailed(_)
        | Message::Finished(_)
        | Message::Stopped(_)
        | Message::Leaving(_)
        | Message::Failed(_) => true,
    }
}

fn snapshot_of(entry: &WorkerMessage) -> Option<u64> {
    match &entry.message {
        Some(Message::SnapshotTaken(taken)) => Some(taken.step),
        _ => None,
    }
}

fn shard_of(entry: &WorkerMessage) -> Option<u64> {
    match &entry.message {
        Some(Message::ShardWritten(shard)) => Some(shard.step),
        Some(Message::ShardFailed(failed)) => Some(failed.step),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_proto::job::{Epoch, Step};
    use accord_proto::worker::{Ready, ShardWritten, SnapshotTaken};

    fn epoch(epoch: u64) -> Message {
        Message::Epoch(Epoch { epoch, ..Epoch::default() })
    }

    fn taken(step: u64) -> Message {
        Message::SnapshotTaken(SnapshotTaken { step, stall_seconds: 0.0 })
    }

    fn written(step: u64) -> Message {
        Message::ShardWritten(ShardWritten { step, ..ShardWritten::default() })
    }

    fn said(ledger: &Ledger, heard: u64) -> Vec<u64> {
        ledger.after(heard).map(|entry| entry.number).collect()
    }

    /// Ready, epoch 0, snapshot 10, epoch 1, shard 10, snapshot 20, shard 20: numbers 1 to 7.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(3, 0);
        let messages =
            [Message::Ready(Ready::default()), epoch(0), taken(10), epoch(1), written(10), taken(20), written(20)];
        for (at, message) in messages.into_iter().enumerate() {
            let entry = ledger.enter(message);
            assert_eq!((entry.generation, entry.number), (3, at as u64 + 1));
        }
        ledger
    }

    #[test]
    fn what_no_checkpoint_stands_for_is_said_again_and_readiness_always() {
        let mut ledger = ledger();
        assert_eq!(said(&ledger, 0), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(said(&ledger, 5), [6, 7]);
        ledger.settle(10);
        assert_eq!(said(&ledger, 0), [1, 4, 6, 7], "the shard of step 10 is part of what is settled");
        ledger.settle(20);
        ledger.settle(10);
        assert_eq!(said(&ledger, 0), [1]);
        assert_eq!(ledger.underway(), Some(Underway { settled_step: 20 }));
    }

    #[test]
    fn what_tells_how_things_stand_is_not_kept() {
        let mut ledger = Ledger::new(1, 0);
        assert_eq!(ledger.enter(Message::Step(Step::default())).number, 0);
        assert_eq!(ledger.enter(epoch(0)).number, 1);
        assert_eq!(said(&ledger, 0), [1]);
    }

    #[test]
    fn a_ledger_that_lost_something_says_so_until_a_checkpoint_makes_it_whole() {
        let mut ledger = Ledger::new(1, 0);
        for n in 0..=AT_MOST as u64 {
            ledger.enter(epoch(n));
        }
        assert_eq!(ledger.underway(), None);
        ledger.enter(taken(7));
        ledger.enter(epoch(8));
        ledger.settle(7);
        assert_eq!(said(&ledger, 0).len(), 1);
        assert_eq!(ledger.underway(), Some(Underway { settled_step: 7 }));
    }
}
