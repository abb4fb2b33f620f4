//! A table in several files: a folder of part files, as Spark and Dask write it. Decodes nothing.

use super::{Column, Columns, describe};
use crate::error::DataError;
use std::fs;
use std::path::{Path, PathBuf};

/// Opens a file, or a folder of part files (`part-*.parquet` as Spark and Dask write them) in the order of their names.
///
/// # Errors
/// Those of [`Columns::open`], a folder without part files or with folders in it, or parts whose columns differ.
pub fn open_parts(path: &Path) -> Result<Vec<Columns>, DataError> {
    match path.is_dir() {
        true => open_files(&part_files(path)?),
        false => Ok(vec![Columns::open(path)?]),
    }
}

/// Opens the files of one table, which may list the same columns in another order.
///
/// # Errors
/// Those of [`Columns::open`], or files whose columns differ.
pub(crate) fn open_files(files: &[PathBuf]) -> Result<Vec<Columns>, DataError> {
    let mut parts = files.iter().map(|file| Columns::open(file)).collect::<Result<Vec<_>, _>>()?;
    if let Some((first, others)) = parts.split_first_mut() {
        others.iter_mut().for_each(|part| part.order_as(&first.columns));
    }
    if let Some(first) = parts.first()
        && let Some(other) = parts.iter().find(|part| part.columns != first.columns)
    {
        return Err(DataError::WrongShape {
            path: other.path.clone(),
            found: describe(&other.columns),
            expected: format!("{} has {}", first.path.display(), describe(&first.columns)),
            advice: "all parts of a table have the same columns".into(),
        });
    }
    Ok(parts)
}

/// The `.parquet` files of a folder by name. Names that begin with `_` or `.` are marks of the writer.
///
/// # Errors
/// A folder that cannot be read, without such a file, or with folders in it.
fn part_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let entry = entry.map_err(DataError::read(folder))?;
        let name = entry.file_name();
        let path = entry.path();
        if name.to_string_lossy().starts_with(['_', '.']) {
            continue;
        }
        if path.is_dir() {
            return Err(DataError::malformed(
                folder,
                format!("the folder `{}` in it is not read", name.to_string_lossy()),
                "write the parts without partition columns (pandas: without partition_cols, Spark: without partitionBy, \
                 polars: without partition_by), all in one folder",
            ));
        }
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet")) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(DataError::Empty {
            path: folder.into(),
            advice: "it should hold part files ending in .parquet".into(),
        });
    }
    files.sort();
    Ok(files)
}

impl Columns {
    /// Puts the columns in the order of `first`'s, where both have the same names and kinds, each name once.
    fn order_as(&mut self, first: &[Column]) {
        let place = |wanted: &Column| self.columns.iter().position(|column| column == wanted);
        let Some(places) = first.iter().map(place).collect::<Option<Vec<usize>>>() else { return };
        let mut once = places.clone();
        once.sort_unstable();
        if once.iter().copied().eq(0..self.columns.len()) {
            self.columns = first.to_vec();
            self.leaves = places.into_iter().map(|place| self.leaves[place]).collect();
        }
    }
}
