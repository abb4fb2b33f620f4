//! MovieLens-100K from a PyPI wheel to a folder that a job can train on: split, texts, embeddings, all on disk.
//!
//! The intents are a template's, not a language model's: the folder's README.txt says so, and where an LLM's go.
//! A folder that exists is never overwritten or deleted.

use crate::ml100k::{Catalog, Texts};
use crate::{Encoder, TextError};
use accord_data::{Dataset, DatasetManifest, Embeddings, TextNeed, TextTables, prepared, wheel};
use accord_spec::{Data, Format};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PACKAGE: &str = "recbole";
const VERSION: &str = "1.2.1";
/// 2 MB.
const FETCH_LIMIT: Duration = Duration::from_secs(180);
/// Folder of the dataset inside the wheel, and its files.
const MEMBERS: &str = "recbole/dataset_example/ml-100k";
const FILES: [&str; 3] = ["ml-100k.inter", "ml-100k.item", "ml-100k.user"];
/// Ratings from here on count as liked.
const LIKED: f64 = 4.0;
/// Training, validation, test.
const SPLIT_RATIO: [f64; 3] = [3.0, 1.0, 1.0];
/// Of the split: the prepared dataset does not depend on a job's seed.
const SEED: u64 = 2023;
const MANIFEST: &str = "dataset.json";
const README: &str = include_str!("readme.txt");

/// A prepared dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    pub folder: PathBuf,
    pub manifest: DatasetManifest,
    /// Whether this call prepared it.
    pub fresh: bool,
}

/// Prepares MovieLens-100K in `dest` (job file: `format = "npz"`), unless it is there already and intact.
///
/// # Errors
/// A wheel that cannot be had, a failing disk, or a `dest` that holds something else or was changed: that is left
/// alone.
pub fn ml_100k(dest: &Path, progress: &mut dyn FnMut(&str)) -> Result<Fetched, TextError> {
    if let Some(manifest) = intact(dest)? {
        return Ok(Fetched { folder: dest.into(), manifest, fresh: false });
    }
    let parent = match dest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(TextError::io("create", parent))?;
    // beside `dest`, so that the whole folder appears there in one rename
    let staging = tempfile::Builder::new()
        .prefix(".preparing-ml-100k-")
        .tempdir_in(parent)
        .map_err(TextError::io("create a folder in", parent))?;

    progress(&format!("getting MovieLens-100K ({PACKAGE} {VERSION})"));
    let raw = staging.path().join("raw");
    unpack(&raw)?;
    progress(&format!("splitting ratings of {LIKED} and more into training, validation and test"));
    let mut dataset = Dataset::load(&atomic_files(), &raw, SEED, TextNeed::None)?;
    for repair in &dataset.manifest.repairs {
        progress(&format!("{} {}", repair.count, repair.what));
    }
    let catalog = Catalog::read(&raw)?;
    dataset.item_titles = Some(dataset.item_ids.iter().map(|id| catalog.label(id)).collect());
    let texts = catalog.texts(&dataset);
    dataset.set_text(Some(encode(&texts, progress)?));

    let ready = staging.path().join("ready");
    prepared::write(&ready, &dataset)?;
    write_texts(&ready, &texts)?;
    save(&ready.join("README.txt"), README.as_bytes())?;
    let manifest = Dataset::load(&prepared_files(), &ready, SEED, TextNeed::ProfilesAndIntents)?.manifest;
    let json = serde_json::to_vec_pretty(&manifest).map_err(|e| TextError::io("write", dest)(e.into()))?;
    save(&ready.join(MANIFEST), &json)?;
    fs::rename(&ready, dest).map_err(TextError::io("create", dest))?;
    Ok(Fetched { folder: dest.into(), manifest, fresh: true })
}

/// The manifest of a prepared folder whose content has the digest it was written with; none where there is nothing.
fn intact(dest: &Path) -> Result<Option<DatasetManifest>, TextError> {
    let mut entries = match fs::read_dir(dest) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TextError::io("read", dest)(error)),
    };
    if entries.next().is_none() {
        return Ok(None);
    }
    let changed = |why: String| TextError::Changed { folder: dest.into(), why };
    let json = match fs::read(dest.join(MANIFEST)) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(TextError::Occupied(dest.into())),
        Err(error) => return Err(TextError::io("read", dest)(error)),
    };
    let then: DatasetManifest = serde_json::from_slice(&json).map_err(|e| changed(format!("{MANIFEST}: {e}")))?;
    let now = Dataset::load(&prepared_files(), dest, SEED, TextNeed::ProfilesAndIntents)
        .map_err(|e| changed(e.to_string()))?
        .manifest;
    if now.digest != then.digest {
        return Err(changed(format!("its digest is {:.12}, {MANIFEST} says {:.12}", now.digest, then.digest)));
    }
    Ok(Some(now))
}

fn unpack(folder: &Path) -> Result<(), TextError> {
    let archive = wheel::fetch(PACKAGE, VERSION, FETCH_LIMIT)?;
    fs::create_dir_all(folder).map_err(TextError::io("create", folder))?;
    for name in FILES {
        save(&folder.join(name), &wheel::read_member(&archive, &format!("{MEMBERS}/{name}"))?)?;
    }
    Ok(())
}

fn atomic_files() -> Data {
    Data { min_rating: Some(LIKED), split_ratio: SPLIT_RATIO, ..Data::at(".", Format::Recbole) }
}

fn prepared_files() -> Data {
    Data { format: Format::Npz, min_rating: None, ..atomic_files() }
}

fn encode(texts: &Texts, progress: &mut dyn FnMut(&str)) -> Result<TextTables, TextError> {
    let encoder = Encoder::load(progress)?;
    let mut encode = |what: &str, texts: &[String]| -> Result<Embeddings, TextError> {
        let mut table = encoder.encode(texts, &mut |line| progress(&format!("{what}: {line}")))?;
        // half the size on disk, and far more precise than the texts are telling
        table.round_to_f16();
        Ok(table)
    };
    Ok(TextTables {
        user_profile: encode("user profiles", &texts.user_profile)?,
        item_profile: encode("item profiles", &texts.item_profile)?,
        intents: Some([encode("user intents", &texts.user_intent)?, encode("item intents", &texts.item_intent)?]),
    })
}

/// The texts themselves, for people.
fn write_texts(folder: &Path, texts: &Texts) -> Result<(), TextError> {
    for (name, profiles, intents) in [
        ("user_text.jsonl", &texts.user_profile, &texts.user_intent),
        ("item_text.jsonl", &texts.item_profile, &texts.item_intent),
    ] {
        let lines: String = profiles
            .iter()
            .zip(intents)
            .map(|(profile, intent)| format!("{}\n", serde_json::json!({ "profile": profile, "intent": intent })))
            .collect();
        save(&folder.join(name), lines.as_bytes())?;
    }
    Ok(())
}

fn save(file: &Path, bytes: &[u8]) -> Result<(), TextError> {
    fs::write(file, bytes).map_err(TextError::io("write", file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_folder_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("thesis.txt");
        fs::write(&file, "years of work").unwrap();
        let error = ml_100k(folder.path(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, TextError::Occupied(_)), "{error}");
        assert_eq!(fs::read_to_string(file).unwrap(), "years of work");
    }

    #[test]
    fn changed_folder_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MANIFEST), "{}").unwrap();
        let error = ml_100k(folder.path(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, TextError::Changed { .. }), "{error}");
        assert!(error.to_string().contains("missing field"), "{error}");
    }
}
