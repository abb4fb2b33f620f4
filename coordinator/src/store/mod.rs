//! CLUSTER STORE: what must survive a coordinator. get / put / delete with a precondition, and a listing by prefix.
//! Small values only (job records); logs, metrics and checkpoints never come here.

mod embedded;
mod memory;
#[cfg(test)]
mod suite;

pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;

use futures::future::BoxFuture;

/// Bound on one value: what etcd takes without complaint.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Grows by one with every write of a key; 1 is the first.
pub type Version = u64;

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    Any,
    /// The key does not exist.
    Absent,
    /// The key is at this version.
    Version(Version),
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub value: Vec<u8>,
    pub version: Version,
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("key {key}: wanted {wanted:?}, found version {found:?}")]
    PreconditionFailed { key: String, wanted: Precondition, found: Option<Version> },
    #[error("key {key}: {bytes} bytes are more than the {MAX_VALUE_BYTES} a value may have")]
    TooLarge { key: String, bytes: usize },
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}

/// The one interface of every store; `suite` says what it must do.
pub trait ClusterStore: Send + Sync {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Stored>, StoreError>>;

    /// Writes and returns the new version.
    fn put(&self, key: &str, value: Vec<u8>, when: Precondition) -> BoxFuture<'_, Result<Version, StoreError>>;

    /// Removes a key; a key that is not there is fine under [`Precondition::Any`].
    fn delete(&self, key: &str, when: Precondition) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Every key that starts with `prefix`, in order, with its value.
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Stored)>, StoreError>>;
}

/// Checks a precondition against what is there.
fn check(key: &str, when: Precondition, found: Option<Version>) -> Result<(), StoreError> {
    let holds = match when {
        Precondition::Any => true,
        Precondition::Absent => found.is_none(),
        Precondition::Version(version) => found == Some(version),
    };
    if holds { Ok(()) } else { Err(StoreError::PreconditionFailed { key: key.into(), wanted: when, found }) }
}

fn check_size(key: &str, value: &[u8]) -> Result<(), StoreError> {
    if value.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    Err(StoreError::TooLarge { key: key.into(), bytes: value.len() })
}
