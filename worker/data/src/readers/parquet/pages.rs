//! Checks the page headers of a column chunk before the chunk is decoded: the crate `parquet` allocates what a header
//! claims. Nothing is decoded here.

use super::DAMAGED;
use super::thrift::{Fields, Input};
use parquet::basic::Type;
use parquet::file::metadata::ColumnChunkMetaData;
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};

/// A page may unpack to this much whatever its size in the file, or to `MOST_RATIO` times that size, which deflate reaches.
const FREE_PAGE: u64 = 64 << 20;
const MOST_RATIO: u64 = 1032;
/// A chunk may hold this many values whatever its size, and this many more for each of its bytes.
const FREE_VALUES: u64 = 1 << 24;
const LIST_VALUES_A_BYTE: u64 = 64;
const VALUES_A_BYTE: u64 = 1024;

const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;
const DELTA_BINARY_PACKED: i64 = 5;
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;
const RLE_DICTIONARY: i64 = 8;
const BYTE_STREAM_SPLIT: i64 = 9;

const DATA_PAGE: i64 = 0;
const INDEX_PAGE: i64 = 1;
const DICTIONARY_PAGE: i64 = 2;
const DATA_PAGE_V2: i64 = 3;

/// Why a column chunk is not decoded, without the file's name.
pub(super) struct Refusal {
    pub(super) problem: String,
    pub(super) advice: &'static str,
}

impl From<String> for Refusal {
    fn from(problem: String) -> Refusal {
        Refusal { problem, advice: DAMAGED }
    }
}

impl From<&str> for Refusal {
    fn from(problem: &str) -> Refusal {
        problem.to_owned().into()
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Refusal {
        error.to_string().into()
    }
}

/// The number of pages of a chunk of `rows` rows; refuses a chunk whose headers claim what the file cannot hold, or whose
/// encoding is not read.
pub(super) fn check(file: &File, chunk: &ColumnChunkMetaData, rows: u64) -> Result<u64, Refusal> {
    let length = file.metadata()?.len();
    let from = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    let (Ok(from), Ok(bytes)) = (u64::try_from(from), u64::try_from(chunk.compressed_size())) else {
        return Err("the footer places it before the file".into());
    };
    if from.checked_add(bytes).is_none_or(|end| end > length) {
        return Err("the footer places it beyond the end of the file".into());
    }
    let list = chunk.column_descr().max_rep_level() > 0;
    let a_byte = if list { LIST_VALUES_A_BYTE } else { VALUES_A_BYTE };
    let most = FREE_VALUES.saturating_add(bytes.saturating_mul(a_byte));
    let mut pages = Pages { file, chunk, at: from, left: bytes, values: 0, has_dictionary: false };
    let mut count = 0;
    // pages behind the last row of a flat column are never decoded
    while pages.left > 0 && (list || pages.values < rows) {
        pages.next_page()?;
        count += 1;
        if pages.values > most {
            return Err(format!("{} values and more are claimed by {bytes} bytes", pages.values).into());
        }
    }
    match list || pages.values >= rows {
        true => Ok(count),
        false => Err(format!("its pages hold {} of {rows} rows", pages.values).into()),
    }
}

struct Pages<'a> {
    file: &'a File,
    chunk: &'a ColumnChunkMetaData,
    at: u64,
    left: u64,
    /// Of the data pages so far, nulls included.
    values: u64,
    has_dictionary: bool,
}

