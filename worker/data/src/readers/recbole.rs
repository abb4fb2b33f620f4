//! RecBole's atomic files: tab-separated, with a typed header such as `user_id:token item_id:token rating:float`.

use super::files::{self, Located, Parts};
use super::pairs::Table as InteractionTable;
use super::tables::{settle, sides};
use super::{Found, Source, layout};
use crate::error::DataError;
use crate::manifest::Repairs;
use crate::reading::Reading;
use std::collections::HashMap;
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

fn header(path: &Path, text: &str) -> Result<Vec<Column>, DataError> {
    let first = text.lines().next().unwrap_or_default();
    let mut columns = Vec::new();
    for field in first.split('\t').map(str::trim) {
        match field.rsplit_once(':') {
            Some((name, kind)) if matches!(kind, "token" | "token_seq" | "float" | "float_seq") => {
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

/// `NAME.train.inter` and so on where they exist, else the one `.inter` file.
pub(crate) fn locate(folder: &Path) -> Result<Located, DataError> {
    let files = files::list(folder, &["inter"])?;
    let part = |names: &[&str]| {
        files.iter().find(|file| {
            let (stem, _) = files::stem_and_ending(file);
            names.iter().any(|name| stem.ends_with(&format!(".{name}")))
        })
    };
    let parts = match (part(&["train"]), part(&["valid", "val"]), part(&["test"])) {
        (Some(train), validation, Some(test)) => {
            Parts::Apart { train: train.clone(), validation: validation.cloned(), test: test.clone() }
        }
        _ => match files.as_slice() {
            [only] => Parts::Whole(only.clone()),
            [] => {
                return Err(DataError::Missing {
                    path: folder.join("NAME.inter"),
                    advice: "the folder has no RecBole interaction file: check data.path and data.format".into(),
                });
            }
            _ => {
                return Err(DataError::Ambiguous {
                    folder: folder.into(),
                    what: "interactions",
                    names: files::join_names(&files),
                    advice: "leave one .inter file, or NAME.train.inter, NAME.valid.inter and NAME.test.inter",
                });
            }
        },
    };
    Ok(Located { parts, passed_over: vec![] })
}

pub(crate) fn read(source: &Source, located: Located, repairs: &mut Repairs) -> Result<Found, DataError> {
    let Source { folder, data, .. } = source;
    let mut sides = sides(folder, data.missing_ids)?;
    let mut reading = Reading::default();
    let parts = located.parts.try_map(|path| {
        let layout = layout::find_typed(&path, data)?;
        InteractionTable { path, layout }.read(source, &mut sides, repairs, &mut reading)
    })?;
    let (mut catalog, parts, [users, items]) = settle(folder, sides, parts)?;
    (reading.users, reading.items) = (users, items);
    if catalog.item_titles.is_none() {
        catalog.item_titles = titles(folder, &catalog.item_ids)?;
    }
    Ok(Found { catalog, parts, reading })
}

/// Titles from the `.item` file, where there is exactly one and it has a column that sounds like a title. An item it
/// does not list keeps its id as its title.
fn titles(folder: &Path, item_ids: &[String]) -> Result<Option<Vec<String>>, DataError> {
    let files = files::list(folder, &["item"])?;
    let [path] = files.as_slice() else { return Ok(None) };
    let table = Table::read(path)?;
    let id = table.column("item_id").unwrap_or(0);
    let title = table.columns.iter().position(|c| c.name.contains("title"));
    let Some(title) = title.or_else(|| table.columns.iter().position(|c| c.name.contains("name"))) else {
        return Ok(None);
    };
    let by_id: HashMap<&str, &str> = table.rows.iter().map(|r| (r[id].as_str(), r[title].as_str())).collect();
    Ok(Some(item_ids.iter().map(|id| (*by_id.get(id.as_str()).unwrap_or(&id.as_str())).to_owned()).collect()))
}
