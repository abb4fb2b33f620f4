//! What a job leaves, beside its checkpoints: of workers that share no run directory with their coordinator.

use crate::objects::{FetchFailure, Objects};
use crate::{Options, s3};
use accord_data::checkpoint::Place as _;
use accord_spec::Location;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Below the prefix of the checkpoints, as in a run directory.
const EMBEDDINGS: &str = "export/embeddings.safetensors";
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(5);

/// Stores the embeddings of a job in the bucket of its checkpoints, in the place of older ones; their address. An attempt
/// that failed is repeated for `patience`.
///
/// # Errors
/// When `uri` names no bucket, the file cannot be read or the store fails.
pub fn put_embeddings(uri: &str, file: &Path, options: &Options, patience: Duration) -> io::Result<String> {
    let objects = bucket(uri, options)?;
    let until = Instant::now() + patience;
    loop {
        match objects.put_file(EMBEDDINGS, File::open(file)?) {
            Ok(()) => return Ok(objects.address(EMBEDDINGS)),
            Err(_) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
}

/// Fetches them into `file`, whose folder is made; false where there are none. A reader sees all of it or nothing.
///
/// # Errors
/// When `uri` names no bucket, the file cannot be written or the store fails.
pub fn get_embeddings(uri: &str, file: &Path, options: &Options) -> io::Result<bool> {
    let objects = bucket(uri, options)?;
    let Some(stored) = objects.find(EMBEDDINGS)? else { return Ok(false) };
    match objects.fetch(&stored, file) {
        Ok(()) => Ok(true),
        Err(FetchFailure::Store(error) | FetchFailure::Disk(error)) => Err(error),
    }
}

fn bucket(uri: &str, options: &Options) -> io::Result<Objects> {
    let invalid = |what| io::Error::new(ErrorKind::InvalidInput, what);
    match Location::of_checkpoints(uri).map_err(invalid)? {
        Location::S3 { bucket, prefix } => s3::connect(bucket, prefix, options).map_err(invalid),
        Location::Folder(folder) => Err(invalid(format!("`{folder}` is no bucket"))),
    }
}
