//! What fixes the order of internal ids, without which a matrix that has no ids means nothing: lists of ids in the
//! dataset's folder, and digests of the ids that tables were written for.

use crate::error::{DataError, Side};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The file that [`prepared::write`](crate::prepared::write) puts beside the tables.
pub(crate) const DIGESTS_FILE: &str = "ids.json";

/// Which sides have their ids listed, in the order of internal ids, in `users.txt` or `items.txt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) users: bool,
    pub(crate) items: bool,
}

impl Listed {
    pub(crate) fn in_folder(folder: &Path) -> Listed {
        let is_file = |name: &str| folder.join(name).is_file();
        Listed { users: is_file("users.txt"), items: is_file("items.txt") }
    }

    pub(super) fn has(self, side: Side) -> bool {
        match side {
            Side::User => self.users,
            Side::Item => self.items,
        }
    }
}

/// Digests of the ids that the tables beside it were written for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IdDigests {
    users: String,
    items: String,
}

impl IdDigests {
    pub(crate) fn of(user_ids: &[String], item_ids: &[String]) -> IdDigests {
        IdDigests { users: digest(user_ids), items: digest(item_ids) }
    }

    /// Of a folder; none where there is no such file.
    pub(super) fn read(folder: &Path) -> Result<Option<IdDigests>, DataError> {
        let path = folder.join(DIGESTS_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DataError::read(&path)(source)),
        };
        let digests = serde_json::from_slice(&text);
        digests.map(Some).map_err(|e| DataError::malformed(&path, e.to_string(), "write the dataset again"))
    }

    pub(super) fn side(&self, side: Side) -> &str {
        match side {
            Side::User => &self.users,
            Side::Item => &self.items,
        }
    }
}

/// BLAKE3 (hex) of ids, one a line: that of `users.txt` or `items.txt` as this crate writes them.
pub(super) fn digest(ids: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for id in ids {
        hasher.update(id.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

/// Refuses a table that was written for other ids. `of`: what says so.
///
/// # Errors
/// When the digests differ.
pub(super) fn same_ids(table: &Path, side: Side, ids: &[String], written_for: &str, of: &str) -> Result<(), DataError> {
    let now = digest(ids);
    if now == written_for {
        return Ok(());
    }
    Err(DataError::malformed(
        table,
        format!(
            "{side}s.txt was changed after the text tables were written: its ids have the digest {now:.12}, {of} says \
             {written_for:.12}"
        ),
        format!("put back the {side}s.txt that the tables were written for, or write both again"),
    ))
}

/// Refuses a matrix without ids where nothing fixes the order of internal ids.
///
/// # Errors
/// When the ids are neither listed nor `0` to `n - 1` in this order.
pub(super) fn in_known_order(table: &Path, side: Side, ids: &[String], listed: Listed) -> Result<(), DataError> {
    let is_number = |(row, id): (usize, &String)| id.parse() == Ok(row) && *id == row.to_string();
    if listed.has(side) || ids.iter().enumerate().all(is_number) {
        return Ok(());
    }
    let examples: Vec<String> =
        ids.iter().enumerate().take(3).map(|(row, id)| format!("row {row} would go to `{id}`")).collect();
    let last = ids.len().saturating_sub(1);
    Err(DataError::malformed(
        table,
        format!(
            "rows without ids, and the {side} ids are not 0 to {last}, so no row is known to be a {side}'s ({})",
            examples.join(", ")
        ),
        format!(
            "list the {side} ids in {side}s.txt, one a line in the order of the rows, or save the table with its ids as \
             .npz, .parquet or .jsonl"
        ),
    ))
}
