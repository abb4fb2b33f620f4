//! External ids: what internal id a token of a file becomes. Internal ids depend on the set of tokens alone, never on
//! the order of lines: where every id is an integer they are numbered by value, else by their bytes; so ids that are
//! already 0..n keep their value. `users.txt` and `items.txt`, one external id a line, fix the numbering instead, and
//! are the only way to have users or items without any interaction.

use super::files::{self, Parts};
use super::layout::is_missing;
use super::records::Records;
use crate::error::{DataError, Side, place};
use accord_spec::MissingIds;
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

/// A token, and where it was first seen (number of the file, line).
pub(super) type Token = (String, u32, u64);

/// Collects the tokens of one side while files are read.
#[derive(Debug)]
pub(crate) struct Names {
    side: Side,
    missing: MissingIds,
    number: HashMap<String, u32>,
    /// By provisional number.
    tokens: Vec<Token>,
    files: Vec<PathBuf>,
    /// `users.txt` or `items.txt`, when it fixes the numbering.
    fixed: Option<PathBuf>,
}

/// Collects the ids of both sides, with the numberings of `users.txt` and `items.txt` in `folder`, where they exist.
pub(crate) fn sides(folder: &Path, missing: MissingIds) -> Result<[Names; 2], DataError> {
    Ok([Names::new(folder, Side::User, missing)?, Names::new(folder, Side::Item, missing)?])
}

impl Names {
    fn new(folder: &Path, side: Side, missing: MissingIds) -> Result<Names, DataError> {
        let mut names = Names { side, missing, number: HashMap::new(), tokens: vec![], files: vec![], fixed: None };
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

    /// The number that a token has already.
    pub(crate) fn known(&self, token: &str) -> Option<u32> {
        self.number.get(token).copied()
    }

    pub(crate) fn token(&self, number: u32) -> &str {
        self.tokens.get(number as usize).map_or("", |(token, _, _)| token)
    }

    /// Provisional number of a token; [`finish`](Self::finish) says what becomes of it. None: the token stands for a
    /// missing value, and the job drops such interactions.
    pub(crate) fn number(&mut self, token: &str, line: u64) -> Result<Option<u32>, DataError> {
        if let Some(number) = self.known(token) {
            return Ok(Some(number));
        }
        if is_missing(token) && (token.is_empty() || self.missing != MissingIds::Keep) {
            return match self.missing {
                MissingIds::Drop => Ok(None),
                MissingIds::Refuse | MissingIds::Keep => Err(self.missing_id(token, line)),
            };
        }
        let file = self.files.last().map(PathBuf::as_path).unwrap_or(Path::new(""));
        if token.contains(['\n', '\r']) {
            return Err(DataError::at_line(
                file,
                line,
                format!("the {} id {token:?} has a line break in it", self.side),
                "a quotation mark may be missing or too many: give ids without line breaks",
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
        let number = u32::try_from(self.tokens.len()).map_err(|_| DataError::Unusable {
            problem: format!("there are more than 2^32 {}s", self.side),
            advice: "users and items together must stay below 2^32 - 1".into(),
        })?;
        self.number.insert(token.into(), number);
        self.tokens.push((token.into(), self.files.len().saturating_sub(1) as u32, line));
        Ok(Some(number))
    }

    fn missing_id(&self, token: &str, line: u64) -> DataError {
        let file = self.files.last().map(PathBuf::as_path).unwrap_or(Path::new(""));
        let side = self.side;
        if token.is_empty() {
            let advice = "each interaction needs a user and an item; data.missing_ids = \"drop\" leaves such lines out";
            return DataError::at_line(file, line, format!("the {side} id is empty"), advice);
        }
        let usual: Vec<&str> = self.tokens.iter().take(2).map(|(token, _, _)| token.as_str()).collect();
        let others = if usual.is_empty() { String::new() } else { format!(" (other {side}s: {})", usual.join(", ")) };
        DataError::at_line(
            file,
            line,
            format!("the {side} id `{token}` stands for a missing value{others}"),
            "remove such lines, or set data.missing_ids = \"drop\"; \"keep\" if it is an id",
        )
    }

    /// How [`finish`](Self::finish) numbers the ids.
    fn numbering(&self) -> String {
        let count = self.tokens.len();
        if let Some(path) = &self.fixed {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            return format!("{count}, numbered by {name}");
        }
        let text: Vec<&str> =
            self.tokens.iter().map(|t| t.0.as_str()).filter(|token| canonical_integer(token).is_none()).collect();
        match (text.first(), count - text.len()) {
            (None, _) => format!("{count}, numbered by value"),
            (Some(_), 0) => format!("{count}, numbered by their bytes"),
            (Some(example), whole) => {
                format!(
                    "{count}, numbered by their bytes: {whole} are integers and {} are not (`{example}`)",
                    text.len()
                )
            }
        }
    }

    /// External ids by internal id, and the internal id of each provisional number.
    fn finish(self) -> Result<(Vec<String>, Vec<u32>), DataError> {
        if self.fixed.is_some() {
            let same = (0..self.tokens.len() as u32).collect();
            return Ok((self.tokens.into_iter().map(|(id, _, _)| id).collect(), same));
        }
        super::ids::refuse_damaged(&self.tokens, self.side, &self.files)?;
        let integers: Option<Vec<i64>> = self.tokens.iter().map(|(token, _, _)| canonical_integer(token)).collect();
        let mut order: Vec<u32> = (0..self.tokens.len() as u32).collect();
        match integers {
            Some(values) => {
                // one or two below 0 are marks for no id; many are hashes
                let negative = values.iter().filter(|&&v| v < 0).count();
                if let Some(n) = values.iter().position(|&v| v < 0).filter(|_| negative <= 2) {
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
pub(super) fn canonical_integer(token: &str) -> Option<i64> {
    let value: i64 = token.parse().ok()?;
    let digits = token.strip_prefix('-').unwrap_or(token);
    let plain = digits == "0" || !digits.starts_with(['0', '+']);
    (plain && token != "-0").then_some(value)
}

/// Ends the reading of a format with external ids: provisional numbers become internal ids. The last value says how users
/// and items were numbered.
pub(crate) fn settle(
    folder: &Path,
    sides: [Names; 2],
    parts: Parts<Records>,
) -> Result<(Catalog, Parts<Records>, [String; 2]), DataError> {
    let numbering = sides.each_ref().map(Names::numbering);
    let [users, items] = sides;
    let (user_ids, user_of) = users.finish()?;
    let (item_ids, item_of) = items.finish()?;
    let parts = parts.try_map(|mut records| -> Result<_, DataError> {
        for (user, item) in &mut records.pairs {
            (*user, *item) = (user_of[*user as usize], item_of[*item as usize]);
        }
        Ok(records)
    })?;
    let mut catalog = Catalog { user_ids, item_ids, item_titles: None };
    catalog.read_titles(folder)?;
    Ok((catalog, parts, numbering))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids_of(tokens: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut names = Names::new(folder.path(), Side::User, MissingIds::Refuse).unwrap();
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
