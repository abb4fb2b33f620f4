//! Which entries of a dataset's folder may hold interactions, by their names: files with one of a reader's endings, and folders
//! of pieces of Parquet. What would be passed over without a word and may be a part is refused.

use super::files::{is_part, stem_and_ending};
use crate::error::DataError;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of a dataset's folder that never hold interactions: lists of ids, notes, text tables.
const BESIDE: [&str; 11] = [
    "users",
    "items",
    "item_titles",
    "readme",
    "user_list",
    "item_list",
    "license",
    "usr_emb",
    "itm_emb",
    "usr_intent_emb",
    "itm_intent_emb",
];

/// Files of `folder` with one of the endings, by name, without those known to hold something else.
pub(crate) fn list(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    if folder.is_file() {
        return Err(DataError::malformed(folder, "this is a file", "name the folder that the file lies in"));
    }
    if !folder.is_dir() {
        return Err(DataError::Missing {
            path: folder.into(),
            advice: "data.path must name a folder; it is relative to the folder of the job file".into(),
        });
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let path = entry.map_err(DataError::read(folder))?.path();
        if is_candidate(&path, endings)? {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether an entry of a dataset's folder may hold interactions, by its name.
///
/// # Errors
/// A link that leads nowhere where a file of the dataset should be, or a folder of text files.
fn is_candidate(path: &Path, endings: &[&str]) -> Result<bool, DataError> {
    let (stem, ending) = stem_and_ending(path);
    // macOS leaves `._name` beside files, and editors their own
    if stem.is_empty() || stem.starts_with('.') {
        return Ok(false);
    }
    let known = endings.contains(&ending.as_str()) && !is_beside(path);
    let listed = ["users", "items", "item_titles"].contains(&stem.as_str());
    let of_dataset = known || listed || is_part(path) || is_text_table(&stem);
    // without it the dataset would be read as if the file had never been there
    if of_dataset && path.is_symlink() && !path.exists() {
        return Err(DataError::malformed(
            path,
            "this is a link to a file that does not exist or cannot be read",
            "restore the file that it points to, or remove the link",
        ));
    }
    match path.is_dir() {
        true => is_folder_of_pieces(path, &ending, known, endings),
        false => Ok(known && path.is_file()),
    }
}

/// Whether a folder holds the pieces of a table of Parquet, as Spark and others write them.
///
/// # Errors
/// A folder of pieces of text, named as a file or a part.
fn is_folder_of_pieces(path: &Path, ending: &str, known: bool, endings: &[&str]) -> Result<bool, DataError> {
    let names_part = ending.is_empty() && is_part(path);
    if endings.contains(&"parquet") {
        if ending == "parquet" {
            return Ok(known);
        }
        if names_part && holds_parquet(path, 3) {
            return Ok(true);
        }
    }
    let is_piece = |entry: fs::DirEntry| {
        let (stem, ending) = stem_and_ending(&entry.path());
        let number = stem.strip_prefix("part").unwrap_or("part");
        !number.starts_with(char::is_alphabetic) && (endings.contains(&ending.as_str()) || (known && ending.is_empty()))
    };
    let has_pieces = || fs::read_dir(path).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_piece)));
    if (known || names_part) && has_pieces() {
        return Err(DataError::malformed(
            path,
            "this is a folder of part files, which are read from Parquet alone",
            "join its files to one file with one header, or write the table as Parquet",
        ));
    }
    Ok(false)
}

/// Whether a `.parquet` file lies in `folder`, or in a folder in it. A folder `test` of programs holds none.
fn holds_parquet(folder: &Path, depth: u32) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.filter_map(Result::ok).map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => depth > 1 && holds_parquet(&path, depth - 1),
        false => stem_and_ending(&path).1 == "parquet",
    })
}

/// Whether a file of a dataset's folder holds no interactions, by its name.
pub(crate) fn is_beside(path: &Path) -> bool {
    let (stem, ending) = stem_and_ending(path);
    let table = is_text_table(&stem) && ["npz", "parquet"].contains(&ending.as_str());
    table || BESIDE.contains(&stem.as_str())
}

/// Whether a file's name is that of a text table: `usr_emb`, `item_intents`, `embeddings`.
fn is_text_table(stem: &str) -> bool {
    const WORDS: [&str; 6] = ["emb", "embs", "embedding", "embeddings", "intent", "intents"];
    stem.split(|c: char| !c.is_alphanumeric()).any(|word| WORDS.contains(&word))
}
