//! Which column is the user, the item, the rating and the time: as the job says, else by name, else by place. A column that
//! could be two things, and a header of which only a part is known, are refused.

use super::contents;
use super::names::{self, Role};
use super::sample::examples;
use crate::error::DataError;
use accord_spec::{Column, Data, Split};
use std::path::Path;

/// Where a file's columns are, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) user: usize,
    pub(crate) item: usize,
    pub(crate) rating: Option<usize>,
    pub(crate) time: Option<usize>,
    /// Whether names said so, not places.
    pub(crate) named: bool,
}

impl Columns {
    pub(crate) fn of(&self, role: Role) -> Option<usize> {
        match role {
            Role::User => Some(self.user),
            Role::Item => Some(self.item),
            Role::Rating => self.rating,
            Role::Time => self.time,
        }
    }
}

/// What is known of a file when its columns are looked for.
pub(crate) struct Question<'a> {
    pub(crate) path: &'a Path,
    /// The file's first line, for messages; 0 for files that have no lines.
    pub(crate) line: u64,
    /// The names in its header, where it has one.
    pub(crate) names: Option<&'a [String]>,
    /// Its first lines without the header, each with as many fields.
    pub(crate) rows: &'a [Vec<String>],
    /// Whether `rows` are all there are.
    pub(crate) is_whole: bool,
    pub(crate) data: &'a Data,
}

pub(crate) fn find(question: &Question) -> Result<Columns, DataError> {
    let asked = Role::ALL.map(|role| question.asked(role));
    let [user, item, rating, time] = asked;
    let asked = [user?, item?, rating?, time?];
    match question.names {
        Some(names) => by_name(question, names, asked),
        None => by_place(question, asked),
    }
}

