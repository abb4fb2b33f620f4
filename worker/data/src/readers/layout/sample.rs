//! The first lines of a text file, and how a separator splits them.

use crate::error::DataError;
use crate::readers::fields::{Fields, QuoteProblem, Separator, Splitter};
use crate::readers::layout::{header, names, names::Role};
use crate::readers::text::TextFile;
use accord_spec::{Column, Data, Quoting};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Lines and bytes that are looked at.
const MOST_LINES: usize = 2000;
const MOST_BYTES: usize = 1 << 20;
const COMMENTS_LOOKED_AT: usize = 5;

/// The first lines of a file, comments left out.
pub(crate) struct Sample {
    pub(crate) path: PathBuf,
    pub(crate) compression: Option<&'static str>,
    /// Leading lines that begin with `#` or `%`.
    pub(crate) comments: u64,
    /// The last of them.
    last_comments: Vec<(u64, String)>,
    pub(super) lines: Vec<(u64, String)>,
    /// Whether the file goes on behind them.
    pub(super) cut: bool,
}

impl Sample {
    pub(crate) fn of(path: &Path) -> Result<Sample, DataError> {
        let mut file = TextFile::open(path)?;
        let mut sample = Sample {
            path: path.into(),
            compression: file.compression,
            comments: 0,
            last_comments: vec![],
            lines: vec![],
            cut: false,
        };
        let mut bytes = 0;
        while let Some((number, line)) = file.next_line()? {
            if sample.lines.is_empty() && line.starts_with(['#', '%']) {
                sample.comments += 1;
                sample.last_comments.push((number, line.to_owned()));
                if sample.last_comments.len() > COMMENTS_LOOKED_AT {
                    sample.last_comments.remove(0);
                }
                continue;
            }
            if line.trim().is_empty() {
                continue;
            }
            bytes += line.len();
            // the first line is looked at however long it is
            if sample.lines.len() == MOST_LINES || (bytes > MOST_BYTES && !sample.lines.is_empty()) {
                sample.cut = true;
                break;
            }
            sample.lines.push((number, line.to_owned()));
        }
        if sample.lines.is_empty() {
            return Err(DataError::Empty {
                path: path.into(),
                advice: "the file has comments and no interaction".into(),
            });
        }
        Ok(sample)
    }

    /// The names in the last comment, as numpy.savetxt and some exports write them; none where it is a remark.
    ///
    /// # Errors
    /// Comments that look like interactions, of ids that begin with `#`.
    pub(crate) fn commented_header(&self, candidate: &Candidate) -> Result<Option<(u64, Vec<String>)>, DataError> {
        let fields = |line: &str| -> Vec<String> {
            let mut fields = Fields::default();
            let mut splitter = Splitter::new(candidate.separator.clone(), false);
            // without quotation marks every line is whole
            let _ = splitter.take(1, line.trim_start_matches(['#', '%']).trim(), &mut fields);
            fields.iter().map(String::from).collect()
        };
        let Some((number, last)) = self.last_comments.last() else { return Ok(None) };
        let names = fields(last);
        if names.len() == candidate.width && names_both_sides(&names) {
            return Ok(Some((*number, names)));
        }
        let alike = self.last_comments.iter().filter(|(_, line)| fields(line).len() == candidate.width).count();
        if alike == COMMENTS_LOOKED_AT {
            return Err(DataError::at_line(
                &self.path,
                *number,
                format!(
                    "`{}` and the lines before it are skipped as comments and look like interactions",
                    shorten(last)
                ),
                "put quotation marks around ids that begin with # or %, or remove the lines",
            ));
        }
        Ok(None)
    }

    /// The lines as `separator` splits them.
    pub(super) fn split(&self, separator: Separator, quoting: Quoting) -> Candidate {
        let mut splitter = Splitter::new(separator.clone(), quoting == Quoting::Auto);
        let (mut fields, mut rows, mut problem) = (Fields::default(), Vec::new(), None);
        for (number, line) in &self.lines {
            match splitter.take(*number, line, &mut fields) {
                Ok(true) => rows.push(Row { line: fields.line, fields: fields.iter().map(String::from).collect() }),
                Ok(false) => {}
                Err(found) => {
                    problem = Some(found);
                    break;
                }
            }
        }
        if problem.is_none() && !self.cut {
            problem = splitter.at_end().err();
        }
        Candidate::new(separator, rows, problem)
    }
}

