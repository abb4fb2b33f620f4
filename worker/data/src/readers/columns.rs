//! Interactions in Parquet: a row each, in one file or a folder of part files. Columns are found by name; batches of rows
//! are read in memory that does not grow with the file.

use super::files::{self, Wanted};
use super::layout::{self, Columns as Roles, Role};
use super::parquet::{self, Cells, Columns, Kind, Values};
use super::records::Records;
use super::tables::Names;
use super::{Source, pairs};
use crate::error::DataError;
use crate::manifest::Repairs;
use crate::reading::{FileReading, Reading};
use accord_spec::Data;
use std::fmt::Write as _;
use std::path::Path;

/// Rows that show what a column holds.
const SAMPLE: usize = 50;

/// Whether a part is Parquet: a file of this name, or a folder of part files.
pub(crate) fn is_columns(path: &Path) -> bool {
    path.is_dir() || files::stem_and_ending(path).1 == "parquet"
}

/// Whether the columns' names say a user and an item.
pub(crate) fn names_interactions(path: &Path, data: &Data) -> bool {
    parquet::open_parts(path).is_ok_and(|parts| parts.first().is_some_and(|first| roles(first, data).is_ok()))
}

/// As [`Table::read`](super::pairs::Table::read).
pub(crate) fn read(
    path: &Path,
    source: &Source,
    sides: &mut [Names; 2],
    repairs: &mut Repairs,
    reading: &mut Reading,
) -> Result<Records, DataError> {
    let parts = parts_of(path, source.folder)?;
    let Some(first) = parts.first() else {
        return Err(DataError::Empty { path: path.into(), advice: "the table has no row".into() });
    };
    let roles = roles(first, source.data)?;
    pairs::has_what_is_wanted(path, &source.wanted, &roles)?;
    let mut body = Body {
        roles,
        wanted: &source.wanted,
        sides,
        records: Records::default(),
        low: 0,
        missing: 0,
        wordy: 0,
        negative: 0,
    };
    for part in &parts {
        body.sides.iter_mut().for_each(|side| side.enter(part.path()));
        body.take(part)?;
    }
    let Body { records, low, missing, wordy, negative, sides, .. } = body;
    if parts.iter().all(|part| part.rows() == 0) {
        return Err(DataError::Empty { path: path.into(), advice: "the table has no row".into() });
    }
    repairs.add(source.wanted.dropped(), low);
    repairs.add(pairs::WORDY, wordy);
    repairs.add(pairs::NEGATIVE, negative);
    repairs.add("interactions with a missing user or item dropped", missing);
    let names: Vec<String> = first.columns().iter().map(|column| column.name.clone()).collect();
    reading.files.push(FileReading {
        file: match path == source.folder {
            true => format!("{} and others", files::name(first.path())),
            false => files::name(path),
        },
        form: if parts.len() == 1 { "Parquet".into() } else { format!("{} files of Parquet", parts.len()) },
        interactions: records.len() as u64,
        ..pairs::columns_read(&roles, Some(&names), names.len(), &records, sides)
    });
    Ok(records)
}

/// The files of a table. Beside those that lie in the dataset's own folder there may be text tables and lists.
fn parts_of(path: &Path, folder: &Path) -> Result<Vec<Columns>, DataError> {
    if path != folder {
        return parquet::open_parts(path);
    }
    let mut files = files::list(folder, &["parquet"])?;
    files.retain(|file| files::is_piece(file));
    parquet::open_files(&files)
}

/// Which columns are read, by their names and kinds.
fn roles(part: &Columns, data: &Data) -> Result<Roles, DataError> {
    let names: Vec<String> = part.columns().iter().map(|column| column.name.clone()).collect();
    let rows = sample(part);
    let path = part.path();
    let found = layout::by_names(path, &names, &rows, data)?;
    for role in Role::ALL {
        let Some(place) = found.of(role) else { continue };
        let kind = &part.columns()[place].kind;
        let fits = match role {
            Role::User | Role::Item => matches!(kind, Kind::Integer | Kind::Text),
            // numbers are also written as strings, as in a text file
            Role::Rating => {
                matches!(kind, Kind::Integer | Kind::Float | Kind::Boolean | Kind::Decimal { .. } | Kind::Text)
            }
            Role::Time => matches!(kind, Kind::Integer | Kind::Float | Kind::Timestamp(_) | Kind::Decimal { .. }),
        };
        // a rating that is not read would turn a dislike into a like; times that the job does not ask for may be anything
        let asked = match role {
            Role::User | Role::Item | Role::Rating => true,
            Role::Time => data.split == accord_spec::Split::Time,
        };
        if !fits && asked {
            let wanted = if place == found.user || place == found.item { "integers or strings" } else { "numbers" };
            return Err(DataError::malformed(
                path,
                format!("the {} column `{}` holds {kind}", role.name(), names[place]),
                format!("write it as {wanted}, or name another column in data.columns"),
            ));
        }
    }
    let readable =
        |place: &usize| !matches!(part.columns()[*place].kind, Kind::Text | Kind::FloatList | Kind::Unsupported(_));
    Ok(Roles { time: found.time.filter(readable), ..found })
}

