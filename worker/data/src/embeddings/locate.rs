//! Which file of a dataset's folder a text table lies in. Opens none.

use super::TextNeed;
use crate::error::DataError;
use crate::readers::rlmrec;
use accord_spec::TextFiles;
use std::path::{Path, PathBuf};

/// Forms of a table, best known first.
pub(super) const ENDINGS: [&str; 7] = ["npy", "safetensors", "npz", "parquet", "jsonl", "pkl", "pickle"];

/// The file of the table that the job names `name`. Where the name is a default and there is no such file, another ending
/// may be there.
///
/// # Errors
/// No file, or several with other endings.
pub(super) fn locate(folder: &Path, name: &str, need: TextNeed) -> Result<PathBuf, DataError> {
    find(folder, name)?.ok_or_else(|| missing(folder.join(name), need))
}

/// As [`locate`]; none where there is no file.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>, DataError> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(Some(path));
    }
    let defaults = TextFiles::default();
    let names = [&defaults.user_profile, &defaults.item_profile, &defaults.user_intent, &defaults.item_intent];
    if !names.iter().any(|default| *default == name) {
        return Ok(None);
    }
    let there: Vec<PathBuf> = ENDINGS.iter().map(|e| path.with_extension(e)).filter(|p| p.exists()).collect();
    match there.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => Err(DataError::Ambiguous {
            folder: folder.into(),
            what: "text table",
            names: crate::readers::join_names(several),
            advice: "keep one of them, or name it under data.text",
        }),
    }
}

/// Which tables a folder has: profiles, or profiles and intents.
///
/// # Errors
/// One table of a pair without the other, intents without profiles, or several files for one table.
pub(super) fn found(folder: &Path, files: &TextFiles) -> Result<TextNeed, DataError> {
    let pair = |user: &str, item: &str, need: TextNeed| -> Result<bool, DataError> {
        match (find(folder, user)?, find(folder, item)?) {
            (Some(_), Some(_)) => Ok(true),
            (None, None) => Ok(false),
            (None, Some(_)) => Err(missing(folder.join(user), need)),
            (Some(_), None) => Err(missing(folder.join(item), need)),
        }
    };
    let profiles = pair(&files.user_profile, &files.item_profile, TextNeed::Profiles)?;
    match (profiles, pair(&files.user_intent, &files.item_intent, TextNeed::ProfilesAndIntents)?) {
        (false, false) => Ok(TextNeed::None),
        (true, false) => Ok(TextNeed::Profiles),
        (true, true) => Ok(TextNeed::ProfilesAndIntents),
        (false, true) => Err(missing(folder.join(&files.user_profile), TextNeed::ProfilesAndIntents)),
    }
}

fn missing(path: PathBuf, need: TextNeed) -> DataError {
    let tables = match need {
        TextNeed::None | TextNeed::Profiles => "usr_emb and itm_emb",
        TextNeed::ProfilesAndIntents => "usr_emb, itm_emb, usr_intent_emb and itm_intent_emb",
    };
    let pickled = path.parent().and_then(rlmrec::instead_of_texts);
    let advice = pickled.unwrap_or_else(|| format!(
        "the model needs text embeddings in {tables}: each an .npz, .parquet or .jsonl table with ids, or an .npy or \
         .safetensors matrix with one row for each line of users.txt or items.txt; name other files under data.text, or \
         train model.kind = \"lightgcn\", which needs none"
    ));
    DataError::Missing { path, advice }
}
