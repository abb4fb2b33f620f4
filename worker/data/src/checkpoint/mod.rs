//! The checkpoint store: shards first, then a manifest commits. No manifest, no checkpoint; a committed file is never
//! overwritten, and the newest checkpoint that verifies is the one a run resumes from.
//!
//! ```text
//! <root>/step-0000001234/rows-00000.safetensors   one a rank: embedding rows and moments by global node id
//!                        dense.safetensors        rank 0 alone: dense weights and moments
//!                        manifest.json            last, create-only: sizes and digests of the files, progress
//! ```
//!
//! The files lie in a [`Place`]: a folder, or whatever another crate knows to ask. Knows nothing of models: tables have
//! names, rows have ids. Decides nothing about when to write.

mod files;
mod folder;
mod gather;
mod manifest;
mod place;
mod shard;
mod store;
mod verify;

pub use manifest::{FileEntry, Manifest, Progress};
pub use place::{Found, Place};
pub use store::{CheckpointStore, NewestGood};
pub use verify::{Problem, VerifyReport};

use std::io;

/// What a run needs to go on as if it had not been interrupted.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub rows: Vec<RowTable>,
    pub dense: Vec<DenseArray>,
    pub progress: Progress,
}

/// Rows of a table over all nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct RowTable {
    pub name: String,
    /// Global node ids, distinct: users first, item `i` is `users + i`.
    pub ids: Vec<u32>,
    pub width: usize,
    /// `ids.len() * width`, row-major.
    pub values: Vec<f32>,
}

/// A replicated array.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseArray {
    pub name: String,
    pub shape: Vec<usize>,
    /// As many as the product of `shape`.
    pub values: Vec<f32>,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{address} cannot be {action}: {source}")]
    Io { address: String, action: &'static str, source: io::Error },
    #[error("step {step} is committed already in {folder}: the first commit stands")]
    AlreadyCommitted { step: u64, folder: String },
    #[error("step {step} has no committed checkpoint in {root}")]
    NotCommitted { step: u64, root: String },
    /// A file that is not what was written.
    #[error("{address}: {why}: use an earlier checkpoint")]
    Damaged { address: String, why: String },
    /// A snapshot, a manifest or an address that makes no sense; nothing was written.
    #[error("{what}")]
    Invalid { what: String },
    #[error("checkpoint of step {step} has no row of `{table}` for node {node}: it was written for another dataset")]
    RowMissing { step: u64, table: String, node: u32 },
}

impl CheckpointError {
    pub(crate) fn damaged(address: impl Into<String>, why: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged { address: address.into(), why: why.into() }
    }

    /// Whether the same call may succeed later: the disk or the network failed, not the data.
    pub fn is_retryable(&self) -> bool {
        matches!(self, CheckpointError::Io { .. })
    }
}
