//! What is right and wrong with one checkpoint.

use super::{CheckpointError, FileEntry, Manifest};

/// What is right and wrong with one checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyReport {
    /// Of the checkpoint's folder.
    pub address: String,
    /// Whether there is a manifest; without one it is no checkpoint.
    pub committed: bool,
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
    pub(super) fn new(address: String) -> VerifyReport {
        VerifyReport { address, committed: true, manifest: None, good_files: 0, good_bytes: 0, problems: vec![] }
    }

    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn add(&mut self, file: &str, error: &CheckpointError) {
        let why = match error {
            CheckpointError::Damaged { why, .. } => why.clone(),
            CheckpointError::Io { source, .. } => format!("cannot be read: {source}"),
            other => other.to_string(),
        };
        self.problems.push(Problem { file: file.into(), why });
    }
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