impl Question<'_> {
    pub(super) fn width(&self) -> usize {
        self.names.map(<[String]>::len).or_else(|| self.rows.first().map(Vec::len)).unwrap_or(0)
    }

    /// The place of a column that the job names.
    fn asked(&self, role: Role) -> Result<Option<usize>, DataError> {
        let columns = &self.data.columns;
        let asked = match role {
            Role::User => &columns.user,
            Role::Item => &columns.item,
            Role::Rating => &columns.rating,
            Role::Time => &columns.time,
        };
        let place = match asked {
            None => return Ok(None),
            Some(Column::Place(place)) => Some(usize::from(*place) - 1).filter(|&k| k < self.width()),
            Some(Column::Name(name)) => {
                let typed = |column: &String| column.rsplit_once(':').is_some_and(|(plain, _)| plain == name);
                self.names.and_then(|names| names.iter().position(|column| column == name || typed(column)))
            }
        };
        place.map(Some).ok_or_else(|| {
            let problem = match (asked, self.names) {
                (Some(Column::Name(name)), Some(names)) => {
                    format!("there is no column `{name}`: the header names {}", quoted(names))
                }
                (Some(Column::Name(name)), None) => format!("there is no header, so no column `{name}`"),
                _ => format!("there are {} columns", self.width()),
            };
            self.refuse(
                format!("data.columns.{}: {problem}", role.name()),
                "give a name of the header, or the column's place counted from 1",
            )
        })
    }

    pub(super) fn refuse(&self, problem: String, advice: impl Into<String>) -> DataError {
        match self.line {
            0 => DataError::malformed(self.path, problem, advice),
            line => DataError::at_line(self.path, line, problem, advice),
        }
    }

    /// `customer` (C0, C1).
    pub(super) fn shown(&self, column: usize) -> String {
        let name = self.names.map_or_else(|| format!("column {}", column + 1), |names| format!("`{}`", names[column]));
        match examples(self.rows, column).as_str() {
            "" => name,
            values => format!("{name} ({values})"),
        }
    }

    pub(super) fn all_shown(&self, columns: impl Iterator<Item = usize>) -> String {
        columns.take(12).map(|k| self.shown(k)).collect::<Vec<_>>().join(", ")
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().take(12).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn by_name(question: &Question, names: &[String], asked: [Option<usize>; 4]) -> Result<Columns, DataError> {
    let free = |k: &usize| !asked.contains(&Some(*k));
    let mut found = asked;
    for (slot, role) in found.iter_mut().zip(Role::ALL).take(2) {
        if slot.is_some() {
            continue;
        }
        let candidates: Vec<usize> = names::candidates(role, names).into_iter().filter(free).collect();
        match candidates.as_slice() {
            [] => {}
            [one] if !counts_lines(question, role, names, *one) => *slot = Some(*one),
            _ => {
                let several: Vec<usize> = names::all(role, names).into_iter().filter(free).collect();
                let shown = question.all_shown(several.iter().copied());
                let example = format!("data.columns = {{ {} = \"{}\" }}", role.name(), names[several[0]]);
                return Err(question.refuse(
                    format!("{} columns could be the {}: {shown}", several.len(), role.name()),
                    format!("say which, such as {example}"),
                ));
            }
        }
    }
    let [user, item, ..] = found;
    let (Some(user), Some(item)) = (user, item) else { return Err(incomplete(question, names, user, item)) };
    if user == item {
        return Err(question.refuse("one column would be user and item".into(), "name two columns in data.columns"));
    }
    let value = |role: Role, asked: Option<usize>| {
        let named = || names::candidates(role, names).into_iter().find(|k| free(k) && *k != user && *k != item);
        asked.or_else(named)
    };
    let (rating, time) = (value(Role::Rating, found[2]), value(Role::Time, found[3]));
    let others =
        |role: Role| names::all(role, names).into_iter().filter(|k| *k != user && *k != item).collect::<Vec<_>>();
    contents::refuse_several_ratings(question, &others(Role::Rating))?;
    if question.data.split == Split::Time && asked[3].is_none() {
        refuse_date_and_time(question, names, &others(Role::Time))?;
    }
    Ok(Columns { user, item, rating, time, named: true })
}

/// A name for ids before a column that never repeats, beside another known name: `event_id, user, item` of a log.
fn counts_lines(question: &Question, role: Role, names: &[String], column: usize) -> bool {
    names::all(role, names).len() > 1 && contents::never_repeats(question, column)
}

/// A day in one column and the time of the day in another.
fn refuse_date_and_time(question: &Question, names: &[String], times: &[usize]) -> Result<(), DataError> {
    let has = |name: &str| times.iter().any(|&k| names::plain(&names[k]) == name);
    if !(has("date") && has("time")) {
        return Ok(());
    }
    Err(question.refuse(
        format!("data.split = \"time\" needs one column of times, and these are {}", question.all_shown(times.iter().copied())),
        "write one column of seconds since 1970, or say which orders the interactions: data.columns = { time = \"...\" }",
    ))
}

/// A header that does not say both sides.
fn incomplete(question: &Question, names: &[String], user: Option<usize>, item: Option<usize>) -> DataError {
    let known = |role: &str, column: usize| format!("`{}` is the {role}", names[column]);
    let (problem, wanted) = match (user, item) {
        (Some(user), None) => (format!("{}, and no item column is known", known("user", user)), "item"),
        (None, Some(item)) => (format!("{}, and no user column is known", known("item", item)), "user"),
        _ => ("no name of the header is known for the user or the item".into(), "user and item"),
    };
    let others = (0..names.len()).filter(|k| Some(*k) != user && Some(*k) != item);
    let others = question.all_shown(others);
    let write = |column: Option<usize>| column.map_or("...", |k| names[k].as_str());
    question.refuse(
        format!("{problem}; the other columns are {others}"),
        format!(
            "name the {wanted} in the job file: data.columns = {{ user = \"{}\", item = \"{}\" }}; a table of items or \
             users alone holds no interactions",
            write(user),
            write(item)
        ),
    )
}

/// `user item [rating [time]]`, where the job does not say otherwise.
fn by_place(question: &Question, asked: [Option<usize>; 4]) -> Result<Columns, DataError> {
    let width = question.width();
    if width < 2 {
        return Err(question.refuse("1 field".into(), "each line needs a user and an item"));
    }
    let [asked_user, asked_item, asked_rating, asked_time] = asked;
    let (user, item) = match (asked_user, asked_item) {
        (Some(user), Some(item)) if user == item => {
            return Err(question.refuse("one column would be user and item".into(), "name two columns in data.columns"));
        }
        (Some(user), Some(item)) => {
            return Ok(Columns { user, item, rating: asked_rating, time: asked_time, named: true });
        }
        (None, None) => (0, 1),
        _ => {
            return Err(question.refuse(
                "data.columns names one of user and item, and there is no header".into(),
                "name both, by place: data.columns = { user = 1, item = 2 }",
            ));
        }
    };
    if width > 4 {
        return Err(question.refuse(
            format!("{width} fields without a header that names them: {}", question.all_shown(0..width)),
            "say which places hold them, counted from 1: data.columns = { user = ..., item = ... }; or set data.format = \
             \"adjacency\" for lists of items",
        ));
    }
    contents::refuse_places(question)?;
    let times = |k: usize| k < width && contents::looks_like_times(question.rows, k);
    let (rating, time) = match width {
        2 => (None, None),
        3 if times(2) => (None, Some(2)),
        3 => (Some(2), None),
        _ if times(2) && !times(3) => (Some(3), Some(2)),
        _ => (Some(2), Some(3)),
    };
    let is_number = |row: &Vec<String>, k: usize| contents::rating(&row[k]).is_some() || super::is_missing(&row[k]);
    let rating = rating.filter(|&k| question.rows.iter().all(|row| is_number(row, k)));
    // behind names, such as those of artists, the fourth column may as well count plays
    let time = time.filter(|&k| times(k) || rating.is_some());
    Ok(Columns { user, item, rating: asked_rating.or(rating), time: asked_time.or(time), named: false })
}

/// The types of RecBole's header.
pub(crate) fn typed<'a>(path: &Path, line: u64, header: &'a [String]) -> Result<Vec<&'a str>, DataError> {
    let kind = |field: &'a String| {
        let kind = field.rsplit_once(':').map(|(_, kind)| kind);
        kind.filter(|kind| matches!(*kind, "token" | "token_seq" | "float" | "float_seq")).ok_or_else(|| {
            DataError::at_line(
                path,
                line,
                format!("the header field `{field}` has no type"),
                "RecBole headers read `user_id:token`; set data.format = \"pairs\" for tables without types",
            )
        })
    };
    header.iter().map(kind).collect()
}

