//! RecBole's atomic files: tab-separated, with a typed header such as `user_id:token item_id:token rating:float`.

use super::files::{self, Located, Parts};
use super::pairs::Table as InteractionTable;
use super::tables::{settle, sides};
use super::text::TextFile;
use super::{Found, Source, layout, recbole_header, same_columns, unread};
use crate::error::DataError;
use crate::manifest::Repairs;
use crate::reading::Reading;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// A whole `.item` or `.user` file, for titles, genres, ages and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<Column>,
    /// Each row has as many fields as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// `name:kind` of a header; RecBole's kinds are `token`, `token_seq`, `float` and `float_seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: String,
}

impl Table {
    /// # Errors
    /// A file that is missing, empty or not UTF-8, a header without types, or a row of another length (with its line).
    pub fn read(path: &Path) -> Result<Table, DataError> {
        let text = files::read_text(path)?;
        let columns = header(path, &text)?;
        let mut rows = Vec::new();
        for (line, number) in text.lines().zip(1u64..).skip(1).filter(|(l, _)| !l.trim().is_empty()) {
            let row: Vec<String> = line.split('\t').map(|f| f.trim().to_owned()).collect();
            if row.len() != columns.len() {
                return Err(DataError::at_line(
                    path,
                    number,
                    format!("{} fields, the header names {}", row.len(), columns.len()),
                    "separate fields by one tab; the file may be truncated",
                ));
            }
            rows.push(row);
        }
        Ok(Table { columns, rows })
    }

    /// Place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }
}

const KINDS: [&str; 4] = ["token", "token_seq", "float", "float_seq"];

fn header(path: &Path, text: &str) -> Result<Vec<Column>, DataError> {
    let first = text.lines().next().unwrap_or_default();
    let mut columns = Vec::new();
    for field in first.split('\t').map(str::trim) {
        match field.rsplit_once(':') {
            Some((name, kind)) if KINDS.contains(&kind) => {
                columns.push(Column { name: name.into(), kind: kind.into() });
            }
            _ => {
                return Err(DataError::at_line(
                    path,
                    1,
                    format!("the header field `{field}` has no type"),
                    "RecBole headers read `user_id:token`, separated by tabs",
                ));
            }
        }
    }
    Ok(columns)
}

/// `NAME.train.inter` and so on where they exist, else the one `.inter` file. Files of two datasets are refused: parts of
/// different ones must not be put together.
pub(crate) fn locate(folder: &Path) -> Result<Located, DataError> {
    let files = files::list(folder, &["inter"])?;
    let ambiguous = |what: &'static str, advice: &'static str| DataError::Ambiguous {
        folder: folder.into(),
        what,
        names: files::join_names(&files),
        advice,
    };
    let parts = match files.as_slice() {
        [] => {
            let advice = "the folder has no RecBole interaction file: check data.path and data.format";
            return Err(DataError::Missing {
                path: folder.join("NAME.inter"),
                advice: unread::advice(folder).unwrap_or_else(|| advice.into()),
            });
        }
        _ => {
            let named = |part: Option<usize>| files.iter().filter(move |file| part_of(file).1 == part);
            let names: HashSet<String> = files.iter().map(|file| part_of(file).0).collect();
            if names.len() > 1 {
                return Err(ambiguous("dataset", "keep the files of one dataset in a folder"));
            }
            if [None, Some(0), Some(1), Some(2)].into_iter().any(|part| named(part).count() > 1) {
                let advice = "leave one .inter file, or NAME.train.inter, NAME.valid.inter and NAME.test.inter";
                return Err(ambiguous("interactions", advice));
            }
            let missing = |part: &str| DataError::Missing {
                path: folder.join(format!("{}.{part}.inter", part_of(&files[0]).0)),
                advice: "the folder has other parts of the dataset: add it, or leave one file to be split".into(),
            };
            match [Some(0), Some(1), Some(2), None].map(|part| named(part).next().cloned()) {
                [Some(train), validation, Some(test), _] => Parts::Apart { train, validation, test },
                [None, None, None, Some(whole)] | [Some(whole), None, None, None] => Parts::Whole(whole),
                [Some(_), None, None, Some(_)] => {
                    return Err(ambiguous("interactions", "remove the training part, or add the test part"));
                }
                [Some(_), Some(_), None, _] => return Err(missing("test")),
                [None, ..] => return Err(missing("train")),
            }
        }
    };
    Ok(Located::among(&files, parts))
}

