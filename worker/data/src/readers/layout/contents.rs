//! What the values of a column look like, where that shows that it is no column of ids: times, row numbers, lists of items,
//! ratings. Only what would give every line a user or an item of its own, or exchange columns, is refused.

use super::roles::{Columns, Question};
use crate::error::DataError;
use std::collections::HashSet;

/// Fewer rows say nothing of how often a value occurs.
const ENOUGH_ROWS: usize = 20;
/// No usual scale of ratings has more steps.
const MOST_STEPS: usize = 11;

/// # Errors
/// A user or an item column of which every value is a list.
pub(super) fn refuse_what_is_no_id(question: &Question, columns: &Columns) -> Result<(), DataError> {
    for (role, column) in [("user", columns.user), ("item", columns.item)] {
        let values: Vec<&str> = question.rows.iter().map(|row| row[column].as_str()).collect();
        if values.is_empty() || !values.iter().all(|value| is_list(value)) {
            continue;
        }
        if values.iter().all(|value| is_pair(value)) {
            return Err(question.refuse(
                format!(
                    "{} holds pairs of an index and a value: this is a libFM or libSVM file",
                    question.shown(column)
                ),
                "write a `user item rating` line for each interaction",
            ));
        }
        return Err(question.refuse(
            format!("{} would be the {role} and holds lists, not ids", question.shown(column)),
            "write a line for each interaction (pandas: explode), or set data.format = \"adjacency\" for `user item item ...` lines",
        ));
    }
    Ok(())
}

/// `[1, 2]`, `1,2,3`, `1|2`, `1 2`, `7:1`; not `1,234`, which is a number.
fn is_list(value: &str) -> bool {
    let wrapped = [('[', ']'), ('(', ')'), ('{', '}')];
    if wrapped.iter().any(|&(open, close)| value.starts_with(open) && value.ends_with(close)) {
        return true;
    }
    let parts: Vec<&str> = value.split([',', ';', '|', ' ', ':']).filter(|part| !part.is_empty()).collect();
    // a value of separators alone has no part
    let Some((first, others)) = parts.split_first().filter(|(_, others)| !others.is_empty()) else { return false };
    let digits = |part: &&str| part.chars().all(|c| c.is_ascii_digit());
    let thousands = value.contains(',') && others.iter().all(|part| part.len() == 3) && first.len() <= 3;
    parts.iter().all(digits) && !thousands && !is_date(value)
}

fn is_pair(value: &str) -> bool {
    value.split_once(':').is_some_and(|(a, b)| a.parse::<u64>().is_ok() && b.parse::<f64>().is_ok())
}

/// Columns of a file without a header whose first two are no ids: row numbers of a data frame, times, ratings, or Amazon's
/// items in the place of the users.
///
/// # Errors
/// The column, examples of all, and the key that decides.
pub(super) fn refuse_places(question: &Question) -> Result<(), DataError> {
    let (rows, width) = (question.rows, question.width());
    if rows.len() < 3 {
        return Ok(());
    }
    let another_is_time = || (2..width).any(|k| looks_like_times(rows, k));
    let in_place = |column: usize| looks_like_dates(rows, column) || (width > 2 && looks_like_times(rows, column));
    let (problem, guess) = match () {
        () if in_place(0) && !another_is_time() => ("column 1 looks like times", "user = 2, item = 3"),
        () if width > 2 && (counts(rows) || numbers_rows(question)) => {
            ("column 1 counts the lines: each line would be a user of its own", "user = 2, item = 3")
        }
        () if in_place(1) && !another_is_time() => ("column 2 looks like times", "user = 1, item = 3"),
        () if width > 2 && is_scale(rows, 0) => ("column 1 looks like ratings", "user = 2, item = 3, rating = 1"),
        () if width > 2 && is_scale(rows, 1) => ("column 2 looks like ratings", "user = 1, item = 3, rating = 2"),
        () if rows.iter().all(|row| is_asin(&row[0]) || (is_product(&row[0]) && is_reviewer(&row[1]))) => {
            ("column 1 holds items of Amazon (ASINs): its rating files have the item first", "user = 2, item = 1")
        }
        () => return Ok(()),
    };
    let shown = question.all_shown(0..width);
    Err(question.refuse(
        format!("{problem} ({shown})"),
        format!("say which columns are meant, such as data.columns = {{ {guess} }}"),
    ))
}

fn whole(rows: &[Vec<String>], column: usize) -> Option<Vec<i64>> {
    rows.iter().map(|row| row[column].parse().ok()).collect()
}

