//! Columns of RecBole's files that were taken for a user or an item because they were left over, and are something else by
//! their names. Columns that the job names are not doubted.

use super::layout::{self, Layout};
use crate::error::{DataError, Side};
use accord_spec::{Columns, Data};
use std::path::Path;

/// # Errors
/// A header with sequences of items, or one where a column of another role was taken for the user or the item.
pub(crate) fn refuse(path: &Path, layout: &Layout, data: &Data) -> Result<(), DataError> {
    let Some((line, names)) = &layout.header else { return Ok(()) };
    let error = |problem: String, advice: String| Err(DataError::at_line(path, *line, problem, advice));
    let (user, item) = (&names[layout.columns.user], &names[layout.columns.item]);
    let sides = [(Side::User, user, data.columns.user.is_some()), (Side::Item, item, data.columns.item.is_some())];
    let sequence = names.iter().find(|name| is_sequence_of_items(name));
    for (side, taken, asked) in sides {
        let known = |name: &str| is_known(path, name, side, data);
        if asked || known(taken) {
            continue;
        }
        let hint = match (names.iter().find(|name| known(name)), sequence) {
            (Some(better), _) => format!("; `{better}` is, and is not of type token"),
            (None, Some(sequence)) => format!("; `{sequence}` holds several items a line, and sequences are not read"),
            (None, None) => String::new(),
        };
        if !hint.is_empty() || is_known(path, taken, side.other(), data) || is_value(path, taken, data) {
            return error(
                format!("`{taken}` would be the {side}, and is no {side} by its name{hint}"),
                format!("say which column is the {side}: data.columns = {{ {side} = \"...\" }}"),
            );
        }
    }
    match sequence {
        Some(sequence) if sides.iter().any(|(_, _, asked)| !asked) => error(
            format!("`{sequence}` holds several items a line, and sequences are not read"),
            format!(
                "write one interaction a line; to leave it out, set data.columns = {{ user = \"{}\", item = \"{}\" }}",
                plain(user),
                plain(item)
            ),
        ),
        Some(_) | None => Ok(()),
    }
}

/// `item_id` of `item_id:token`.
fn plain(column: &str) -> &str {
    column.rsplit_once(':').map_or(column, |(name, _)| name)
}

/// `item_id_list:token_seq`.
fn is_sequence_of_items(column: &str) -> bool {
    column.rsplit_once(':').is_some_and(|(name, kind)| {
        let name = name.to_lowercase();
        kind.ends_with("_seq") && name.contains("item") && (name.contains("list") || name.contains("seq"))
    })
}

/// Whether a column's name is one of a side's, beside a name that is surely one of the other side's.
fn is_known(path: &Path, column: &str, side: Side, data: &Data) -> bool {
    let names = match side {
        Side::User => [column, "item_id"],
        Side::Item => ["user_id", column],
    };
    roles(path, &names, data).is_some_and(|columns| (columns.user, columns.item) == (0, 1))
}

/// Whether a column's name is that of a rating or a time.
fn is_value(path: &Path, column: &str, data: &Data) -> bool {
    roles(path, &["user_id", "item_id", column], data)
        .is_some_and(|columns| columns.rating == Some(2) || columns.time == Some(2))
}

fn roles(path: &Path, names: &[&str], data: &Data) -> Option<layout::Columns> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let data = Data { columns: Columns::default(), ..data.clone() };
    layout::by_names(path, &names, &[], &data).ok()
}
