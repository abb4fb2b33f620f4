//! Decodes the cells of one column chunk, a number of rows at a time. Which pages are sound is known before (`pages`);
//! what the crate `parquet` panics on is caught by the caller.

use super::cells::{Cells, Lists, Texts, Values};
use super::kind::{self, Kind};
use super::{BATCH_ROWS, Column, DAMAGED};
use half::f16;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType, FixedLenByteArray, Int96};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescriptor;

/// A string of more bytes is refused: a dictionary could repeat it in every row.
const MOST_TEXT: usize = 1 << 16;
const OTHER_VALUE: &str = "write the column with values that fit, or leave it out";
/// Julian day of 1970-01-01.
const DAY_OF_EPOCH: i128 = 2_440_588;
const NANOSECONDS_A_DAY: i128 = 86_400_000_000_000;

/// What is wrong with a page, and in which row of the batch, where that is known.
#[derive(Debug)]
pub(super) struct PageError {
    row: Option<usize>,
    problem: String,
    advice: &'static str,
}

impl PageError {
    pub(super) fn of(problem: impl Into<String>) -> PageError {
        PageError { row: None, problem: problem.into(), advice: DAMAGED }
    }

    /// Of a sound file with a value that is not read.
    fn in_row(row: usize, problem: impl Into<String>, advice: &'static str) -> PageError {
        PageError { row: Some(row), problem: problem.into(), advice }
    }

    pub(super) fn advice(&self) -> &'static str {
        self.advice
    }

    /// With the column, and the row of the file.
    pub(super) fn placed(&self, column: &str, first_row: u64) -> String {
        match self.row {
            Some(row) => format!("column `{column}`, row {}: {}", first_row + row as u64, self.problem),
            None => format!("column `{column}`, behind row {first_row}: {}", self.problem),
        }
    }
}

impl std::fmt::Display for PageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem)
    }
}

impl From<ParquetError> for PageError {
    fn from(error: ParquetError) -> PageError {
        PageError::of(error.to_string())
    }
}

/// One column of one row group.
pub(super) struct CellReader {
    name: String,
    kind: Kind,
    reader: ColumnReader,
    levels: Levels,
    is_unsigned: bool,
}

/// Definition and repetition levels of the cells that were read last.
#[derive(Default)]
struct Levels {
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    /// Definition level of a value.
    value: i16,
    /// Definition level from which on a list has an element; one less is an empty list, less than that a null.
    element: i16,
    /// Pages of the column chunk.
    pages: u64,
}

/// Cells of a flat column, nulls filled in, and which of them are values; none where all are.
type Flat<T> = (Vec<T>, Option<Vec<bool>>);

