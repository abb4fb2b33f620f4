//! A file of embeddings in any of its forms, row by row. Where a row belongs is for `join` to say.

use super::columns::ColumnTable;
use super::file::TableFile;
use super::join::Row;
use super::lines::LineTable;
use super::npz::Archive;
use crate::error::{DataError, Side};
use std::path::Path;

/// An opened table.
pub(super) enum Table {
    /// Rows without ids.
    Matrix(TableFile),
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
            Table::Archive(archive) => archive.matrix.width,
            Table::Columns(table) => table.width,
            Table::Lines(table) => table.width,
        }
    }

    /// Every row in the order of the file. To be called once.
    ///
    /// # Errors
    /// Values that are not finite, rows of another width, damage behind what [`Table::open`] has seen; those of the sink.
    pub(super) fn each_row(&self, take: RowSink) -> Result<(), DataError> {
        match self {
            Table::Matrix(file) => file.each_block(&mut |first, block| {
                let rows = block.chunks_exact(file.matrix.width).zip(first as u64..);
                rows.into_iter().try_for_each(|(values, number)| take(Row { number, id: None, values }))
            }),
            Table::Archive(archive) => archive.each_row(take),
            Table::Columns(table) => table.each_row(take),
            Table::Lines(table) => table.each_row(take),
        }
    }

    /// Where a row is, for messages: `row 7`, `line 8`.
    pub(super) fn place(&self, number: u64) -> String {
        match self {
            Table::Matrix(_) | Table::Archive(_) => format!("row {number}"),
            Table::Columns(table) => table.place(number),
            Table::Lines(_) => format!("line {number}"),
        }
    }
}
