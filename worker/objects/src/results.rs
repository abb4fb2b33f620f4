//! What a job leaves, beside its checkpoints: of workers that share no run directory with their coordinator.

use crate::objects::Objects;
use crate::{Options, s3};
use accord_data::checkpoint::{Found, Place as _};
use accord_spec::CheckpointUri;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

/// Below the prefix of the checkpoints, as in a run directory.
const EMBEDDINGS: &str = "export/embeddings.safetensors";
/// Bytes held in memory while the file comes.
const BLOCK: u64 = 32 << 20;

/// Stores the embeddings of a job in the bucket of its checkpoints, in the place of older ones; their address.
///
/// # Errors
/// When `uri` names no bucket, the file cannot be read or the store fails.
pub fn put_embeddings(uri: &str, file: &Path) -> io::Result<String> {
    put_with(uri, file, &Options::from_env())
}

/// Fetches them into `file`, whose folder is made; false where there are none. A reader sees all of it or nothing.
///
/// # Errors
/// When `uri` names no bucket, the file cannot be written or the store fails.
pub fn get_embeddings(uri: &str, file: &Path) -> io::Result<bool> {
    get_with(uri, file, &Options::from_env())
}

/// [`put_embeddings`] with other variables than the process's.
///
/// # Errors
/// As [`put_embeddings`].
pub fn put_with(uri: &str, file: &Path, options: &Options) -> io::Result<String> {
    let objects = bucket(uri, options)?;
    objects.put_file(EMBEDDINGS, File::open(file)?)?;
    Ok(objects.address(EMBEDDINGS))
}

/// [`get_embeddings`] with other variables than the process's.
///
/// # Errors
/// As [`get_embeddings`].
pub fn get_with(uri: &str, file: &Path, options: &Options) -> io::Result<bool> {
    let objects = bucket(uri, options)?;
    let Found::File(bytes) = objects.look(EMBEDDINGS)? else { return Ok(false) };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let partial = file.with_extension(format!("{}.part", std::process::id()));
    let mut out = File::create(&partial)?;
    let fetched = (0..bytes)
        .step_by(BLOCK as usize)
        .try_for_each(|start| out.write_all(&objects.read(EMBEDDINGS, start..bytes.min(start + BLOCK))?))
        .and_then(|()| out.sync_all())
        .and_then(|()| std::fs::rename(&partial, file));
    if fetched.is_err() {
        // what failed says more
        let _ = std::fs::remove_file(&partial);
    }
    fetched.map(|()| true)
}

fn bucket(uri: &str, options: &Options) -> io::Result<Objects> {
    let invalid = |what| io::Error::new(ErrorKind::InvalidInput, what);
    match CheckpointUri::parse(uri).map_err(invalid)? {
        CheckpointUri::S3 { bucket, prefix } => s3::connect(bucket, prefix, options).map_err(invalid),
        CheckpointUri::Folder(folder) => Err(invalid(format!("`{folder}` is no bucket"))),
    }
}
