//! The first lines of a text file under every separator that could be meant, and the choice between them.

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
    lines: Vec<(u64, String)>,
    /// Whether the file goes on behind them.
    cut: bool,
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
    fn split(&self, separator: Separator, quoting: Quoting) -> Candidate {
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
    problem: Option<QuoteProblem>,
}

impl Candidate {
    fn new(separator: Separator, rows: Vec<Row>, problem: Option<QuoteProblem>) -> Candidate {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        rows.iter().for_each(|row| *counts.entry(row.fields.len()).or_default() += 1);
        let width = counts.iter().max_by_key(|(_, count)| **count).map_or(0, |(width, _)| *width);
        Candidate { separator, rows, width, problem }
    }

    fn fits(&self) -> bool {
        self.problem.is_none() && self.width > 1 && self.rows.iter().all(|row| row.fields.len() == self.width)
    }

    /// Share of the rows that have the usual width, where that is more than one field; in a thousandth.
    fn share_that_fits(&self) -> usize {
        let usual = self.rows.iter().filter(|row| row.fields.len() == self.width).count();
        if self.width > 1 { 1000 * usual / self.rows.len() } else { 0 }
    }

    /// Whether its first line names a user and an item, as known names or as the job names them.
    fn names_both_sides(&self, data: &Data) -> bool {
        let first = &self.rows[0].fields;
        let named = |column: &Option<Column>| matches!(column, Some(Column::Name(name)) if first.contains(name));
        names_both_sides(first) || (named(&data.columns.user) && named(&data.columns.item))
    }

    /// Whether both columns have ids that occur again, as those of interactions do.
    fn repeats(&self) -> bool {
        (0..2).all(|column| 10 * self.distinct(column) <= 9 * self.rows.len())
    }

    /// Whether another separator finds the same users and items.
    fn agrees_with(&self, other: &Candidate) -> bool {
        self.rows.iter().zip(&other.rows).all(|(one, other)| one.fields[..2] == other.fields[..2])
    }

    /// Whether its first two columns could be ids: not one value in every row, and no punctuation left at the ends.
    fn is_sensible(&self) -> bool {
        let torn = |field: &String| field.starts_with([',', ';', '|']) || field.ends_with([',', ';', '|']);
        let punctuated = self.separator == Separator::Blank && self.rows.iter().any(|r| r.fields.iter().any(torn));
        !punctuated && (0..2).all(|column| self.rows.len() < 2 || self.distinct(column) > 1)
    }

