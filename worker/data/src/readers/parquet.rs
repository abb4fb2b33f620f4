//! Parquet files, read column by column and a batch of rows at a time, without Arrow.
//!
//! [`Columns::open`] gives the leaf columns of a file with their kinds; [`Columns::for_each_batch`] decodes those that are
//! wanted, row group by row group, in memory that does not grow with the file. Compression: none, snappy, gzip, zstd.
//! Nested columns other than lists of floats, encrypted files and delta-encoded strings are refused with a reason.
//!
//! Nothing here decides what a column means: the readers of interactions and of text tables do. The crate `parquet`
//! trusts page headers and panics on some damaged pages, so `pages` checks all headers first, and a panic becomes an
//! error here.

mod cells;
mod decode;
mod kind;
mod pages;
mod parts;
mod thrift;

use crate::error::DataError;
pub use cells::{Batch, Cells, Lists, Texts, Values};
use decode::{CellReader, PageError};
pub use kind::{Kind, Unit};
use parquet::basic::Compression;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
pub(crate) use parts::open_files;
pub use parts::open_parts;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Rows of a batch at most.
const BATCH_ROWS: usize = 8192;
/// Values of lists that a batch should hold at most; a single longer row is a batch of its own.
const BATCH_VALUES: usize = 1 << 20;
/// Rows of the first batch where lists are read, whose length is not known before.
const FIRST_ROWS: usize = 64;
/// A file may claim this many rows whatever its size, and more for each of its bytes (equal values are packed tightly).
const FREE_ROWS: u64 = 1 << 24;
const ROWS_A_BYTE: u64 = 1024;

const DAMAGED: &str = "the file is truncated or damaged: write it again";

/// An opened file: its leaf columns, and how many rows it has.
pub struct Columns {
    path: PathBuf,
    file: File,
    reader: SerializedFileReader<File>,
    columns: Vec<Column>,
    /// By column: which of the file's leaves it is.
    leaves: Vec<usize>,
    rows: u64,
}

/// A leaf column. A list is named by its outermost field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

impl Columns {
    /// Opens one file and reads its footer.
    ///
    /// # Errors
    /// A file that cannot be read, is no Parquet file, is encrypted, or whose footer claims what the file cannot hold.
    pub fn open(path: &Path) -> Result<Columns, DataError> {
        let file = File::open(path).map_err(DataError::read(path))?;
        let bytes = file.metadata().map_err(DataError::read(path))?.len();
        if bytes == 0 {
            return Err(DataError::Empty { path: path.into(), advice: "write the table again".into() });
        }
        refuse_others(path, &file)?;
        let shared = file.try_clone().map_err(DataError::read(path))?;
        let reader = guarded(|| Ok(SerializedFileReader::new(shared)?)).map_err(|error| unreadable(path, &error))?;
        let footer = reader.metadata();
        let mut groups = footer.row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok());
        let rows = groups.try_fold(0u64, |sum, rows| sum.checked_add(rows?));
        let most = FREE_ROWS.saturating_add(bytes.saturating_mul(ROWS_A_BYTE));
        let rows = match rows.filter(|&rows| i64::try_from(rows) == Ok(footer.file_metadata().num_rows())) {
            Some(rows) if rows <= most => rows,
            Some(rows) => {
                let problem = format!("the footer claims {rows} rows in a file of {bytes} bytes");
                return Err(DataError::malformed(path, problem, DAMAGED));
            }
            None => return Err(DataError::malformed(path, "the footer's numbers of rows contradict", DAMAGED)),
        };
        let schema = footer.file_metadata().schema_descr();
        let leaves: Vec<usize> = (0..schema.num_columns()).collect();
        let column = |leaf: &usize| kind::column(&schema.column(*leaf), schema.get_column_root(*leaf));
        let columns = leaves.iter().map(column).collect();
        Ok(Columns { path: path.into(), file, reader, columns, leaves, rows })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The leaf columns, in the order of the file.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Calls `take(first row, batch)` for all rows in order; a batch holds the wanted columns in the order of `wanted`.
    ///
    /// # Errors
    /// Those of `take`, and those of [`Batches::next_batch`].
    pub fn for_each_batch(
        &self,
        wanted: &[usize],
        mut take: impl FnMut(u64, &Batch) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let mut batches = self.batches(wanted);
        while let Some(batch) = batches.next_batch()? {
            take(batch.first_row, &batch)?;
        }
        Ok(())
    }

