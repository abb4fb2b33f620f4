//! A dataset in a bucket, as a folder of this machine. Every process that reads one asks here first: the first fetches
//! what has changed, the others wait for it and find it whole.

use crate::objects::{FetchFailure, Objects, Stored};
use crate::{Options, s3};
use accord_data::checkpoint::Place as _;
use accord_spec::{Data, Location};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// Of one dataset: what has more is most likely a bucket, not a dataset in it.
const MAX_FILES: usize = 10_000;
/// How long a process waits for another of this machine that fetches the same.
const TURN_WITHIN: Duration = Duration::from_secs(3600);
/// Between two looks at whether it is done.
const POLL: Duration = Duration::from_millis(50);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(5);
/// Files beside a dataset's own begin so.
const OURS: &str = "..";
/// What was fetched, by name: the tag that the store gave to its content.
const RECORD: &str = "..fetched.json";
const LOCK: &str = "..lock";

/// Why a dataset is not on this machine.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// To be put right by whoever named it.
    #[error("data.path: {what}\n  hint: {advice}")]
    Unusable { what: String, advice: &'static str },
    /// The store or the disk failed; another attempt may not.
    #[error("data.path: {address} cannot be fetched: {source}")]
    Failed { address: String, source: io::Error },
}

impl FetchError {
    /// Whether a later attempt may find things better.
    pub fn is_retryable(&self) -> bool {
        matches!(self, FetchError::Failed { .. })
    }
}

/// `data` with `path` naming a folder of this machine: as it is, or where the files of its bucket lie now, below
/// `datasets` in the user's cache. Blocks; each request to the store has a deadline, and one that failed is repeated for
/// `patience`.
///
/// # Errors
/// [`FetchError`].
pub fn local(data: &Data, patience: Duration) -> Result<Data, FetchError> {
    let cache = || accord_data::wheel::cache_folder().map(|folder| folder.join("datasets"));
    let until = Instant::now() + patience;
    loop {
        match local_in(data, cache, &Options::from_env()) {
            Err(error) if error.is_retryable() && Instant::now() < until => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}

fn local_in<E: ToString>(
    data: &Data,
    cache: impl FnOnce() -> Result<PathBuf, E>,
    options: &Options,
) -> Result<Data, FetchError> {
    let unusable = |what| FetchError::Unusable { what, advice: "name a folder, or s3://bucket/prefix" };
    let place = Location::of_data(&data.path).map_err(unusable)?;
    let (Location::S3 { bucket, prefix }, None) = (place, data.synthetic) else { return Ok(data.clone()) };
    let nowhere = |what: E| FetchError::Unusable { what: what.to_string(), advice: "it holds what is fetched" };
    let folder = cache().map_err(nowhere)?.join(folder_name(bucket, prefix, options));
    let objects = s3::connect(bucket, prefix, options).map_err(unusable)?;
    fetch(&objects, &folder)?;
    Ok(Data { path: folder.display().to_string(), ..data.clone() })
}

/// One level deep, and of one store: no dataset lies in the folder of another. A prefix has no `+`.
fn folder_name(bucket: &str, prefix: &str, options: &Options) -> String {
    let endpoint = options.variables.iter().find(|(name, _)| name == "AWS_ENDPOINT_URL").map(|(_, value)| value);
    let spelled = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-'), "_");
    let store = endpoint.map_or_else(|| "s3".into(), |endpoint| spelled(endpoint));
    format!("{store}+{bucket}+{}", prefix.replace('/', "+"))
}

/// Makes `folder` hold what `objects` holds.
pub(crate) fn fetch(objects: &Objects, folder: &Path) -> Result<(), FetchError> {
    let address = objects.address("");
    let failed = |source: io::Error| match is_refusal(&source) {
        true => FetchError::Unusable {
            what: format!("{address} cannot be read: {source}"),
            advice: "check the bucket and prefix, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
        },
        false => FetchError::Failed { address: address.clone(), source },
    };
    let local = |source: io::Error| FetchError::Failed {
        address: address.clone(),
        source: io::Error::new(source.kind(), format!("{}: {source}", folder.display())),
    };
    std::fs::create_dir_all(folder).map_err(local)?;
    // held until the end of this function
    let _turn = turn(folder).map_err(local)?;
    let stored = objects.files(MAX_FILES).map_err(failed)?;
    let mut plan = Plan::of(&address, folder, &stored)?;
    let is_new = !plan.wanted.is_empty();
    for name in plan.gone {
        // a file that stays is one too many for some readers, and they say so
        let _ = std::fs::remove_file(folder.join(&name));
        plan.known.remove(&name);
    }
    for file in plan.wanted {
        match objects.fetch(file, &folder.join(&file.name)) {
            Ok(()) => {}
            Err(FetchFailure::Store(error)) => return Err(failed(error)),
            Err(FetchFailure::Disk(error)) => return Err(local(error)),
        }
        plan.known.insert(file.name.clone(), file.tag.clone());
        keep_record(folder, &plan.known).map_err(local)?;
    }
    // one that somebody is just putting there may lack files still
    if is_new && objects.files(MAX_FILES).map_err(failed)? != stored {
        return Err(FetchError::Failed { address, source: io::Error::other("it was changed meanwhile") });
    }
    Ok(())
}

/// Whether the store will say the same again. Of a list, its client tells a status in words alone.
fn is_refusal(error: &io::Error) -> bool {
    let said = error.to_string();
    let refusals = ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found"];
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound)
        || refusals.iter().any(|status| said.contains(&format!("status code: {status}")))
}

/// What differs between a folder and a bucket.
struct Plan<'a> {
    wanted: Vec<&'a Stored>,
    /// Fetched once, and no longer in the bucket.
    gone: Vec<String>,
    /// The record of what was fetched.
    known: BTreeMap<String, String>,
}

