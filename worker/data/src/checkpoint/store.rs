//! The checkpoint store: which file is written when, and which of them make a checkpoint. Where they lie is the
//! business of its [`Place`].

use super::files::Files;
use super::folder::Folder;
use super::gather::{Gather, Misfit, Wanted};
use super::place::{Found, Place};
use super::{CheckpointError, DenseArray, FileEntry, Manifest, RowTable, Snapshot, VerifyReport, shard};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const MANIFEST: &str = "manifest.json";
const ASIDE: &str = "damaged-step-";
/// More retries of one shard than this mean that something else is wrong.
const NAME_LIMIT: u32 = 1000;

/// Checkpoints of one run, in one place.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    files: Files,
}

/// The newest checkpoint whose files are all as committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewestGood {
    pub checkpoint: Option<(u64, Manifest)>,
    /// Steps of newer checkpoints that were passed over.
    pub damaged: Vec<u64>,
    /// For each of those: the bad files and why.
    pub warnings: Vec<String>,
}

/// Name of the folder of a step's checkpoint, committed or not.
fn folder_of(step: u64) -> String {
    format!("step-{step:010}")
}

impl CheckpointStore {
    /// In a folder of this machine. Touches nothing: the folder is made by the first write.
    pub fn new(root: PathBuf) -> CheckpointStore {
        CheckpointStore::at(Arc::new(Folder::new(root)))
    }

    pub fn at(place: Arc<dyn Place>) -> CheckpointStore {
        CheckpointStore { files: Files { place } }
    }

    pub fn place(&self) -> &Arc<dyn Place> {
        &self.files.place
    }

