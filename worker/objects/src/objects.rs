//! A bucket, or a part of one, as a place for checkpoints. An object appears when it is whole, and a small one only where
//! there was none.

use crate::calls::{Calls, Reply};
use accord_data::checkpoint::{Found, Place};
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// An object up to this size goes in one request, and only where there is none. Larger ones go and come in parts of it.
const PART: u64 = 8 << 20;
/// Parts of an object that may be on their way at once.
const PARALLEL: usize = 4;
/// Bytes of an object held in memory while it is brought to a file.
const BLOCK: u64 = 32 << 20;
/// S3 takes 10000 parts an object.
const MAX_PARTS: u64 = 9_000;
/// Between two looks at an object that another writer is just making.
const SETTLE: Duration = Duration::from_millis(200);

/// An object, as a list of them says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Below the prefix.
    pub(crate) name: String,
    /// As the store spells it.
    pub(crate) location: Path,
    pub(crate) bytes: u64,
    /// Other content has another; so has, with some servers, the same content stored again.
    pub(crate) tag: String,
}

/// Which end an object did not come through.
#[derive(Debug)]
pub(crate) enum FetchFailure {
    Store(io::Error),
    Disk(io::Error),
}

/// Objects below a prefix.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// As people write it: `s3://bucket/prefix`.
    address: String,
    calls: Calls,
}

impl Objects {
    /// `address` is how people write the place, `asked` also says which server it is. `deadline` bounds each request with
    /// all its retries; an object in several parts takes several requests.
    ///
    /// # Errors
    /// When the machine has no thread left.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        address: String,
        asked: String,
        deadline: Duration,
    ) -> io::Result<Objects> {
        let calls = Calls::start(asked, deadline)?;
        Ok(Objects { store, prefix: Path::from(prefix), address, calls })
    }

    /// All objects by name, or the first `most` that the server names.
    pub(crate) fn files(&self, most: usize) -> io::Result<Vec<Stored>> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        self.calls.run(async move {
            let mut found = Vec::new();
            let mut objects = store.list(Some(&prefix));
            while found.len() < most
                && let Some(object) = objects.try_next().await?
            {
                let parts = object.location.prefix_match(&prefix).into_iter().flatten();
                let name = parts.map(|part| part.as_ref().to_string()).collect::<Vec<_>>().join("/");
                let location = object.location.clone();
                found.push(Stored { name, location, bytes: object.size, tag: tag_of(object) });
            }
            found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(without_folders(found))
        })
    }

    /// Brings an object to `path` of this machine, whose folder is made. A reader sees the old file or the new one.
    pub(crate) fn fetch(&self, file: &Stored, path: &std::path::Path) -> Result<(), FetchFailure> {
        // a name that begins so is refused in a dataset
        let partial = path.with_file_name(format!("..fetch-{}", std::process::id()));
        let fetched =
            self.fetch_into(file, &partial).and_then(|()| std::fs::rename(&partial, path).map_err(FetchFailure::Disk));
        if fetched.is_err() {
            // what failed says more
            let _ = std::fs::remove_file(&partial);
        }
        fetched
    }

    fn fetch_into(&self, file: &Stored, path: &std::path::Path) -> Result<(), FetchFailure> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(FetchFailure::Disk)?;
        }
        let mut out = std::fs::File::create(path).map_err(FetchFailure::Disk)?;
        let mut start = 0;
        while start < file.bytes {
            let end = file.bytes.min(start + BLOCK);
            let block = self.read_at(&file.location, start..end).map_err(FetchFailure::Store)?;
            out.write_all(&block).map_err(FetchFailure::Disk)?;
            start = end;
        }
        let (store, location) = (Arc::clone(&self.store), file.location.clone());
        let tag = self.calls.run(async move { store.head(&location).await.map(tag_of) });
        if tag.map_err(FetchFailure::Store)? != file.tag {
            let message = format!("{} was changed meanwhile", file.name);
            return Err(FetchFailure::Store(io::Error::other(message)));
        }
        out.sync_all().map_err(FetchFailure::Disk)
    }

    /// An object by name, if it is there.
    pub(crate) fn find(&self, name: &str) -> io::Result<Option<Stored>> {
        let (store, location, name) = (Arc::clone(&self.store), self.path(name), name.to_string());
        self.calls.run(async move {
            match store.head(&location).await {
                Ok(object) => Ok(Some(Stored { name, location, bytes: object.size, tag: tag_of(object) })),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn read_at(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).map_err(io::Error::other)?);
        let mut going = VecDeque::new();
        let mut start = range.start;
        while start < range.end || !going.is_empty() {
            while start < range.end && going.len() < PARALLEL {
                let end = range.end.min(start + PART);
                going.push_back((end - start, self.begin_read(path, start..end)));
                start = end;
            }
            let Some((asked, reply)) = going.pop_front() else { break };
            let piece = reply.wait()?;
            if piece.len() as u64 != asked {
                let message = format!("{} bytes came where {asked} were asked for", piece.len());
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn create(&self, path: Path, bytes: &[u8]) -> io::Result<bool> {
        let (store, bytes) = (Arc::clone(&self.store), Bytes::copy_from_slice(bytes));
        self.calls.run(async move {
            loop {
                match store.put_opts(&path, PutPayload::from(bytes.clone()), PutMode::Create.into()).await {
                    Err(Error::AlreadyExists { .. }) => {}
                    result => return result.map(|_| true),
                }
                // a server also says so while another writer is at it, who may yet fail
                match store.head(&path).await {
                    Err(Error::NotFound { .. }) => tokio::time::sleep(SETTLE).await,
                    result => return result.map(|_| false),
                }
            }
        })
    }

    /// Stores a file of this machine in the place of whatever has the name.
    pub(crate) fn put_file(&self, name: &str, mut file: std::fs::File) -> io::Result<()> {
        let part = part_of(file.metadata()?.len());
        let pieces = std::iter::from_fn(|| {
            let mut piece = Vec::new();
            let read = (&mut file).take(part).read_to_end(&mut piece);
            read.map(|bytes| (bytes > 0).then(|| Bytes::from(piece))).transpose()
        });
        self.upload(self.path(name), pieces)
    }

    fn upload(&self, path: Path, pieces: impl Iterator<Item = io::Result<Bytes>>) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        let mut upload = self.calls.run(async move { store.put_multipart(&path).await })?;
        if let Err(error) = self.send_parts(upload.as_mut(), pieces) {
            // the server may be gone; what failed first says more
            let _ = self.calls.run(async move { upload.abort().await });
            return Err(error);
        }
        self.calls.run(async move {
            let done = upload.complete().await;
            if done.is_err() {
                let _ = upload.abort().await;
            }
            done.map(|_| ())
        })
    }

    fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        pieces: impl Iterator<Item = io::Result<Bytes>>,
    ) -> io::Result<()> {
        let mut going: VecDeque<Reply<()>> = VecDeque::new();
        for piece in pieces {
            if going.len() == PARALLEL {
                going.pop_front().map_or(Ok(()), Reply::wait)?;
            }
            going.push_back(self.calls.begin(upload.put_part(piece?.into())));
        }
        going.into_iter().try_for_each(Reply::wait)
    }

    fn begin_read(&self, path: &Path, range: Range<u64>) -> Reply<Bytes> {
        let (store, path) = (Arc::clone(&self.store), path.clone());
        self.calls.begin(async move { store.get_range(&path, range).await })
    }
}

/// Some programs mark a folder by an empty object of its name: without those.
fn without_folders(found: Vec<Stored>) -> Vec<Stored> {
    let is_folder = |file: &Stored| {
        let below = format!("{}/", file.name);
        file.name.is_empty() || file.bytes == 0 && found.iter().any(|other| other.name.starts_with(&below))
    };
    found.iter().filter(|file| !is_folder(file)).cloned().collect()
}

/// Bytes of each part of an object of `bytes`.
fn part_of(bytes: u64) -> u64 {
    PART.max(bytes.div_ceil(MAX_PARTS))
}

fn tag_of(object: ObjectMeta) -> String {
    object.e_tag.unwrap_or_else(|| object.last_modified.to_rfc3339())
}

/// Without the client, which holds credentials.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.address).finish()
    }
}

