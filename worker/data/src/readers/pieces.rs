//! A table of Parquet whose pieces (`part-00000.parquet`, ...) lie in the dataset's own folder, beside text tables and lists
//! that are no pieces. Every other table is read by `columns`.

use super::parquet::Columns;
use super::records::Records;
use super::tables::Names;
use super::{Source, columns, files};
use crate::error::DataError;
use crate::manifest::Repairs;
use crate::reading::{FileReading, Reading};
use std::path::Path;

/// As [`columns::read`].
pub(crate) fn read(
    path: &Path,
    source: &Source,
    sides: &mut [Names; 2],
    repairs: &mut Repairs,
    reading: &mut Reading,
) -> Result<Records, DataError> {
    if path != source.folder {
        return columns::read(path, source, sides, repairs, reading);
    }
    let mut files = files::list(path, &["parquet"])?;
    files.retain(|file| files::is_piece(file));
    if let [only] = files.as_slice() {
        return columns::read(only, source, sides, repairs, reading);
    }
    let mut records = Records::default();
    let mut own = Reading::default();
    for file in &files {
        // Spark writes a piece without rows where a worker had none
        if Columns::open(file)?.rows() == 0 {
            continue;
        }
        let Records { pairs, times } = columns::read(file, source, sides, repairs, &mut own)?;
        records.pairs.extend(pairs);
        records.times.extend(times);
    }
    let Some(first) = own.files.first() else {
        return Err(DataError::Empty { path: path.into(), advice: "no piece of the table has a row".into() });
    };
    refuse_other_columns(path, first, &own.files)?;
    reading.files.push(FileReading {
        file: format!("{} and others", first.file),
        form: format!("{} files of Parquet", files.len()),
        interactions: records.len() as u64,
        ..first.clone()
    });
    Ok(records)
}

/// Pieces whose columns differ are no pieces of one table.
fn refuse_other_columns(folder: &Path, first: &FileReading, all: &[FileReading]) -> Result<(), DataError> {
    let same = |piece: &&FileReading| piece.columns == first.columns && piece.unused_columns == first.unused_columns;
    let Some(other) = all.iter().find(|piece| !same(piece)) else { return Ok(()) };
    let described = |piece: &FileReading| {
        let read: Vec<String> = piece.columns.iter().map(ToString::to_string).collect();
        format!("{}; not read: {}", read.join(", "), piece.unused_columns.join(", "))
    };
    Err(DataError::WrongShape {
        path: folder.join(&other.file),
        found: described(other),
        expected: format!("{} has {}", first.file, described(first)),
        advice: "all pieces of a table have the same columns".into(),
    })
}
