//! `user item [rating [time]]` a line: text, CSV or TSV, plain or packed; Parquet is read by `columns`. `layout` says what the columns are; every line is
//! held to it. Read a line at a time.

use super::fields::{Fields, Splitter};
use super::files::{self, Located, Wanted};
use super::layout::{self, Columns, Layout, Role, SAME_FIELDS, quote_error, widths};
use super::records::Records;
use super::tables::{Names, settle, sides};
use super::text::TextFile;
use super::{Found, Source, columns, movielens};
use crate::error::DataError;
use crate::manifest::{Repair, Repairs};
use crate::reading::{ColumnReading, FileReading, Reading};
use accord_spec::{Data, Quoting};
use std::path::{Path, PathBuf};

pub(crate) const ENDINGS: [&str; 6] = ["txt", "csv", "tsv", "dat", "data", "parquet"];

/// The files of the parts. Part files of Parquet (`part-00000.parquet`, ...) are one table. Of several files that are named as no part: the one called `ratings` or `interactions`, or the
/// only one whose header names a user and an item.
pub(crate) fn locate(folder: &Path, data: &Data) -> Result<Located, DataError> {
    files::locate(folder, &ENDINGS, &|files| {
        let is_part_file = |file: &PathBuf| files::name(file).starts_with("part") && columns::is_columns(file);
        if files.iter().all(is_part_file) {
            return Some(folder.into());
        }
        let names_both = |file: &&PathBuf| match columns::is_columns(file) {
            true => columns::names_interactions(file, data),
            false => layout::names_interactions(file, data),
        };
        let named = |file: &&PathBuf| matches!(files::stem_and_ending(file).0.as_str(), "ratings" | "interactions");
        only(files.iter().filter(named)).or_else(|| only(files.iter().filter(names_both)))
    })
}

fn only<'a>(mut files: impl Iterator<Item = &'a PathBuf>) -> Option<PathBuf> {
    files.next().filter(|_| files.next().is_none()).cloned()
}

pub(crate) fn read(source: &Source, located: Located, repairs: &mut Repairs) -> Result<Found, DataError> {
    let Source { folder, data, .. } = source;
    let mut sides = sides(folder, data.missing_ids)?;
    let mut reading = Reading { passed_over: located.passed_over, ..Reading::default() };
    let mut doubtful = Vec::new();
    let parts = located.parts.try_map(|path| {
        if columns::is_columns(&path) {
            return columns::read(&path, source, &mut sides, repairs, &mut reading);
        }
        let table = Table { layout: layout::find(&path, data)?, path };
        let records = table.read(source, &mut sides, repairs, &mut reading)?;
        if let (Some(line), Some(&first)) = (table.layout.unclear, records.pairs.first()) {
            doubtful.push((table.path, line, first));
        }
        Ok::<_, DataError>(records)
    })?;
    for (path, line, first) in doubtful {
        refuse_header(&parts, first, &path, line, &sides)?;
    }
    let (mut catalog, parts, [users, items]) = settle(folder, sides, parts)?;
    (reading.users, reading.items) = (users, items);
    if catalog.item_titles.is_none() {
        catalog.item_titles = movielens::titles(folder, &reading, &catalog.item_ids)?;
    }
    Ok(Found { catalog, parts, reading })
}

/// A first line that no column could tell from a header is one if its ids occur nowhere else.
fn refuse_header(
    parts: &files::Parts<Records>,
    (user, item): (u32, u32),
    path: &Path,
    line: u64,
    sides: &[Names; 2],
) -> Result<(), DataError> {
    let times = |is_it: &dyn Fn(&(u32, u32)) -> bool| -> usize {
        parts.each().into_iter().map(|records| records.pairs.iter().filter(|pair| is_it(pair)).count()).sum()
    };
    if times(&|pair| pair.0 == user) > 1 || times(&|pair| pair.1 == item) > 1 {
        return Ok(());
    }
    Err(layout::may_be_a_header(path, line, sides[0].token(user), sides[1].token(item)))
}

/// A file whose layout is known.
pub(crate) struct Table {
    pub(crate) path: PathBuf,
    pub(crate) layout: Layout,
}