/// Columns of a typed header: by name among those of type `token`; where two such columns are and one is known, the other
/// is the other side.
pub(crate) fn find_typed(question: &Question, kinds: &[&str]) -> Result<Columns, DataError> {
    let names = question.names.unwrap_or_default();
    let mut asked = [None; 4];
    for (slot, role) in asked.iter_mut().zip(Role::ALL) {
        *slot = question.asked(role)?;
    }
    let tokens: Vec<usize> = (0..names.len()).filter(|&k| kinds[k] == "token").collect();
    let known = |role: Role| match names::candidates(role, names).as_slice() {
        [one] if tokens.contains(one) => Some(*one),
        _ => None,
    };
    let sides = [asked[0].or_else(|| known(Role::User)), asked[1].or_else(|| known(Role::Item))];
    if let ([first, second], [user, item]) = (tokens.as_slice(), sides)
        && user.is_some() != item.is_some()
    {
        let other = |one: usize| if *first == one { *second } else { *first };
        asked[0] = user.or(item.map(other));
        asked[1] = item.or(user.map(other));
    }
    if tokens.len() < 2 && asked[..2].contains(&None) {
        let shown = question.all_shown(0..names.len());
        return Err(question.refuse(
            format!("fewer than two columns of type token: {shown}"),
            "an interaction needs user_id:token and item_id:token",
        ));
    }
    by_name(question, names, asked)
}
