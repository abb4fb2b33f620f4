//! A table of Parquet whose pieces (`part-00000.parquet`, ...) lie in the dataset's own folder, beside text tables and lists
//! that are no pieces. Every other table is read by `columns`.

use super::parquet::{Columns, describe};
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
    let opened = files.iter().map(|file| Columns::open(file)).collect::<Result<Vec<_>, _>>()?;
    refuse_other_columns(&opened)?;
    let (mut records, mut own) = (Records::default(), Reading::default());
    // Spark writes a piece without rows where a worker had none
    for piece in opened.iter().filter(|piece| piece.rows() > 0) {
        let Records { pairs, times } = columns::read(piece.path(), source, sides, repairs, &mut own)?;
        records.pairs.extend(pairs);
        records.times.extend(times);
    }
    let Some(first) = own.files.first() else {
        return Err(DataError::Empty { path: path.into(), advice: "no piece of the table has a row".into() });
    };
    reading.files.push(FileReading {
        file: format!("{} and others", first.file),
        form: format!("{} files of Parquet", files.len()),
        interactions: records.len() as u64,
        ..first.clone()
    });
    Ok(records)
}

/// Pieces whose columns differ, in their order or what they hold, are no pieces of one table.
fn refuse_other_columns(pieces: &[Columns]) -> Result<(), DataError> {
    let Some((first, others)) = pieces.split_first() else { return Ok(()) };
    let Some(other) = others.iter().find(|piece| piece.columns() != first.columns()) else { return Ok(()) };
    Err(DataError::WrongShape {
        path: other.path().into(),
        found: describe(other.columns()),
        expected: format!("{} has {}", files::name(first.path()), describe(first.columns())),
        advice: "all pieces of a table have the same columns".into(),
    })
}