/// One record of a sample.
pub(crate) struct Row {
    /// The line it begins on.
    pub(crate) line: u64,
    pub(crate) fields: Vec<String>,
}

/// A sample under one separator.
pub(crate) struct Candidate {
    pub(crate) separator: Separator,
    pub(crate) rows: Vec<Row>,
    /// How many fields most rows have.
    pub(crate) width: usize,
    pub(super) problem: Option<QuoteProblem>,
}

impl Candidate {
    fn new(separator: Separator, rows: Vec<Row>, problem: Option<QuoteProblem>) -> Candidate {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *counts.entry(row.fields.len()).or_default() += 1);
        let width = counts.iter().max_by_key(|(_, count)| **count).map_or(0, |(width, _)| *width);
        Candidate { separator, rows, width, problem }
    }

    pub(super) fn fits(&self) -> bool {
        self.problem.is_none() && self.width > 1 && self.rows.iter().all(|row| row.fields.len() == self.width)
    }

    /// Share of the rows that have the usual width, where that is more than one field; in a thousandth.
    pub(super) fn share_that_fits(&self) -> usize {
        let usual = self.rows.iter().filter(|row| row.fields.len() == self.width).count();
        if self.width > 1 { 1000 * usual / self.rows.len() } else { 0 }
    }

    /// Whether its first line names a user and an item, as known names or as the job names them.
    pub(super) fn names_both_sides(&self, data: &Data) -> bool {
        let first = &self.rows[0].fields;
        let named = |column: &Option<Column>| matches!(column, Some(Column::Name(name)) if first.contains(name));
        names_both_sides(first) || (named(&data.columns.user) && named(&data.columns.item))
    }

    /// Whether both columns have ids that occur again, as those of interactions do.
    pub(super) fn repeats(&self) -> bool {
        (0..2).all(|column| 10 * self.distinct(column) <= 9 * self.rows.len())
    }

    /// Whether another separator finds the same users and items.
    pub(super) fn agrees_with(&self, other: &Candidate) -> bool {
        self.rows.iter().zip(&other.rows).all(|(one, other)| one.fields[..2] == other.fields[..2])
    }

    /// Whether its first two columns could be ids: not one value in every row, and no punctuation left at the ends.
    pub(super) fn is_sensible(&self) -> bool {
        let torn = |field: &String| field.starts_with([',', ';', '|']) || field.ends_with([',', ';', '|']);
        let punctuated = self.separator == Separator::Blank && self.rows.iter().any(|r| r.fields.iter().any(torn));
        !punctuated && (0..2).all(|column| self.rows.len() < 2 || self.distinct(column) > 1)
    }

    pub(super) fn distinct(&self, column: usize) -> usize {
        self.rows.iter().map(|row| &row.fields[column]).collect::<HashSet<_>>().len()
    }

    /// The rows' fields.
    pub(crate) fn fields(&self) -> Vec<Vec<String>> {
        self.rows.iter().map(|row| row.fields.clone()).collect()
    }
}

fn names_both_sides(fields: &[String]) -> bool {
    [Role::User, Role::Item].iter().all(|&role| !names::candidates(role, fields).is_empty())
}

pub(crate) fn quote_error(path: &Path, problem: QuoteProblem) -> DataError {
    let advice =
        "double a quotation mark inside a quoted field; set data.quoting = \"none\" where they belong to the ids";
    match problem {
        QuoteProblem::NeverClosed { opened } => {
            DataError::at_line(path, opened, "a quotation mark opens a field and is not closed", advice)
        }
        QuoteProblem::TextBehind { opened, closed } if opened == closed => {
            DataError::at_line(path, opened, "there is text behind a closing quotation mark", advice)
        }
        QuoteProblem::TextBehind { opened, closed } => DataError::at_line(
            path,
            opened,
            format!("a quotation mark opens a field, and the next one, on line {closed}, does not end it"),
            advice,
        ),
    }
}

pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Up to two values of a column that are no missing ones.
pub(crate) fn examples(rows: &[Vec<String>], column: usize) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for row in rows {
        let value = row[column].as_str();
        if !header::is_missing(value) && !seen.contains(&value) {
            seen.push(value);
        }
        if seen.len() == 2 {
            break;
        }
    }
    seen.iter().map(|value| shorten(value)).collect::<Vec<_>>().join(", ")
}
