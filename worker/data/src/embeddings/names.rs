//! Which field of a table with ids holds the id, and which the vector, by their names. The names of users and items are
//! those that the reader of interactions knows, so one file names its ids as the other does. Upper case and marks between
//! words do not count: `userId`, `user_id` and `USER ID` are one name.

use crate::error::Side;
use crate::readers::layout::{Role, is_known};

/// Names of an id on any side.
const IDS: [&str; 2] = ["id", "ids"];
/// Names that hold the id only where nothing else can: a writer's row number often has them. pandas writes the index of a
/// frame as the last three.
const INDEXES: [&str; 6] = ["index", "key", "name", "indexlevel0", "level0", "unnamed0"];
const VECTORS: [&str; 7] = ["embedding", "embeddings", "emb", "embs", "vector", "vectors", "vec"];
/// Fields that lie beside a vector and are never ids: the text that was encoded, and its length.
const BESIDE: [&str; 14] = [
    "text",
    "texts",
    "profile",
    "profiles",
    "summary",
    "description",
    "reasoning",
    "prompt",
    "review",
    "title",
    "length",
    "tokens",
    "ntokens",
    "model",
];
/// How the names of ids end that no list knows: `shopper_code`.
const ID_ENDINGS: [&str; 9] = ["id", "ids", "key", "code", "no", "nr", "number", "hash", "uuid"];

/// What the values of a field are to a search for ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Integers,
    Texts,
    /// They cannot be ids.
    Others,
}

/// A field of a table without its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) values: Values,
}

/// Why no field is certain to be the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unclear {
    /// No name is known.
    None,
    /// These fields could be the ids, and nothing decides between them.
    Several(Vec<usize>),
}

fn role(side: Side) -> Role {
    match side {
        Side::User => Role::User,
        Side::Item => Role::Item,
    }
}

/// The group of names that a field belongs to for this side, best first; also for the plural of a name.
fn group(name: &str, side: Side) -> Option<usize> {
    let singular = || name.strip_suffix(['s', 'S']).and_then(|name| role(side).group_of(name));
    role(side).group_of(name).or_else(singular)
}

/// Whether the name says outright that the field holds ids of this side.
pub(super) fn is_id(name: &str, side: Side) -> bool {
    group(name, side).is_some() || IDS.contains(&plain(name).as_str())
}

/// Whether the field may be the writer's own numbering of rows.
pub(super) fn is_index(name: &str) -> bool {
    INDEXES.contains(&plain(name).as_str()) || name.starts_with("arr_")
}

pub(super) fn is_vector(name: &str) -> bool {
    VECTORS.contains(&plain(name).as_str())
}

/// The one field that holds the ids of this side. What it holds is not judged where its name says it.
pub(super) fn find_id(fields: &[Field], side: Side) -> Result<usize, Unclear> {
    let all = || 0..fields.len();
    let groups: Vec<Option<usize>> = fields.iter().map(|field| group(field.name, side)).collect();
    let best = groups.iter().flatten().min();
    let is_general = |k: usize| IDS.contains(&plain(fields[k].name).as_str());
    let is_named = |k: usize| best.is_some() && groups[k].as_ref() == best;
    let named: Vec<usize> = all().filter(|&k| is_general(k) || is_named(k)).collect();
    match named.as_slice() {
        [] => find_unnamed(fields, side),
        &[one] if !is_doubtful(fields[one].name) => Ok(one),
        &[one] => {
            let rival = |k: usize| k == one || (fields[k].can_be_id() && fields[k].looks_like_an_id());
            let rivals: Vec<usize> = all().filter(|&k| rival(k)).collect();
            if rivals.len() > 1 { Err(Unclear::Several(rivals)) } else { Ok(one) }
        }
        _ => Err(Unclear::Several(named)),
    }
}

/// Whether a name of ids may as well be that of a row number, where another field looks like an id too.
fn is_doubtful(name: &str) -> bool {
    let plain = plain(name);
    IDS.contains(&plain.as_str()) || plain.len() == 1 || plain.ends_with("idx") || plain.ends_with("index")
}

