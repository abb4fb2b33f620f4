//! Why communication failed, for the caller that branches and the person who reads.

use std::time::Duration;

/// Of a collective operation. `operation` is its name: "all_reduce", .. or "connect".
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CollectiveError {
    /// The deadline passed. The other workers may be stuck, unreachable or in another operation.
    #[error("{operation} did not finish within {seconds} s: a worker is stuck, cut off or in another operation")]
    Timeout { operation: &'static str, seconds: f64 },
    /// Another worker closed its connection: it died, or failed first and has the cause.
    #[error("{operation} failed: {reason}")]
    Peer { operation: &'static str, reason: String },
    /// [`AbortHandle::abort`](crate::AbortHandle::abort) was called.
    #[error("communication was aborted: {why}")]
    Aborted { why: String },
    /// A library is missing, is of another version, or refused its arguments.
    #[error("{reason}")]
    Library { reason: String },
    /// A caller's mistake. Nothing was started.
    #[error("{operation}: {reason}")]
    Shape { operation: &'static str, reason: String },
}

impl CollectiveError {
    pub(crate) fn timeout(operation: &'static str, deadline: Duration) -> CollectiveError {
        CollectiveError::Timeout { operation, seconds: deadline.as_secs_f64() }
    }

    pub(crate) fn library(reason: impl Into<String>) -> CollectiveError {
        CollectiveError::Library { reason: reason.into() }
    }
}

impl From<tch::TchError> for CollectiveError {
    fn from(e: tch::TchError) -> CollectiveError {
        CollectiveError::library(format!("libtorch: {e}"))
    }
}
