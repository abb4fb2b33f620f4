//! The choice between the separators that a text file could have.

use super::sample::{Candidate, Sample, quote_error, shorten};
use crate::error::DataError;
use crate::readers::fields::{QuoteProblem, Separator};
use accord_spec::Data;
use std::path::Path;

/// Fewer rows say nothing of how often ids occur.
const ENOUGH_ROWS: usize = 10;

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

/// Endings of a file's name in lower case: `csv` and `gz` of `a.csv.gz`.
fn endings(path: &Path) -> Vec<String> {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.split('.').skip(1).map(String::from).collect()
}
