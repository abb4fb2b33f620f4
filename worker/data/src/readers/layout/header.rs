//! Whether the first line of a file names its columns. Each column votes: its first value is unlike the others (a header)
//! or like them (an interaction). Where no column can tell, or two disagree, the reader says so and does not guess.

use super::names;

/// What the first line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Header,
    /// `0,1,2`: what a data frame without names writes.
    Numbers,
    Interaction,
    /// No column can tell; the reader looks whether its ids occur again.
    Unclear,
    /// Some columns look like a header, others like an interaction.
    Both,
}

#[derive(Clone, Copy, PartialEq)]
enum Vote {
    Header,
    Interaction,
    None,
}

/// `rows`: the first lines of a file, each with the same number of fields.
pub(crate) fn verdict(rows: &[Vec<String>]) -> Verdict {
    let Some((first, others)) = rows.split_first() else { return Verdict::Unclear };
    // files that were put together repeat their header
    let others: Vec<&Vec<String>> = others.iter().filter(|row| *row != first).collect();
    // a data frame without names, written with its row numbers
    if first.len() > 2 && first[0].is_empty() && counts_from_zero(&first[1..]) {
        return Verdict::Header;
    }
    let others = others.as_slice();
    let column = |k: usize| others.iter().map(move |row| row[k].as_str());
    if counts_from_zero(first) {
        return numbers(first, others);
    }
    let occurs_again = |k: usize| column(k).any(|value| value == first[k]);
    let known = |k: usize| names::is_known(&first[k]) && !occurs_again(k);
    let votes: Vec<Vote> = (0..first.len())
        .map(|k| if known(k) { Vote::Header } else { vote(&first[k], &column(k).collect::<Vec<_>>()) })
        .collect();
    match (votes.contains(&Vote::Header), votes.contains(&Vote::Interaction)) {
        (true, false) => Verdict::Header,
        (false, true) => Verdict::Interaction,
        (false, false) => Verdict::Unclear,
        (true, true) => Verdict::Both,
    }
}

fn counts_from_zero(first: &[String]) -> bool {
    first.iter().enumerate().all(|(k, value)| *value == k.to_string())
}

/// A first line `0,1,2,..` is a header where a column below it is of another kind.
fn numbers(first: &[String], others: &[&Vec<String>]) -> Verdict {
    let is_whole = |value: &String| value.parse::<i64>().is_ok();
    if others.is_empty() {
        return Verdict::Unclear;
    }
    if (0..first.len()).any(|k| others.iter().all(|row| !is_whole(&row[k]))) {
        return Verdict::Numbers;
    }
    // as an interaction, it would be of the third second of 1970
    if first.len() > 3 {
        return Verdict::Both;
    }
    let again = |k: usize| others.iter().any(|row| row[k] == first[k]);
    if again(0) || (first.len() > 1 && again(1)) { Verdict::Interaction } else { Verdict::Unclear }
}

fn vote(first: &str, others: &[&str]) -> Vote {
    let is_number = |value: &str| value.parse::<f64>().is_ok();
    let others: Vec<&str> = others.iter().copied().filter(|value| !is_missing(value)).collect();
    if is_missing(first) {
        return Vote::None;
    }
    if others.is_empty() {
        return if is_number(first) { Vote::Interaction } else { Vote::None };
    }
    if others.contains(&first) {
        return Vote::Interaction;
    }
    let numbers = others.iter().filter(|value| is_number(value)).count();
    if numbers == others.len() {
        return if is_number(first) { Vote::Interaction } else { Vote::Header };
    }
    let has_digit = |value: &str| value.contains(|c: char| c.is_ascii_digit());
    if others.iter().all(|value| has_digit(value)) {
        return if has_digit(first) { Vote::Interaction } else { Vote::Header };
    }
    match common_prefix(&others) {
        Some(prefix) if others.len() > 1 => {
            if first.starts_with(prefix) {
                Vote::Interaction
            } else {
                Vote::Header
            }
        }
        _ => Vote::None,
    }
}

/// What all values begin with, unless they are all the same or begin with nothing in common.
fn common_prefix<'a>(values: &[&'a str]) -> Option<&'a str> {
    let first = *values.first()?;
    if values.iter().all(|value| *value == first) {
        return None;
    }
    let shared =
        |value: &&str| value.chars().zip(first.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let length: usize = values.iter().map(shared).min()?;
    // one letter may be shared by chance
    (length > 1).then(|| &first[..length])
}

/// Tokens that tables write where there is no value.
pub(crate) fn is_missing(token: &str) -> bool {
    const ANY_CASE: [&str; 11] =
        ["null", "(null)", "nan", "none", "n/a", "nil", "nat", "<na>", "\\n", "#n/a", "undefined"];
    token.is_empty() || token == "NA" || token == "?" || ANY_CASE.iter().any(|name| token.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Verdict {
        verdict(&lines.iter().map(|l| l.split(',').map(String::from).collect()).collect::<Vec<_>>())
    }

    #[test]
    fn headers_are_told_from_interactions() {
        for (lines, expected) in [
            (&["user,item", "anna,lamp", "bert,lamp"][..], Verdict::Header),
            (&["who,what", "1,2", "1,3"], Verdict::Header),
            (&["kunde,artikel", "C0,P4", "C1,P4"], Verdict::Header),
            (&["kunde,artikel", "usr-a,film-x", "usr-b,film-y"], Verdict::Header),
            (&["a,b,stars", "anna,lamp,4", "anna,chair,5"], Verdict::Header),
            (&["0,1", "0,2", "1,2"], Verdict::Interaction),
            (&["5,7", "6,8"], Verdict::Interaction),
            (&["C9,P9", "C0,P4", "C1,P4"], Verdict::Interaction),
            (&["anna,lamp", "bert,lamp"], Verdict::Interaction),
            (&["anna,lamp", "bert,chair"], Verdict::Unclear),
            (&["anna,lamp"], Verdict::Unclear),
            (&["u1,game", "u1,book", "u2,game"], Verdict::Interaction),
            (&["0,1,2", "100,504,5.0", "101,504,4.0"], Verdict::Numbers),
            (&["0,1,2", "100,504,5", "101,504,4"], Verdict::Unclear),
            (&["0,1,2", "0,504,5", "1,504,4"], Verdict::Interaction),
            (&["0,abc", "1,7", "2,9"], Verdict::Both),
            // a missing value is no sign of a header
            (&["nan,4", "0,18", "1,18"], Verdict::Interaction),
        ] {
            assert_eq!(of(lines), expected, "{lines:?}");
        }
    }
}
