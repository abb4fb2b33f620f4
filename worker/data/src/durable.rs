//! Writing files so that a crash leaves the old state or the new one, and never a half of either.
//! Knows nothing of what the files hold.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A name beside `target` that no other writer of this or another process uses.
pub(crate) fn temporary(target: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    target.with_file_name(format!(".{name}.{}-{unique}.partial", std::process::id()))
}

/// Removes what writers of this folder left under a temporary name when they were killed. One that is still at work fails.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && name.ends_with(".partial") && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes `bytes` and waits until they are on the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits until the names in `folder` are on the disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Puts `bytes` in the place of whatever `target` holds; its folder must exist.
pub(crate) fn replace(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = temporary(target);
    let written = write_synced(&fresh, bytes).and_then(|()| fs::rename(&fresh, target));
    if written.is_err() {
        // the error itself says more than a failure to tidy up would
        let _ = fs::remove_file(&fresh);
    }
    written?;
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
        _ => sync_folder(Path::new(".")),
    }
}

/// Gives a finished temporary file its name, unless that name is taken: then false, and the file there is untouched.
/// The temporary file is gone afterwards in every case but an error.
pub(crate) fn publish_new(temporary: &Path, target: &Path) -> io::Result<bool> {
    let published = match fs::hard_link(temporary, target) {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
        // a file system without hard links: claim the name, then replace the claim
        Err(_) => match OpenOptions::new().write(true).create_new(true).open(target) {
            Ok(_) => return fs::rename(temporary, target).map(|()| true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
            Err(e) => return Err(e),
        },
    };
    fs::remove_file(temporary)?;
    Ok(published)
}
