//! Who a rank is, and connecting within a deadline whatever the libraries below do.

use crate::CollectiveError;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Of one rank of one generation.
#[derive(Clone, Debug)]
pub struct Options {
    /// 0 to `size - 1`
    pub rank: usize,
    pub size: usize,
    /// this rank's own address that the others can reach, e.g. 127.0.0.1
    pub host: String,
    /// Keeps generations apart in one store: a number serves one attempt to form, also when that fails.
    pub generation: u64,
    /// of one operation, and of forming
    pub deadline: Duration,
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), CollectiveError> {
        let Options { rank, size, deadline, .. } = self;
        if rank >= size || i32::try_from(*size).is_err() {
            return Err(CollectiveError::library(format!("there is no rank {rank} of {size}")));
        }
        if deadline.as_millis() == 0 || *deadline > YEAR {
            return Err(CollectiveError::library(format!(
                "a deadline of {deadline:?} is not within a millisecond and a year"
            )));
        }
        Ok(())
    }

    /// The namespace of this generation's keys in the store.
    pub(crate) fn prefix(&self) -> String {
        format!("generation-{}", self.generation)
    }
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// In errors.
pub(crate) const OPERATION: &str = "connect";

/// The libraries' own time-outs start at each of their steps; ours should find them slightly late, with their words.
const GRACE: Duration = Duration::from_millis(250);

/// The result of `connect`, which runs on a thread of its own: c10d bounds every step of forming by the deadline, but
/// not their sum, and NCCL's not at all. One that is late is left behind, and what it makes is dropped. The threads that
/// the libraries start there inherit the name `thread`.
pub(crate) fn within<T: Send + 'static>(
    thread: &str,
    deadline: Duration,
    connect: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, CollectiveError> {
    let (done, result) = mpsc::channel();
    let started = Instant::now();
    std::thread::Builder::new()
        .name(thread.to_owned())
        // nobody listens when it is late
        .spawn(move || drop(done.send(connect())))
        .map_err(|e| CollectiveError::library(format!("cannot start a thread: {e}")))?;
    match result.recv_timeout(deadline + GRACE) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(reason)) if started.elapsed() >= deadline => {
            tracing::warn!(reason, "could not connect in time");
            Err(CollectiveError::timeout(OPERATION, deadline))
        }
        Ok(Err(reason)) => Err(CollectiveError::Peer { operation: OPERATION, reason }),
        Err(RecvTimeoutError::Timeout) => Err(CollectiveError::timeout(OPERATION, deadline)),
        Err(RecvTimeoutError::Disconnected) => Err(CollectiveError::library("the connecting thread panicked")),
    }
}
