//! How much an operation moved and how long it was waited for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Of one kind of operation. Bytes are what a rank sends to and receives from other ranks in any good algorithm, not
/// what is on the wire: of all_to_all its exact rows, of all_reduce `2 (P - 1) / P` of the tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    pub calls: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// spent in [`Work::wait`](crate::Work::wait)
    pub seconds: f64,
}

/// Since the start of a communicator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// by name, in the order of first use
    pub operations: Vec<(&'static str, Count)>,
}

impl Traffic {
    /// Of all operations together.
    pub fn total(&self) -> Count {
        self.operations.iter().fold(Count::default(), |sum, (_, count)| Count {
            calls: sum.calls + count.calls,
            bytes_sent: sum.bytes_sent + count.bytes_sent,
            bytes_received: sum.bytes_received + count.bytes_received,
            seconds: sum.seconds + count.seconds,
        })
    }
}

/// Bytes of one operation to and from other ranks.
#[derive(Clone, Copy, Default)]
pub(crate) struct Payload {
    pub sent: i64,
    pub received: i64,
}

impl Payload {
    /// Of a tensor of `length` bytes.
    pub(crate) fn all_reduce(length: i64, size: usize) -> Payload {
        let size = size as i64;
        Payload::both(length * 2 * (size - 1) / size)
    }

    /// Of an all_gather or reduce_scatter whose smaller tensor has `length` bytes.
    pub(crate) fn part(length: i64, size: usize) -> Payload {
        Payload::both(length * (size as i64 - 1))
    }

    /// Of bytes for and of each rank, `rank` being this one.
    pub(crate) fn counts(sent: &[i64], received: &[i64], rank: usize) -> Payload {
        let to_others = |counts: &[i64]| counts.iter().sum::<i64>() - counts[rank];
        Payload { sent: to_others(sent), received: to_others(received) }
    }

    /// Of a tensor of `length` bytes.
    pub(crate) fn broadcast(length: i64, is_root: bool, size: usize) -> Payload {
        if is_root {
            Payload { sent: length * (size as i64 - 1), received: 0 }
        } else {
            Payload { sent: 0, received: length }
        }
    }

    fn both(length: i64) -> Payload {
        Payload { sent: length, received: length }
    }
}

/// The traffic of a communicator, shared with its works.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Traffic>);

impl Ledger {
    pub(crate) fn started(&self, operation: &'static str, payload: Payload) {
        self.change(operation, |count| {
            count.calls += 1;
            count.bytes_sent += payload.sent.unsigned_abs();
            count.bytes_received += payload.received.unsigned_abs();
        });
    }

    pub(crate) fn waited(&self, operation: &'static str, time: Duration) {
        self.change(operation, |count| count.seconds += time.as_secs_f64());
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, operation: &'static str, change: impl FnOnce(&mut Count)) {
        let operations = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).operations;
        let place = operations.iter().position(|(name, _)| *name == operation).unwrap_or_else(|| {
            operations.push((operation, Count::default()));
            operations.len() - 1
        });
        change(&mut operations[place].1);
    }
}
