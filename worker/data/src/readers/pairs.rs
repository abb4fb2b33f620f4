//! `user item [rating [time]]` a line: text, CSV or TSV, plain or packed; Parquet is read by `columns`. `layout` says what the columns are; every line is
//! held to it. Read a line at a time.

use super::fields::{Fields, Splitter};
use super::files::{self, Located, Wanted};
use super::layout::{self, Columns, Layout, Role, SAME_FIELDS, quote_error, widths};
use super::records::Records;
use super::tables::{Names, settle, sides};
use super::text::TextFile;
use super::{Found, Source, columns, movielens, same_columns};
use crate::error::DataError;
use crate::manifest::{Repair, Repairs};
use crate::reading::{ColumnReading, FileReading, Reading};
use accord_spec::{Data, Quoting};
use std::path::{Path, PathBuf};

pub(crate) const ENDINGS: [&str; 6] = ["txt", "csv", "tsv", "dat", "data", "parquet"];

/// The files of the parts. Pieces of Parquet (`part-00000.parquet`, ...) are one table, the folder itself, if no other file
/// may hold interactions. Of several files that are named as no part: the one called `ratings` or `interactions`, or the
/// only one whose header names a user and an item.
pub(crate) fn locate(folder: &Path, data: &Data) -> Result<Located, DataError> {
    files::locate(folder, &ENDINGS, &|files| {
        let names_both = |file: &PathBuf| match columns::is_columns(file) {
            true => columns::names_interactions(file, data),
            false => layout::names_interactions(file, data),
        };
        let named = |file: &PathBuf| matches!(files::stem(file).as_str(), "ratings" | "interactions");
        let holds = |file: &PathBuf| named(file) || names_both(file) || files::stem(file).starts_with("part");
        if files.iter().any(|file| files::is_piece(file)) {
            let alone = !files.iter().any(|file| !files::is_piece(file) && holds(file));
            return alone.then(|| folder.into());
        }
        only(files.iter().filter(|file| named(file))).or_else(|| only(files.iter().filter(|file| names_both(file))))
    })
}

fn only<'a>(mut files: impl Iterator<Item = &'a PathBuf>) -> Option<PathBuf> {
    files.next().filter(|_| files.next().is_none()).cloned()
}

pub(crate) fn read(source: &Source, located: Located, repairs: &mut Repairs) -> Result<Found, DataError> {
    let Source { folder, data, .. } = source;
    let mut sides = sides(folder, data.missing_ids)?;
    let mut reading = Reading::default();
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
    same_columns::check(folder, &reading, repairs)?;
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
    // the same line at the head of every part says nothing for it
    let again = |pair: &(u32, u32)| *pair != (user, item) && (pair.0 == user || pair.1 == item);
    if parts.each().into_iter().any(|records| records.pairs.iter().any(again)) {
        return Ok(());
    }
    Err(layout::may_be_a_header(path, line, sides[0].token(user), sides[1].token(item)))
}

/// What a repair says of ratings that are words.
pub(crate) const WORDY: &str = "ratings that are neither a number nor yes or no: such lines count as interactions";
/// What a repair says of ratings that may say no.
pub(crate) const NEGATIVE: &str = "interactions rated below 0 kept (data.min_rating = 0 drops them)";

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
        repairs.add(WORDY, counts.wordy);
        repairs.add(NEGATIVE, counts.negative);
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
    /// Ratings that are words.
    wordy: u64,
    /// Ratings below 0 that are kept.
    negative: u64,
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
        if layout.header.as_ref().is_some_and(|(line, _)| fields.line == *line) {
            return Ok(());
        }
        let Columns { user, item, rating, time, .. } = layout.columns;
        let known = fields.get(user).and_then(|user| self.sides[0].known(user));
        if known.is_none() && self.repeats_the_header(fields) {
            self.counts.headers += 1;
            return Ok(());
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
        if known.is_none() {
            self.refuse_another_header(line, field(user), field(item))?;
        }
        let number = |column: usize, what: &str| -> Result<f64, DataError> {
            let value = if what == "rating" { layout::rating(field(column)) } else { field(column).parse().ok() };
            value.filter(|v| v.is_finite()).ok_or_else(|| {
                let problem = format!("the {what} `{}` is not a number", layout::shorten(field(column)));
                let advice = match what {
                    "time" => "give seconds since 1970 (pandas: .astype('int64') // 10**9)",
                    _ => "give a plain number",
                };
                DataError::at_line(path, line, problem, advice)
            })
        };
        if let Some(column) = rating {
            // ratings that nobody asked for may be anything; only those that say no are left out
            let rating = match self.wanted.min_rating {
                Some(_) => Some(number(column, "rating")?),
                None => layout::rating(field(column)),
            };
            self.counts.wordy += u64::from(rating.is_none() && !layout::is_missing(field(column)));
            if rating.is_some_and(|rating| self.wanted.drops(rating)) {
                self.counts.low += 1;
                return Ok(());
            }
            self.counts.negative += u64::from(rating.is_some_and(|rating| self.wanted.doubts(rating)));
        }
        let time = match time.filter(|_| self.wanted.time) {
            Some(column) => Some(number(column, "time")?),
            None => None,
        };
        let [users, items] = &mut *self.sides;
        let user = if known.is_some() { known } else { users.number(field(user), line)? };
        match (user, items.number(field(item), line)?) {
            (Some(user), Some(item)) => self.records.push(user, item, time),
            _ => self.counts.missing += 1,
        }
        Ok(())
    }

    /// Files that were put together, each with its header.
    fn repeats_the_header(&self, fields: &Fields) -> bool {
        let Some((_, names)) = &self.table.layout.header else { return false };
        let is_name = |(field, name): (&str, &String)| field == name || layout::plain(field) == layout::plain(name);
        fields.len() == names.len() && fields.get(0) != Some("") && fields.iter().zip(names).all(is_name)
    }

    /// Files that were put together, the second of which has its columns in another order.
    fn refuse_another_header(&self, line: u64, user: &str, item: &str) -> Result<(), DataError> {
        if !layout::is_known(user) || !layout::is_known(item) {
            return Ok(());
        }
        Err(DataError::at_line(
            &self.table.path,
            line,
            format!("`{user}` and `{item}` are names of columns: another table may begin here"),
            "give each table a file of its own, or remove the line",
        ))
    }

    /// A quoted field of several lines is text, such as a review. If one of those lines is an interaction by itself, a
    /// quotation mark is too many, and lines would be lost.
    fn refuse_swallowed_lines(&self, fields: &Fields) -> Result<(), DataError> {
        let layout = &self.table.layout;
        for (text, number) in fields.continued.iter().zip(fields.line + 1..) {
            let (mut splitter, mut own) = (Splitter::new(layout.separator.clone(), false), Fields::default());
            let whole = splitter.take(number, text, &mut own).unwrap_or(false) && own.len() == layout.width;
            let id = |side: usize, column: usize| {
                own.get(column).is_some_and(|token| self.sides[side].known(token).is_some())
            };
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
