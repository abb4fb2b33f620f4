//! Which files of a folder are the dataset's parts, and what a reader hands over. Reads no contents but plain text.

use super::rlmrec;
use crate::error::DataError;
use std::fs;
use std::path::{Path, PathBuf};

/// Which columns matter to this job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) min_rating: Option<f64>,
    pub(crate) time: bool,
}

impl Wanted {
    /// Whether an interaction with this rating is left out: too low, or 0 where the job says nothing of ratings.
    pub(crate) fn drops(&self, rating: f64) -> bool {
        match self.min_rating {
            Some(least) => rating < least,
            None => rating == 0.0,
        }
    }

    /// What the repairs call such interactions.
    pub(crate) fn dropped(&self) -> String {
        match self.min_rating {
            Some(least) => format!("interactions rated below data.min_rating = {least} dropped"),
            None => "interactions rated 0 dropped (data.min_rating = 0 keeps them)".into(),
        }
    }
}

/// Parts that lie apart, or one whole that is to be split.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parts<T> {
    Apart { train: T, validation: Option<T>, test: T },
    Whole(T),
}

impl<T> Parts<T> {
    /// Training first.
    pub(crate) fn try_map<U, E>(self, mut f: impl FnMut(T) -> Result<U, E>) -> Result<Parts<U>, E> {
        Ok(match self {
            Parts::Whole(whole) => Parts::Whole(f(whole)?),
            Parts::Apart { train, validation, test } => {
                Parts::Apart { train: f(train)?, validation: validation.map(&mut f).transpose()?, test: f(test)? }
            }
        })
    }

    /// Those there are, training first.
    pub(crate) fn each(&self) -> Vec<&T> {
        match self {
            Parts::Whole(whole) => vec![whole],
            Parts::Apart { train, validation, test } => {
                [Some(train), validation.as_ref(), Some(test)].into_iter().flatten().collect()
            }
        }
    }

    /// Whether this crate has to hold interactions out itself.
    pub(crate) fn needs_split(&self) -> bool {
        matches!(self, Parts::Whole(_) | Parts::Apart { validation: None, .. })
    }
}

const TRAIN: [&str; 4] = ["trn", "train", "trn_mat", "train_mat"];
const VALIDATION: [&str; 6] = ["val", "valid", "validation", "val_mat", "valid_mat", "dev"];
const TEST: [&str; 4] = ["tst", "test", "tst_mat", "test_mat"];
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

/// The parts of a dataset, and the files that were passed over where one had to be chosen.
pub(crate) struct Located {
    pub(crate) parts: Parts<PathBuf>,
    pub(crate) passed_over: Vec<String>,
}

/// Finds the parts among the files with one of these endings. `pick` chooses one of several files that are named as no
/// part, or none.
pub(crate) fn locate(
    folder: &Path,
    endings: &[&str],
    pick: &dyn Fn(&[PathBuf]) -> Option<PathBuf>,
) -> Result<Located, DataError> {
    assign(folder, list(folder, endings)?, endings, pick)
}

/// Whether a file's name is that of a part.
pub(crate) fn is_part(path: &Path) -> bool {
    let stem = stem(path);
    TRAIN.iter().chain(&VALIDATION).chain(&TEST).any(|name| *name == stem)
}

