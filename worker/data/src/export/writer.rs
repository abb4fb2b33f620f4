//! Writes an export: every file under a temporary name with its digest, then all names, then `export.json`. A reader,
//! or a crash at any moment, sees an export that is whole or none.

use super::{EMBEDDINGS, Export, ExportManifest, ITEM_TITLES, ITEMS, MANIFEST, TRAIN, USERS};
use crate::checkpoint::FileEntry;
use crate::error::DataError;
use crate::{Dataset, Interactions, durable, prepared};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Ids and titles as the text of their files: what a worker keeps of them while it trains, in less memory than a string
/// for each takes.
#[derive(Clone, Debug)]
pub struct Catalog {
    users: String,
    items: String,
    titles: Option<String>,
}

impl Catalog {
    /// `place` names the dataset in messages.
    ///
    /// # Errors
    /// An id that is blank or holds a line break: its file would have more or fewer lines than there are rows.
    pub fn of(dataset: &Dataset, place: &Path) -> Result<Catalog, DataError> {
        let titles = dataset.item_titles.as_ref();
        Ok(Catalog {
            users: prepared::lines(place, "user", &dataset.user_ids, dataset.users())?,
            items: prepared::lines(place, "item", &dataset.item_ids, dataset.items())?,
            titles: titles.map(|titles| prepared::title_lines(place, titles, dataset.items())).transpose()?,
        })
    }
}

/// A whole file that has not got its name yet; what has not got one is removed.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // it has got its name, or what failed before says more
        let _ = fs::remove_file(&self.0);
    }
}

/// An export that is being written. Dropping it before [`commit`](ExportWriter::commit) removes what was written.
#[derive(Debug)]
pub struct ExportWriter {
    folder: PathBuf,
    written: Vec<(Temporary, FileEntry)>,
}

impl ExportWriter {
    /// Makes `folder` where it is not there; its parent must be. An export that is there stays until the commit; what
    /// writers that were killed have left goes, so that it does not keep a full disk full.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn begin(folder: &Path) -> Result<ExportWriter, DataError> {
        let made = match fs::create_dir(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => durable::sweep(folder),
            made => made,
        };
        made.map_err(DataError::write(folder))?;
        Ok(ExportWriter { folder: folder.into(), written: Vec::new() })
    }

    /// Opens the file of the embeddings, which are too large to be handed over at once.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn embeddings(&self) -> Result<ExportFile, DataError> {
        ExportFile::create(&self.folder, EMBEDDINGS)
    }

    /// Takes a file of which everything is written.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn keep(&mut self, file: ExportFile) -> Result<(), DataError> {
        self.written.push(file.finish()?);
        Ok(())
    }

    /// Writes ids, titles and training interactions.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn dataset(&mut self, catalog: &Catalog, train: &Interactions) -> Result<(), DataError> {
        let Catalog { users, items, titles } = catalog;
        self.put(USERS, users.as_bytes())?;
        self.put(ITEMS, items.as_bytes())?;
        if let Some(titles) = titles {
            self.put(ITEM_TITLES, titles.as_bytes())?;
        }
        let mut file = ExportFile::create(&self.folder, TRAIN)?;
        prepared::write_matrix(&mut file, train).map_err(DataError::write(&file.path))?;
        self.keep(file)
    }

    fn put(&mut self, name: &'static str, bytes: &[u8]) -> Result<(), DataError> {
        let mut file = ExportFile::create(&self.folder, name)?;
        file.write_all(bytes).map_err(DataError::write(&file.path))?;
        self.keep(file)
    }

    /// Gives the files their names and writes `export.json` last; `manifest` gets the list of them. An export of other
    /// content that was there is taken back first. The same content again, by a worker that repeats the end of a run,
    /// leaves no moment without an export.
    ///
    /// # Errors
    /// When the disk does not take it, or a file is missing.
    pub fn commit(self, manifest: ExportManifest) -> Result<ExportManifest, DataError> {
        let target = self.folder.join(MANIFEST);
        let files = self.written.iter().map(|(_, entry)| entry.clone()).collect();
        let bytes = ExportManifest { files, ..manifest }.encode().map_err(DataError::write(&target))?;
        // what is written must be readable
        let manifest = ExportManifest::parse(&bytes, &target)?;
        let is_the_same = Export::open(&self.folder).is_ok_and(|old| old.is_some_and(|old| old.manifest == manifest));
        if !is_the_same {
            take_back(&target).map_err(DataError::write(&target))?;
        }
        for (temporary, entry) in &self.written {
            let path = self.folder.join(&entry.name);
            fs::rename(&temporary.0, &path).map_err(DataError::write(&path))?;
        }
        durable::sync_folder(&self.folder).map_err(DataError::write(&self.folder))?;
        durable::replace(&target, &bytes).map_err(DataError::write(&target))?;
        Ok(manifest)
    }
}

/// Removes an `export.json`, on the disk too.
fn take_back(manifest: &Path) -> io::Result<()> {
    match fs::remove_file(manifest) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => durable::sync_folder(manifest.parent().unwrap_or(Path::new("."))),
    }
}

/// One file of an export, under a temporary name until the commit. Dropping it removes it.
#[derive(Debug)]
pub struct ExportFile {
    name: &'static str,
    /// Under which it will be found; for messages.
    path: PathBuf,
    temporary: Temporary,
    out: BufWriter<Digested>,
}

/// Counts and digests what goes to a file.
#[derive(Debug)]
struct Digested {
    file: File,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl ExportFile {
    fn create(folder: &Path, name: &'static str) -> Result<ExportFile, DataError> {
        let path = folder.join(name);
        let temporary = Temporary(durable::temporary(&path));
        let file = File::create(&temporary.0).map_err(DataError::write(&path))?;
        let out = BufWriter::with_capacity(1 << 18, Digested { file, bytes: 0, hasher: blake3::Hasher::new() });
        Ok(ExportFile { name, path, temporary, out })
    }

    /// An error that a write to this file gave, with the file's name.
    pub fn failed(&self, error: io::Error) -> DataError {
        DataError::write(&self.path)(error)
    }

    fn finish(self) -> Result<(Temporary, FileEntry), DataError> {
        let ExportFile { name, path, temporary, out } = self;
        let failed = |error: io::Error| DataError::write(&path)(error);
        let Digested { file, bytes, hasher } = out.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok((temporary, FileEntry { name: name.into(), bytes, blake3: hasher.finalize().to_hex().to_string() }))
    }
}

impl Write for ExportFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.hasher.update(&bytes[..taken]);
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
