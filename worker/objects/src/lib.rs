//! Checkpoints and datasets in an object store. The engine and the checkpoint store know nothing of it: a network client
//! and the runtime it needs stay in here, behind blocking calls with deadlines.
//!
//! # Layout
//! * [`open`]: the store that a job's `checkpoint.uri` names, in a folder or in a bucket.
//! * [`dataset`]: the bucket that a job's `data.path` names, as a folder of this machine.
//! * [`results`]: the export of a job, beside its checkpoints.
//! * [`Objects`]: objects below a prefix as a place for checkpoints.
//! * `s3`: how a bucket is reached. `calls`: the thread that asks.

mod calls;
pub mod dataset;
mod objects;
pub mod results;
mod s3;

pub use objects::Objects;
pub use s3::Options;

use accord_data::checkpoint::{CheckpointError, CheckpointStore};
use accord_spec::Location;
use std::path::Path;
use std::sync::Arc;

/// The checkpoints of a run: a relative path or `file://` is a folder in `run_dir`, `s3://bucket/prefix` an object store.
/// Asks nobody yet.
///
/// # Errors
/// [`CheckpointError::Invalid`] for an address or variables that make no sense.
pub fn open(uri: &str, run_dir: &Path) -> Result<CheckpointStore, CheckpointError> {
    open_with(uri, run_dir, &Options::from_env())
}

/// [`open`] with other variables than the process's.
///
/// # Errors
/// As [`open`].
pub fn open_with(uri: &str, run_dir: &Path, options: &Options) -> Result<CheckpointStore, CheckpointError> {
    let invalid = |what| CheckpointError::Invalid { what };
    match Location::of_checkpoints(uri).map_err(invalid)? {
        Location::Folder(folder) => Ok(CheckpointStore::new(run_dir.join(folder))),
        Location::S3 { bucket, prefix } => {
            let objects = s3::connect(bucket, prefix, options).map_err(invalid)?;
            Ok(CheckpointStore::at(Arc::new(objects)))
        }
    }
}
