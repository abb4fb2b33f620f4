//! The file back end of the checkpoint store.

use super::verify::{check_size, compare, read_manifest};
use super::{CheckpointError, DenseArray, FileEntry, Manifest, RowTable, Snapshot, shard, verify};
use crate::durable;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) const MANIFEST: &str = "manifest.json";
/// More retries of one shard than this mean that something else is wrong.
const NAME_LIMIT: u32 = 1000;

/// Checkpoints of one run, in the folder `root`.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    root: PathBuf,
}

/// The newest checkpoint whose files are all as committed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewestGood {
    pub checkpoint: Option<(u64, Manifest)>,
    /// Newer checkpoints that were passed over: each names the bad file and why.
    pub warnings: Vec<String>,
}

/// Step of a folder named `step-0000001234`.
pub(super) fn step_of(folder: &Path) -> Option<u64> {
    let digits = folder.file_name()?.to_str()?.strip_prefix("step-")?;
    (digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl CheckpointStore {
    /// Touches nothing: the folder is made by the first write.
    pub fn new(root: PathBuf) -> CheckpointStore {
        CheckpointStore { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of a step's checkpoint, committed or not.
    pub fn folder(&self, step: u64) -> PathBuf {
        self.root.join(format!("step-{step:010}"))
    }

    /// Writes one rank's rows, and from rank 0 the dense arrays, and waits until they are on the disk. Returns what
    /// [`commit`](Self::commit) must be told. A name that an earlier attempt took is left alone: the file then carries
    /// the generation in its name.
    ///
    /// # Errors
    /// [`CheckpointError::AlreadyCommitted`], a snapshot whose sizes disagree, or a failing disk.
    pub fn write_shard(
        &self,
        step: u64,
        generation: u64,
        rank: u32,
        snapshot: &Snapshot,
    ) -> Result<Vec<FileEntry>, CheckpointError> {
        let folder = self.folder(step);
        if folder.join(MANIFEST).exists() {
            return Err(CheckpointError::AlreadyCommitted { step, folder });
        }
        let mut files = vec![(format!("rows-{rank:05}"), shard::encode_rows(&snapshot.rows)?)];
        if rank == 0 {
            files.push(("dense".into(), shard::encode_dense(&snapshot.dense)?));
        }
        fs::create_dir_all(&folder).map_err(CheckpointError::io(&folder, "made"))?;
        let mut entries = Vec::new();
        for (stem, bytes) in files {
            entries.push(publish(&folder, &stem, generation, &bytes)?);
        }
        self.sync(&folder)?;
        Ok(entries)
    }

    /// Makes the shards of a step a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::AlreadyCommitted`] (the first manifest stands), a manifest whose step, names or sizes do not
    /// fit the files that are there, or a failing disk.
    pub fn commit(&self, step: u64, manifest: &Manifest) -> Result<(), CheckpointError> {
        let folder = self.folder(step);
        let target = folder.join(MANIFEST);
        let invalid = |why: String| CheckpointError::Invalid { what: format!("manifest of step {step}: {why}") };
        if target.exists() {
            return Err(CheckpointError::AlreadyCommitted { step, folder });
        }
        manifest.check(step).map_err(invalid)?;
        for entry in &manifest.files {
            check_size(&folder, entry).map_err(|why| CheckpointError::damaged(&folder.join(&entry.name), why))?;
        }
        let bytes = manifest.encode().map_err(|e| invalid(e.to_string()))?;
        let temporary = durable::temporary(&target);
        durable::write_synced(&temporary, &bytes).map_err(CheckpointError::io(&temporary, "written"))?;
        let first = durable::publish_new(&temporary, &target).map_err(CheckpointError::io(&target, "written"))?;
        self.sync(&folder)?;
        if first { Ok(()) } else { Err(CheckpointError::AlreadyCommitted { step, folder }) }
    }

    fn sync(&self, folder: &Path) -> Result<(), CheckpointError> {
        durable::sync_folder(folder).map_err(CheckpointError::io(folder, "synchronised"))?;
        durable::sync_folder(&self.root).map_err(CheckpointError::io(&self.root, "synchronised"))
    }

    /// Committed checkpoints with a readable manifest, newest first. Their files are not looked at.
    pub fn list(&self) -> Result<Vec<(u64, Manifest)>, CheckpointError> {
        let mut found = Vec::new();
        for step in self.steps()? {
            if let Ok(manifest) = read_manifest(&self.folder(step)) {
                found.push((step, manifest));
            }
        }
        Ok(found)
    }

    /// Steps that have a folder, newest first.
    fn steps(&self) -> Result<Vec<u64>, CheckpointError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(CheckpointError::io(&self.root, "listed")(e)),
        };
        let mut steps = Vec::new();
        for entry in entries {
            let path = entry.map_err(CheckpointError::io(&self.root, "listed"))?.path();
            steps.extend(step_of(&path));
        }
        steps.sort_unstable_by(|a, b| b.cmp(a));
        Ok(steps)
    }

    /// The newest checkpoint that verifies. Folders without a manifest were never committed and are passed over in
    /// silence.
    pub fn newest_good(&self) -> Result<NewestGood, CheckpointError> {
        let mut result = NewestGood::default();
        for step in self.steps()? {
            let folder = self.folder(step);
            if !folder.join(MANIFEST).exists() {
                continue;
            }
            let report = verify(&folder);
            if let (true, Some(manifest)) = (report.is_good(), report.manifest) {
                result.checkpoint = Some((step, manifest));
                break;
            }
            let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
            result.warnings.push(format!("checkpoint of step {step} is damaged: {}", problems.join("; ")));
        }
        Ok(result)
    }

    /// Reads a committed checkpoint, checking each file's digest. Tables and arrays come by name. Rows are in the
    /// order of `wanted`, or by id where that is none.
    ///
    /// # Errors
    /// A file that is not as committed (named), a wanted row that is not there, or one that is there twice.
    pub fn read(&self, step: u64, wanted: Option<&[u32]>) -> Result<Snapshot, CheckpointError> {
        let folder = self.folder(step);
        if !folder.join(MANIFEST).exists() {
            return Err(CheckpointError::NotCommitted { step, root: self.root.clone() });
        }
        let manifest = read_manifest(&folder)?;
        let mut rows: BTreeMap<String, Vec<RowTable>> = BTreeMap::new();
        let mut dense: Vec<DenseArray> = Vec::new();
        for entry in &manifest.files {
            let path = folder.join(&entry.name);
            let damaged = |why: String| CheckpointError::damaged(&path, why);
            check_size(&folder, entry).map_err(damaged)?;
            let bytes = fs::read(&path).map_err(CheckpointError::io(&path, "read"))?;
            compare(blake3::hash(&bytes), entry).map_err(damaged)?;
            if entry.name.starts_with("rows-") {
                for table in shard::decode_rows(&bytes).map_err(damaged)? {
                    rows.entry(table.name.clone()).or_default().push(table);
                }
            } else {
                dense.extend(shard::decode_dense(&bytes).map_err(damaged)?);
            }
        }
        dense.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = rows
            .into_iter()
            .map(|(name, shards)| merge(step, &folder, name, &shards, wanted))
            .collect::<Result<_, _>>()?;
        Ok(Snapshot { rows, dense, progress: manifest.progress })
    }

    /// Renames the folder of a damaged checkpoint to `damaged-step-...`, so that the step can be committed again when
    /// training reaches it once more. Nothing is deleted. Returns the new place.
    pub fn set_aside(&self, step: u64) -> Result<PathBuf, CheckpointError> {
        let folder = self.folder(step);
        for attempt in 0..NAME_LIMIT {
            let suffix = if attempt == 0 { String::new() } else { format!("-{attempt}") };
            let aside = self.root.join(format!("damaged-step-{step:010}{suffix}"));
            if !aside.exists() {
                fs::rename(&folder, &aside).map_err(CheckpointError::io(&folder, "renamed"))?;
                durable::sync_folder(&self.root).map_err(CheckpointError::io(&self.root, "synchronised"))?;
                return Ok(aside);
            }
        }
        Err(CheckpointError::Invalid { what: format!("{} holds too many damaged-step folders", self.root.display()) })
    }

    /// Keeps the newest `keep` checkpoints (at least one) and that of `best_step`; removes older ones, attempts older
    /// than the newest checkpoint that were never committed, and files beside a kept manifest that it does not name.
    /// A checkpoint with a missing or cut file does not count towards `keep`. Returns the removed steps.
    pub fn retain(&self, keep: usize, best_step: Option<u64>) -> Result<Vec<u64>, CheckpointError> {
        let mut whole = 0;
        let mut removed = Vec::new();
        for step in self.steps()? {
            let folder = self.folder(step);
            if !folder.join(MANIFEST).exists() {
                // newer than every checkpoint: perhaps being written now
                if whole > 0 {
                    remove(&folder)?;
                }
                continue;
            }
            if whole >= keep.max(1) && best_step != Some(step) {
                remove(&folder)?;
                removed.push(step);
                continue;
            }
            let Ok(manifest) = read_manifest(&folder) else { continue };
            if manifest.files.iter().all(|entry| check_size(&folder, entry).is_ok()) {
                whole += 1;
            }
            remove_unnamed(&folder, &manifest)?;
        }
        Ok(removed)
    }
}

/// Writes `bytes` under the first free name of `stem`.
fn publish(folder: &Path, stem: &str, generation: u64, bytes: &[u8]) -> Result<FileEntry, CheckpointError> {
    for attempt in 0..NAME_LIMIT {
        let name = match attempt {
            0 => format!("{stem}.safetensors"),
            1 => format!("{stem}-g{generation}.safetensors"),
            _ => format!("{stem}-g{generation}-{attempt}.safetensors"),
        };
        let target = folder.join(&name);
        if target.exists() {
            continue;
        }
        let temporary = durable::temporary(&target);
        durable::write_synced(&temporary, bytes).map_err(CheckpointError::io(&temporary, "written"))?;
        if durable::publish_new(&temporary, &target).map_err(CheckpointError::io(&target, "written"))? {
            let blake3 = blake3::hash(bytes).to_hex().to_string();
            return Ok(FileEntry { name, bytes: bytes.len() as u64, blake3 });
        }
    }
    Err(CheckpointError::Invalid {
        what: format!("{} holds {NAME_LIMIT} attempts at {stem}: remove the folder", folder.display()),
    })
}

/// The manifest goes first, so that a crash leaves an attempt and not a damaged checkpoint.
fn remove(folder: &Path) -> Result<(), CheckpointError> {
    let manifest = folder.join(MANIFEST);
    match fs::remove_file(&manifest) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(CheckpointError::io(&manifest, "removed")(e));
        }
        _ => durable::sync_folder(folder).map_err(CheckpointError::io(folder, "synchronised"))?,
    }
    fs::remove_dir_all(folder).map_err(CheckpointError::io(folder, "removed"))
}

