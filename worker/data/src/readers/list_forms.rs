//! Files that look like lists `user item item ...` and are something else: what all their lines have in common says so.

use super::fields::Fields;
use super::records::Records;
use crate::error::DataError;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Fewer lines have things in common by chance.
const FEWEST: u64 = 3;

/// What the lines of a file have in common so far.
#[derive(Default)]
pub(crate) struct Forms {
    lines: u64,
    /// Lines whose first, or second, number counts the fields behind it.
    counted: [u64; 2],
    /// Fields of each line, while all have the same number.
    width: Option<usize>,
    widths_differ: bool,
    users: HashSet<String>,
    /// Tokens that stand twice at the start or the end of a line's items, and in how many lines.
    doubled: HashMap<String, u64>,
    /// The first line as numbers, if it has two or three, and the largest item of the other lines.
    sizes: Vec<usize>,
    largest: usize,
}

impl Forms {
    pub(crate) fn take(&mut self, fields: &Fields) {
        let all: Vec<&str> = fields.iter().filter(|field| !field.is_empty()).collect();
        if self.lines == 0 && (2..=3).contains(&all.len()) {
            self.sizes = all.iter().filter_map(|field| field.parse().ok()).collect();
        }
        if self.lines > 0 && !self.sizes.is_empty() {
            let items = all.iter().skip(1).filter_map(|field| field.parse().ok());
            self.largest = items.fold(self.largest, usize::max);
        }
        self.lines += 1;
        for (counts, place) in self.counted.iter_mut().zip(0..) {
            let counted = all.get(place).and_then(|field| field.parse::<usize>().ok());
            *counts += u64::from(counted == Some(all.len().saturating_sub(place + 1)));
        }
        self.widths_differ |= self.width.is_some_and(|width| width != all.len());
        self.width = Some(all.len());
        self.users.extend(all.first().map(|user| (*user).to_owned()));
        let items = all.get(1..).unwrap_or_default();
        let ends = match items {
            [first, second, .., last_but_one, last] => vec![(first, second), (last_but_one, last)],
            [first, .., last] => vec![(first, last)],
            _ => vec![],
        };
        if let Some((token, _)) = ends.into_iter().find(|(one, other)| one == other) {
            *self.doubled.entry((*token).to_owned()).or_default() += 1;
        }
    }

    /// # Errors
    /// Lines that are certainly or likely no lists of items.
    pub(crate) fn refuse(&self, path: &Path, records: &Records) -> Result<(), DataError> {
        if self.lines < FEWEST {
            return Ok(());
        }
        let refuse = |problem: String, advice: &str| Err(DataError::malformed(path, problem, advice));
        if self.counted[0] == self.lines {
            return refuse(
                "the first number of every line counts those that follow, as in CiteULike's files: no line names a user"
                    .into(),
                "write the user instead: each line is `user item item ...`",
            );
        }
        let some_items = self.widths_differ || self.width.is_some_and(|width| width > 2);
        if self.counted[1] == self.lines && some_items {
            return refuse(
                "the second number of every line counts the items that follow".into(),
                "remove it: each line is `user item item ...`",
            );
        }
        if let (Some(width @ 3..), false) = (self.width, self.widths_differ)
            && (self.users.len() as u64) < self.lines
        {
            return refuse(
                format!("every line has {width} fields and users occur again: lines may be `user item rating`"),
                "set data.format = \"pairs\" for one interaction a line; where the lines are lists, give each user one line",
            );
        }
        if let Some((token, lines)) = self.padding() {
            return refuse(
                format!("{lines} lines begin or end with the item `{token}` twice: it may fill lines up to one length"),
                "remove it: each line lists a user's items, each of them once",
            );
        }
        self.refuse_sizes(path, records)
    }

    /// The token that fills lines up, and in how many lines: most of the doubled tokens are the same.
    fn padding(&self) -> Option<(&str, u64)> {
        let all: u64 = self.doubled.values().sum();
        let (token, &lines) = self.doubled.iter().max_by_key(|(token, lines)| (**lines, *token))?;
        (lines >= 2 && 2 * lines > all).then_some((token, lines))
    }

    /// A first line that says how many users and items follow.
    fn refuse_sizes(&self, path: &Path, records: &Records) -> Result<(), DataError> {
        let [users, items, rest @ ..] = self.sizes.as_slice() else { return Ok(()) };
        let others = records.pairs.get(1 + rest.len()..).unwrap_or_default();
        let distinct: HashSet<u32> = others.iter().map(|pair| pair.1).collect();
        if *users as u64 != self.lines - 1 || *items < distinct.len().max(self.largest) {
            return Ok(());
        }
        Err(DataError::at_line(
            path,
            1,
            format!("`{users}` and `{items}` may be the numbers of users and items: {users} lines follow"),
            "remove the line, or put it behind another one if it is a user with an item",
        ))
    }
}