impl CellReader {
    /// Of a column chunk of so many pages.
    pub(super) fn new(column: &Column, leaf: &ColumnDescriptor, pages: u64, reader: ColumnReader) -> CellReader {
        let value = leaf.max_def_level();
        let element = value - i16::from(kind::has_null_elements(leaf));
        let levels = Levels { value, element, pages, ..Levels::default() };
        let is_unsigned = kind::is_unsigned(leaf);
        CellReader { name: column.name.clone(), kind: column.kind.clone(), reader, levels, is_unsigned }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_list(&self) -> bool {
        self.kind == Kind::FloatList
    }

    /// The next `rows` cells, of which there are as many.
    pub(super) fn read(&mut self, rows: usize) -> Result<Cells, PageError> {
        use ColumnReader as C;
        let (is_list, is_unsigned, levels) = (self.is_list(), self.is_unsigned, &mut self.levels);
        let scale = match self.kind {
            Kind::Decimal { scale } => Some(scale),
            _ => None,
        };
        match &mut self.reader {
            C::FloatColumnReader(reader) if is_list => lists(reader, levels, rows, |v| Ok(f64::from(*v))),
            C::DoubleColumnReader(reader) if is_list => lists(reader, levels, rows, |v| Ok(*v)),
            C::FixedLenByteArrayColumnReader(reader) if is_list => lists(reader, levels, rows, half),
            C::FloatColumnReader(reader) => cells(flat(reader, levels, rows)?, |v| Ok(f64::from(v)), Values::Floats),
            C::DoubleColumnReader(reader) => cells(flat(reader, levels, rows)?, Ok, Values::Floats),
            C::FixedLenByteArrayColumnReader(reader) => match scale {
                Some(scale) => cells(flat(reader, levels, rows)?, |v| decimal(v.data(), scale), Values::Floats),
                None => cells(flat(reader, levels, rows)?, |v| half(&v), Values::Floats),
            },
            C::BoolColumnReader(reader) => cells(flat(reader, levels, rows)?, Ok, Values::Booleans),
            C::Int32ColumnReader(reader) => match scale {
                Some(scale) => cells(flat(reader, levels, rows)?, |v| decimal(&v.to_be_bytes(), scale), Values::Floats),
                None => {
                    let wide = |v: i32| if is_unsigned { i64::from(v.cast_unsigned()) } else { i64::from(v) };
                    cells(flat(reader, levels, rows)?, |v| Ok(wide(v)), Values::Integers)
                }
            },
            C::Int64ColumnReader(reader) => match scale {
                Some(scale) => cells(flat(reader, levels, rows)?, |v| decimal(&v.to_be_bytes(), scale), Values::Floats),
                None if is_unsigned => Ok(unsigned(flat(reader, levels, rows)?)),
                None => cells(flat(reader, levels, rows)?, Ok, Values::Integers),
            },
            C::Int96ColumnReader(reader) => cells(flat(reader, levels, rows)?, nanoseconds, Values::Integers),
            C::ByteArrayColumnReader(reader) => match scale {
                Some(scale) => cells(flat(reader, levels, rows)?, |v| decimal(v.data(), scale), Values::Floats),
                None => texts(flat(reader, levels, rows)?),
            },
        }
    }
}

/// The next values, of as many rows; their levels go to `levels`.
fn values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels: &mut Levels,
    rows: usize,
) -> Result<Vec<T::T>, PageError> {
    levels.definitions.clear();
    levels.repetitions.clear();
    let mut values = Vec::new();
    let mut read = 0;
    // the crate stops at a page without values, which pyarrow may write
    for _ in 0..=levels.pages {
        let (definitions, repetitions) = (&mut levels.definitions, &mut levels.repetitions);
        read += reader.read_records(rows - read, Some(definitions), Some(repetitions), &mut values)?.0;
        if read >= rows {
            break;
        }
    }
    match read == rows {
        true => Ok(values),
        false => Err(PageError::of(format!("{read} rows where {rows} should be"))),
    }
}

fn flat<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels: &mut Levels,
    rows: usize,
) -> Result<Flat<T::T>, PageError> {
    let values = values(reader, levels, rows)?;
    if values.len() == rows {
        return Ok((values, None));
    }
    let present: Vec<bool> = levels.definitions.iter().map(|&level| level == levels.value).collect();
    if present.len() != rows || present.iter().filter(|p| **p).count() != values.len() {
        return Err(PageError::of(format!("{} values where {rows} rows should be", values.len())));
    }
    let mut values = values.into_iter();
    let filled = present.iter().map(|&p| if p { values.next().unwrap_or_default() } else { T::T::default() }).collect();
    Ok((filled, Some(present)))
}

/// Converts the values; a default stands for a null.
fn cells<T, V: Default>(
    (from, present): Flat<T>,
    convert: impl Fn(T) -> Result<V, String>,
    values: impl Fn(Vec<V>) -> Values,
) -> Result<Cells, PageError> {
    let mut converted = Vec::with_capacity(from.len());
    for (row, value) in from.into_iter().enumerate() {
        let is_null = present.as_ref().is_some_and(|present| !present[row]);
        let value = if is_null { Ok(V::default()) } else { convert(value) };
        converted.push(value.map_err(|problem| PageError::in_row(row, problem, OTHER_VALUE))?);
    }
    Ok(Cells { values: values(converted), present })
}