impl Table {
    /// The interactions with provisional ids; those rated too low are dropped and counted. What was understood goes into
    /// `reading`.
    pub(crate) fn read(
        &self,
        source: &Source,
        sides: &mut [Names; 2],
        repairs: &mut Repairs,
        reading: &mut Reading,
    ) -> Result<Records, DataError> {
        let Source { data, wanted, .. } = source;
        has_what_is_wanted(&self.path, wanted, &self.layout.columns)?;
        sides.iter_mut().for_each(|side| side.enter(&self.path));
        let mut body = Body { table: self, wanted, sides, records: Records::default(), counts: Counts::default() };
        let mut file = TextFile::open(&self.path)?;
        let mut splitter = Splitter::new(self.layout.separator.clone(), data.quoting == Quoting::Auto);
        let mut fields = Fields::default();
        let mut comments = self.layout.comments;
        while let Some((number, line)) = file.next_line()? {
            if comments > 0 && line.starts_with(['#', '%']) {
                comments -= 1;
                continue;
            }
            if fields.continued.is_empty() && line.trim().is_empty() {
                continue;
            }
            let whole = splitter.take(number, line, &mut fields).map_err(|problem| quote_error(&self.path, problem))?;
            if whole {
                body.take(&fields)?;
                fields.continued.clear();
            }
        }
        splitter.at_end().map_err(|problem| quote_error(&self.path, problem))?;
        let Body { records, counts, .. } = body;
        if counts.lines == 0 {
            let advice = "the file has a header and no interaction".into();
            return Err(DataError::Empty { path: self.path.clone(), advice });
        }
        if counts.lines > 1 && self.layout.count == Some(counts.lines - 1) {
            return Err(DataError::at_line(
                &self.path,
                self.layout.comments + 1,
                format!(
                    "the line may count what follows: its third number is that of the {} other lines",
                    counts.lines - 1
                ),
                "remove it; if it is an interaction, set data.header = false",
            ));
        }
        repairs.add(wanted.dropped(), counts.low);
        repairs.add("interactions with a missing user or item dropped", counts.missing);
        reading.files.push(self.reading(&records, &counts, sides));
        Ok(records)
    }

    fn reading(&self, records: &Records, counts: &Counts, sides: &[Names; 2]) -> FileReading {
        let layout = &self.layout;
        let names = layout.header.as_ref().map(|(_, names)| names.as_slice());
        let skipped = [
            ("comment lines skipped", layout.comments),
            ("lines that repeat the header skipped", counts.headers),
            ("quoted fields of several lines", counts.long_fields),
        ];
        let counted = skipped.into_iter().filter(|(_, count)| *count > 0);
        FileReading {
            file: files::name(&self.path),
            form: format!("separated by {}", layout.separator),
            compression: layout.compression.map(String::from),
            header_line: layout.header.as_ref().map(|(line, _)| *line),
            interactions: records.len() as u64,
            skipped: counted.map(|(what, count)| Repair { what: what.into(), count }).collect(),
            ..columns_read(&layout.columns, names, layout.width, records, sides)
        }
    }
}

/// # Errors
/// A rating or time that the job asks for and the file does not have.
pub(crate) fn has_what_is_wanted(path: &Path, wanted: &Wanted, columns: &Columns) -> Result<(), DataError> {
    let need = |missing: bool, role: &str, key: &str, advice: &str| {
        if !missing {
            return Ok(());
        }
        let problem = format!("{key} is set and the file has no {role} column");
        let advice = format!("{advice}, or name the column: data.columns = {{ {role} = \"...\" }}");
        Err(DataError::malformed(path, problem, advice))
    };
    let no_rating = wanted.min_rating.is_some() && columns.rating.is_none();
    need(no_rating, "rating", "data.min_rating", "remove data.min_rating")?;
    need(wanted.time && columns.time.is_none(), "time", "data.split = \"time\"", "use data.split = \"random\"")
}

/// What a reading says of columns, with the first interaction; the rest of it is empty.
pub(crate) fn columns_read(
    columns: &Columns,
    names: Option<&[String]>,
    width: usize,
    records: &Records,
    sides: &[Names; 2],
) -> FileReading {
    let read = |role: Role| {
        let place = columns.of(role)?;
        let name = names.map(|names| names[place].clone());
        Some(ColumnReading { role: role.name().into(), name, place: place as u64 + 1 })
    };
    let columns: Vec<ColumnReading> = Role::ALL.into_iter().filter_map(read).collect();
    let unused = |k: &usize| columns.iter().all(|column| column.place != *k as u64 + 1);
    let unused_columns = (0..width).filter(unused).map(|k| match names {
        Some(names) => names[k].clone(),
        None => format!("column {}", k + 1),
    });
    let first = records.pairs.first().map_or(String::new(), |&(user, item)| {
        format!("user `{}`, item `{}`", sides[0].token(user), sides[1].token(item))
    });
    FileReading { unused_columns: unused_columns.collect(), columns, first, ..FileReading::default() }
}

