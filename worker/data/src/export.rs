//! `export/` of a run directory: everything that serving a finished run needs, so that the dataset may change or go.
//!
//! ```text
//! export/embeddings.safetensors   tensors `user` [U, d] and `item` [I, d], f32, of the best epoch
//!        users.txt, items.txt     external ids, one a line: line n belongs to row n
//!        item_titles.txt          a title a line in the order of items.txt; only where the dataset has titles
//!        train.npz                the training interactions, in the form of a prepared dataset's trn.npz
//!        export.json              written last: size and digest of each file above. Without it there is no export
//! ```
//!
//! Computes no embeddings and asks no object store. A file is believed only after its size and digest agree with
//! `export.json`.

mod writer;

pub use writer::{Catalog, ExportFile, ExportWriter};

use crate::checkpoint::FileEntry;
use crate::error::DataError;
use crate::readers;
use crate::{Embeddings, Interactions};
use accord_spec::TestMetrics;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The folder's name in a run directory.
pub const FOLDER: &str = "export";
pub const MANIFEST: &str = "export.json";
pub const EMBEDDINGS: &str = "embeddings.safetensors";
pub const USERS: &str = "users.txt";
pub const ITEMS: &str = "items.txt";
pub const ITEM_TITLES: &str = "item_titles.txt";
pub const TRAIN: &str = "train.npz";

/// Files that every export has; [`ITEM_TITLES`] is the one that may be missing.
const NEEDED: [&str; 4] = [EMBEDDINGS, USERS, ITEMS, TRAIN];
const ADVICE: &str =
    "the file was changed or damaged after training: put the old one back, or repeat the command that trained the run";

const ADVICE_ON_MISSING: &str = "put it back, or repeat the command that trained the run";

/// What `export.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportManifest {
    /// [`ExportManifest::VERSION`].
    pub version: u32,
    /// `job.name` and `model.kind` of the job that was trained.
    pub job: String,
    pub model: String,
    pub users: u64,
    pub items: u64,
    /// Width of an embedding.
    pub dim: u64,
    /// Digests (BLAKE3, hex) of the dataset that was trained on, as in `dataset.json`, and of what affects training in the job
    /// file, as in `summary.json`.
    pub data_digest: String,
    pub config_digest: String,
    pub best_epoch: u64,
    /// The validation metric that selected the best epoch, such as `recall@20`, and its value there.
    pub select: String,
    pub best_validation: f64,
    /// Of the best epoch.
    pub test: TestMetrics,
    pub files: Vec<FileEntry>,
}

impl ExportManifest {
    /// The form that this version writes and reads.
    pub const VERSION: u32 = 1;

    /// Parses an `export.json`; `place` names it in messages.
    ///
    /// # Errors
    /// Text that is no export.json, another version, or a list of files that is not what an export holds.
    pub fn parse(bytes: &[u8], place: &Path) -> Result<ExportManifest, DataError> {
        let damaged = |problem: String| DataError::malformed(place, problem, ADVICE);
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } =
            serde_json::from_slice(bytes).map_err(|e| damaged(format!("it is no valid export.json ({e})")))?;
        if version != ExportManifest::VERSION {
            return Err(DataError::malformed(
                place,
                format!("version {version}, this program reads version {}", ExportManifest::VERSION),
                "use the program that trained the run, or train again with --fresh",
            ));
        }
        let manifest: ExportManifest =
            serde_json::from_slice(bytes).map_err(|e| damaged(format!("it is no valid export.json ({e})")))?;
        // names become paths: only those of an export, each once
        let is_known = |name: &str| NEEDED.contains(&name) || name == ITEM_TITLES;
        for (n, file) in manifest.files.iter().enumerate() {
            if !is_known(&file.name) || manifest.files[..n].iter().any(|earlier| earlier.name == file.name) {
                return Err(damaged(format!("file {:?} is not one of an export, or is named twice", file.name)));
            }
        }
        match NEEDED.iter().find(|name| manifest.file(name).is_none()) {
            Some(absent) => Err(damaged(format!("it does not list {absent}"))),
            None => Ok(manifest),
        }
    }

    fn file(&self, name: &str) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.name == name)
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// A whole export, open for reading. Files are read, and their digests compared, when they are asked for.
#[derive(Clone, Debug)]
pub struct Export {
    folder: PathBuf,
    pub manifest: ExportManifest,
}