/// As [`locate`], among these files of the folder.
pub(crate) fn assign(
    folder: &Path,
    files: Vec<PathBuf>,
    endings: &[&str],
    pick: &dyn Fn(&[PathBuf]) -> Option<PathBuf>,
) -> Result<Located, DataError> {
    let one = |what: &'static str, names: &[&str]| -> Result<Option<PathBuf>, DataError> {
        let mut found = files.iter().filter(|f| names.contains(&stem(f).as_str()));
        match (found.next(), found.next()) {
            (Some(first), None) => Ok(Some(first.clone())),
            (None, _) => Ok(None),
            (Some(first), Some(second)) => Err(DataError::Ambiguous {
                folder: folder.into(),
                what,
                names: join_names(&[first.clone(), second.clone()]),
                advice: "keep one of them",
            }),
        }
    };
    let train = one("training part", &TRAIN)?;
    let validation = one("validation part", &VALIDATION)?;
    let test = one("test part", &TEST)?;
    let ending = endings[0];
    let missing = |part: &str, stem: &str| DataError::Missing {
        path: folder.join(format!("{stem}.{ending}")),
        advice: format!("the folder has other parts but no {part} part: add it, or leave one single file to be split"),
    };
    let parts = match (train, validation, test) {
        (Some(train), validation, Some(test)) => Parts::Apart { train, validation, test },
        (Some(train), None, None) => Parts::Whole(train),
        (Some(_), Some(_), None) => return Err(missing("test", "test")),
        (None, None, None) => {
            let chosen = if files.len() > 1 { pick(&files) } else { None };
            if let Some(one) = chosen {
                let others: Vec<PathBuf> = files.iter().filter(|file| **file != one).cloned().collect();
                return Ok(Located { parts: Parts::Whole(one), passed_over: names(&others) });
            }
            single(folder, &files, endings)?
        }
        (None, _, _) => return Err(missing("training", "train")),
    };
    Ok(Located { parts, passed_over: vec![] })
}

/// The only file there is.
fn single(folder: &Path, files: &[PathBuf], endings: &[&str]) -> Result<Parts<PathBuf>, DataError> {
    match files {
        [only] => Ok(Parts::Whole(only.clone())),
        [] => Err(DataError::Missing {
            path: folder.join(format!("train.{}", endings[0])),
            advice: rlmrec::instead_of_interactions(folder).unwrap_or_else(|| {
                let endings = endings.join(", .");
                format!("the folder has no interaction file ending in .{endings}: check data.path and data.format")
            }),
        }),
        _ => Err(DataError::Ambiguous {
            folder: folder.into(),
            what: "interactions",
            names: join_names(files),
            advice: "name the parts train, valid and test, or leave one file to be split",
        }),
    }
}

/// Files of `folder` with one of the endings, by name, without those known to hold something else.
pub(crate) fn list(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    if !folder.is_dir() {
        return Err(DataError::Missing {
            path: folder.into(),
            advice: "data.path must name a folder; it is relative to the folder of the job file".into(),
        });
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let path = entry.map_err(DataError::read(folder))?.path();
        let (stem, ending) = stem_and_ending(&path);
        // macOS leaves `._name` beside files, and editors their own
        let hidden = stem.is_empty() || stem.starts_with('.');
        let known = endings.contains(&ending.as_str()) && !BESIDE.contains(&stem.as_str());
        // Spark and others write a table as a folder of part files
        let in_parts = endings.contains(&"parquet") && (ending == "parquet" || is_part(&path)) && path.is_dir();
        if !hidden && ((known && path.is_file()) || in_parts) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// `train` and `csv` of `Train.csv.gz`: in lower case, without the ending of a compressed file.
pub(crate) fn stem_and_ending(path: &Path) -> (String, String) {
    let name = name(path).to_lowercase();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let (stem, ending) = plain.rsplit_once('.').unwrap_or((plain, ""));
    (stem.into(), ending.into())
}

pub(crate) fn stem(path: &Path) -> String {
    stem_and_ending(path).0
}

/// A file's name without its folder.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(crate) fn names(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file| name(file)).collect()
}

pub(crate) fn join_names(files: &[PathBuf]) -> String {
    names(files).join(", ")
}

/// The text of a small file; empty files and files that are not UTF-8 are refused.
pub(crate) fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = fs::read(path).map_err(DataError::read(path))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..valid].iter().filter(|&&b| b == b'\n').count() + 1;
        DataError::at_line(path, line as u64, "the text is not UTF-8", "convert it: iconv -f latin1 -t utf-8")
    })?;
    if text.trim().is_empty() {
        return Err(DataError::Empty { path: path.into(), advice: "it should hold one entry a line".into() });
    }
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
