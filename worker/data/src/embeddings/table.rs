//! A file of embeddings in any of its forms, row by row. Where a row belongs is for `join` to say.

use super::columns::ColumnTable;
use super::file::TableFile;
use super::join::Row;
use super::lines::LineTable;
use super::npz::Archive;
use super::series::Series;
use crate::error::{DataError, Side};
use crate::readers::pickle;
use std::path::Path;

/// An opened table.
pub(super) enum Table {
    /// Rows without ids.
    Matrix(TableFile),
    /// As above, read whole: a pickle cannot be read a block at a time.
    Pickle(pickle::Dense),
    Archive(Archive),
    Columns(ColumnTable),
    Lines(LineTable),
}

/// Takes one row.
pub(super) type RowSink<'a> = &'a mut dyn FnMut(Row) -> Result<(), DataError>;

impl Table {
    /// `side`: whose ids a field may be named for.
    ///
    /// # Errors
    /// A file that is missing, empty, damaged or of an unknown ending, or in which it is not clear what the id and the
    /// vector are.
    pub(super) fn open(path: &Path, side: Side) -> Result<Table, DataError> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some(ending) if pickle::ENDINGS.contains(&ending) => pickle::dense(path).map(Table::Pickle),
            Some("npz") => Archive::open(path, side).map(Table::Archive),
            Some("parquet") => ColumnTable::open(path, side).map(Table::Columns),
            Some("jsonl") => LineTable::open(path, side).map(Table::Lines),
            _ => TableFile::open(path).map(Table::Matrix),
        }
    }

    /// Values of a row.
    pub(super) fn width(&self) -> usize {
        match self {
            Table::Matrix(file) => file.matrix.width,
            Table::Pickle(dense) => dense.width,
            Table::Archive(archive) => archive.matrix.width,
            Table::Columns(table) => table.width,
            Table::Lines(table) => table.width,
        }
    }

    /// How many rows a table without ids has; none for one with ids.
    pub(super) fn rows_without_ids(&self) -> Option<usize> {
        match self {
            Table::Matrix(file) => Some(file.matrix.rows),
            Table::Pickle(dense) => Some(dense.rows),
            Table::Archive(_) | Table::Columns(_) | Table::Lines(_) => None,
        }
    }

    /// Digest of the ids that the table was written for, where its file says it.
    pub(super) fn ids_digest(&self) -> Option<&str> {
        match self {
            Table::Matrix(file) => file.ids_digest.as_deref(),
            Table::Pickle(_) | Table::Archive(_) | Table::Columns(_) | Table::Lines(_) => None,
        }
    }

    /// The name of the ids, and what the vectors are in words; none in a matrix without ids.
    pub(super) fn fields(&self) -> Option<(&str, String)> {
        match self {
            Table::Matrix(_) | Table::Pickle(_) => None,
            Table::Archive(archive) => Some(archive.fields()),
            Table::Columns(table) => table.fields(),
            Table::Lines(table) => Some(table.fields()),
        }
    }

    /// The columns of the vector, where they are several.
    pub(super) fn series(&self) -> Option<&Series> {
        match self {
            Table::Columns(table) => table.series(),
            Table::Matrix(_) | Table::Pickle(_) | Table::Archive(_) | Table::Lines(_) => None,
        }
    }

    /// Every row in the order of the file. To be called once.
    ///
    /// # Errors
    /// Values that are not finite, rows of another width, damage behind what [`Table::open`] has seen; those of the sink.
    pub(super) fn each_row(&self, take: RowSink) -> Result<(), DataError> {
        match self {
            Table::Matrix(file) => {
                file.each_block(&mut |first, block| rows_of(block, file.matrix.width, first as u64, take))
            }
            Table::Pickle(dense) => rows_of(&dense.values, dense.width, 0, take),
            Table::Archive(archive) => archive.each_row(take),
            Table::Columns(table) => table.each_row(take),
            Table::Lines(table) => table.each_row(take),
        }
    }

    /// Where a row is, for messages: `row 7`, `line 8`.
    pub(super) fn place(&self, number: u64) -> String {
        match self {
            Table::Matrix(_) | Table::Pickle(_) | Table::Archive(_) => format!("row {number}"),
            Table::Columns(table) => table.place(number),
            Table::Lines(_) => format!("line {number}"),
        }
    }
}

/// Rows without ids that lie one behind the other.
fn rows_of(block: &[f32], width: usize, first: u64, take: RowSink) -> Result<(), DataError> {
    block.chunks_exact(width).zip(first..).try_for_each(|(values, number)| take(Row { number, id: None, values }))
}
