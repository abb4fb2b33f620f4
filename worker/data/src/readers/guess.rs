//! Which format the files of a folder have, for commands that are not told. The names decide: those of parts first, then
//! any table or matrix. A folder whose names say two formats, or none, is refused.

use super::{files, pairs, pickle};
use crate::error::DataError;
use accord_spec::Format;
use std::path::{Path, PathBuf};

/// The format whose files the folder has. The advice of an error names `--format`, an argument of the commands that guess.
///
/// # Errors
/// A folder that cannot be read, or whose format is not clear.
pub fn guess_format(folder: &Path) -> Result<Format, DataError> {
    let (texts, tables) = files::list(folder, &pairs::ENDINGS)?
        .into_iter()
        .partition::<Vec<PathBuf>, _>(|file| files::stem_and_ending(file).1 == "txt");
    let matrices = files::list(folder, &["npz"])?;
    let pickles = files::list(folder, &pickle::ENDINGS)?;
    let lists = files::list(folder, &["inter"])?;
    let pickled = |file: &&PathBuf| matches!(files::stem(file).as_str(), "trn_mat" | "train_mat");
    let clear: Vec<(Option<Format>, &PathBuf)> = [
        (Some(Format::Recbole), lists.first()),
        (Some(Format::Rlmrec), pickles.iter().find(pickled)),
        (Some(Format::Npz), matrices.iter().find(says_interactions)),
        (Some(Format::Pairs), tables.iter().find(says_interactions)),
        (None, texts.iter().find(says_interactions)),
    ]
    .into_iter()
    .filter_map(|(format, file)| Some((format, file?)))
    .collect();
    match clear.as_slice() {
        [(Some(format), _)] => Ok(*format),
        [(None, text)] => Err(text_only(folder, text)),
        [] if !tables.is_empty() => Ok(Format::Pairs),
        [] if !matrices.is_empty() => Ok(Format::Npz),
        [] => Err(nothing(folder, &texts)),
        _ => Err(several(folder, &clear)),
    }
}

/// Whether a file's name says that it holds interactions: a part, or all of them.
fn says_interactions(file: &&PathBuf) -> bool {
    files::is_part(file) || matches!(files::stem(file).as_str(), "ratings" | "interactions")
}

fn name(format: Option<Format>) -> &'static str {
    match format {
        Some(Format::Recbole) => "--format recbole",
        Some(Format::Rlmrec) => "--format rlmrec",
        Some(Format::Npz) => "--format npz",
        Some(Format::Pairs) => "--format pairs",
        Some(Format::Adjacency) => "--format adjacency",
        None => "--format pairs (`user item` a line) or --format adjacency (`user item item ...` a line)",
    }
}

fn several(folder: &Path, found: &[(Option<Format>, &PathBuf)]) -> DataError {
    let files: Vec<String> = found.iter().map(|(_, file)| format!("`{}`", files::name(file))).collect();
    let choices: Vec<String> =
        found.iter().map(|(format, file)| format!("{} for {}", name(*format), files::name(file))).collect();
    DataError::Unusable {
        problem: format!("{} holds interactions in several formats: {}", folder.display(), files.join(", ")),
        advice: format!("say which is meant: {}", choices.join(", or ")),
    }
}

fn text_only(folder: &Path, text: &Path) -> DataError {
    DataError::Unusable {
        problem: format!("{} holds `{}`, and .txt files may hold pairs or lists", folder.display(), files::name(text)),
        advice: format!("say which: {}", name(None)),
    }
}

fn nothing(folder: &Path, texts: &[PathBuf]) -> DataError {
    let problem = format!("{} holds no file whose name says how interactions are stored", folder.display());
    if let Some(text) = texts.first() {
        return text_only(folder, text);
    }
    let advice = super::unread::advice(folder).unwrap_or_else(|| {
        "a dataset is a folder of .csv, .tsv, .parquet, .inter or .npz files, or of trn_mat.pkl; text files in .txt need \
         --format pairs or --format adjacency"
            .into()
    });
    DataError::Unusable { problem, advice }
}