fn remove_unnamed(folder: &Path, manifest: &Manifest) -> Result<(), CheckpointError> {
    for entry in fs::read_dir(folder).map_err(CheckpointError::io(folder, "listed"))? {
        let path = entry.map_err(CheckpointError::io(folder, "listed"))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let ours = name.ends_with(".partial") || name.ends_with(".safetensors");
        if ours && !manifest.files.iter().any(|f| f.name == name) && path.is_file() {
            fs::remove_file(&path).map_err(CheckpointError::io(&path, "removed"))?;
        }
    }
    Ok(())
}

/// One table from its shards.
fn merge(
    step: u64,
    folder: &Path,
    name: String,
    shards: &[RowTable],
    wanted: Option<&[u32]>,
) -> Result<RowTable, CheckpointError> {
    let damaged = |why: String| CheckpointError::damaged(folder, why);
    let width = shards.first().map_or(0, |s| s.width);
    if let Some(other) = shards.iter().find(|s| s.width != width) {
        return Err(damaged(format!("table `{name}` has widths {width} and {}", other.width)));
    }
    let mut place: HashMap<u32, (usize, usize)> = HashMap::new();
    for (s, shard) in shards.iter().enumerate() {
        for (row, &id) in shard.ids.iter().enumerate() {
            if place.insert(id, (s, row)).is_some() {
                return Err(damaged(format!("table `{name}` has node {id} twice")));
            }
        }
    }
    let ids: Vec<u32> = match wanted {
        Some(wanted) => wanted.to_vec(),
        None => {
            let mut all: Vec<u32> = place.keys().copied().collect();
            all.sort_unstable();
            all
        }
    };
    let mut values = Vec::with_capacity(ids.len() * width);
    for &id in &ids {
        let &(s, row) =
            place.get(&id).ok_or_else(|| CheckpointError::RowMissing { step, table: name.clone(), node: id })?;
        values.extend_from_slice(&shards[s].values[row * width..(row + 1) * width]);
    }
    Ok(RowTable { name, ids, width, values })
}
