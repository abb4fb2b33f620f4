//! Titles of the films in MovieLens' folders as they are unpacked: `u.data` with `u.item` (100K), `ratings.dat` with
//! `movies.dat` (1M, 10M), `ratings.csv` with `movies.csv` (20M and later).

use super::fields::{Fields, Separator, Splitter};
use crate::error::DataError;
use crate::reading::Reading;
use std::collections::HashMap;
use std::path::Path;

/// Interactions, the films' file, what separates its fields, and whether it is Latin-1 with no header.
const FOLDERS: [(&str, &str, &str, bool); 3] = [
    ("u.data", "u.item", "|", true),
    ("ratings.dat", "movies.dat", "::", true),
    ("ratings.csv", "movies.csv", ",", false),
];

/// Titles by item; a film that is not listed keeps its id. None where the folder is no MovieLens folder.
pub(crate) fn titles(folder: &Path, reading: &Reading, item_ids: &[String]) -> Result<Option<Vec<String>>, DataError> {
    let read = |name: &str| reading.files.iter().any(|file| file.file == name);
    let Some((_, films, separator, latin1)) = FOLDERS.iter().find(|f| read(f.0) && folder.join(f.1).is_file()) else {
        return Ok(None);
    };
    let path = folder.join(films);
    let bytes = std::fs::read(&path).map_err(DataError::read(&path))?;
    let text = match latin1 {
        true => bytes.iter().copied().map(char::from).collect(),
        false => String::from_utf8_lossy(&bytes).into_owned(),
    };
    // a `movies.csv` with other columns is no list of titles
    if !latin1 && !text.trim_start_matches('\u{feff}').starts_with("movieId,title") {
        return Ok(None);
    }
    let (mut splitter, mut fields) = (Splitter::new(Separator::named(separator), !latin1), Fields::default());
    let mut title_of: HashMap<String, String> = HashMap::new();
    for (line, number) in text.lines().zip(1u64..) {
        let whole = splitter.take(number, line, &mut fields).map_err(|e| super::layout::quote_error(&path, e))?;
        if let (true, Some(id), Some(title)) = (whole, fields.get(0), fields.get(1)) {
            title_of.insert(id.into(), title.into());
        }
    }
    Ok(Some(item_ids.iter().map(|id| title_of.get(id).unwrap_or(id).clone()).collect()))
}
