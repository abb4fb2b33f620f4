//! What a job leaves in the bucket of its checkpoints, where its workers share no run directory with their coordinator: the
//! files of `export/`. `export.json` goes last, as in a folder, and an export without it is not read.

use crate::objects::{FetchFailure, Objects, Stored};
use crate::{Options, s3};
use accord_data::checkpoint::{Found, Place as _};
use accord_data::export::{ExportManifest, FOLDER, MANIFEST};
use accord_spec::Location;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(5);
/// No `export.json` is larger.
const MANIFEST_BYTES: u64 = 1 << 20;

/// Stores the export in `folder` in the bucket of a job's checkpoints, in the place of an older one; its address there. An
/// attempt that failed is repeated for `patience`.
///
/// # Errors
/// When `uri` names no bucket, the folder holds no whole export, or the store fails.
pub fn put_export(uri: &str, folder: &Path, options: &Options, patience: Duration) -> io::Result<String> {
    let objects = bucket(uri, options)?;
    let until = Instant::now() + patience;
    let (manifest, bytes) = read_manifest(&folder.join(MANIFEST))?;
    loop {
        match put(&objects, folder, &manifest, &bytes) {
            Ok(()) => return Ok(objects.address(FOLDER)),
            Err(_) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
}

/// `bytes`: the text of `manifest`.
fn put(objects: &Objects, folder: &Path, manifest: &ExportManifest, bytes: &[u8]) -> io::Result<()> {
    // the same again, by a worker that repeats the end of a run, leaves no moment without an export
    if stored_manifest(objects)?.is_some_and(|stored| stored != bytes) {
        objects.remove(&name(MANIFEST))?;
    }
    for file in &manifest.files {
        objects.put_file(&name(&file.name), File::open(folder.join(&file.name))?)?;
    }
    objects.put_file(&name(MANIFEST), File::open(folder.join(MANIFEST))?)
}

/// The text of the bucket's `export.json`.
fn stored_manifest(objects: &Objects) -> io::Result<Option<Vec<u8>>> {
    let name = name(MANIFEST);
    match objects.look(&name)? {
        Found::File(bytes) if bytes <= MANIFEST_BYTES => objects.read(&name, 0..bytes).map(Some),
        Found::File(_) | Found::NotAFile => Ok(Some(Vec::new())),
        Found::Missing => Ok(None),
    }
}

/// Removes the export beside a job's checkpoints, where there is one.
///
/// # Errors
/// When `uri` names no bucket, or the store fails.
pub fn remove_export(uri: &str, options: &Options) -> io::Result<()> {
    remove(&bucket(uri, options)?)
}

fn remove(objects: &Objects) -> io::Result<()> {
    let Some(stored) = stored_manifest(objects)? else { return Ok(()) };
    // without it the other files are no export
    objects.remove(&name(MANIFEST))?;
    let listed = ExportManifest::parse(&stored, Path::new(MANIFEST)).map(|manifest| manifest.files).unwrap_or_default();
    listed.iter().try_for_each(|file| objects.remove(&name(&file.name)))
}

/// Fetches the export into `folder`, which is made; false where there is none. A reader sees all of it or nothing.
///
/// # Errors
/// When `uri` names no bucket, the folder cannot be written, the store fails, or what it holds is damaged.
pub fn get_export(uri: &str, folder: &Path, options: &Options) -> io::Result<bool> {
    get(&bucket(uri, options)?, folder)
}

fn get(objects: &Objects, folder: &Path) -> io::Result<bool> {
    let Some(stored) = objects.find(&name(MANIFEST))? else { return Ok(false) };
    if stored.bytes > MANIFEST_BYTES {
        let message = format!("{} has {} bytes", objects.address(&stored.name), stored.bytes);
        return Err(io::Error::new(ErrorKind::InvalidData, message));
    }
    // under another name until the files that it lists are here
    let waiting = folder.join(format!(".{MANIFEST}.{}", std::process::id()));
    let fetched = fetch(objects, &stored, &waiting)
        .and_then(|()| read_manifest(&waiting))
        .and_then(|(manifest, _)| get_files(objects, &manifest, folder))
        .and_then(|()| std::fs::rename(&waiting, folder.join(MANIFEST)));
    if fetched.is_err() {
        // what failed says more
        let _ = std::fs::remove_file(&waiting);
    }
    fetched.map(|()| true)
}

fn get_files(objects: &Objects, manifest: &ExportManifest, folder: &Path) -> io::Result<()> {
    for file in &manifest.files {
        let stored = objects.find(&name(&file.name))?;
        let address = objects.address(&name(&file.name));
        let stored = stored.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("{address} is missing")))?;
        if stored.bytes != file.bytes {
            let message = format!("{address} has {} bytes, {MANIFEST} says {}", stored.bytes, file.bytes);
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        fetch(objects, &stored, &folder.join(&file.name))?;
    }
    Ok(())
}

fn fetch(objects: &Objects, stored: &Stored, file: &Path) -> io::Result<()> {
    match objects.fetch(stored, file) {
        Ok(()) => Ok(()),
        Err(FetchFailure::Store(error) | FetchFailure::Disk(error)) => Err(error),
    }
}

fn read_manifest(path: &Path) -> io::Result<(ExportManifest, Vec<u8>)> {
    let bytes = std::fs::read(path)?;
    let manifest = ExportManifest::parse(&bytes, path).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
    Ok((manifest, bytes))
}

/// Below the prefix of the checkpoints, as in a run directory.
fn name(file: &str) -> String {
    format!("{FOLDER}/{file}")
}

fn bucket(uri: &str, options: &Options) -> io::Result<Objects> {
    let invalid = |what| io::Error::new(ErrorKind::InvalidInput, what);
    match Location::of_checkpoints(uri).map_err(invalid)? {
        Location::S3 { bucket, prefix } => s3::connect(bucket, prefix, options).map_err(invalid),
        Location::Folder(folder) => Err(invalid(format!("`{folder}` is no bucket"))),
    }
}

#[cfg(test)]
#[path = "../tests/support/written_export.rs"]
mod written_export;

#[cfg(test)]
mod tests {
    use super::written_export::write_export;
    use super::*;
    use accord_data::export::{EMBEDDINGS, Export, USERS};
    use object_store::memory::InMemory;
    use std::sync::Arc;

    fn store() -> Objects {
        let address = "memory://runs".to_string();
        Objects::new(Arc::new(InMemory::new()), "runs", address.clone(), address, Duration::from_secs(20)).unwrap()
    }

    fn send(objects: &Objects, folder: &Path) {
        let (manifest, bytes) = read_manifest(&folder.join(MANIFEST)).unwrap();
        put(objects, folder, &manifest, &bytes).unwrap();
    }

    #[test]
    fn an_export_goes_and_comes_whole_and_a_newer_one_takes_its_place() {
        let root = tempfile::tempdir().unwrap();
        let (objects, sent, got) = (store(), root.path().join("sent"), root.path().join("deep/er/got"));
        assert!(!get(&objects, &got).unwrap(), "there is none yet");
        for bytes in [b"older".as_slice(), b"", b"newer", b"newer"] {
            write_export(&sent, bytes);
            send(&objects, &sent);
            assert!(get(&objects, &got).unwrap());
            assert_eq!(std::fs::read(got.join(EMBEDDINGS)).unwrap(), bytes);
            let [here, there] = [&got, &sent].map(|folder| Export::open(folder).unwrap().unwrap());
            assert_eq!(here.manifest, there.manifest);
            assert_eq!(here.train().unwrap(), there.train().unwrap());
        }
        remove(&objects).unwrap();
        assert!(!get(&objects, &root.path().join("cleared")).unwrap());
        assert!(objects.find(&name(USERS)).unwrap().is_none());
        remove(&objects).unwrap();
        let left = std::fs::read_dir(&got).unwrap().count();
        assert_eq!(left, std::fs::read_dir(&sent).unwrap().count(), "no file under another name stays");
    }

    #[test]
    fn what_a_killed_writer_leaves_in_the_bucket_is_no_export() {
        let root = tempfile::tempdir().unwrap();
        let (objects, sent, got) = (store(), root.path().join("sent"), root.path().join("got"));
        write_export(&sent, b"older");
        send(&objects, &sent);
        objects.remove(&name(USERS)).unwrap();
        assert!(get(&objects, &got).unwrap_err().to_string().contains("export/users.txt is missing"));
        assert!(objects.put_new(&name(USERS), b"somebody else").unwrap());
        assert!(get(&objects, &got).unwrap_err().to_string().contains("has 13 bytes, export.json says"));
        assert!(Export::open(&got).unwrap().is_none());

        // of another export, the first thing that goes is the old export.json
        let other = root.path().join("other");
        write_export(&other, b"newer");
        std::fs::remove_file(other.join(USERS)).unwrap();
        let (manifest, bytes) = read_manifest(&other.join(MANIFEST)).unwrap();
        assert!(put(&objects, &other, &manifest, &bytes).is_err());
        assert!(!get(&objects, &got).unwrap());
    }

    #[test]
    fn an_export_json_cannot_reach_beyond_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let (objects, sent, got) = (store(), root.path().join("sent"), root.path().join("in/got"));
        write_export(&sent, b"x");
        let text = std::fs::read_to_string(sent.join(MANIFEST)).unwrap();
        let foreign = text.replace("\"users.txt\"", "\"../outside\"");
        assert!(objects.put_new(&name(MANIFEST), foreign.as_bytes()).unwrap());
        assert!(objects.put_new("outside", b"x").unwrap());
        assert!(get(&objects, &got).unwrap_err().to_string().contains("is not one of an export"));
        assert!(!root.path().join("in/outside").exists());
    }

    #[test]
    fn a_folder_is_no_bucket_and_half_an_export_is_not_sent() {
        let root = tempfile::tempdir().unwrap();
        let options = Options { variables: Vec::new(), deadline: Duration::from_secs(1) };
        let error = put_export("checkpoints", root.path(), &options, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("is no bucket"), "{error}");
        let error = put_export("s3://bucket/x", root.path(), &options, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
