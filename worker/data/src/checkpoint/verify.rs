//! Whether a checkpoint on disk is what was committed. Reads in small pieces, changes nothing.

use super::store::{MANIFEST, step_of};
use super::{CheckpointError, FileEntry, Manifest};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What is right and wrong with one checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyReport {
    pub path: PathBuf,
    /// None where the manifest itself cannot be used.
    pub manifest: Option<Manifest>,
    /// Files whose size and digest are as committed.
    pub good_files: usize,
    /// Bytes that were read and found good.
    pub good_bytes: u64,
    /// Every bad file and why; empty means good.
    pub problems: Vec<Problem>,
}

/// One bad file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    pub why: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.why)
    }
}

impl VerifyReport {
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks the checkpoint in the folder `path` (`.../step-0000001234`): its manifest, and the size and digest of each
/// file it names. Every bad file is reported, not only the first.
pub fn verify(path: &Path) -> VerifyReport {
    let mut report = VerifyReport { path: path.into(), manifest: None, good_files: 0, good_bytes: 0, problems: vec![] };
    let bad = |file: &str, why: String| Problem { file: file.into(), why };
    let manifest = match read_manifest(path) {
        Ok(manifest) => manifest,
        Err(error) => {
            let why = match error {
                CheckpointError::Damaged { why, .. } => why,
                CheckpointError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                    "there is none, so nothing was committed here".into()
                }
                other => other.to_string(),
            };
            report.problems.push(bad(MANIFEST, why));
            return report;
        }
    };
    for entry in &manifest.files {
        match check_size(path, entry).and_then(|()| check_digest(path, entry)) {
            Ok(()) => {
                report.good_files += 1;
                report.good_bytes += entry.bytes;
            }
            Err(why) => report.problems.push(bad(&entry.name, why)),
        }
    }
    report.manifest = Some(manifest);
    report
}

/// The manifest of a checkpoint's folder.
pub(super) fn read_manifest(folder: &Path) -> Result<Manifest, CheckpointError> {
    let path = folder.join(MANIFEST);
    let bytes = fs::read(&path).map_err(CheckpointError::io(&path, "read"))?;
    let step = step_of(folder)
        .ok_or_else(|| CheckpointError::damaged(folder, "the folder is not named step- and a number"))?;
    Manifest::decode(&bytes, &path, step)
}

/// Whether a file is there, is a file, and has its size.
pub(super) fn check_size(folder: &Path, entry: &FileEntry) -> Result<(), String> {
    // not following links: a link may point anywhere
    match fs::symlink_metadata(folder.join(&entry.name)) {
        Ok(found) if !found.is_file() => Err("is not a plain file".into()),
        Ok(found) if found.len() != entry.bytes => {
            Err(format!("has {} bytes, {} were committed", found.len(), entry.bytes))
        }
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err("is missing".into()),
        Err(e) => Err(format!("cannot be read: {e}")),
    }
}

fn check_digest(folder: &Path, entry: &FileEntry) -> Result<(), String> {
    let mut hasher = blake3::Hasher::new();
    File::open(folder.join(&entry.name))
        .and_then(|file| hasher.update_reader(file).map(|_| ()))
        .map_err(|e| format!("cannot be read: {e}"))?;
    compare(hasher.finalize(), entry)
}

/// Whether a digest is the committed one.
pub(super) fn compare(found: blake3::Hash, entry: &FileEntry) -> Result<(), String> {
    if found.to_hex().as_str() == entry.blake3 {
        return Ok(());
    }
    Err(format!("digest is {}, {} was committed", short(found.to_hex().as_str()), short(&entry.blake3)))
}

fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}
