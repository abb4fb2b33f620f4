//! LightGCN's lists: `user item item ...` a line, separated by blanks or by `data.separator`. A user may have no item, or
//! several lines. Ids with brackets, commas or colons are no ids but another form of list, and are refused; `list_forms` looks
//! at all lines together.

use super::fields::{Fields, Separator, Splitter};
use super::files::{self, Located};
use super::layout::{self, quote_error};
use super::list_forms::Forms;
use super::records::Records;
use super::tables::{settle, sides};
use super::text::TextFile;
use super::{Found, Source};
use crate::error::DataError;
use crate::manifest::Repairs;
use crate::reading::{FileReading, Reading};
use std::path::Path;

pub(crate) const ENDINGS: [&str; 1] = ["txt"];

pub(crate) fn read(source: &Source, located: Located, repairs: &mut Repairs) -> Result<Found, DataError> {
    let Source { folder, data, wanted } = source;
    let separator = data.separator.as_deref().map_or(Separator::Blank, Separator::named);
    let mut sides = sides(folder, data.missing_ids)?;
    let mut reading = Reading::default();
    let mut missing = 0;
    let parts = located.parts.try_map(|path| {
        if wanted.min_rating.is_some() || wanted.time {
            let key = if wanted.time { "data.split = \"time\"" } else { "data.min_rating" };
            return Err(DataError::malformed(
                &path,
                format!("{key} is set and adjacency lists carry neither ratings nor times"),
                "remove it, or use data.format = \"pairs\"",
            ));
        }
        sides.iter_mut().for_each(|side| side.enter(&path));
        let mut file = TextFile::open(&path)?;
        let (mut splitter, mut fields) = (Splitter::new(separator.clone(), false), Fields::default());
        let mut records = Records::default();
        let (mut lines, mut words_first) = (0u64, false);
        let mut forms = Forms::default();
        while let Some((number, line)) = file.next_line()? {
            if line.trim().is_empty() {
                continue;
            }
            splitter.take(number, line, &mut fields).map_err(|problem| quote_error(&path, problem))?;
            refuse_other_lists(&path, number, &fields, &separator)?;
            lines += 1;
            match lines {
                1 if names_columns(&path, &fields, source) => return Err(header(&path)),
                1 => words_first = !fields.iter().any(has_digit),
                2 if words_first && fields.iter().all(has_digit) => return Err(header(&path)),
                _ => {}
            }
            forms.take(&fields);
            let [users, items] = &mut sides;
            let user = users.number(fields.get(0).unwrap_or_default(), number)?;
            for item in fields.iter().skip(1).filter(|item| !item.is_empty()) {
                match (user, items.number(item, number)?) {
                    (Some(user), Some(item)) => records.push(user, item, None),
                    _ => missing += 1,
                }
            }
        }
        if records.is_empty() {
            return Err(DataError::Empty { path, advice: "no user has an item".into() });
        }
        forms.refuse(&path, &records)?;
        let first = records.pairs.first().map_or(String::new(), |&(user, item)| {
            format!("user `{}`, item `{}`", sides[0].token(user), sides[1].token(item))
        });
        reading.files.push(FileReading {
            file: files::name(&path),
            form: format!("a user and its items in a line, separated by {separator}"),
            compression: file.compression.map(String::from),
            first,
            interactions: records.len() as u64,
            ..FileReading::default()
        });
        Ok(records)
    })?;
    repairs.add("interactions with a missing user or item dropped", missing);
    let (catalog, parts, [users, items]) = settle(folder, sides, parts)?;
    (reading.users, reading.items) = (users, items);
    Ok(Found { catalog, parts, reading })
}

fn has_digit(field: &str) -> bool {
    field.contains(|c: char| c.is_ascii_digit())
}

/// `user items`, `user_id item_id item_id`, or a comment.
fn names_columns(path: &Path, fields: &Fields, source: &Source) -> bool {
    let (Some(user), Some(item)) = (fields.get(0), fields.get(1)) else { return false };
    if ["#", "%", "//"].contains(&user) {
        return true;
    }
    let item = item.to_lowercase();
    let item = item.trim_end_matches(|c: char| !c.is_alphabetic()).trim_end_matches("list");
    let item = item.trim_end_matches(|c: char| !c.is_alphabetic()).trim_end_matches('s');
    let names = [user.to_owned(), item.to_owned()];
    let found = layout::by_names(path, &names, &[], source.data);
    // a single letter may be an id
    user.len() > 1 && found.is_ok_and(|columns| (columns.user, columns.item) == (0, 1))
}

fn header(path: &Path) -> DataError {
    DataError::at_line(
        path,
        1,
        "the line names columns, or has words where the next ones have numbers: it is a header",
        "remove it: each line is `user item item ...`",
    )
}

/// `0 [1, 2]`, `0,1,2`, `0:1 2`, `0 1:5.0`: lists of another form.
fn refuse_other_lists(path: &Path, line: u64, fields: &Fields, separator: &Separator) -> Result<(), DataError> {
    let refuse = |problem: String, advice: &str| Err(DataError::at_line(path, line, problem, advice));
    let shown = |field: &str| super::layout::shorten(field);
    if let Some(field) = fields.iter().find(|field| field.contains(['[', ']', '{', '}', '(', ')', '"', '\''])) {
        return refuse(
            format!("`{}` has brackets or quotation marks", shown(field)),
            "write plain ids: each line is `user item item ...`",
        );
    }
    let punctuation = [',', ';', '|', '\t'];
    if let Some(field) = fields.iter().find(|field| field.contains(punctuation)) {
        return refuse(
            format!("`{}` has a separator in it; fields are separated by {separator}", shown(field)),
            "separate ids by blanks, or name the separator, such as data.separator = \",\"",
        );
    }
    let colons = fields.iter().filter(|field| field.contains(':')).count();
    let counted = |field: &str| {
        field.split_once(':').is_some_and(|(id, value)| id.parse::<i64>().is_ok() && value.parse::<f64>().is_ok())
    };
    match fields.iter().find(|field| field.contains(':')) {
        Some(field) if colons < fields.len() || counted(field) => refuse(
            format!("`{}` joins two values by a colon", shown(field)),
            "write `user item item ...` with blanks alone; values of items are not read",
        ),
        _ => Ok(()),
    }
}