/// The first rows as text, for messages. A column that cannot be read is empty: it may be one that nobody asks for, and
/// those that are asked for are refused when they are read.
fn sample(part: &Columns) -> Vec<Vec<String>> {
    let width = part.columns().len();
    let mut rows = vec![vec![String::new(); width]; usize::try_from(part.rows()).unwrap_or(SAMPLE).min(SAMPLE)];
    let plain = |k: &usize| !matches!(part.columns()[*k].kind, Kind::FloatList | Kind::Unsupported(_));
    for column in (0..width).filter(plain) {
        let Ok(Some(batch)) = part.batches(&[column]).next_batch() else { continue };
        for (row, fields) in rows.iter_mut().enumerate().take(batch.rows) {
            text(&batch.columns[0], row, &mut fields[column]);
        }
    }
    rows
}

/// A cell as text; empty for a null.
fn text(cells: &Cells, row: usize, to: &mut String) {
    to.clear();
    if cells.is_null(row) {
        return;
    }
    // writing to a string cannot fail
    let _ = match &cells.values {
        Values::Integers(values) => write!(to, "{}", values[row]),
        Values::Floats(values) => write!(to, "{}", values[row]),
        Values::Booleans(values) => write!(to, "{}", values[row]),
        Values::Texts(texts) if texts.get(row).trim().is_empty() => Ok(()),
        Values::Texts(texts) => {
            to.push_str(texts.get(row));
            Ok(())
        }
        Values::Lists(_) => Ok(()),
    };
}

/// A cell as a number; none for a null and for what is no number.
fn number(cells: &Cells, row: usize) -> Option<f64> {
    if cells.is_null(row) {
        return None;
    }
    match &cells.values {
        Values::Integers(values) => Some(values[row] as f64),
        Values::Floats(values) => Some(values[row]),
        Values::Booleans(values) => Some(f64::from(u8::from(values[row]))),
        Values::Texts(texts) => layout::rating(texts.get(row).trim()),
        Values::Lists(_) => None,
    }
}

/// Interactions while they are read.
struct Body<'a> {
    roles: Roles,
    wanted: &'a Wanted,
    sides: &'a mut [Names; 2],
    records: Records,
    low: u64,
    missing: u64,
    /// Ratings that are words.
    wordy: u64,
    /// Ratings below 0 that are kept.
    negative: u64,
}

impl Body<'_> {
    fn take(&mut self, part: &Columns) -> Result<(), DataError> {
        let Roles { user: user_at, item: item_at, rating, time, .. } = self.roles;
        let time = time.filter(|_| self.wanted.time);
        let wanted: Vec<usize> = [Some(user_at), Some(item_at), rating, time].into_iter().flatten().collect();
        let place = |column: usize| wanted.iter().position(|&k| k == column);
        let (rating_at, time_at) = (rating.and_then(place), time.and_then(place));
        let mut id = String::new();
        part.for_each_batch(&wanted, |first, batch| {
            for row in 0..batch.rows {
                // rows are counted from 1, as lines are
                let line = first + row as u64 + 1;
                let value = |at: Option<usize>| at.map(|at| number(&batch.columns[at], row));
                let need = |value: Option<Option<f64>>, what: &str| match value {
                    Some(value) => value.filter(|v| v.is_finite()).map(Some).ok_or_else(|| {
                        let problem = format!("row {line}: the {what} is no number");
                        DataError::malformed(part.path(), problem, "give a finite number in each row")
                    }),
                    None => Ok(None),
                };
                let rating = match self.wanted.min_rating {
                    Some(_) => need(value(rating_at), "rating")?,
                    None => value(rating_at).flatten(),
                };
                let is_there = |at: usize| !batch.columns[at].is_null(row);
                self.wordy += u64::from(rating.is_none() && rating_at.is_some_and(is_there));
                if rating.is_some_and(|rating| self.wanted.drops(rating)) {
                    self.low += 1;
                    continue;
                }
                self.negative += u64::from(rating.is_some_and(|rating| self.wanted.doubts(rating)));
                let time = need(value(time_at), "time")?;
                text(&batch.columns[0], row, &mut id);
                part.refuse_blanks(user_at, line, &id)?;
                let user = self.sides[0].number(&id, line)?;
                text(&batch.columns[1], row, &mut id);
                part.refuse_blanks(item_at, line, &id)?;
                let item = self.sides[1].number(&id, line)?;
                match (user, item) {
                    (Some(user), Some(item)) => self.records.push(user, item, time),
                    _ => self.missing += 1,
                }
            }
            Ok(())
        })
    }
}
