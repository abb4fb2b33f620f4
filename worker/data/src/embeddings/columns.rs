//! Tables with ids as Parquet: a column of ids, and either one column of lists of floats or a numbered series of float
//! columns (`series`). One file, or a folder of part files.

use super::join::Row;
use super::names::{self, Field, Unclear};
use super::series::Series;
use super::table::RowSink;
use crate::error::{DataError, Side};
use crate::readers::parquet::{self, Batch, Column, Columns, Kind, Values};
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
    Floats(Series),
}

impl Vector {
    fn columns(&self) -> &[usize] {
        match self {
            Vector::List(column) => std::slice::from_ref(column),
            Vector::Floats(series) => &series.columns,
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
            Vector::Floats(series) => series.columns.len(),
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

    /// What the ids and the vectors are, for the reading.
    pub(super) fn fields(&self) -> Option<(&str, String)> {
        let all = self.parts.first()?.columns();
        let name = |column: &usize| all.get(*column).map(|column| format!("`{}`", column.name));
        let vector = match self.vector.columns() {
            [one] => name(one)?,
            columns => format!("{} to {}", name(columns.first()?)?, name(columns.last()?)?),
        };
        Some((&all.get(self.id)?.name, vector))
    }

    /// The columns of the vector, where they are several.
    pub(super) fn series(&self) -> Option<&Series> {
        match &self.vector {
            Vector::List(_) => None,
            Vector::Floats(series) => Some(series),
        }
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
            Values::Texts(texts) => {
                id.push_str(texts.get(row));
                if id.trim().is_empty() {
                    id.clear();
                }
                part.refuse_blanks(self.id, batch.first_row + row as u64, id)?;
            }
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
    let all = columns.columns();
    let advice = || format!("name one column of integers or strings `{side}_id`");
    match names::find_id(&fields(all), side) {
        Ok(column) if matches!(all[column].kind, Kind::Integer | Kind::Text) => Ok(column),
        Ok(column) => {
            let column = &all[column];
            Err(unclear(columns, format!("`{}` holds {}", column.name, column.kind), advice()))
        }
        Err(Unclear::None) => Err(unclear(columns, format!("no column is named for {side} ids"), advice())),
        Err(Unclear::Several(found)) => {
            let problem = names::several("columns", side, found.iter().map(|&k| all[k].name.as_str()));
            Err(unclear(columns, problem, names::advice(side)))
        }
    }
}

fn fields(columns: &[Column]) -> Vec<Field<'_>> {
    let values = |column: &Column| match column.kind {
        Kind::Integer => names::Values::Integers,
        Kind::Text => names::Values::Texts,
        _ => names::Values::Others,
    };
    columns.iter().map(|column| Field { name: &column.name, values: values(column) }).collect()
}

fn vector_columns(columns: &Columns, id: usize, side: Side) -> Result<Vector, DataError> {
    let all = columns.columns();
    let lists: Vec<usize> = (0..all.len()).filter(|&k| all[k].kind == Kind::FloatList).collect();
    let named: Vec<usize> = lists.iter().copied().filter(|&k| names::is_vector(&all[k].name)).collect();
    // a column that is named for the vector and holds something else was not meant to be passed over
    if named.is_empty()
        && let Some(column) = all.iter().find(|column| names::is_vector(&column.name) && column.kind != Kind::Float)
    {
        let why = format!("`{}` holds {}", column.name, column.kind);
        return Err(unclear(columns, why, "write it as a column of lists of floats".into()));
    }
    match (lists.as_slice(), named.as_slice()) {
        (_, &[one]) | (&[one], []) => Ok(Vector::List(one)),
        ([], _) => float_columns(columns, id, side).map(Vector::Floats),
        (_, _) => {
            let advice = "keep one column of lists, or name one `embedding`".into();
            Err(unclear(columns, "several columns could be the vector".into(), advice))
        }
    }
}

/// The columns of floats as one vector.
fn float_columns(columns: &Columns, id: usize, side: Side) -> Result<Series, DataError> {
    let all = columns.columns();
    let advice = "write one column of lists of floats, or the id and float columns alone";
    // a vector's whole numbers may have been written as integers
    let stray = all.iter().enumerate().find(|(k, column)| {
        let is_beside = matches!(column.kind, Kind::Float | Kind::Text);
        let is_row_number = column.kind == Kind::Integer && names::is_index(&column.name);
        *k != id && !is_beside && !is_row_number && !names::is_id(&column.name, side)
    });
    if let Some((_, stray)) = stray {
        return Err(unclear(columns, format!("`{}` is neither the id nor a float", stray.name), advice.into()));
    }
    let of = |kind: Kind| -> Vec<(usize, &str)> {
        let of_kind = all.iter().enumerate().filter(|(k, column)| *k != id && column.kind == kind);
        of_kind.map(|(k, column)| (k, column.name.as_str())).collect()
    };
    let floats = of(Kind::Float);
    if floats.is_empty() {
        let advice = "write one column of lists of floats".into();
        return Err(unclear(columns, "no column holds floats".into(), advice));
    }
    let series = Series::of(&floats).map_err(|problem| {
        let advice = "number the vector's columns 0, 1, 2, ... behind one prefix and leave other floats out, or write \
                      one column of lists of floats";
        unclear(columns, problem, advice.into())
    })?;
    match of(Kind::Text).iter().find(|(_, name)| series.could_hold(name)) {
        Some((_, name)) => {
            Err(unclear(columns, format!("`{name}` is named for the vector and holds strings"), advice.into()))
        }
        None => Ok(series),
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