#[derive(Default)]
struct Counts {
    /// Lines below the header.
    lines: u64,
    low: u64,
    missing: u64,
    headers: u64,
    long_fields: u64,
}

/// A table while its lines are read.
struct Body<'a> {
    table: &'a Table,
    wanted: &'a Wanted,
    sides: &'a mut [Names; 2],
    records: Records,
    counts: Counts,
}

impl Body<'_> {
    fn take(&mut self, fields: &Fields) -> Result<(), DataError> {
        let layout = &self.table.layout;
        if let Some((line, names)) = &layout.header {
            if fields.line == *line {
                return Ok(());
            }
            // files that were put together, each with its header
            if fields.len() == names.len() && fields.iter().zip(names).all(|(field, name)| field == name) {
                self.counts.headers += 1;
                return Ok(());
            }
        }
        let (path, line) = (&self.table.path, fields.line);
        if fields.len() != layout.width {
            let first = layout.header.as_ref().map_or(1, |(line, _)| *line);
            let problem = widths(fields.len(), first, layout.width, &layout.separator);
            return Err(DataError::at_line(path, line, problem, SAME_FIELDS));
        }
        self.counts.lines += 1;
        if !fields.continued.is_empty() {
            self.counts.long_fields += 1;
            self.refuse_swallowed_lines(fields)?;
        }
        let field = |column: usize| fields.get(column).unwrap_or_default();
        let Columns { user, item, rating, time, .. } = layout.columns;
        let number = |column: usize, what: &str| -> Result<f64, DataError> {
            field(column).parse::<f64>().ok().filter(|v| v.is_finite()).ok_or_else(|| {
                let problem = format!("the {what} `{}` is not a number", layout::shorten(field(column)));
                DataError::at_line(path, line, problem, "give a plain number")
            })
        };
        if let Some(column) = rating {
            // ratings that nobody asked for may be anything; only those that say no are left out
            let rating = match self.wanted.min_rating {
                Some(_) => Some(number(column, "rating")?),
                None => as_number(field(column)),
            };
            if rating.is_some_and(|rating| self.wanted.drops(rating)) {
                self.counts.low += 1;
                return Ok(());
            }
        }
        let time = match time.filter(|_| self.wanted.time) {
            Some(column) => Some(number(column, "time")?),
            None => None,
        };
        let [users, items] = &mut *self.sides;
        match (users.number(field(user), line)?, items.number(field(item), line)?) {
            (Some(user), Some(item)) => self.records.push(user, item, time),
            _ => self.counts.missing += 1,
        }
        Ok(())
    }

    /// A quoted field of several lines is text, such as a review. If one of those lines is an interaction by itself, a
    /// quotation mark is too many, and lines would be lost.
    fn refuse_swallowed_lines(&self, fields: &Fields) -> Result<(), DataError> {
        let layout = &self.table.layout;
        for (text, number) in fields.continued.iter().zip(fields.line + 1..) {
            let (mut splitter, mut own) = (Splitter::new(layout.separator.clone(), false), Fields::default());
            let whole = splitter.take(number, text, &mut own).unwrap_or(false) && own.len() == layout.width;
            let id = |side: usize, column: usize| own.get(column).is_some_and(|token| self.sides[side].has(token));
            if whole && (id(0, layout.columns.user) || id(1, layout.columns.item)) {
                return Err(DataError::at_line(
                    &self.table.path,
                    fields.line,
                    format!("a quotation mark opens a field that takes in line {number}, an interaction of its own"),
                    "close the field, or set data.quoting = \"none\" where quotation marks belong to the ids",
                ));
            }
        }
        Ok(())
    }
}

/// `true` and `false` count as 1 and 0.
pub(crate) fn as_number(field: &str) -> Option<f64> {
    match field {
        "true" | "True" | "TRUE" => Some(1.0),
        "false" | "False" | "FALSE" => Some(0.0),
        number => number.parse().ok(),
    }
}
