//! Whether a communicator can still be used: the first failure stays, and wakes whoever waits.

use crate::CollectiveError;
use crate::ffi;
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
}

/// Shared by a communicator, its works, its abort handles and its watchers.
#[derive(Default)]
pub(crate) struct Health {
    failure: OnceLock<CollectiveError>,
    sleepers: Mutex<Vec<Sleeper>>,
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