fn distinct(rows: &[Vec<String>], column: usize) -> usize {
    rows.iter().map(|row| row[column].as_str()).collect::<HashSet<_>>().len()
}

/// Row numbers as they were written.
fn counts(rows: &[Vec<String>]) -> bool {
    whole(rows, 0).is_some_and(|numbers| numbers.windows(2).all(|w| w[0].checked_add(1) == Some(w[1])))
}

/// Row numbers after rows were shuffled or left out: each once, before a column of ids and another one. In a file that goes
/// on behind the rows users may occur again, so there the third column must be no rating.
fn numbers_rows(question: &Question) -> bool {
    let rows = question.rows;
    let once = rows.len() >= ENOUGH_ROWS && whole(rows, 0).is_some() && distinct(rows, 0) == rows.len();
    let is_value = |column: usize| {
        looks_like_times(rows, column)
            || (rows.iter().all(|row| rating(&row[column]).is_some()) && distinct(rows, column) <= MOST_STEPS)
    };
    once && distinct(rows, 1) < rows.len() && (question.is_whole || !is_value(2))
}

/// A few small numbers, where the third column has many more values.
fn is_scale(rows: &[Vec<String>], column: usize) -> bool {
    let small = |row: &Vec<String>| row[column].parse::<f64>().is_ok_and(|v| (0.0..=10.0).contains(&v));
    let (steps, others) = (distinct(rows, column), distinct(rows, 2));
    2 * ENOUGH_ROWS < rows.len()
        && steps <= MOST_STEPS
        && rows.iter().all(small)
        && others > 3 * steps
        && !looks_like_times(rows, 2)
        && (0..2).any(|k| k != column && distinct(rows, k) > 3 * steps)
}

fn is_asin(value: &str) -> bool {
    value.starts_with("B0") && is_product(value)
}

