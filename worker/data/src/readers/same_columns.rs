//! Whether the files of a dataset have the same columns, by what was read of them. Parts are compared by their ids: a test file
//! whose users are sessions has other users than a training file whose users are customers.

use super::layout::{self, Role};
use crate::error::DataError;
use crate::manifest::Repairs;
use crate::reading::{ColumnReading, FileReading, Reading};
use std::path::Path;

/// # Errors
/// A file whose header names another user or item column than that of the first file, or whose order of columns differs where
/// one of the two has no header. `folder` is for the message.
pub(crate) fn check(folder: &Path, reading: &Reading, repairs: &mut Repairs) -> Result<(), DataError> {
    let Some((first, others)) = reading.files.split_first() else { return Ok(()) };
    for other in others {
        for role in [Role::User, Role::Item] {
            if let (Some(one), Some(another)) = (column(first, role), column(other, role))
                && !agree(one, another)
            {
                return Err(error(folder, role, (&first.file, one), (other, another)));
            }
        }
        if column(first, Role::Rating).is_some() != column(other, Role::Rating).is_some() {
            repairs.add("files without the rating column that another file has: all their lines count", 1);
        }
    }
    Ok(())
}

fn column(file: &FileReading, role: Role) -> Option<&ColumnReading> {
    file.columns.iter().find(|column| column.role == role.name())
}

fn agree(one: &ColumnReading, other: &ColumnReading) -> bool {
    match (&one.name, &other.name) {
        (Some(one), Some(other)) => layout::plain(one) == layout::plain(other),
        _ => one.place == other.place,
    }
}

fn error(folder: &Path, role: Role, first: (&str, &ColumnReading), other: (&FileReading, &ColumnReading)) -> DataError {
    let shown = |column: &ColumnReading| match &column.name {
        Some(name) => format!("`{name}`"),
        None => format!("column {}", column.place),
    };
    let ((first, one), (file, another)) = (first, other);
    let problem = format!("the {} is {} here and {} in {first}", role.name(), shown(another), shown(one));
    let advice = "give all files the same columns, each with its header, or rename the columns";
    let path = folder.join(&file.file);
    match file.header_line {
        Some(line) => DataError::at_line(&path, line, problem, advice),
        None => DataError::malformed(&path, problem, advice),
    }
}
