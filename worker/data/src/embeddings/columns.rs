//! Tables with ids as Parquet: a column of ids, and either one column of lists of floats or float columns that are the
//! vector in their order. One file, or a folder of part files.

use super::join::Row;
use super::names::{self, Fit};
use super::table::RowSink;
use crate::error::{DataError, Side};
use crate::readers::parquet::{self, Batch, Columns, Kind, Values};
use std::path::Path;

pub(super) struct ColumnTable {
    parts: Vec<Columns>,
    id: usize,
    vector: Vector,
    pub(super) width: usize,
}

enum Vector {
    /// One column of lists.
    List(usize),
    Floats(Vec<usize>),
}

impl Vector {
    fn columns(&self) -> &[usize] {
        match self {
            Vector::List(column) => std::slice::from_ref(column),
            Vector::Floats(columns) => columns,
        }
    }
}

impl ColumnTable {
    pub(super) fn open(path: &Path, side: Side) -> Result<ColumnTable, DataError> {
        let parts = parquet::open_parts(path)?;
        let (Some(first), Some(filled)) = (parts.first(), parts.iter().find(|part| part.rows() > 0)) else {
            return Err(DataError::Empty { path: path.into(), advice: "the table has no row".into() });
        };
        let id = id_column(first, side)?;
        let vector = vector_columns(first, id, side)?;
        let width = match &vector {
            Vector::Floats(columns) => columns.len(),
            Vector::List(column) => first_list(filled, *column)?,
        };
        if width == 0 {
            return Err(DataError::Empty { path: path.into(), advice: "the vector of the first row is empty".into() });
        }
        Ok(ColumnTable { parts, id, vector, width })
    }

    pub(super) fn each_row(&self, take: RowSink) -> Result<(), DataError> {
        let wanted: Vec<usize> = [self.id].into_iter().chain(self.vector.columns().iter().copied()).collect();
        let (mut id, mut values) = (String::new(), Vec::with_capacity(self.width));
        let mut before = 0;
        for part in &self.parts {
            part.for_each_batch(&wanted, |first, batch| {
                for (row, number) in (0..batch.rows).zip(first..) {
                    self.read_id(part, batch, row, &mut id)?;
                    self.read_vector(part, batch, row, &mut values)?;
                    take(Row { number: before + number, id: Some(&id), values: &values })?;
                }
                Ok(())
            })?;
            before += part.rows();
        }
        Ok(())
    }

    /// In which file and row a row of the whole table is.
    pub(super) fn place(&self, mut number: u64) -> String {
        for part in &self.parts {
            if number < part.rows() {
                return match (self.parts.len(), part.path().file_name()) {
                    (1, _) | (_, None) => format!("row {number}"),
                    (_, Some(name)) => format!("{}, row {number}", name.to_string_lossy()),
                };
            }
            number -= part.rows();
        }
        format!("row {number}")
    }

    fn read_id(&self, part: &Columns, batch: &Batch, row: usize, id: &mut String) -> Result<(), DataError> {
        id.clear();
        let cells = &batch.columns[0];
        match &cells.values {
            Values::Integers(values) if !cells.is_null(row) => id.push_str(&values[row].to_string()),
            Values::Texts(texts) => id.push_str(texts.get(row)),
            Values::Integers(_) | Values::Floats(_) | Values::Booleans(_) | Values::Lists(_) => {}
        }
        match id.is_empty() {
            false => Ok(()),
            true => Err(DataError::malformed(
                part.path(),
                format!("row {}: `{}` is empty", batch.first_row + row as u64, part.columns()[self.id].name),
                "each row needs an id",
            )),
        }
    }