    /// The step of a checkpoint's folder, by its name (`step-0000001234`); None for any other name.
    pub fn step_of(folder: &str) -> Option<u64> {
        let digits = folder.strip_prefix("step-")?;
        (digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
    }

    /// Writes one rank's rows, and from rank 0 the dense arrays, and waits until they are safe. Returns what
    /// [`commit`](Self::commit) must be told. A name that an earlier attempt took is left alone: the file then carries
    /// the generation in its name.
    ///
    /// # Errors
    /// [`CheckpointError::AlreadyCommitted`], a snapshot whose sizes disagree, or a failing place.
    pub fn write_shard(
        &self,
        step: u64,
        generation: u64,
        rank: u32,
        snapshot: &Snapshot,
    ) -> Result<Vec<FileEntry>, CheckpointError> {
        let folder = folder_of(step);
        if self.is_committed(&folder)? {
            return Err(self.already_committed(step));
        }
        let mut files = vec![(format!("rows-{rank:05}"), shard::encode_rows(&snapshot.rows)?)];
        if rank == 0 {
            files.push(("dense".into(), shard::encode_dense(&snapshot.dense)?));
        }
        files.into_iter().map(|(stem, bytes)| self.publish(&folder, &stem, generation, &bytes)).collect()
    }

    /// Writes `bytes` under the first free name of `stem`.
    fn publish(&self, folder: &str, stem: &str, generation: u64, bytes: &[u8]) -> Result<FileEntry, CheckpointError> {
        let blake3 = blake3::hash(bytes).to_hex().to_string();
        let stem = match bytes.len() as u64 > self.files.place.create_limit() {
            // two writers of one name then write the same bytes
            true => format!("{stem}-{}", &blake3[..16]),
            false => stem.into(),
        };
        for attempt in 0..NAME_LIMIT {
            let name = match attempt {
                0 => format!("{stem}.safetensors"),
                1 => format!("{stem}-g{generation}.safetensors"),
                _ => format!("{stem}-g{generation}-{attempt}.safetensors"),
            };
            let target = format!("{folder}/{name}");
            if self.files.look(&target)? == Found::Missing && self.files.put_new(&target, bytes)? {
                return Ok(FileEntry { name, bytes: bytes.len() as u64, blake3 });
            }
        }
        let folder = self.files.place.address(folder);
        let what = format!("{folder} holds {NAME_LIMIT} attempts at {stem}: remove the folder");
        Err(CheckpointError::Invalid { what })
    }

    /// Makes the shards of a step a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::AlreadyCommitted`] (the first manifest stands), a manifest whose step, names or sizes do not
    /// fit the files that are there, or a failing place.
    pub fn commit(&self, step: u64, manifest: &Manifest) -> Result<(), CheckpointError> {
        let folder = folder_of(step);
        let invalid = |why: String| CheckpointError::Invalid { what: format!("manifest of step {step}: {why}") };
        if self.is_committed(&folder)? {
            return Err(self.already_committed(step));
        }
        manifest.check(step).map_err(invalid)?;
        for entry in &manifest.files {
            self.files.check_size(&folder, entry)?;
        }
        let bytes = manifest.encode().map_err(|e| invalid(e.to_string()))?;
        if bytes.len() as u64 > self.files.place.create_limit() {
            return Err(invalid(format!("it has {} bytes, too many to be created at one go", bytes.len())));
        }
        match self.files.put_new(&format!("{folder}/{MANIFEST}"), &bytes)? {
            true => Ok(()),
            false => Err(self.already_committed(step)),
        }
    }

    /// Committed checkpoints with a readable manifest, newest first. Their files are not looked at.
    ///
    /// # Errors
    /// A failing place.
    pub fn list(&self) -> Result<Vec<(u64, Manifest)>, CheckpointError> {
        self.list_newest(usize::MAX)
    }

    /// As [`list`](Self::list), but at most so many; older ones are not read.
    ///
    /// # Errors
    /// A failing place.
    pub fn list_newest(&self, most: usize) -> Result<Vec<(u64, Manifest)>, CheckpointError> {
        let mut found = Vec::new();
        for step in self.steps()? {
            if found.len() == most {
                break;
            }
            match self.manifest(step) {
                Ok(manifest) => found.push((step, manifest)),
                Err(error) if error.is_retryable() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// The address of a step's checkpoint, whether it is there or not.
    pub fn address(&self, step: u64) -> String {
        self.files.place.address(&folder_of(step))
    }

    /// Steps that have a folder, newest first: committed, damaged and being written.
    ///
    /// # Errors
    /// A failing place.
    pub fn steps(&self) -> Result<Vec<u64>, CheckpointError> {
        let mut steps: Vec<u64> = self.files.names("")?.iter().filter_map(|name| Self::step_of(name)).collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        Ok(steps)
    }

    /// The newest checkpoint that verifies. Folders without a manifest were never committed and are passed over in
    /// silence.
    ///
    /// # Errors
    /// A failing place: a checkpoint that could not be read may be a good one.
    pub fn newest_good(&self) -> Result<NewestGood, CheckpointError> {
        let mut result = NewestGood::default();
        for step in self.steps()? {
            if !self.is_committed(&folder_of(step))? {
                continue;
            }
            let (report, unread) = self.examine(step);
            if let Some(error) = unread {
                return Err(error);
            }
            if let (true, Some(manifest)) = (report.is_good(), &report.manifest) {
                result.checkpoint = Some((step, manifest.clone()));
                break;
            }
            let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
            result.damaged.push(step);
            result.warnings.push(format!("checkpoint of step {step} is damaged: {}", problems.join("; ")));
        }
        Ok(result)
    }

    /// Checks a step's checkpoint: its manifest, and the size and digest of each file it names. Every bad file is
    /// reported, not only the first. Reads piece by piece, changes nothing.
    pub fn verify(&self, step: u64) -> VerifyReport {
        self.examine(step).0
    }

    /// The report, and the first failure to read, which says nothing about the checkpoint.
    fn examine(&self, step: u64) -> (VerifyReport, Option<CheckpointError>) {
        let folder = folder_of(step);
        let mut report = VerifyReport::new(self.files.place.address(&folder));
        let mut unread = None;
        let mut bad = |report: &mut VerifyReport, file: &str, error: CheckpointError| {
            report.add(file, &error);
            if error.is_retryable() {
                unread.get_or_insert(error);
            }
        };
        match self.manifest(step) {
            Ok(manifest) => report.manifest = Some(manifest),
            Err(CheckpointError::NotCommitted { .. }) => {
                report.committed = false;
                let why = "there is none, so nothing was committed here";
                bad(&mut report, MANIFEST, CheckpointError::damaged(&folder, why));
            }
            Err(error) => bad(&mut report, MANIFEST, error),
        }
        for entry in report.manifest.as_ref().map_or(vec![], |m| m.files.clone()) {
            match self.files.check_digest(&folder, &entry) {
                Ok(()) => {
                    report.good_files += 1;
                    report.good_bytes += entry.bytes;
                }
                Err(error) => bad(&mut report, &entry.name, error),
            }
        }
        (report, unread)
    }

    /// Reads a committed checkpoint, checking each file's digest. Tables and arrays come by name. Rows are in the
    /// order of `wanted`, or by id where that is none. Holds one file at a time beside what it returns.
    ///
    /// # Errors
    /// A file that is not as committed (named), a wanted row that is not there, or one that is there twice.
    pub fn read(&self, step: u64, wanted: Option<&[u32]>) -> Result<Snapshot, CheckpointError> {
        let folder = folder_of(step);
        let manifest = self.manifest(step)?;
        let wanted = Wanted::new(wanted);
        let mut tables: BTreeMap<String, Gather> = BTreeMap::new();
        let mut dense: Vec<DenseArray> = Vec::new();
        for entry in &manifest.files {
            let bytes = self.files.read_whole(&folder, entry)?;
            let damaged = |why: String| CheckpointError::damaged(self.files.address(&folder, entry), why);
            if !entry.name.starts_with("rows-") {
                dense.extend(shard::decode_dense(&bytes).map_err(damaged)?);
                continue;
            }
            for view in shard::decode_rows(&bytes).map_err(damaged)? {
                let table = tables.entry(view.name.clone()).or_insert_with(|| Gather::new(&view, &wanted));
                table.add(&view, &wanted).map_err(damaged)?;
            }
        }
        dense.sort_by(|a, b| a.name.cmp(&b.name));
        let table = |(name, gather): (String, Gather)| {
            gather.finish(&wanted).map_err(|misfit| match misfit {
                Misfit::Damaged(why) => CheckpointError::damaged(self.files.place.address(&folder), why),
                Misfit::Missing(node) => CheckpointError::RowMissing { step, table: name, node },
            })
        };
        let rows = tables.into_iter().map(table).collect::<Result<Vec<RowTable>, _>>()?;
        Ok(Snapshot { rows, dense, progress: manifest.progress })
    }

    /// Puts a damaged checkpoint out of the way, so that the step can be committed again when training reaches it once
    /// more: its folder, or in an object store its manifest, goes to `damaged-step-...`. Nothing is deleted. Returns
    /// the address of that folder.
    ///
    /// # Errors
    /// A failing place.
    pub fn set_aside(&self, step: u64) -> Result<String, CheckpointError> {
        let folder = folder_of(step);
        for attempt in 0..NAME_LIMIT {
            let suffix = if attempt == 0 { String::new() } else { format!("-{attempt}") };
            let aside = format!("{ASIDE}{step:010}{suffix}");
            let moved = self.files.place.set_aside(&folder, MANIFEST, &aside);
            if moved.map_err(|e| self.files.failed(&folder, "set aside", e))? {
                return Ok(self.files.place.address(&aside));
            }
        }
        let what = format!("{} holds too many damaged-step folders", self.files.place.address(""));
        Err(CheckpointError::Invalid { what })
    }

    /// Keeps the newest `keep` checkpoints (at least one) and that of `best_step`; removes older ones, attempts older
    /// than the newest checkpoint that were never committed, and files beside a kept manifest that it does not name.
    /// A checkpoint with a missing or cut file does not count towards `keep`. Returns the removed steps.
    ///
    /// # Errors
    /// A failing place.
    pub fn retain(&self, keep: usize, best_step: Option<u64>) -> Result<Vec<u64>, CheckpointError> {
        let mut whole = 0;
        let mut removed = Vec::new();
        for step in self.steps()? {
            let folder = folder_of(step);
            if !self.is_committed(&folder)? {
                // newer than every checkpoint: perhaps being written now
                if whole > 0 {
                    self.remove(&folder)?;
                }
                continue;
            }
            if whole >= keep.max(1) && best_step != Some(step) {
                self.remove(&folder)?;
                removed.push(step);
                continue;
            }
            let manifest = match self.manifest(step) {
                Err(error) if error.is_retryable() => return Err(error),
                Err(_) => continue,
                Ok(manifest) => manifest,
            };
            whole += usize::from(self.is_whole(&folder, &manifest)?);
            self.remove_unnamed(&folder, &manifest)?;
        }
        Ok(removed)
    }

    /// Removes every checkpoint, those set aside too, and nothing else.
    ///
    /// # Errors
    /// A failing place.
    pub fn clear(&self) -> Result<(), CheckpointError> {
        let ours = |name: &String| Self::step_of(name).is_some() || name.starts_with(ASIDE);
        self.files.names("")?.iter().filter(|name| ours(name)).try_for_each(|folder| self.remove(folder))
    }

    /// The manifest goes first, so that a crash leaves an attempt and not a damaged checkpoint.
    fn remove(&self, folder: &str) -> Result<(), CheckpointError> {
        self.files.remove_file(&format!("{folder}/{MANIFEST}"))?;
        self.files.place.remove_folder(folder).map_err(|e| self.files.failed(folder, "removed", e))
    }

    fn remove_unnamed(&self, folder: &str, manifest: &Manifest) -> Result<(), CheckpointError> {
        for name in self.files.names(folder)? {
            let ours = name.ends_with(".partial") || name.ends_with(".safetensors");
            let path = format!("{folder}/{name}");
            let unnamed = ours && !manifest.files.iter().any(|f| f.name == name);
            if unnamed && matches!(self.files.look(&path)?, Found::File(_)) {
                self.files.remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn is_committed(&self, folder: &str) -> Result<bool, CheckpointError> {
        Ok(self.files.look(&format!("{folder}/{MANIFEST}"))? != Found::Missing)
    }

    fn manifest(&self, step: u64) -> Result<Manifest, CheckpointError> {
        let name = format!("{}/{MANIFEST}", folder_of(step));
        match self.files.look(&name)? {
            Found::Missing => Err(CheckpointError::NotCommitted { step, root: self.files.place.address("") }),
            Found::NotAFile => Err(CheckpointError::damaged(self.files.place.address(&name), "is not a plain file")),
            Found::File(bytes) => {
                Manifest::decode(&self.files.read_range(&name, 0..bytes)?, &self.files.place.address(&name), step)
            }
        }
    }

    fn is_whole(&self, folder: &str, manifest: &Manifest) -> Result<bool, CheckpointError> {
        for entry in &manifest.files {
            match self.files.check_size(folder, entry) {
                Err(error) if error.is_retryable() => return Err(error),
                Err(_) => return Ok(false),
                Ok(()) => {}
            }
        }
        Ok(true)
    }

    fn already_committed(&self, step: u64) -> CheckpointError {
        CheckpointError::AlreadyCommitted { step, folder: self.files.place.address(&folder_of(step)) }
    }
}