    fn distinct(&self, column: usize) -> usize {
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

/// The separator that `data.separator` names, or the one that gives every line the same number of fields.
///
/// # Errors
/// No such separator: the message names the first line that differs, and how.
pub(crate) fn choose(sample: &Sample, data: &Data) -> Result<Candidate, DataError> {
    if let Some(name) = &data.separator {
        let candidate = sample.split(Separator::named(name), data.quoting);
        return if candidate.fits() { Ok(candidate) } else { Err(unfit(sample, &candidate, &[])) };
    }
    let ending = endings(&sample.path);
    let is_csv = ending.iter().any(|e| e == "csv");
    // a separator that stands early is seldom part of an id
    let order: [&str; 7] = match is_csv {
        true => [",", ";", "\t", "|", "\x01", "::", "blank"],
        false => ["\t", "\x01", "::", "|", ";", ",", "blank"],
    };
    let mut all: Vec<Candidate> = order.iter().map(|name| sample.split(Separator::named(name), data.quoting)).collect();
    let fitting: Vec<usize> = (0..all.len()).filter(|&k| all[k].fits()).collect();
    if let Some(named) = fitting.iter().copied().find(|&k| all[k].names_both_sides(data)) {
        return Ok(all.swap_remove(named));
    }
    let sensible: Vec<usize> = fitting.iter().copied().filter(|&k| all[k].is_sensible()).collect();
    let Some(&first) = sensible.first().or(fitting.first()) else {
        // the first of those that fit the largest share of the lines they could split
        let most = all.iter().map(Candidate::share_that_fits).max().unwrap_or(0);
        let closest = all.iter().find(|c| c.share_that_fits() == most).unwrap_or(&all[0]);
        return Err(unfit(sample, closest, &all));
    };
    let best = among(sample, &all, &sensible, is_csv)?.unwrap_or(first);
    Ok(all.swap_remove(best))
}

/// Of several separators that split every line: what is told by the file's ending, or by the ids. None where there is no
/// choice.
fn among(sample: &Sample, all: &[Candidate], sensible: &[usize], is_csv: bool) -> Result<Option<usize>, DataError> {
    // no id holds a control character
    let is_control =
        |k: &&usize| matches!(&all[**k].separator, Separator::Text(text) if text.contains(char::is_control));
    if let Some(&control) = sensible.iter().find(is_control) {
        return Ok(Some(control));
    }
    let is_mark = |k: &&usize, mark: &str| matches!(&all[**k].separator, Separator::Text(text) if text == mark);
    let told: Vec<usize> = match is_csv {
        true => sensible.iter().filter(|k| is_mark(k, ",") || is_mark(k, ";")).copied().collect(),
        false => Vec::new(),
    };
    let rivals = if told.is_empty() { sensible } else { told.as_slice() };
    let Some((&one, others)) = rivals.split_first() else { return Ok(None) };
    if others.iter().all(|&other| all[one].agrees_with(&all[other])) {
        return Ok(Some(one));
    }
    let repeating: Vec<usize> = rivals.iter().copied().filter(|&k| all[k].repeats()).collect();
    match repeating.as_slice() {
        [only] if all[*only].rows.len() >= ENOUGH_ROWS => Ok(Some(*only)),
        _ => Err(either(sample, &all[one], &all[others[0]])),
    }
}

/// Fewer rows say nothing of how often ids occur.
const ENOUGH_ROWS: usize = 10;

/// Two separators that fit equally well.
fn either(sample: &Sample, one: &Candidate, other: &Candidate) -> DataError {
    let first = |c: &Candidate| format!("user `{}` and item `{}`", c.rows[0].fields[0], c.rows[0].fields[1]);
    DataError::at_line(
        &sample.path,
        one.rows[0].line,
        format!("{} give {}, {} give {}", one.separator, first(one), other.separator, first(other)),
        "say which is meant, such as data.separator = \",\" or data.separator = \"blank\"",
    )
}

fn unfit(sample: &Sample, closest: &Candidate, all: &[Candidate]) -> DataError {
    if let Some(problem) = closest.problem {
        return quote_error(&sample.path, problem);
    }
    if closest.rows.is_empty() {
        // one quoted field takes in all that was looked at
        let opened = sample.lines.first().map_or(1, |(number, _)| *number);
        return quote_error(&sample.path, QuoteProblem::NeverClosed { opened });
    }
    let separator = &closest.separator;
    let odd = closest.rows.iter().find(|row| row.fields.len() != closest.width);
    let usual = closest.rows.iter().find(|row| row.fields.len() == closest.width);
    let (Some(usual), true) = (usual, closest.width > 1) else {
        let row = &closest.rows[0];
        let example = shorten(&row.fields.join(" "));
        return DataError::at_line(
            &sample.path,
            row.line,
            match all.is_empty() {
                true => format!("1 field (`{example}`), separated by {separator} as data.separator says"),
                false => format!("1 field (`{example}`) whatever separates fields"),
            },
            "each line needs a user and an item; name what lies between them with data.separator",
        );
    };
    let Some(odd) = odd else {
        return DataError::malformed(&sample.path, "no line can be split", "name the separator with data.separator");
    };
    // another separator may fit the odd line
    let text = sample.lines.iter().find(|(number, _)| *number == odd.line).map_or("", |(_, line)| line.as_str());
    let splits = |c: &&Candidate| c.rows.iter().any(|r| r.line == odd.line && r.fields.len() > 1);
    let other = all.iter().filter(|c| c.separator != *separator).find(splits);
    let problem = match other {
        Some(other) if odd.fields.len() == 1 => {
            format!("`{}` is separated by {}, and line {} by {separator}", shorten(text), other.separator, usual.line)
        }
        _ => widths(odd.fields.len(), usual.line, closest.width, separator),
    };
    // R's write.table, and lines that end in a separator
    let first = &closest.rows[0];
    let is_short_header = odd.line == first.line && first.fields.len() + 1 == closest.width;
    if is_short_header && closest.rows[1..].iter().all(|row| row.fields.len() == closest.width) {
        return DataError::at_line(
            &sample.path,
            odd.line,
            format!("{problem}: the header has one name less than the lines have fields"),
            "name the column of row numbers in the header too (R: write.table(.., col.names = NA)), or remove the separator at \
             the ends of the lines",
        );
    }
    DataError::at_line(&sample.path, odd.line, problem, advice_on_widths(closest))
}

/// `1 field, where line 1 has 3 (separated by commas)`.
pub(crate) fn widths(found: usize, line: u64, expected: usize, separator: &Separator) -> String {
    let plural = if found == 1 { "" } else { "s" };
    format!("{found} field{plural}, where line {line} has {expected} (separated by {separator})")
}

fn advice_on_widths(closest: &Candidate) -> String {
    let whole = |field: &String| field.parse::<u64>().is_ok();
    let numbers = closest.rows.iter().all(|row| row.fields.iter().all(whole));
    if closest.separator == Separator::Blank && numbers && closest.rows.iter().any(|row| row.fields.len() > 4) {
        return "lists of a user and its items are data.format = \"adjacency\"; else every line needs the same fields"
            .into();
    }
    SAME_FIELDS.into()
}

pub(crate) const SAME_FIELDS: &str = "every line needs the same fields: the file may be truncated, or a field with the \
                                      separator in it needs quotation marks; data.separator names another separator";

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

/// Endings of a file's name in lower case: `csv` and `gz` of `a.csv.gz`.
fn endings(path: &Path) -> Vec<String> {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.split('.').skip(1).map(String::from).collect()
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
