//! Which files of a folder are the dataset's parts, and what a reader hands over. Reads no contents but plain text.

pub(crate) use super::listing::{is_beside, list};
use super::text::CONVERT;
use super::{rlmrec, unread};
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

    /// Whether a rating that may say no is kept, since the job says nothing of ratings.
    pub(crate) fn doubts(&self, rating: f64) -> bool {
        self.min_rating.is_none() && rating < 0.0
    }

    /// What the repairs call interactions that are left out.
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

/// The parts of a dataset, and the files that were passed over where one had to be chosen.
pub(crate) struct Located {
    pub(crate) parts: Parts<PathBuf>,
    pub(crate) passed_over: Vec<String>,
}

impl Located {
    /// The parts among `files`; the others are passed over. A part that is the dataset's folder itself holds its pieces.
    pub(crate) fn among(files: &[PathBuf], parts: Parts<PathBuf>) -> Located {
        let read = parts.each();
        let is_read = |file: &PathBuf| {
            let inside = |part: &Path| file.parent() == Some(part) && is_piece(file);
            read.iter().any(|part| *part == file || inside(part))
        };
        let passed_over = files.iter().filter(|file| !is_read(file)).map(|file| name(file)).collect();
        Located { parts, passed_over }
    }
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
    TRAIN.iter().chain(&VALIDATION).chain(&TEST).any(|name| *name == part_name(path))
}

/// Whether a file is one of several that are one table together, as Spark and Dask name them: `part-00000.parquet`.
pub(crate) fn is_piece(path: &Path) -> bool {
    let (stem, ending) = stem_and_ending(path);
    let number = stem.strip_prefix("part").filter(|rest| !rest.starts_with(char::is_alphabetic));
    ending == "parquet" && number.is_some_and(|rest| !rest.is_empty()) && path.is_file()
}

/// As [`locate`], among these files of the folder.
pub(crate) fn assign(
    folder: &Path,
    files: Vec<PathBuf>,
    endings: &[&str],
    pick: &dyn Fn(&[PathBuf]) -> Option<PathBuf>,
) -> Result<Located, DataError> {
    let one = |what: &'static str, names: &[&str]| -> Result<Option<PathBuf>, DataError> {
        let mut found = files.iter().filter(|f| names.contains(&part_name(f).as_str()));
        match (found.next(), found.next()) {
            (Some(first), None) => Ok(Some(first.clone())),
            (None, _) => Ok(None),
            (Some(first), Some(second)) => Err(DataError::Ambiguous {
                folder: folder.into(),
                what,
                names: join_names(&[first.clone(), second.clone()]),
                advice: if is_numbered(first) && is_numbered(second) { JOIN_NUMBERED } else { "keep one of them" },
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
        (None, None, None) => match if files.len() > 1 { pick(&files) } else { None } {
            Some(chosen) => Parts::Whole(chosen),
            None => single(folder, &files, endings)?,
        },
        (None, _, _) => return Err(missing("training", "train")),
    };
    parts.each().into_iter().try_for_each(|part| refuse_lone_piece(part))?;
    Ok(Located::among(&files, parts))
}

/// The only file there is.
fn single(folder: &Path, files: &[PathBuf], endings: &[&str]) -> Result<Parts<PathBuf>, DataError> {
    match files {
        [only] => Ok(Parts::Whole(only.clone())),
        [] => Err(DataError::Missing {
            path: folder.join(format!("train.{}", endings[0])),
            advice: rlmrec::instead_of_interactions(folder).or_else(|| unread::advice(folder)).unwrap_or_else(|| {
                let endings = endings.join(", .");
                format!("the folder has no interaction file ending in .{endings}: check data.path and data.format")
            }),
        }),
        _ => Err(DataError::Ambiguous {
            folder: folder.into(),
            what: "interactions",
            names: join_names(files),
            advice: match files.iter().all(|file| is_numbered(file) || stem(file).starts_with("part-")) {
                true => JOIN_NUMBERED,
                false => "name the parts train, valid and test, or leave one file to be split",
            },
        }),
    }
}

const JOIN_NUMBERED: &str = "they are the pieces of one table: put pieces of Parquet into a folder named as the part, such \
                             as train, and join pieces of text to one file with one header";

/// `train` of `train-00000-of-00001.parquet`, as Hugging Face numbers the pieces of a part; else the name without its
/// ending.
fn part_name(path: &Path) -> String {
    let stem = stem(path);
    numbered(&stem).map_or(stem.clone(), |(name, _)| name.into())
}

/// The name and the number of pieces of `train-00000-of-00002`.
fn numbered(stem: &str) -> Option<(&str, u32)> {
    let (rest, total) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    Some((name, total.parse().ok()?))
}

fn is_numbered(path: &Path) -> bool {
    numbered(&stem(path)).is_some()
}

/// A file whose name says that it is one of several, where the others are not there.
fn refuse_lone_piece(path: &Path) -> Result<(), DataError> {
    match numbered(&stem(path)) {
        Some((_, total)) if total > 1 => Err(DataError::malformed(
            path,
            format!("this is one of {total} pieces of a table, by its name"),
            JOIN_NUMBERED,
        )),
        _ => Ok(()),
    }
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
        DataError::at_line(path, line as u64, "the text is not UTF-8", CONVERT)
    })?;
    if text.trim().is_empty() {
        return Err(DataError::Empty { path: path.into(), advice: "it should hold one entry a line".into() });
    }
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
