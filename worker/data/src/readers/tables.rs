//! External ids: what internal id a token of a file becomes. Internal ids depend on the set of tokens alone, never on
//! the order of lines: where every id is an integer they are numbered by value, else by their bytes; so ids that are
//! already 0..n keep their value. `users.txt` and `items.txt`, one external id a line, fix the numbering instead, and
//! are the only way to have users or items without any interaction.

use super::files;
use crate::error::{DataError, Side, place};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// External ids and titles; the index is the internal id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub(crate) user_ids: Vec<String>,
    pub(crate) item_ids: Vec<String>,
    pub(crate) item_titles: Option<Vec<String>>,
}

impl Catalog {
    /// For formats whose ids are internal ids already.
    pub(crate) fn numbered(folder: &Path, users: usize, items: usize) -> Result<Catalog, DataError> {
        let ids = |file: &str, side: Side, count: usize| -> Result<Vec<String>, DataError> {
            let path = folder.join(file);
            let Some(ids) = read_ids(&path, side)? else { return Ok((0..count).map(|id| id.to_string()).collect()) };
            same_count(&path, ids.len(), count, side)?;
            Ok(ids)
        };
        let mut catalog = Catalog {
            user_ids: ids("users.txt", Side::User, users)?,
            item_ids: ids("items.txt", Side::Item, items)?,
            item_titles: None,
        };
        catalog.read_titles(folder)?;
        Ok(catalog)
    }

    /// Titles from `item_titles.txt`, where it exists.
    pub(crate) fn read_titles(&mut self, folder: &Path) -> Result<(), DataError> {
        let path = folder.join("item_titles.txt");
        if path.is_file() {
            let titles: Vec<String> = files::read_text(&path)?.lines().map(String::from).collect();
            same_count(&path, titles.len(), self.item_ids.len(), Side::Item)?;
            self.item_titles = Some(titles);
        }
        Ok(())
    }
}

fn same_count(path: &Path, found: usize, expected: usize, side: Side) -> Result<(), DataError> {
    if found == expected {
        return Ok(());
    }
    Err(DataError::WrongShape {
        path: path.into(),
        found: format!("{found} lines"),
        expected: format!("there are {expected} {side}s"),
        advice: format!("line i belongs to {side} i, from 0: write one line a {side}"),
    })
}

/// The ids of `users.txt` or `items.txt`; none when there is no such file.
fn read_ids(path: &Path, side: Side) -> Result<Option<Vec<String>>, DataError> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = files::read_text(path)?;
    let mut seen = HashMap::new();
    let mut ids = Vec::new();
    for (id, line) in text.lines().map(str::trim).zip(1u64..) {
        if id.is_empty() {
            return Err(DataError::at_line(path, line, "the line is empty", format!("give one {side} id a line")));
        }
        if let Some(first) = seen.insert(id, line) {
            return Err(DataError::at_line(
                path,
                line,
                format!("{side} `{id}` is already on line {first}"),
                "give each id once",
            ));
        }
        ids.push(id.to_owned());
    }
    Ok(Some(ids))
}

/// Collects the tokens of one side while files are read.
#[derive(Debug)]
pub(crate) struct Names {
    side: Side,
    number: HashMap<String, u32>,
    /// By provisional number: the token, and where it was first seen (file number, line).
    tokens: Vec<(String, u32, u64)>,
    files: Vec<PathBuf>,
    /// `users.txt` or `items.txt`, when it fixes the numbering.
    fixed: Option<PathBuf>,
}

impl Names {
    /// With the numbering of `users.txt` or `items.txt` in `folder`, where it exists.
    pub(crate) fn new(folder: &Path, side: Side) -> Result<Names, DataError> {
        let mut names = Names { side, number: HashMap::new(), tokens: vec![], files: vec![], fixed: None };
        let path = folder.join(format!("{side}s.txt"));
        if let Some(ids) = read_ids(&path, side)? {
            names.tokens = ids.into_iter().map(|id| (id, 0, 0)).collect();
            names.number = names.tokens.iter().zip(0..).map(|((id, _, _), n)| (id.clone(), n)).collect();
            names.fixed = Some(path);
        }
        Ok(names)
    }

    /// The file that the next tokens come from.
    pub(crate) fn enter(&mut self, file: &Path) {
        self.files.push(file.into());
    }

