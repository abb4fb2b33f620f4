//! Whether a communicator can still be used: the first failure stays, and wakes whoever waits.

use crate::CollectiveError;
use crate::ffi;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Ends every present and later wait of the communicator with [`CollectiveError::Aborted`]. Cloneable, and works from
/// any thread and after the communicator is gone.
#[derive(Clone)]
pub struct AbortHandle(Arc<Health>);

impl AbortHandle {
    pub(crate) fn new(health: Arc<Health>) -> AbortHandle {
        AbortHandle(health)
    }

    /// Does nothing when the communicator has failed before.
    pub fn abort(&self, why: &str) {
        self.0.fail(CollectiveError::Aborted { why: why.to_owned() });
    }

    /// The newest operation of the communicator; none before the first.
    pub fn last_exchange(&self) -> Option<Exchange> {
        *self.0.exchange()
    }
}

/// An operation, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Counted from 1; every rank calls the same operations in the same order.
    pub number: u64,
    pub operation: &'static str,
    pub phase: ExchangePhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangePhase {
    Started,
    Waiting,
    Done,
}

impl fmt::Display for Exchange {
    /// `all_to_all #1234, waiting`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            ExchangePhase::Started => "started",
            ExchangePhase::Waiting => "waiting",
            ExchangePhase::Done => "done",
        };
        write!(f, "{} #{}, {phase}", self.operation, self.number)
    }
}

/// Shared by a communicator, its works, its abort handles and its watchers.
#[derive(Default)]
pub(crate) struct Health {
    failure: OnceLock<CollectiveError>,
    sleepers: Mutex<Vec<Sleeper>>,
    exchange: Mutex<Option<Exchange>>,
}

/// A wait inside libtorch, for a message from or to `peer`.
struct Sleeper {
    peer: usize,
    message: Arc<ffi::Work>,
}

impl Health {
    /// The first failure, when there was one.
    pub(crate) fn check(&self) -> Result<(), CollectiveError> {
        self.failure.get().map_or(Ok(()), |first| Err(first.clone()))
    }

    /// Records `error` unless there was a failure before, wakes everyone, and returns the first failure.
    pub(crate) fn fail(&self, error: CollectiveError) -> CollectiveError {
        let first = self.failure.get_or_init(|| error).clone();
        self.sleepers().iter().for_each(|sleeper| sleeper.message.interrupt());
        first
    }

    /// Wakes those who wait for `peer`.
    pub(crate) fn wake(&self, peer: usize) {
        self.sleepers().iter().filter(|sleeper| sleeper.peer == peer).for_each(|sleeper| sleeper.message.interrupt());
    }

    /// Until the guard is dropped, `message` is interrupted by [`fail`](Self::fail) and [`wake`](Self::wake). What they
    /// announce must be looked at after this call and before sleeping, or it can be missed.
    pub(crate) fn about_to_sleep(&self, peer: usize, message: &Arc<ffi::Work>) -> Asleep<'_> {
        self.sleepers().push(Sleeper { peer, message: Arc::clone(message) });
        Asleep { health: self, message: Arc::clone(message) }
    }

    /// Another operation has started; its number.
    pub(crate) fn started(&self, operation: &'static str) -> u64 {
        let mut last = self.exchange();
        let number = last.map_or(0, |last| last.number) + 1;
        *last = Some(Exchange { number, operation, phase: ExchangePhase::Started });
        number
    }

    /// How far an operation is; older ones are of no interest any more.
    pub(crate) fn proceed(&self, number: u64, phase: ExchangePhase) {
        if let Some(last) = self.exchange().as_mut().filter(|last| last.number == number) {
            last.phase = phase;
        }
    }

    fn exchange(&self) -> MutexGuard<'_, Option<Exchange>> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleepers(&self) -> MutexGuard<'_, Vec<Sleeper>> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Asleep<'a> {
    health: &'a Health,
    message: Arc<ffi::Work>,
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.health.sleepers().retain(|sleeper| !Arc::ptr_eq(&sleeper.message, &self.message));
    }
}