impl Pages<'_> {
    fn next_page(&mut self) -> Result<(), Refusal> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(self.at))?;
        let mut input = Input::new(BufReader::with_capacity(1024, file.take(self.left)));
        let header = input.structure()?;
        self.skip(input.read);
        let size = |field| header.integer(field).and_then(|size| u64::try_from(size).ok());
        let (Some(unpacked), Some(stored)) = (size(2), size(3)) else {
            return Err(Refusal {
                problem: "a page header has no sizes".into(),
                advice: "the column is damaged or encrypted: write the file again, without encryption",
            });
        };
        if stored > self.left {
            return Err("a page ends beyond its column".into());
        }
        if unpacked > FREE_PAGE.max(stored.saturating_mul(MOST_RATIO)) {
            return Err(Refusal {
                problem: format!("a page of {stored} bytes claims to unpack to {unpacked}"),
                advice: "write it again, with smaller row groups",
            });
        }
        match header.integer(1) {
            Some(DATA_PAGE) => self.data_page(header.fields(5), 2)?,
            Some(DATA_PAGE_V2) => {
                self.data_page(header.fields(8), 4)?;
                levels(header.fields(8), unpacked.min(stored))?;
            }
            Some(DICTIONARY_PAGE) => self.dictionary(header.fields(7), unpacked)?,
            Some(INDEX_PAGE) => {}
            Some(_) | None => return Err("a page is of an unknown type".into()),
        }
        self.skip(stored);
        Ok(())
    }

    fn skip(&mut self, bytes: u64) {
        self.at += bytes;
        self.left = self.left.saturating_sub(bytes);
    }

    fn data_page(&mut self, header: Option<&Fields>, encoding: i16) -> Result<(), Refusal> {
        let count = header.and_then(|h| u64::try_from(h.integer(1)?).ok());
        let encoding = header.and_then(|h| h.integer(encoding));
        let (Some(count), Some(encoding)) = (count, encoding) else {
            return Err("a data page has no number of values or no encoding".into());
        };
        self.values = self.values.saturating_add(count);
        let kind = self.chunk.column_type();
        let readable = match encoding {
            PLAIN => true,
            PLAIN_DICTIONARY | RLE_DICTIONARY if !self.has_dictionary => {
                return Err("a page needs a dictionary that is not there".into());
            }
            PLAIN_DICTIONARY | RLE_DICTIONARY => true,
            RLE => kind == Type::BOOLEAN,
            DELTA_BINARY_PACKED => matches!(kind, Type::INT32 | Type::INT64),
            // the crate allocates what is claimed inside the page
            DELTA_LENGTH_BYTE_ARRAY | DELTA_BYTE_ARRAY => false,
            BYTE_STREAM_SPLIT => !matches!(kind, Type::BOOLEAN | Type::BYTE_ARRAY | Type::INT96),
            _ => false,
        };
        match readable {
            true => Ok(()),
            false => Err(Refusal {
                problem: format!("the encoding {} of {kind} is not read", encoding_name(encoding)),
                advice: "write it with the default encodings of pyarrow, pandas or Spark",
            }),
        }
    }

    fn dictionary(&mut self, header: Option<&Fields>, unpacked: u64) -> Result<(), Refusal> {
        let count = header.and_then(|h| u64::try_from(h.integer(1)?).ok());
        let Some(count) = count else { return Err("a dictionary has no number of values".into()) };
        // bytes of a value at least
        let width = match self.chunk.column_type() {
            Type::BOOLEAN => return Err("booleans have a dictionary".into()),
            Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(self.chunk.column_descr().type_length()).unwrap_or(0).max(1),
        };
        if count.checked_mul(width).is_none_or(|bytes| bytes > unpacked) {
            return Err(format!("a dictionary of {unpacked} bytes claims {count} values").into());
        }
        self.has_dictionary = true;
        Ok(())
    }
}

/// The parts of a page of version 2 that lie before its values.
fn levels(header: Option<&Fields>, bytes: u64) -> Result<(), Refusal> {
    let length = |field| header.and_then(|h| u64::try_from(h.integer(field)?).ok());
    match (length(5), length(6)) {
        (Some(definitions), Some(repetitions)) if definitions.saturating_add(repetitions) <= bytes => Ok(()),
        _ => Err("the levels of a page are longer than the page".into()),
    }
}

fn encoding_name(encoding: i64) -> String {
    match encoding {
        PLAIN => "PLAIN".into(),
        PLAIN_DICTIONARY => "PLAIN_DICTIONARY".into(),
        RLE => "RLE".into(),
        DELTA_BINARY_PACKED => "DELTA_BINARY_PACKED".into(),
        DELTA_LENGTH_BYTE_ARRAY => "DELTA_LENGTH_BYTE_ARRAY".into(),
        DELTA_BYTE_ARRAY => "DELTA_BYTE_ARRAY".into(),
        RLE_DICTIONARY => "RLE_DICTIONARY".into(),
        BYTE_STREAM_SPLIT => "BYTE_STREAM_SPLIT".into(),
        other => format!("number {other}"),
    }
}