    /// The rows in batches, of the columns with these indexes into [`Columns::columns`].
    pub fn batches(&self, wanted: &[usize]) -> Batches<'_> {
        Batches { from: self, wanted: wanted.to_vec(), group: 0, left: 0, row: 0, list_rows: FIRST_ROWS, open: vec![] }
    }

    /// Refuses an id that differs from another by nothing one can see, or that no list of ids could hold. `row`: as the
    /// caller counts.
    ///
    /// # Errors
    /// An id with blanks around it, or with a line break.
    pub(crate) fn refuse_blanks(&self, column: usize, row: u64, id: &str) -> Result<(), DataError> {
        if id.trim() == id && !id.contains(['\n', '\r']) {
            return Ok(());
        }
        let name = self.columns.get(column).map_or("", |column| column.name.as_str());
        Err(DataError::malformed(
            &self.path,
            format!("row {row}: the id {id:?} in `{name}` has a blank or a line break at its end or in it"),
            format!("strip the ids, in the text tables too: frame[\"{name}\"] = frame[\"{name}\"].str.strip()"),
        ))
    }

    fn damaged(&self, problem: impl std::fmt::Display) -> DataError {
        DataError::malformed(&self.path, problem.to_string(), DAMAGED)
    }

    /// A reader of one column in one row group, whose page headers are checked.
    fn cells(&self, group: usize, column: usize, rows: usize) -> Result<CellReader, DataError> {
        let (Some(column), Some(&leaf)) = (self.columns.get(column), self.leaves.get(column)) else {
            return Err(self.damaged(format!("there is no column {column}")));
        };
        if let Kind::Unsupported(what) = &column.kind {
            return Err(DataError::malformed(
                &self.path,
                format!("column `{}` holds {what}, which is not read", column.name),
                "write it as a plain column of integers, floats, strings or timestamps, or as lists of floats",
            ));
        }
        let meta: &RowGroupMetaData = self.reader.metadata().row_group(group);
        let chunk = meta.columns().get(leaf).ok_or_else(|| self.damaged(format!("row group {group} is incomplete")))?;
        let named = |problem: &str| format!("column `{}`, row group {group}: {problem}", column.name);
        match chunk.compression() {
            Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => {}
            other @ (Compression::LZO | Compression::BROTLI(_) | Compression::LZ4 | Compression::LZ4_RAW) => {
                return Err(DataError::malformed(
                    &self.path,
                    format!("column `{}` is compressed with {}", column.name, codec_name(other)),
                    "write it with compression snappy, gzip, zstd or none",
                ));
            }
        }
        let pages = pages::check(&self.file, chunk, rows as u64)
            .map_err(|refused| DataError::malformed(&self.path, named(&refused.problem), refused.advice))?;
        guarded(|| {
            let reader = self.reader.get_row_group(group)?.get_column_reader(leaf)?;
            Ok(CellReader::new(column, chunk.column_descr(), pages, reader))
        })
        .map_err(|e| self.damaged(named(&e.to_string())))
    }
}

