//! A vector that is spread over columns: one numbered series such as `d0`, `d1`, `d2`. Files list columns in any order
//! (`d0`, `d1`, `d10`, `d2`), so their numbers say which place of the vector each is.

use super::names::quoted;

/// Columns in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Series {
    pub(super) columns: Vec<usize>,
    prefix: String,
    first: usize,
}

/// Odd names of a message at most.
const MOST_NAMES: usize = 4;

impl Series {
    /// Of columns with these places and names.
    ///
    /// # Errors
    /// What keeps them from being one series: another prefix, no number, or a number that is missing or there twice.
    pub(super) fn of(columns: &[(usize, &str)]) -> Result<Series, String> {
        let prefix = usual_prefix(columns);
        let number = |name: &str| split(name).filter(|(other, _)| *other == prefix).map(|(_, number)| number);
        let odd: Vec<&str> = columns.iter().map(|(_, name)| *name).filter(|name| number(name).is_none()).collect();
        if !odd.is_empty() {
            let more = if odd.len() > MOST_NAMES { ", ..." } else { "" };
            let odd = quoted(odd.into_iter().take(MOST_NAMES));
            return Err(format!("the floats are not one numbered series: {odd}{more}"));
        }
        let mut numbered: Vec<(usize, usize)> =
            columns.iter().filter_map(|(column, name)| Some((number(name)?, *column))).collect();
        numbered.sort_unstable();
        if let Some(gap) = numbered.windows(2).find(|pair| pair[0].0.checked_add(1) != Some(pair[1].0)) {
            return Err(format!("`{prefix}{}` is followed by `{prefix}{}`", gap[0].0, gap[1].0));
        }
        let first = numbered.first().map_or(0, |(number, _)| *number);
        if first > 1 {
            return Err(format!("the floats begin at `{prefix}{first}`"));
        }
        let columns = numbered.into_iter().map(|(_, column)| column).collect();
        Ok(Series { columns, prefix: prefix.into(), first })
    }

    /// Whether a column of this name would belong to the series.
    pub(super) fn could_hold(&self, name: &str) -> bool {
        split(name).is_some_and(|(prefix, _)| prefix == self.prefix)
    }

    /// Whether the columns of the users' table and of the items' table count alike; `user_0` and `item_0` do.
    pub(super) fn agrees(&self, other: &Series) -> bool {
        self.first == other.first && without_side(&self.prefix) == without_side(&other.prefix)
    }

    /// The name of its first column.
    pub(super) fn first_name(&self) -> String {
        format!("{}{}", self.prefix, self.first)
    }
}

/// The prefix that most of the columns have.
fn usual_prefix<'a>(columns: &[(usize, &'a str)]) -> &'a str {
    let mut prefixes: Vec<&str> = columns.iter().filter_map(|(_, name)| Some(split(name)?.0)).collect();
    prefixes.sort_unstable();
    prefixes.chunk_by(|a, b| a == b).max_by_key(|same| same.len()).map_or("", |same| same[0])
}

/// `d` and 12 of `d12`.
fn split(name: &str) -> Option<(&str, usize)> {
    let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((prefix, name[prefix.len()..].parse().ok()?))
}

/// A prefix without the word that names its side.
fn without_side(prefix: &str) -> String {
    let lower = prefix.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.filter(|word| !["user", "users", "usr", "item", "items", "itm"].contains(word)).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(names: &str) -> Result<Series, String> {
        Series::of(&names.split(' ').enumerate().collect::<Vec<_>>())
    }

    #[test]
    fn columns_are_ordered_by_their_numbers() {
        assert_eq!(series("0 1 10 11 2 3 4 5 6 7 8 9").unwrap().columns, [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3]);
        assert_eq!(series("emb_02 emb_01").unwrap().columns, [1, 0]);
        assert_eq!(series("mean_rating d0 d1").unwrap_err(), "the floats are not one numbered series: `mean_rating`");
        assert_eq!(series("e0 d0 d1").unwrap_err(), "the floats are not one numbered series: `e0`");
        assert_eq!(series("d0 d2").unwrap_err(), "`d0` is followed by `d2`");
        assert_eq!(series("d1 d01").unwrap_err(), "`d1` is followed by `d1`");
        assert_eq!(series("d5 d6").unwrap_err(), "the floats begin at `d5`");
    }

    #[test]
    fn sides_agree_but_for_their_names() {
        let agree = |left: &str, right: &str| series(left).unwrap().agrees(&series(right).unwrap());
        assert!(agree("user_0 user_1", "item_0 item_1") && agree("d0 d1", "d1 d0"));
        assert!(!agree("d0 d1", "d1 d2") && !agree("d0 d1", "e0 e1"));
        assert!(series("d0 d1").unwrap().could_hold("d2") && !series("d0 d1").unwrap().could_hold("title"));
    }
}