impl Plan<'_> {
    fn of<'a>(address: &str, folder: &Path, stored: &'a [Stored]) -> Result<Plan<'a>, FetchError> {
        let unusable = |what, advice| Err(FetchError::Unusable { what, advice });
        if stored.is_empty() {
            return unusable(format!("{address} holds no file"), "check the bucket and the prefix");
        }
        if stored.len() >= MAX_FILES {
            let what = format!("{address} holds {MAX_FILES} files or more");
            return unusable(what, "name the dataset's own folder in the bucket");
        }
        let is_plain = |name: &str| Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
        let is_ours = |name: &str| name.split('/').any(|part| part.starts_with(OURS));
        if let Some(odd) = stored.iter().find(|file| !is_plain(&file.name) || is_ours(&file.name)) {
            return unusable(format!("{address} holds `{}`, which is no file name here", odd.name), "rename it");
        }
        let known = read_record(folder);
        let is_here = |file: &Stored| {
            let found = std::fs::symlink_metadata(folder.join(&file.name));
            let is_whole = found.is_ok_and(|found| found.is_file() && found.len() == file.bytes);
            is_whole && known.get(&file.name) == Some(&file.tag)
        };
        let is_stored = |name: &str| stored.iter().any(|file| file.name == name);
        Ok(Plan {
            wanted: stored.iter().filter(|file| !is_here(file)).collect(),
            // a record that somebody else has written must not name files elsewhere
            gone: known.keys().filter(|name| is_plain(name) && !is_stored(name)).cloned().collect(),
            known,
        })
    }
}

/// Waits for other processes of this machine that fetch into `folder`; they wait while the result lives.
fn turn(folder: &Path) -> io::Result<File> {
    let lock = File::options().create(true).append(true).open(folder.join(LOCK))?;
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if start.elapsed() > TURN_WITHIN => {
                let message = format!("another process has been fetching into it for {} s", TURN_WITHIN.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, message));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
        }
    }
}