/// Numbers without a sign, whose bits came as `i64`: as text where one of them is beyond `i64`.
fn unsigned((from, present): Flat<i64>) -> Cells {
    if from.iter().all(|&value| value >= 0) {
        return Cells { values: Values::Integers(from), present };
    }
    let mut texts = Texts::default();
    from.iter().for_each(|value| texts.push(&value.cast_unsigned().to_string()));
    Cells { values: Values::Texts(texts), present }
}

/// The number that these digits of base 256, of two's complement and highest first, are behind the decimal point moved.
fn decimal(digits: &[u8], scale: i32) -> Result<f64, String> {
    if digits.is_empty() || digits.len() > 16 {
        return Err(format!("a decimal of {} bytes is too long", digits.len()));
    }
    let sign = if digits[0] >= 0x80 { -1 } else { 0 };
    let whole = digits.iter().fold(sign, |whole: i128, &digit| whole << 8 | i128::from(digit));
    // parsing rounds once, which a division of large numbers would not
    format!("{whole}e{}", -i64::from(scale)).parse().map_err(|_| "a decimal is no number".into())
}

fn texts((from, present): Flat<ByteArray>) -> Result<Cells, PageError> {
    let mut texts = Texts::default();
    for (row, bytes) in from.iter().enumerate() {
        let is_null = present.as_ref().is_some_and(|present| !present[row]);
        let bytes = if is_null { &[][..] } else { bytes.data() };
        if bytes.len() > MOST_TEXT {
            let problem = format!("a string of {} bytes is too long: at most {MOST_TEXT} are read", bytes.len());
            return Err(PageError::in_row(row, problem, "shorten it, or leave the column out"));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => texts.push(text),
            Err(_) => {
                let advice = "write the column as UTF-8 strings, such as frame[column].str.decode(\"utf-8\")";
                return Err(PageError::in_row(row, "the string is not UTF-8", advice));
            }
        }
    }
    Ok(Cells { values: Values::Texts(texts), present })
}

fn lists<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels: &mut Levels,
    rows: usize,
    convert: impl Fn(&T::T) -> Result<f64, String>,
) -> Result<Cells, PageError> {
    let values = values(reader, levels, rows)?;
    let Levels { definitions, repetitions, value, element, pages: _ } = levels;
    if definitions.len() != repetitions.len() {
        return Err(PageError::of("a list has values without a place"));
    }
    let mut values = values.iter();
    let mut lists = Lists::default();
    let mut present = Vec::with_capacity(rows.min(BATCH_ROWS));
    for (k, (&definition, &repetition)) in definitions.iter().zip(repetitions.iter()).enumerate() {
        if repetition == 0 {
            if k > 0 {
                lists.end_list();
            }
            present.push(definition >= *element - 1);
        }
        if definition == *value {
            let Some(value) = values.next() else { return Err(PageError::of("a list lacks values")) };
            lists.push_value(convert(value).map_err(PageError::of)?);
        } else if definition >= *element {
            lists.push_value(f64::NAN);
        }
    }
    lists.end_list();
    if present.len() != rows {
        return Err(PageError::of(format!("{} lists where {rows} rows should be", present.len())));
    }
    Ok(Cells { values: Values::Lists(lists), present: present.contains(&false).then_some(present) })
}

fn half(bytes: &FixedLenByteArray) -> Result<f64, String> {
    match *bytes.data() {
        [low, high] => Ok(f16::from_le_bytes([low, high]).to_f64()),
        _ => Err("a half is not two bytes".into()),
    }
}

/// Of the old form of Spark and Impala: nanoseconds of the day, and a Julian day.
fn nanoseconds(time: Int96) -> Result<i64, String> {
    let &[low, high, day] = time.data() else { return Err("a timestamp is not twelve bytes".into()) };
    let of_day = i128::from(high) << 32 | i128::from(low);
    let since = (i128::from(day) - DAY_OF_EPOCH) * NANOSECONDS_A_DAY + of_day;
    i64::try_from(since).map_err(|_| "a timestamp is beyond the years 1677 to 2262".into())
}