impl Export {
    /// Opens the export in `folder`; `None` where there is no `export.json`, which is a run that has not finished.
    ///
    /// # Errors
    /// An `export.json` that cannot be read or is damaged.
    pub fn open(folder: &Path) -> Result<Option<Export>, DataError> {
        let path = folder.join(MANIFEST);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(Export { folder: folder.into(), manifest: ExportManifest::parse(&bytes, &path)? })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DataError::read(&path)(error)),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Embeddings of the users [U, d] and of the items [I, d].
    ///
    /// # Errors
    /// A file that is missing, damaged, or of another size than `export.json` says; a value that is not finite.
    pub fn embeddings(&self) -> Result<(Embeddings, Embeddings), DataError> {
        let (path, bytes) = self.bytes(EMBEDDINGS)?;
        let damaged = |problem: String| DataError::malformed(&path, problem, ADVICE);
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(format!("no safetensors file ({e})")))?;
        let ExportManifest { users, items, dim, .. } = self.manifest;
        let matrix = |name: &str, rows: u64| -> Result<Embeddings, DataError> {
            let view = tensors.tensor(name).map_err(|e| damaged(format!("tensor `{name}`: {e}")))?;
            if view.dtype() != Dtype::F32 || view.shape() != [rows as usize, dim as usize] {
                let found = format!("tensor `{name}` is {:?} {:?}", view.dtype(), view.shape());
                return Err(damaged(format!("{found}, {MANIFEST} says F32 [{rows}, {dim}]")));
            }
            let (numbers, _) = view.data().as_chunks();
            let values: Vec<f32> = numbers.iter().map(|&b| f32::from_le_bytes(b)).collect();
            if let Some(place) = values.iter().position(|v| !v.is_finite()) {
                let (row, value) = (place / dim as usize, values[place]);
                return Err(damaged(format!("tensor `{name}` is {value} in row {row}")));
            }
            Ok(Embeddings { rows: rows as usize, width: dim as usize, values })
        };
        Ok((matrix("user", users)?, matrix("item", items)?))
    }

    /// External ids by row.
    ///
    /// # Errors
    /// A file that is missing or damaged, or has another number of lines than there are users.
    pub fn user_ids(&self) -> Result<Vec<String>, DataError> {
        self.lines(USERS, self.manifest.users)
    }

    /// As [`Export::user_ids`].
    pub fn item_ids(&self) -> Result<Vec<String>, DataError> {
        self.lines(ITEMS, self.manifest.items)
    }

    /// Titles by row of the items; `None` where the dataset had none. Errors as of [`Export::user_ids`].
    pub fn item_titles(&self) -> Result<Option<Vec<String>>, DataError> {
        self.manifest.file(ITEM_TITLES).map(|_| self.lines(ITEM_TITLES, self.manifest.items)).transpose()
    }

    /// The training interactions.
    ///
    /// # Errors
    /// A file that is missing or damaged, or a matrix of another size than users x items.
    pub fn train(&self) -> Result<Interactions, DataError> {
        self.bytes(TRAIN)?;
        let path = self.path(TRAIN);
        let train = readers::npz::interactions(&path)?;
        let ExportManifest { users, items, .. } = self.manifest;
        if (train.users() as u64, train.items() as u64) != (users, items) {
            let problem =
                format!("{} x {} interactions, {MANIFEST} says {users} x {items}", train.users(), train.items());
            return Err(DataError::malformed(&path, problem, ADVICE));
        }
        Ok(train)
    }

    /// Reads every file and compares its digest.
    ///
    /// # Errors
    /// The first file that is missing or damaged.
    pub fn verify(&self) -> Result<(), DataError> {
        self.manifest.files.iter().try_for_each(|file| self.bytes(&file.name).map(|_| ()))
    }

    /// One of the files, whole. Its size is compared before it is read.
    fn bytes(&self, name: &str) -> Result<(PathBuf, Vec<u8>), DataError> {
        let path = self.path(name);
        let Some(entry) = self.manifest.file(name) else {
            return Err(DataError::Missing { path, advice: format!("{MANIFEST} does not list it") });
        };
        let found = match File::open(&path).and_then(|file| file.metadata()) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(DataError::Missing { path, advice: ADVICE_ON_MISSING.into() });
            }
            Err(error) => return Err(DataError::read(&path)(error)),
        };
        let damaged = |problem: String| Err(DataError::malformed(&path, problem, ADVICE));
        if found != entry.bytes {
            return damaged(format!("{found} bytes, {MANIFEST} says {}", entry.bytes));
        }
        let bytes = fs::read(&path).map_err(DataError::read(&path))?;
        if blake3::hash(&bytes).to_hex().as_str() != entry.blake3 {
            return damaged(format!("its digest is not the one in {MANIFEST}"));
        }
        Ok((path, bytes))
    }

    fn lines(&self, name: &str, wanted: u64) -> Result<Vec<String>, DataError> {
        let (path, bytes) = self.bytes(name)?;
        let damaged = |problem: String| DataError::malformed(&path, problem, ADVICE);
        let text = String::from_utf8(bytes).map_err(|_| damaged("the text is not UTF-8".into()))?;
        // not `lines`, which also takes a carriage return off the end
        let lines: Vec<String> = text.split_terminator('\n').map(String::from).collect();
        if lines.len() as u64 != wanted {
            return Err(damaged(format!("{} lines, {MANIFEST} says {wanted}", lines.len())));
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests;
