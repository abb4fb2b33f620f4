//! What can be wrong with a dataset. Each message says what, where (file and line, or file, row and column) and what
//! to do. Checkpoints and wheels have errors of their own.

use std::io;
use std::path::{Path, PathBuf};

/// Why a dataset cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{} cannot be {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    /// A file or folder that must exist does not.
    #[error("{} is missing: {advice}", path.display())]
    Missing { path: PathBuf, advice: String },
    /// A file without any content.
    #[error("{} is empty: {advice}", path.display())]
    Empty { path: PathBuf, advice: String },
    /// More than one file could be meant.
    #[error("{}: more than one file could be the {what} ({names}): {advice}", folder.display())]
    Ambiguous { folder: PathBuf, what: &'static str, names: String, advice: &'static str },
    /// The bytes of a file break its format. `place` is a file, or `file:line`.
    #[error("{place}: {problem}: {advice}")]
    Malformed { place: String, problem: String, advice: String },
    /// An id that cannot be one. `place` is `file:line`, or `file, entry n`.
    #[error("{place}: {side} id {id} is negative: ids count from 0")]
    NegativeId { place: String, side: Side, id: i64 },
    #[error("{place}: {side} id {id} is out of range: there are {count} {side}s, numbered from 0")]
    OutOfRange { place: String, side: Side, id: u64, count: usize },
    /// An id that the catalog file does not list.
    #[error("{place}: {side} `{id}` is not listed in {}: add a line for it or remove that file", catalog.display())]
    UnknownId { place: String, side: Side, id: String, catalog: PathBuf },
    /// Two sizes that must agree do not.
    #[error("{}: {found}, but {expected}: {advice}", path.display())]
    WrongShape { path: PathBuf, found: String, expected: String, advice: String },
    /// A text embedding that is NaN, infinite, or too large for `f32`. Row and column count from 0.
    #[error("{}: row {row}, column {column} is {value:?}: every embedding must be a finite 32-bit number", path.display())]
    NotFinite { path: PathBuf, row: usize, column: usize, value: f64 },
    /// The data are well-formed and cannot be trained on.
    #[error("{problem}: {advice}")]
    Unusable { problem: String, advice: String },
}

/// Which side of the graph an id belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    User,
    Item,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::User => Side::Item,
            Side::Item => Side::User,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Side::User => "user",
            Side::Item => "item",
        })
    }
}

impl DataError {
    /// Whether the user gave something unusable, rather than the machine failing.
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, DataError::Io { action: "written", .. })
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> DataError + '_ {
        |source| DataError::Io { path: path.into(), action: "read", source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> DataError + '_ {
        |source| DataError::Io { path: path.into(), action: "written", source }
    }

    pub(crate) fn malformed(path: &Path, problem: impl Into<String>, advice: impl Into<String>) -> DataError {
        DataError::Malformed { place: path.display().to_string(), problem: problem.into(), advice: advice.into() }
    }

    pub(crate) fn at_line(path: &Path, line: u64, problem: impl Into<String>, advice: impl Into<String>) -> DataError {
        DataError::Malformed { place: place(path, line), problem: problem.into(), advice: advice.into() }
    }
}

/// `file:line`, lines from 1.
pub(crate) fn place(path: &Path, line: u64) -> String {
    format!("{}:{line}", path.display())
}
