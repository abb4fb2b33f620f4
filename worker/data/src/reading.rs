//! How the files of a dataset, text tables included, were understood: printed by `data inspect`, by `run` and in a worker's log, and kept in
//! `dataset.json`. Says nothing of what became of the interactions later: the manifest's repairs do.

use crate::manifest::Repair;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a dataset was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    pub files: Vec<FileReading>,
    /// How external ids were numbered.
    pub users: String,
    pub items: String,
    /// Files of the folder that hold no interactions, where one had to be chosen.
    pub passed_over: Vec<String>,
    /// Text tables that were read: users' profiles first, then items', then the intents.
    pub texts: Vec<TextReading>,
}

/// How one text table was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextReading {
    /// Name inside the dataset's folder.
    pub file: String,
    /// "user" or "item".
    pub side: String,
    /// The field that holds the ids; none in a matrix without ids, whose row i belongs to user or item i.
    pub id: Option<String>,
    /// The field, or the fields, of the vectors in words; none in a matrix without ids.
    pub vector: Option<String>,
    pub rows: u64,
    /// Numbers of a vector.
    pub width: u64,
}

impl fmt::Display for TextReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        match &self.id {
            Some(id) => write!(f, "id = `{id}`")?,
            None => write!(f, "row i belongs to {} i", self.side)?,
        }
        if let Some(vector) = &self.vector {
            write!(f, ", vector = {vector}")?;
        }
        write!(f, ", {} rows of {} numbers", self.rows, self.width)
    }
}

/// How one file of interactions was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileReading {
    /// Name inside the dataset's folder.
    pub file: String,
    /// What it is: "separated by commas", "a csr matrix", "Parquet".
    pub form: String,
    /// "gzip" or "zstd".
    pub compression: Option<String>,
    /// The line that names the columns.
    pub header_line: Option<u64>,
    pub columns: Vec<ColumnReading>,
    /// Names of columns that are not read.
    pub unused_columns: Vec<String>,
    /// The first interaction.
    pub first: String,
    pub interactions: u64,
    /// What was left out, and why.
    pub skipped: Vec<Repair>,
}

/// One column that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnReading {
    /// "user", "item", "rating" or "time".
    pub role: String,
    /// Its name, where the file gives one.
    pub name: Option<String>,
    /// Its place, counted from 1.
    pub place: u64,
}

impl fmt::Display for ColumnReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} = `{name}`", self.role),
            None => write!(f, "{} = column {}", self.role, self.place),
        }
    }
}

impl fmt::Display for FileReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.form)?;
        if let Some(compression) = &self.compression {
            write!(f, ", {compression}")?;
        }
        if let Some(line) = self.header_line {
            write!(f, ", header on line {line}")?;
        }
        write!(f, ", {} interactions", self.interactions)?;
        for column in &self.columns {
            write!(f, "; {column}")?;
        }
        if !self.unused_columns.is_empty() {
            write!(f, "; not read: {}", self.unused_columns.join(", "))?;
        }
        if !self.first.is_empty() {
            write!(f, "; the first is {}", self.first)?;
        }
        for skipped in &self.skipped {
            write!(f, "; {}: {}", skipped.what, skipped.count)?;
        }
        Ok(())
    }
}

impl Reading {
    /// One line for each file of interactions, one for the ids, one for the files that were passed over, and one for each
    /// text table.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.files.iter().map(FileReading::to_string).collect();
        if !self.users.is_empty() {
            lines.push(format!("users: {}; items: {}", self.users, self.items));
        }
        if !self.passed_over.is_empty() {
            lines.push(format!("passed over: {}", self.passed_over.join(", ")));
        }
        lines.extend(self.texts.iter().map(TextReading::to_string));
        lines
    }
}