    /// Provisional number of a token; [`finish`](Self::finish) says what becomes of it.
    pub(crate) fn number(&mut self, token: &str, line: u64) -> Result<u32, DataError> {
        if let Some(&number) = self.number.get(token) {
            return Ok(number);
        }
        let file = self.files.last().map(PathBuf::as_path).unwrap_or(Path::new(""));
        if token.is_empty() {
            return Err(DataError::at_line(
                file,
                line,
                format!("the {} id is empty", self.side),
                "each interaction needs a user and an item",
            ));
        }
        if let Some(catalog) = &self.fixed {
            return Err(DataError::UnknownId {
                place: place(file, line),
                side: self.side,
                id: token.into(),
                catalog: catalog.clone(),
            });
        }
        let number = self.tokens.len() as u32;
        self.number.insert(token.into(), number);
        self.tokens.push((token.into(), self.files.len().saturating_sub(1) as u32, line));
        Ok(number)
    }

    /// External ids by internal id, and the internal id of each provisional number.
    pub(crate) fn finish(self) -> Result<(Vec<String>, Vec<u32>), DataError> {
        if self.fixed.is_some() {
            let same = (0..self.tokens.len() as u32).collect();
            return Ok((self.tokens.into_iter().map(|(id, _, _)| id).collect(), same));
        }
        let integers: Option<Vec<i64>> = self.tokens.iter().map(|(token, _, _)| canonical_integer(token)).collect();
        let mut order: Vec<u32> = (0..self.tokens.len() as u32).collect();
        match integers {
            Some(values) => {
                if let Some(n) = values.iter().position(|&v| v < 0) {
                    let (_, file, line) = &self.tokens[n];
                    let place = place(&self.files[*file as usize], *line);
                    return Err(DataError::NegativeId { place, side: self.side, id: values[n] });
                }
                order.sort_unstable_by_key(|&n| values[n as usize]);
            }
            None => order.sort_unstable_by(|&a, &b| self.tokens[a as usize].0.cmp(&self.tokens[b as usize].0)),
        }
        let mut internal = vec![0; self.tokens.len()];
        for (&n, id) in order.iter().zip(0..) {
            internal[n as usize] = id;
        }
        let mut tokens = self.tokens;
        let ids = order.iter().map(|&n| std::mem::take(&mut tokens[n as usize].0)).collect();
        Ok((ids, internal))
    }
}

/// The value of a token that is written as an integer prints itself (`7`, `-1`; not `007`, `+7` or `7.0`).
fn canonical_integer(token: &str) -> Option<i64> {
    let value: i64 = token.parse().ok()?;
    let digits = token.strip_prefix('-').unwrap_or(token);
    let plain = digits == "0" || !digits.starts_with(['0', '+']);
    (plain && token != "-0").then_some(value)
}

/// Ends the reading of a format with external ids: provisional numbers become internal ids.
pub(crate) fn settle(
    folder: &Path,
    users: Names,
    items: Names,
    parts: files::Parts<Vec<files::Record>>,
) -> Result<(Catalog, files::Parts<Vec<files::Record>>), DataError> {
    let (user_ids, user_of) = users.finish()?;
    let (item_ids, item_of) = items.finish()?;
    let parts = parts.try_map(|mut records| -> Result<_, DataError> {
        for record in &mut records {
            record.user = user_of[record.user as usize];
            record.item = item_of[record.item as usize];
        }
        Ok(records)
    })?;
    let mut catalog = Catalog { user_ids, item_ids, item_titles: None };
    catalog.read_titles(folder)?;
    Ok((catalog, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids_of(tokens: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut names = Names::new(folder.path(), Side::User).unwrap();
        names.enter(Path::new("a.txt"));
        for token in tokens {
            names.number(token, 1).unwrap();
        }
        names.finish().unwrap().0
    }

    #[test]
    fn integers_are_numbered_by_value() {
        assert_eq!(ids_of(&["10", "9", "2", "10"]), ["2", "9", "10"]);
    }

    #[test]
    fn anything_else_is_numbered_by_its_bytes() {
        assert_eq!(ids_of(&["10", "9", "b"]), ["10", "9", "b"]);
        assert_eq!(ids_of(&["10", "9", "007"]), ["007", "10", "9"]);
        assert_eq!(ids_of(&["-1", "x"]), ["-1", "x"]);
    }
}
