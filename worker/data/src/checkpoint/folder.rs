//! Checkpoints in a folder of this machine: a file gets its name when it is whole and on the disk. Calls last as long
//! as the file system takes.

use super::place::{Found, Place};
use crate::durable;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What Linux and the BSDs call a sector that cannot be read (EIO).
const BAD_SECTOR: i32 = 5;

/// The folder `root` and what is below it.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Touches nothing: the folder is made by the first write.
    pub(super) fn new(root: PathBuf) -> Folder {
        Folder { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    /// Waits until what the folder of `path` names is on the disk, and the folder's own name.
    fn sync_above(&self, path: &Path) -> io::Result<()> {
        durable::sync_folder(path.parent().unwrap_or(&self.root))?;
        durable::sync_folder(&self.root)
    }
}

impl Place for Folder {
    fn address(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn create_limit(&self) -> u64 {
        u64::MAX
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let target = self.path(name);
        fs::create_dir_all(target.parent().unwrap_or(&self.root))?;
        let temporary = durable::temporary(&target);
        let published =
            durable::write_synced(&temporary, bytes).and_then(|()| durable::publish_new(&temporary, &target));
        if published.is_err() {
            // half a file would keep a full disk full; the error itself says more than a failure to tidy up would
            let _ = fs::remove_file(&temporary);
        }
        let published = published?;
        self.sync_above(&target)?;
        Ok(published)
    }

    fn look(&self, name: &str) -> io::Result<Found> {
        // not following links: a link may point anywhere
        match fs::symlink_metadata(self.path(name)) {
            Ok(found) if found.is_file() => Ok(Found::File(found.len())),
            Ok(_) => Ok(Found::NotAFile),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Found::Missing),
            Err(e) => Err(e),
        }
    }

    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        File::open(self.path(name))
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(range.start))?;
                file.read_exact(&mut bytes)
            })
            .map_err(spoiled)?;
        Ok(bytes)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(folder)) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => self.sync_above(&path),
        }
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        fs::remove_dir_all(self.path(folder))
    }

    fn set_aside(&self, folder: &str, _evidence: &str, aside: &str) -> io::Result<bool> {
        let aside = self.path(aside);
        if aside.exists() {
            return Ok(false);
        }
        fs::rename(self.path(folder), &aside)?;
        durable::sync_folder(&self.root)?;
        Ok(true)
    }
}

/// A file that ends too soon or lies on a bad sector is spoiled; no other file is.
fn spoiled(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::UnexpectedEof || error.raw_os_error() == Some(BAD_SECTOR) {
        return io::Error::new(ErrorKind::InvalidData, error);
    }
    error
}
