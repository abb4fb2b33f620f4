//! What to do with a folder in which a reader finds no file of its own: which file is there instead, by its name.

use super::files;
use std::path::Path;

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
    let entries = std::fs::read_dir(folder).ok()?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .map(|entry| files::name(&entry.path()))
        .filter(|n| !n.starts_with('.'))
        .collect();
    names.retain(|name| !files::is_beside(Path::new(name)));
    names.sort();
    KINDS.iter().find_map(|(endings, what_to_do)| {
        let ends = |name: &&String| endings.iter().any(|ending| name.to_lowercase().ends_with(ending));
        let found = names.iter().find(ends)?;
        Some(format!("the folder holds `{found}`: {what_to_do}"))
    })
}