    fn read_vector(&self, part: &Columns, batch: &Batch, row: usize, to: &mut Vec<f32>) -> Result<(), DataError> {
        to.clear();
        let number = batch.first_row + row as u64;
        let mut push = |column: usize, value: f64| {
            let narrow = value as f32;
            to.push(narrow);
            match narrow.is_finite() {
                true => Ok(()),
                false => Err(DataError::NotFinite { path: part.path().into(), row: number as usize, column, value }),
            }
        };
        for (column, cells) in batch.columns[1..].iter().enumerate() {
            match &cells.values {
                _ if cells.is_null(row) => {
                    let name = &part.columns()[self.vector.columns()[column]].name;
                    let problem = format!("row {number}: `{name}` is null");
                    return Err(DataError::malformed(part.path(), problem, "each row needs a whole vector"));
                }
                Values::Floats(values) => push(column, values[row])?,
                Values::Lists(lists) => {
                    lists.get(row).iter().enumerate().try_for_each(|(column, &value)| push(column, value))?;
                }
                Values::Integers(_) | Values::Texts(_) | Values::Booleans(_) => {}
            }
        }
        match to.len() == self.width {
            true => Ok(()),
            false => Err(DataError::WrongShape {
                path: part.path().into(),
                found: format!("row {number} has {} values", to.len()),
                expected: format!("the first row has {}", self.width),
                advice: "encode all texts with the same model".into(),
            }),
        }
    }
}

fn unclear(columns: &Columns, why: String, advice: String) -> DataError {
    let problem = format!("{why} (the columns are {})", parquet::describe(columns.columns()));
    DataError::malformed(columns.path(), problem, advice)
}

/// By its name, or as the only column that can be one.
fn id_column(columns: &Columns, side: Side) -> Result<usize, DataError> {
    let can_be = |kind: &Kind| matches!(kind, Kind::Integer | Kind::Text);
    let fits: Vec<Fit> = columns.columns().iter().map(|c| names::id(&c.name, side)).collect();
    let advice = || format!("name one column of integers or strings `{side}_id`");
    match names::best(&fits) {
        Ok(column) if can_be(&columns.columns()[column].kind) => Ok(column),
        Ok(column) => {
            let column = &columns.columns()[column];
            Err(unclear(columns, format!("`{}` holds {}", column.name, column.kind), advice()))
        }
        Err(several) if several.is_empty() => {
            let all = columns.columns();
            let is_others = all.iter().any(|column| names::id(&column.name, side.other()) == Fit::Id);
            let only: Vec<usize> = (0..all.len()).filter(|&k| can_be(&all[k].kind)).collect();
            match only.as_slice() {
                &[one] if !is_others => Ok(one),
                _ => Err(unclear(columns, format!("no column is named for {side} ids"), advice())),
            }
        }
        Err(_) => Err(unclear(columns, format!("several columns could be the {side} ids"), "keep one of them".into())),
    }
}

fn vector_columns(columns: &Columns, id: usize, side: Side) -> Result<Vector, DataError> {
    let all = columns.columns();
    let of = |kind: Kind| -> Vec<usize> { (0..all.len()).filter(|&k| all[k].kind == kind).collect() };
    let lists = of(Kind::FloatList);
    let named: Vec<usize> = lists.iter().copied().filter(|&k| names::is_vector(&all[k].name)).collect();
    match (lists.as_slice(), named.as_slice()) {
        (&[one], _) | (_, &[one]) => return Ok(Vector::List(one)),
        ([], _) => {}
        (_, _) => {
            let advice = "keep one column of lists, or name one `embedding`".into();
            return Err(unclear(columns, "several columns could be the vector".into(), advice));
        }
    }
    // a vector's whole numbers may have been written as integers
    let stray = (0..all.len()).find(|&k| {
        let is_read = matches!(all[k].kind, Kind::Float | Kind::Text);
        k != id && !is_read && names::id(&all[k].name, side) == Fit::No
    });
    let floats = of(Kind::Float);
    match stray {
        Some(stray) => {
            let why = format!("`{}` is neither the id nor a float", all[stray].name);
            Err(unclear(columns, why, "write one column of lists of floats, or the id and float columns alone".into()))
        }
        None if floats.is_empty() => {
            let advice = "write one column of lists of floats".into();
            Err(unclear(columns, "no column holds floats".into(), advice))
        }
        None => Ok(Vector::Floats(floats)),
    }
}

/// Length of the first row's list.
fn first_list(columns: &Columns, column: usize) -> Result<usize, DataError> {
    let batch = columns.batches(&[column]).next_batch()?;
    let cells = batch.as_ref().and_then(|batch| batch.columns.first());
    Ok(match cells.map(|cells| &cells.values) {
        Some(Values::Lists(lists)) => lists.get(0).len(),
        _ => 0,
    })
}
