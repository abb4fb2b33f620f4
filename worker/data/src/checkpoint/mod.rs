//! The checkpoint store: shards first, then a manifest commits. No manifest, no checkpoint; a committed file is never
//! overwritten, and the newest checkpoint that verifies is the one a run resumes from.
//!
//! ```text
//! <root>/step-0000001234/rows-00000.safetensors   one a rank: embedding rows and moments by global node id
//!                        dense.safetensors        rank 0 alone: dense weights and moments
//!                        manifest.json            last, create-only: sizes and digests of the files, progress
//! ```
//!
//! Knows nothing of models: tables have names, rows have ids. Decides nothing about when to write.

mod manifest;
mod shard;
mod store;
mod verify;

pub use manifest::{FileEntry, Manifest, Progress};
pub use store::{CheckpointStore, NewestGood};
pub use verify::{Problem, VerifyReport, verify};

use std::io;
use std::path::{Path, PathBuf};

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
    #[error("{} cannot be {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    #[error("step {step} is committed already in {}: the first commit stands", folder.display())]
    AlreadyCommitted { step: u64, folder: PathBuf },
    #[error("step {step} has no committed checkpoint in {}", root.display())]
    NotCommitted { step: u64, root: PathBuf },
    /// A file that is not what was written.
    #[error("{}: {why}: use an earlier checkpoint", path.display())]
    Damaged { path: PathBuf, why: String },
    /// A snapshot or manifest that contradicts itself; nothing was written.
    #[error("{what}")]
    Invalid { what: String },
    #[error("checkpoint of step {step} has no row of `{table}` for node {node}: it was written for another dataset")]
    RowMissing { step: u64, table: String, node: u32 },
}

impl CheckpointError {
    pub(crate) fn io<'a>(path: &'a Path, action: &'static str) -> impl FnOnce(io::Error) -> CheckpointError + 'a {
        move |source| CheckpointError::Io { path: path.into(), action, source }
    }

    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged { path: path.into(), why: why.into() }
    }

    /// Whether the same call may succeed later: the disk or the network failed, not the data.
    pub fn is_retryable(&self) -> bool {
        matches!(self, CheckpointError::Io { .. })
    }
}