/// The form of every item of Amazon, which for books is an ISBN.
fn is_product(value: &str) -> bool {
    value.len() == 10 && value.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

/// A user of Amazon's review files, such as `A2SUAM1J3GNN3B`.
fn is_reviewer(value: &str) -> bool {
    (12..=22).contains(&value.len())
        && value.starts_with('A')
        && value.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && value.bytes().any(|b| b.is_ascii_digit())
}

/// Unix times or dates of the years 1990 to 2100 in every row, and not all the same.
pub(super) fn looks_like_times(rows: &[Vec<String>], column: usize) -> bool {
    let is_time = |row: &Vec<String>| is_unix_time(&row[column]) || is_date(&row[column]) || is_day(&row[column]);
    !rows.is_empty() && rows.iter().all(is_time) && (rows.len() == 1 || distinct(rows, column) > 1)
}

fn looks_like_dates(rows: &[Vec<String>], column: usize) -> bool {
    !rows.is_empty() && rows.iter().all(|row| is_date(&row[column])) && (rows.len() == 1 || distinct(rows, column) > 1)
}

/// In seconds, milliseconds, microseconds or nanoseconds.
fn is_unix_time(value: &str) -> bool {
    let scales = [1.0, 1e3, 1e6, 1e9];
    value.parse::<f64>().is_ok_and(|v| scales.iter().any(|scale| (6.3e8 * scale..4.2e9 * scale).contains(&v)))
}

/// `20190131`
fn is_day(value: &str) -> bool {
    let in_range = |from: usize, to: usize, low: u32, high: u32| {
        value.get(from..to).and_then(|text| text.parse::<u32>().ok()).is_some_and(|n| (low..=high).contains(&n))
    };
    value.len() == 8 && in_range(0, 4, 1990, 2100) && in_range(4, 6, 1, 12) && in_range(6, 8, 1, 31)
}

/// `2019-01-31`, `2019/01/31`, `31.01.2019`, `1/31/2019`, `1/31/19`, with or without a time behind it, and `31-Jan-2019`.
fn is_date(value: &str) -> bool {
    let day = value.split(['T', ' ']).next().unwrap_or_default();
    let parts: Vec<&str> = day.split(['-', '/', '.']).collect();
    let [first, middle, last] = parts.as_slice() else { return is_date_of_words(value) };
    let number = |text: &str, digits: usize| text.len() <= digits && text.parse::<u32>().is_ok();
    let year = |text: &str| text.len() == 4 && text.parse::<u32>().is_ok_and(|year| (1900..=2100).contains(&year));
    let short = day.contains('/') && number(first, 2) && last.len() == 2 && number(last, 2);
    let usual = (year(first) && number(last, 2)) || (number(first, 2) && (year(last) || short));
    (number(middle, 2) && usual) || is_date_of_words(value)
}

/// `31-Jan-2019`, `Jan 31, 2019`, `31 January 2019`.
fn is_date_of_words(value: &str) -> bool {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let words: Vec<&str> = value.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let is_month =
        |word: &&str| MONTHS.iter().any(|month| word.get(..3).is_some_and(|w| w.eq_ignore_ascii_case(month)));
    let is_year = |word: &&str| word.len() == 4 && word.parse::<u32>().is_ok_and(|year| (1900..=2100).contains(&year));
    let is_day = |word: &&str| word.parse::<u32>().is_ok_and(|day| (1..=31).contains(&day));
    let head = words.get(..3).unwrap_or_default();
    head.iter().any(is_month) && head.iter().any(is_year) && head.iter().any(is_day)
}

/// The value of a rating as tables write it: a number, with a decimal point or comma, or yes or no. None for other words.
pub(crate) fn rating(field: &str) -> Option<f64> {
    const YES: [&str; 4] = ["true", "t", "yes", "y"];
    const NO: [&str; 4] = ["false", "f", "no", "n"];
    if let Ok(number) = field.parse::<f64>() {
        return (!number.is_nan()).then_some(number);
    }
    let is = |words: &[&str]| words.iter().any(|word| field.eq_ignore_ascii_case(word));
    if is(&YES) {
        return Some(1.0);
    }
    if is(&NO) {
        return Some(0.0);
    }
    let plain = field.strip_suffix('%').unwrap_or(field).trim_end();
    match plain.split_once(',') {
        Some((whole, part)) if !part.contains([',', '.']) && !whole.contains('.') => {
            format!("{whole}.{part}").parse().ok()
        }
        _ => plain.parse().ok(),
    }
    .filter(|value: &f64| !value.is_nan())
}

/// Which of several columns of ratings was taken matters where lines are left out by it.
///
/// # Errors
/// Several such columns, one of which holds zeros, or a job that asks for a rating.
pub(super) fn refuse_several_ratings(question: &Question, several: &[usize]) -> Result<(), DataError> {
    let has_zero = |&k: &usize| question.rows.iter().any(|row| rating(&row[k]) == Some(0.0));
    let matters = question.data.min_rating.is_some() || several.iter().any(has_zero);
    if several.len() < 2 || !matters || question.data.columns.rating.is_some() {
        return Ok(());
    }
    Err(question.refuse(
        format!("{} columns could be the rating: {}", several.len(), question.all_shown(several.iter().copied())),
        "lines rated 0 are no interactions: say which is the rating, such as data.columns = { rating = \"...\" }",
    ))
}

/// A column of ids of which none occurs again, while another could be meant.
pub(super) fn never_repeats(question: &Question, column: usize) -> bool {
    question.rows.len() >= ENOUGH_ROWS && distinct(question.rows, column) == question.rows.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_told_from_ids_numbers_and_dates() {
        for list in ["[1, 2]", "(1, 2)", "1,2,3", "12 5 0", "1|2", "7:1", "[]", "12,2,5,0,6"] {
            assert!(is_list(list), "{list}");
        }
        for id in ["1", "1,234", "1,234,567", "a,b", "u 1", "10-2", "2014-04-01 10:00", "B00", "", ",", "::"] {
            assert!(!is_list(id), "{id}");
        }
    }

    #[test]
    fn ratings_are_numbers_and_flags_in_the_usual_forms() {
        for (field, value) in
            [("4", 4.0), ("0,5", 0.5), ("0%", 0.0), ("No", 0.0), ("f", 0.0), ("fAlse", 0.0), ("T", 1.0), ("-1", -1.0)]
        {
            assert_eq!(rating(field), Some(value), "{field}");
        }
        for field in ["dislike", "", "1,2,3", "nan", "0 stars"] {
            assert_eq!(rating(field), None, "{field}");
        }
    }

    #[test]
    fn times_come_as_numbers_and_dates() {
        for time in ["1396360809", "1396360809000", "1396360809000000", "1396360809000000000", "20140401", "2014-04-01"]
        {
            assert!(is_unix_time(time) || is_day(time) || is_date(time), "{time}");
        }
        for date in [
            "2014-04-01T10:00:09.277Z",
            "01.10.2019",
            "1/31/2019",
            "1/31/19",
            "2014-04-01 10:00:00",
            "31-Jan-2019",
            "Jan 31, 2019",
        ] {
            assert!(is_date(date), "{date}");
        }
        for id in ["10", "196", "99999999", "1.2.3", "10-11-12", "76561197970982479", "Mar 10", "May-2"] {
            assert!(!is_unix_time(id) && !is_day(id) && !is_date(id), "{id}");
        }
    }
}