/// `ml` and 0, 1 or 2 of `ml.train.inter`, `ml.valid.inter` and `ml.test.inter`; no number for a whole.
fn part_of(path: &Path) -> (String, Option<usize>) {
    let stem = files::stem(path);
    let (name, part) = stem.rsplit_once('.').unwrap_or(("", &stem));
    match part {
        "train" => (name.into(), Some(0)),
        "valid" | "val" | "validation" => (name.into(), Some(1)),
        "test" => (name.into(), Some(2)),
        _ => (stem, None),
    }
}

pub(crate) fn read(source: &Source, located: Located, repairs: &mut Repairs) -> Result<Found, DataError> {
    let Source { folder, data, .. } = source;
    let mut sides = sides(folder, data.missing_ids)?;
    let mut reading = Reading::default();
    let name = located.parts.each().first().map_or(String::new(), |file| part_of(file).0);
    let parts = located.parts.try_map(|path| {
        refuse_unknown_types(&path)?;
        let layout = layout::find_typed(&path, data)?;
        recbole_header::refuse(&path, &layout, data)?;
        InteractionTable { path, layout }.read(source, &mut sides, repairs, &mut reading)
    })?;
    same_columns::check(folder, &reading, repairs)?;
    let (mut catalog, parts, [users, items]) = settle(folder, sides, parts)?;
    (reading.users, reading.items) = (users, items);
    let mut items = files::list(folder, &["item"])?;
    if catalog.item_titles.is_none()
        && let Some(place) = items.iter().position(|file| files::stem(file) == name)
    {
        catalog.item_titles = titles(&items.remove(place), &catalog.item_ids)?;
    }
    reading.passed_over = files::names(&items);
    Ok(Found { catalog, parts, reading })
}

/// A type that is written in another way: the reader of headers would say that there is none.
fn refuse_unknown_types(path: &Path) -> Result<(), DataError> {
    let mut file = TextFile::open(path)?;
    let Some((number, line)) = file.next_line()? else { return Ok(()) };
    let typed = line.split(['\t', ',']).filter_map(|field| field.trim().rsplit_once(':'));
    let unknown = |(_, kind): &(&str, &str)| !KINDS.contains(kind) && !kind.contains(char::is_whitespace);
    let blank =
        |(_, kind): &(&str, &str)| kind.starts_with(' ') && KINDS.contains(&kind.trim().to_lowercase().as_str());
    let all: Vec<(&str, &str)> = typed.collect();
    // a header has a known type somewhere, however it is written
    if !all.iter().any(|(_, kind)| KINDS.contains(&kind.trim().to_lowercase().as_str())) {
        return Ok(());
    }
    let Some((name, kind)) = all.iter().find(|field| unknown(field) || blank(field)) else { return Ok(()) };
    Err(DataError::at_line(
        path,
        number,
        format!("the type `{kind}` of the column `{name}` is not one of RecBole's"),
        "write token, token_seq, float or float_seq behind the colon, in small letters and without a blank",
    ))
}

/// Titles from the `.item` file of the dataset, where it has a column that sounds like a title. An item it does not list
/// keeps its id as its title.
fn titles(path: &Path, item_ids: &[String]) -> Result<Option<Vec<String>>, DataError> {
    let table = Table::read(path)?;
    let id = table.column("item_id").unwrap_or(0);
    let title = table.columns.iter().position(|c| c.name.contains("title"));
    let Some(title) = title.or_else(|| table.columns.iter().position(|c| c.name.contains("name"))) else {
        return Ok(None);
    };
    let by_id: HashMap<&str, &str> = table.rows.iter().map(|r| (r[id].as_str(), r[title].as_str())).collect();
    Ok(Some(item_ids.iter().map(|id| (*by_id.get(id.as_str()).unwrap_or(&id.as_str())).to_owned()).collect()))
}