impl Place for Objects {
    fn address(&self, name: &str) -> String {
        if name.is_empty() { self.address.clone() } else { format!("{}/{name}", self.address) }
    }

    fn create_limit(&self) -> u64 {
        PART
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let path = self.path(name);
        if bytes.len() as u64 <= PART {
            return self.create(path, bytes);
        }
        if self.look(name)? != Found::Missing {
            return Ok(false);
        }
        let pieces = bytes.chunks(part_of(bytes.len() as u64) as usize).map(|piece| Ok(Bytes::copy_from_slice(piece)));
        self.upload(path, pieces).map(|()| true)
    }

    fn look(&self, name: &str) -> io::Result<Found> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        self.calls.run(async move {
            match store.head(&path).await {
                Ok(found) => Ok(Found::File(found.size)),
                Err(Error::NotFound { .. }) => Ok(Found::Missing),
                Err(error) => Err(error),
            }
        })
    }

    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.read_at(&self.path(name), range)
    }

    /// From the objects themselves: some servers go on naming folders from which everything was removed.
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let (store, path) = (Arc::clone(&self.store), self.path(folder));
        self.calls.run(async move {
            let mut names = BTreeSet::new();
            let mut objects = store.list(Some(&path));
            while let Some(object) = objects.try_next().await? {
                let below = object.location.prefix_match(&path).and_then(|mut parts| parts.next());
                names.extend(below.map(|name| name.as_ref().to_string()));
            }
            Ok(names.into_iter().collect())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        self.calls.run(async move {
            match store.delete(&path).await {
                Err(Error::NotFound { .. }) => Ok(()),
                result => result,
            }
        })
    }

    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(folder));
        self.calls.run(async move {
            let objects: Vec<_> = store.list(Some(&path)).try_collect().await?;
            for object in objects {
                store.delete(&object.location).await?;
            }
            Ok(())
        })
    }

    /// Objects have no other names to take, and copies would be as large as the checkpoint: the evidence alone goes.
    fn set_aside(&self, folder: &str, evidence: &str, aside: &str) -> io::Result<bool> {
        let name = format!("{folder}/{evidence}");
        let Found::File(bytes) = self.look(&name)? else { return Err(ErrorKind::NotFound.into()) };
        let created = self.put_new(&format!("{aside}/{evidence}"), &self.read(&name, 0..bytes)?)?;
        if created {
            self.remove(&name)?;
        }
        Ok(created)
    }
}