/// As [`find_id`], where no name says it: the only field that can be the id.
fn find_unnamed(fields: &[Field], side: Side) -> Result<usize, Unclear> {
    let candidates: Vec<usize> = (0..fields.len()).filter(|&k| fields[k].can_be_id()).collect();
    let is_index = |k: &usize| is_index(fields[*k].name);
    match candidates.as_slice() {
        &[one] if is_index(&one) => Ok(one),
        &[one] => {
            let field = &fields[one];
            let is_others = group(field.name, side.other()).is_some();
            // a lone column of integers may as well be a rank or the number of a cluster
            let is_plausible = field.values == Values::Texts || field.ends_like_an_id();
            if is_plausible && !is_others && !is_known(field.name) { Ok(one) } else { Err(Unclear::None) }
        }
        several if several.iter().any(is_index) => Err(Unclear::Several(candidates)),
        _ => Err(Unclear::None),
    }
}

impl Field<'_> {
    fn can_be_id(&self) -> bool {
        self.values != Values::Others && !BESIDE.contains(&plain(self.name).as_str())
    }

    /// `shopper_code`, and not `row_number`.
    fn ends_like_an_id(&self) -> bool {
        let words = words(self.name);
        let is_row = words.first().is_some_and(|first| first == "row");
        !is_row && words.last().is_some_and(|last| ID_ENDINGS.contains(&last.as_str()))
    }

    /// By a name that either side knows, or by how the name ends; row numbers are no rivals.
    fn looks_like_an_id(&self) -> bool {
        let is_known = group(self.name, Side::User).is_some() || group(self.name, Side::Item).is_some();
        !is_index(self.name) && (is_known || self.ends_like_an_id())
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// `shopper`, `code` of `shopper_code`, `shopperCode` or `Shopper Code`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (was_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let Some(last) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            last.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// For messages: "2 columns could be the user ids: `id`, `customer_id`".
pub(super) fn several<'a>(what: &str, side: Side, names: impl ExactSizeIterator<Item = &'a str>) -> String {
    format!("{} {what} could be the {side} ids: {}", names.len(), quoted(names))
}

/// What to do about several fields that could be the ids.
pub(super) fn advice(side: Side) -> String {
    format!("keep one of them, named `{side}_id`")
}

/// For messages.
pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(header: &str) -> Result<usize, Unclear> {
        let field = |field: &'static str| {
            let (name, values) = field.split_once(' ').unwrap();
            let values = match values {
                "int" => Values::Integers,
                "str" => Values::Texts,
                _ => Values::Others,
            };
            Field { name, values }
        };
        let header: &'static str = Box::leak(header.to_owned().into_boxed_str());
        find_id(&header.split(", ").map(field).collect::<Vec<_>>(), Side::User)
    }

    #[test]
    fn names_are_compared_without_case_and_marks() {
        for name in ["id", "user_id", "userId", "User ID", "UID", "user_ids", "users", "customer", "reviewerID"] {
            assert!(is_id(name, Side::User), "{name}");
        }
        assert!(!is_id("item_id", Side::User) && is_id("book_id", Side::Item) && is_id("asin", Side::Item));
        assert!(is_index("__index_level_0__") && is_index("arr_1") && !is_index("user_id"));
        assert!(is_vector("Embedding") && !is_vector("profile"));
    }

    #[test]
    fn a_row_number_is_never_taken_where_another_field_could_be_the_id() {
        let several = |places: &[usize]| Err(Unclear::Several(places.to_vec()));
        for (header, expected) in [
            ("customer str, emb list, __index_level_0__ int", Ok(0)),
            ("reviewer str, key int", Ok(0)),
            ("index int, customer_id int", Ok(1)),
            ("customer str, customer_id int", Ok(1)),
            ("id int, customer_id int", several(&[0, 1])),
            ("id int, user_id int", several(&[0, 1])),
            ("id int, item_id int", several(&[0, 1])),
            ("user_idx int, customer str", several(&[0, 1])),
            ("u int, shopper_code str", several(&[0, 1])),
            ("user_idx int, emb list", Ok(0)),
            ("id int, shopperCode str", several(&[0, 1])),
            ("id int, genre str, __index_level_0__ int", Ok(0)),
            ("index int, shopper str", several(&[0, 1])),
            ("index int, item_id str", several(&[0, 1])),
            ("index str, profile str, length int, weight float", Ok(0)),
            ("index int, key int", several(&[0, 1])),
            ("shopper str, emb list", Ok(0)),
            ("shopper_code int, emb list", Ok(0)),
            ("rank int, emb list", Err(Unclear::None)),
            ("rating int, emb list", Err(Unclear::None)),
            ("row_nr int, emb list", Err(Unclear::None)),
            ("item_id str, emb list", Err(Unclear::None)),
            ("shopper str, genre str", Err(Unclear::None)),
        ] {
            assert_eq!(find(header), expected, "{header}");
        }
    }
}
