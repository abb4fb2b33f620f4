//! How a text file of interactions is laid out: separator, header, columns. Everything is told from the file's first lines
//! and from the job's keys; what could be two things is refused with the line, examples and the key that decides it.
//!
//! # Layout
//! * `sample`: the first lines under each separator. `choice`: which of them is meant. `header`: whether the first line names the columns.
//! * `names`: known names of columns. `roles`: which column is the user, the item, the rating and the time.
//! * `contents`: what values look like: times, row numbers, lists, ratings.

mod choice;
mod contents;
mod header;
mod names;
mod roles;
mod sample;

use crate::error::DataError;
use crate::readers::fields::Separator;
use accord_spec::{Column, Data};
pub(crate) use choice::{SAME_FIELDS, widths};
pub(crate) use contents::rating;
use header::Verdict;
pub(crate) use header::is_missing;
pub(crate) use names::{Role, is_known, plain};
pub(crate) use roles::Columns;
use sample::Candidate;
pub(crate) use sample::{Sample, quote_error, shorten};
use std::path::Path;

/// How a file is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) compression: Option<&'static str>,
    pub(crate) separator: Separator,
    /// Fields of every line.
    pub(crate) width: usize,
    /// Names of all columns, where a header gives them, and its line.
    pub(crate) header: Option<(u64, Vec<String>)>,
    pub(crate) comments: u64,
    pub(crate) columns: Columns,
    /// The line of the first interaction, where no column could tell whether it is a header.
    pub(crate) unclear: Option<u64>,
    /// The third number of a first line of three whole numbers: it may say how many lines follow.
    pub(crate) count: Option<u64>,
}

/// # Errors
/// A file whose layout is not clear.
pub(crate) fn find(path: &Path, data: &Data) -> Result<Layout, DataError> {
    let sample = Sample::of(path)?;
    let candidate = choice::choose(&sample, data)?;
    let rows = candidate.fields();
    let first = candidate.rows[0].line;
    let commented = if data.header.is_none() { sample.commented_header(&candidate)? } else { None };
    let verdict = match commented {
        Some(_) => Verdict::Header,
        None => verdict(path, &candidate, &rows, data)?,
    };
    let (header, below) = match (verdict, commented) {
        (_, Some(header)) => (Some(header), &rows[..]),
        (Verdict::Header | Verdict::Numbers, None) => (Some((first, rows[0].clone())), &rows[1..]),
        (Verdict::Interaction | Verdict::Unclear | Verdict::Both, None) => (None, &rows[..]),
    };
    let names = match verdict {
        Verdict::Header => header.as_ref().map(|(_, names)| names.as_slice()),
        _ => None,
    };
    let question = roles::Question { path, line: first, names, rows: below, is_whole: !sample.cut, data };
    let columns = roles::find(&question)?;
    contents::refuse_what_is_no_id(&question, &columns)?;
    Ok(Layout {
        compression: sample.compression,
        separator: candidate.separator,
        width: candidate.width,
        comments: sample.comments,
        columns,
        count: if header.is_none() && data.header.is_none() { count(&rows[0]) } else { None },
        header,
        unclear: (verdict == Verdict::Unclear).then_some(first),
    })
}

/// The columns of a table whose names are known otherwise; `rows` show what they hold.
pub(crate) fn by_names(path: &Path, names: &[String], rows: &[Vec<String>], data: &Data) -> Result<Columns, DataError> {
    let question = roles::Question { path, line: 0, names: Some(names), rows, is_whole: false, data };
    let columns = roles::find(&question)?;
    contents::refuse_what_is_no_id(&question, &columns)?;
    Ok(columns)
}

fn count(first: &[String]) -> Option<u64> {
    let numbers: Option<Vec<u64>> = first.iter().map(|field| field.parse().ok()).collect();
    match numbers?.as_slice() {
        [_, _, count] => Some(*count),
        _ => None,
    }
}

/// As [`find`], for RecBole's files, whose first line gives each column a type.
pub(crate) fn find_typed(path: &Path, data: &Data) -> Result<Layout, DataError> {
    let sample = Sample::of(path)?;
    let candidate = choice::choose(&sample, data)?;
    let rows = candidate.fields();
    let first = candidate.rows[0].line;
    let kinds = roles::typed(path, first, &rows[0])?;
    let question =
        roles::Question { path, line: first, names: Some(&rows[0]), rows: &rows[1..], is_whole: !sample.cut, data };
    let columns = roles::find_typed(&question, &kinds)?;
    contents::refuse_what_is_no_id(&question, &columns)?;
    Ok(Layout {
        compression: sample.compression,
        columns,
        separator: candidate.separator,
        width: candidate.width,
        header: Some((first, rows[0].clone())),
        comments: sample.comments,
        unclear: None,
        count: None,
    })
}

/// Whether a file names a user and an item column: it holds interactions, whatever it is called.
pub(crate) fn names_interactions(path: &Path, data: &Data) -> bool {
    find(path, data).is_ok_and(|layout| layout.columns.named)
}

fn verdict(path: &Path, candidate: &Candidate, rows: &[Vec<String>], data: &Data) -> Result<Verdict, DataError> {
    match data.header {
        Some(true) => return Ok(Verdict::Header),
        Some(false) => return Ok(Verdict::Interaction),
        None => {}
    }
    // columns that are asked for by name are in a header
    let asked = [&data.columns.user, &data.columns.item, &data.columns.rating, &data.columns.time];
    let named = |column: &&Option<Column>| matches!(column, Some(Column::Name(name)) if rows[0].contains(name));
    if asked.iter().any(named) {
        return Ok(Verdict::Header);
    }
    let verdict = header::verdict(rows);
    if verdict == Verdict::Both {
        return Err(DataError::at_line(
            path,
            candidate.rows[0].line,
            format!("`{}` is like the other lines in some columns and unlike them in others", rows[0].join("`, `")),
            "set data.header = true if it names the columns, data.header = false if it is an interaction",
        ));
    }
    Ok(verdict)
}

/// The error for a file whose first line may be a header: its ids occur nowhere else.
pub(crate) fn may_be_a_header(path: &Path, line: u64, user: &str, item: &str) -> DataError {
    DataError::at_line(
        path,
        line,
        format!("`{user}` and `{item}` may be the names of the columns: neither occurs again"),
        "set data.header = true if they are, data.header = false if the line is an interaction",
    )
}