/// None of it where it cannot be read: all is fetched again.
fn read_record(folder: &Path) -> BTreeMap<String, String> {
    std::fs::read(folder.join(RECORD)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// What a crash leaves of it is no record, and harmless.
fn keep_record(folder: &Path, known: &BTreeMap<String, String>) -> io::Result<()> {
    std::fs::write(folder.join(RECORD), serde_json::to_vec_pretty(known)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use std::collections::BTreeSet;
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::Arc;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn bucket(files: &[(&str, &[u8])]) -> Objects {
        let address = "s3://lake/sets/a".to_string();
        let objects = Objects::new(Arc::new(InMemory::new()), "sets/a", address.clone(), address, DEADLINE).unwrap();
        for (name, bytes) in files {
            assert!(objects.put_new(name, bytes).unwrap());
        }
        objects
    }

    /// Files of a folder, without ours.
    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.filter(|name| !name.starts_with(OURS)).collect()
    }

    #[test]
    fn a_bucket_becomes_a_folder_and_what_changes_follows() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("deep/er");
        let large = vec![7; (32 << 20) + 5];
        let objects = bucket(&[("train.txt", b"0 1\n"), ("text/profile.npy", &large), ("old.txt", b"x")]);
        fetch(&objects, &folder).unwrap();
        assert_eq!(std::fs::read(folder.join("train.txt")).unwrap(), b"0 1\n");
        assert_eq!(std::fs::read(folder.join("text/profile.npy")).unwrap(), large);
        let inode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().ino();
        let (train, profile) = (inode("train.txt"), inode("text/profile.npy"));

        objects.remove("train.txt").unwrap();
        objects.remove("old.txt").unwrap();
        objects.put_new("train.txt", b"1 0\n").unwrap();
        std::fs::write(folder.join("of-the-user.txt"), "stays").unwrap();
        fetch(&objects, &folder).unwrap();
        assert_eq!(std::fs::read(folder.join("train.txt")).unwrap(), b"1 0\n", "same size, other content");
        assert_ne!(inode("train.txt"), train);
        assert_eq!(inode("text/profile.npy"), profile, "not fetched again");
        assert_eq!(names(&folder), ["of-the-user.txt", "text", "train.txt"].map(String::from).into());

        std::fs::write(folder.join("train.txt"), "1").unwrap();
        std::fs::write(folder.join(RECORD), "no json").unwrap();
        fetch(&objects, &folder).unwrap();
        assert_eq!(std::fs::read(folder.join("train.txt")).unwrap(), b"1 0\n", "cut short by somebody");
    }

    #[test]
    fn names_are_spelled_as_in_the_bucket_and_folders_are_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 4] =
            [("text", b""), ("text/time=12%3A00.npy", b"1"), ("empty.txt", b""), ("with space~#.txt", b"2")];
        fetch(&bucket(&files), dir.path()).unwrap();
        assert_eq!(names(dir.path()).len(), 3, "{:?}", names(dir.path()));
        assert_eq!(names(&dir.path().join("text")).len(), 1);
        assert!(dir.path().join("empty.txt").is_file());
    }

    #[test]
    fn processes_that_fetch_the_same_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let objects = bucket(&[("train.txt", &[b'1'; 100_000]), ("test.txt", &[b'2'; 100_000])]);
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| fetch(&objects, dir.path()))).collect();
            all.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
        });
        assert_eq!(names(dir.path()), ["test.txt", "train.txt"].map(String::from).into());
    }

    #[test]
    fn what_is_no_dataset_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |files: &[(&str, &[u8])]| {
            let error = fetch(&bucket(files), dir.path()).unwrap_err();
            assert!(!error.is_retryable(), "{error}");
            error.to_string()
        };
        assert!(refused(&[]).starts_with("data.path: s3://lake/sets/a holds no file"));
        assert!(refused(&[("a/..lock", b"x")]).contains("holds `a/..lock`, which is no file name here"));
        std::fs::write(dir.path().join("plain"), "").unwrap();
        let error = fetch(&bucket(&[("a", b"b")]), &dir.path().join("plain/folder")).unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("plain/folder"), "{error}");
    }

    #[test]
    fn a_record_cannot_reach_beyond_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("in");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(dir.path().join("outside"), "stays").unwrap();
        std::fs::write(folder.join(RECORD), r#"{"../outside": "x"}"#).unwrap();
        fetch(&bucket(&[("a", b"b")]), &folder).unwrap();
        assert!(dir.path().join("outside").exists());
    }

    #[test]
    fn datasets_of_overlapping_prefixes_and_of_other_stores_do_not_meet() {
        let name = |bucket: &str, prefix: &str, endpoint: Option<&str>| {
            let variables = endpoint.map(|e| ("AWS_ENDPOINT_URL".to_string(), e.to_string())).into_iter().collect();
            folder_name(bucket, prefix, &Options { variables, deadline: DEADLINE })
        };
        assert_eq!(name("lake", "sets/a", None), "s3+lake+sets+a");
        assert_eq!(name("lake", "sets", Some("http://127.0.0.1:9000")), "http___127.0.0.1_9000+lake+sets");
        assert!(["/", "\\"].iter().all(|c| !name("lake", "a/b/c", Some("https://x/y")).contains(c)));
    }

    #[test]
    fn a_folder_is_left_as_it_is() {
        let data = |path: &str| Data {
            path: path.into(),
            ..accord_spec::parse("[job]\nname = \"a\"\n[data]\npath = \"x\"\n[model]\nkind = \"lightgcn\"\n", &[])
                .unwrap()
                .data
        };
        let cache = || Err::<PathBuf, _>("no cache is asked for");
        let options = Options { variables: Vec::new(), deadline: DEADLINE };
        assert_eq!(local_in(&data("data/amazon"), cache, &options).unwrap().path, "data/amazon");
        let size = accord_spec::Synthetic { users: 1, items: 1, interactions: 1, seed: 0 };
        let made_up = Data { synthetic: Some(size), ..data("s3://lake/sets") };
        assert_eq!(local_in(&made_up, cache, &options).unwrap(), made_up, "not read, so not fetched");
        let error = local_in(&data("s3://lake/sets"), cache, &options).unwrap_err();
        assert!(error.to_string().contains("no cache is asked for"), "{error}");
    }
}
