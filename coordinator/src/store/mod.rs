//! CLUSTER STORE: what must survive a coordinator. Reads, writes under conditions, leases and watches; small values
//! only (job records): logs, metrics and checkpoints never come here.
//!
//! # A write without an answer
//! A write that ends in [`StoreError::Unavailable`], or whose caller stops waiting, may have happened, and in etcd may
//! still happen. So never repeat one under [`Precondition::Any`]. Under the other two, repeat the very same write: if it
//! had happened it counts as done now, and its version comes back. To write something else instead, read the key first
//! and go on from the version found there: of the write on its way and the new one only one can win.

mod decide;
mod embedded;
mod etcd;
mod leases;
mod memory;
#[cfg(test)]
mod suite;
mod watch;

pub use embedded::EmbeddedStore;
pub use etcd::{EtcdConfig, EtcdIdentity, EtcdStore, EtcdTls, EtcdUser};
pub use memory::MemoryStore;
pub use watch::{Change, Watch};

use futures::future::BoxFuture;
use std::time::Duration;

/// Bound on one value: what etcd takes without complaint.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Grows by one with every write of a key; 1 is the first, also of a key that is made again after it was deleted.
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

/// A second thing that must hold, in the same transaction: another key still has exactly this value. By value, not by
/// version, for a key that is deleted and made again starts at version 1 again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub key: String,
    pub value: Vec<u8>,
}

/// A promise to speak up in time. The keys put under it vanish when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub value: Vec<u8>,
    pub version: Version,
}

/// One write of one key, and all that must hold for it to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub key: String,
    /// None deletes the key.
    pub value: Option<Vec<u8>>,
    pub when: Precondition,
    pub fence: Option<Fence>,
    /// The value vanishes with it; a value put without one stays, whatever the key was under before.
    pub lease: Option<LeaseId>,
}

impl Write {
    pub fn put(key: &str, value: Vec<u8>, when: Precondition) -> Write {
        Write { key: key.into(), value: Some(value), when, fence: None, lease: None }
    }

    /// A key that is not there is fine under [`Precondition::Any`].
    pub fn delete(key: &str, when: Precondition) -> Write {
        Write { key: key.into(), value: None, when, fence: None, lease: None }
    }

    #[must_use]
    pub fn fenced(mut self, fence: impl Into<Option<Fence>>) -> Write {
        self.fence = fence.into();
        self
    }

    #[must_use]
    pub fn leased(mut self, lease: LeaseId) -> Write {
        self.lease = Some(lease);
        self
    }
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("key {key}: wanted {wanted:?}, found version {found:?}")]
    PreconditionFailed { key: String, wanted: Precondition, found: Option<Version> },
    #[error("key {key}: not written, because {fence} is no longer what the writer holds")]
    Fenced { key: String, fence: String },
    #[error("lease {lease} has ended")]
    LeaseLost { lease: LeaseId },
    #[error("key {key}: {bytes} bytes are more than the {MAX_VALUE_BYTES} a value may have")]
    TooLarge { key: String, bytes: usize },
    /// Wrong settings: a password, a certificate, an address.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// See the module's words on writes without an answer.
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

    /// Every key that starts with `prefix`, in order, with its value.
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Stored)>, StoreError>>;

    /// Writes and returns the new version, 0 for a key deleted. A put that is refused only because the very same put
    /// (bytes and lease) was the last to happen returns that one's version. A broken fence is told before a
    /// precondition.
    fn write(&self, write: Write) -> BoxFuture<'_, Result<Version, StoreError>>;

    /// A lease that lasts `ttl` or longer (etcd: whole seconds, at least some two) from each time it is kept alive.
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>>;

    /// The lease begins anew.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] once it has ended.
    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ends the lease and deletes its keys; one that has ended is fine.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Every change of the keys that start with `prefix`, from the moment this returns. To know all: watch, then list.
    fn watch(&self, prefix: &str) -> BoxFuture<'_, Result<Watch, StoreError>>;

    /// [`ClusterStore::write`] of a value, without fence and lease.
    fn put(&self, key: &str, value: Vec<u8>, when: Precondition) -> BoxFuture<'_, Result<Version, StoreError>> {
        self.write(Write::put(key, value, when))
    }

    /// Removes a key, without fence; a key that is not there is fine under [`Precondition::Any`].
    fn delete(&self, key: &str, when: Precondition) -> BoxFuture<'_, Result<(), StoreError>> {
        let written = self.write(Write::delete(key, when));
        Box::pin(async move { written.await.map(drop) })
    }
}
