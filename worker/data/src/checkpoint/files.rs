//! The files of checkpoints in their place: each failure says which file and what was tried.

use super::place::{Found, Place};
use super::verify::compare;
use super::{CheckpointError, FileEntry};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

/// Bytes that verifying holds at a time: enough for a server to send at full speed.
const PIECE: u64 = 32 << 20;

#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) place: Arc<dyn Place>,
}

impl Files {
    /// Whether a file is there, is a file, and has its size.
    pub(super) fn check_size(&self, folder: &str, entry: &FileEntry) -> Result<(), CheckpointError> {
        let why = match self.look(&format!("{folder}/{}", entry.name))? {
            Found::File(bytes) if bytes == entry.bytes => return Ok(()),
            Found::File(bytes) => format!("has {bytes} bytes, {} were committed", entry.bytes),
            Found::Missing => "is missing".into(),
            Found::NotAFile => "is not a plain file".into(),
        };
        Err(CheckpointError::damaged(self.address(folder, entry), why))
    }

    pub(super) fn check_digest(&self, folder: &str, entry: &FileEntry) -> Result<(), CheckpointError> {
        self.check_size(folder, entry)?;
        let mut hasher = blake3::Hasher::new();
        let mut start = 0;
        while start < entry.bytes {
            let end = entry.bytes.min(start + PIECE);
            hasher.update(&self.read_range(&format!("{folder}/{}", entry.name), start..end)?);
            start = end;
        }
        compare(hasher.finalize(), entry).map_err(|why| CheckpointError::damaged(self.address(folder, entry), why))
    }

    pub(super) fn read_whole(&self, folder: &str, entry: &FileEntry) -> Result<Vec<u8>, CheckpointError> {
        self.check_size(folder, entry)?;
        let bytes = self.read_range(&format!("{folder}/{}", entry.name), 0..entry.bytes)?;
        let damaged = |why| CheckpointError::damaged(self.address(folder, entry), why);
        compare(blake3::hash(&bytes), entry).map_err(damaged)?;
        Ok(bytes)
    }

    pub(super) fn address(&self, folder: &str, entry: &FileEntry) -> String {
        self.place.address(&format!("{folder}/{}", entry.name))
    }

    pub(super) fn failed(&self, name: &str, action: &'static str, source: io::Error) -> CheckpointError {
        let address = self.place.address(name);
        match source.kind() {
            ErrorKind::InvalidData => CheckpointError::damaged(address, format!("cannot be {action}: {source}")),
            _ => CheckpointError::Io { address, action, source },
        }
    }

    pub(super) fn put_new(&self, name: &str, bytes: &[u8]) -> Result<bool, CheckpointError> {
        self.place.put_new(name, bytes).map_err(|e| self.failed(name, "written", e))
    }

    pub(super) fn look(&self, name: &str) -> Result<Found, CheckpointError> {
        self.place.look(name).map_err(|e| self.failed(name, "read", e))
    }

    pub(super) fn read_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, CheckpointError> {
        self.place.read(name, range).map_err(|e| self.failed(name, "read", e))
    }

    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>, CheckpointError> {
        self.place.list(folder).map_err(|e| self.failed(folder, "listed", e))
    }

    pub(super) fn remove_file(&self, name: &str) -> Result<(), CheckpointError> {
        self.place.remove(name).map_err(|e| self.failed(name, "removed", e))
    }
}
