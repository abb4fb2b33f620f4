//! What to do with a folder in which a reader finds no file of its own: which file is there instead, by its name.

use super::files;
use std::path::{Path, PathBuf};

/// Endings of names, and what to do with such a file.
const KINDS: [(&[&str], &str); 9] = [
    (
        &[".parquet.gzip", ".parquet.snappy", ".parquet.zstd", ".pq", ".parq"],
        "let its name end in .parquet, and set data.format = \"pairs\"",
    ),
    (&[".inter", ".inter.gz", ".inter.zst"], "set data.format = \"recbole\""),
    (
        &[".csv", ".tsv", ".dat", ".parquet", ".csv.gz", ".tsv.gz", ".dat.gz", ".csv.zst", ".tsv.zst", ".dat.zst"],
        "set data.format = \"pairs\"",
    ),
    (&[".npz"], "set data.format = \"npz\" if it holds a matrix of users and items"),
    (
        &[".txt", ".txt.gz", ".txt.zst"],
        "set data.format = \"pairs\" (`user item` a line) or \"adjacency\" (`user item item ...` a line)",
    ),
    (
        &[".bz2", ".xz", ".zip", ".7z", ".rar", ".tar", ".tar.gz", ".tgz"],
        "unpack it; .gz and .zst of one file are read",
    ),
    (&[".xlsx", ".xls", ".ods"], "save the sheet as CSV, with a user and an item column"),
    (&[".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz"], EXPORT),
    (&[".feather", ".arrow", ".h5", ".hdf5", ".sqlite", ".db", ".mat", ".mtx", ".orc", ".avro", ".npy"], EXPORT),
];
const EXPORT: &str = "export the interactions as CSV or Parquet, with a user and an item column";

/// Names the file of the folder that is likeliest meant, and says what to do with it; none if there is no such file.
pub(crate) fn advice(folder: &Path) -> Option<String> {
    let entries = entries(folder)?;
    let of_kind = KINDS.iter().find_map(|(endings, what_to_do)| {
        let found = entries.iter().find(|entry| !entry.is_dir() && ends(entry, endings))?;
        Some(format!("the folder holds `{}`: {what_to_do}", files::name(found)))
    });
    of_kind.or_else(|| below(&entries))
}

/// The same for what lies one folder deeper.
fn below(entries: &[PathBuf]) -> Option<String> {
    let is_known = |entry: &PathBuf| !entry.is_dir() && KINDS.iter().any(|(endings, _)| ends(entry, endings));
    let holding = |folder: &PathBuf| Some((files::name(folder), self::entries(folder)?.into_iter().find(is_known)?));
    let found: Vec<(String, PathBuf)> = entries.iter().filter(|entry| entry.is_dir()).filter_map(holding).collect();
    match found.as_slice() {
        [(folder, _), ..] if folder.contains('=') => Some(format!(
            "the folder `{folder}` in it is a partition of a table, which is not read: write the table without partition \
             columns, all in one folder"
        )),
        [(folder, file)] => Some(format!(
            "`{}` lies in the folder `{folder}`: if that is the dataset, name that folder",
            files::name(file)
        )),
        _ => None,
    }
}

/// What lies in a folder, by name, without hidden files and those that hold no interactions.
fn entries(folder: &Path) -> Option<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    entries.retain(|entry| !files::name(entry).starts_with('.') && !files::is_beside(entry));
    entries.sort();
    Some(entries)
}

fn ends(entry: &Path, endings: &[&str]) -> bool {
    let name = files::name(entry).to_lowercase();
    endings.iter().any(|ending| name.ends_with(ending))
}