/// Files of other formats by their first bytes: it is not damage that keeps them from being read.
///
/// # Errors
/// A packed file, or one of Arrow's own format.
fn refuse_others(path: &Path, mut file: &File) -> Result<(), DataError> {
    let mut start = [0; 6];
    let read = file.read(&mut start).map_err(DataError::read(path))?;
    file.rewind().map_err(DataError::read(path))?;
    let (what, advice) = match &start[..read] {
        [0x1f, 0x8b, ..] => ("compressed by gzip as a whole", "unpack it: Parquet files are packed inside already"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            ("compressed by zstd as a whole", "unpack it: Parquet files are packed inside already")
        }
        b"ARROW1" | [b'F', b'E', b'A', b'1', ..] => {
            ("a Feather file, not Parquet", "write it with frame.to_parquet(name)")
        }
        [b'P', b'K', 3, 4, ..] => ("a zip archive, not Parquet", "unpack it"),
        _ => return Ok(()),
    };
    Err(DataError::malformed(path, format!("the file is {what}"), advice))
}

fn unreadable(path: &Path, error: &PageError) -> DataError {
    let said = error.to_string();
    if said.contains("encrypt") {
        return DataError::malformed(path, "the file is encrypted", "write it without encryption");
    }
    let said = said.trim_start_matches("Parquet error: ");
    DataError::malformed(path, format!("not a readable Parquet file ({said})"), DAMAGED)
}

fn codec_name(codec: Compression) -> &'static str {
    match codec {
        Compression::UNCOMPRESSED => "nothing",
        Compression::SNAPPY => "snappy",
        Compression::GZIP(_) => "gzip",
        Compression::ZSTD(_) => "zstd",
        Compression::LZO => "lzo",
        Compression::BROTLI(_) => "brotli",
        Compression::LZ4 | Compression::LZ4_RAW => "lz4",
    }
}

/// Rows under way; see [`Columns::batches`].
pub struct Batches<'a> {
    from: &'a Columns,
    wanted: Vec<usize>,
    /// The next row group.
    group: usize,
    /// Rows of the open row group that are not read yet.
    left: usize,
    row: u64,
    /// Rows of a batch with lists.
    list_rows: usize,
    open: Vec<CellReader>,
}

impl Batches<'_> {
    /// The next rows; none at the end of the file.
    ///
    /// # Errors
    /// Columns that cannot be read (see the module), or a damaged file; the column is named.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, DataError> {
        while self.left == 0 {
            let groups = self.from.reader.metadata().row_groups();
            let Some(group) = groups.get(self.group) else { return Ok(None) };
            self.left = usize::try_from(group.num_rows()).map_err(|e| self.from.damaged(e))?;
            self.open.clear();
            for &column in &self.wanted {
                self.open.push(self.from.cells(self.group, column, self.left)?);
            }
            self.group += 1;
        }
        let lists = self.open.iter().any(CellReader::is_list);
        let rows = self.left.min(if lists { self.list_rows } else { BATCH_ROWS });
        let mut columns = Vec::with_capacity(self.open.len());
        for cells in &mut self.open {
            let read = guarded(|| cells.read(rows));
            columns.push(read.map_err(|error| {
                let problem = error.placed(cells.name(), self.row);
                DataError::malformed(&self.from.path, problem, error.advice())
            })?);
        }
        let values = columns.iter().map(Cells::list_values).sum::<usize>();
        self.list_rows = (BATCH_VALUES / (values / rows).max(1)).clamp(1, BATCH_ROWS);
        let batch = Batch { first_row: self.row, rows, columns };
        self.left -= rows;
        self.row += rows as u64;
        Ok(Some(batch))
    }
}

/// Runs code of the crate `parquet`; a panic in it becomes an error. What `work` changed is not used again after one.
fn guarded<T>(work: impl FnOnce() -> Result<T, PageError>) -> Result<T, PageError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(_) => Err(PageError::of("its parts contradict each other")),
    }
}

/// `user_id (integers), rating (floats)`
pub fn describe(columns: &[Column]) -> String {
    let each: Vec<String> = columns.iter().map(|c| format!("{} ({})", c.name, c.kind)).collect();
    match each.is_empty() {
        true => "no columns".into(),
        false => each.join(", "),
    }
}
