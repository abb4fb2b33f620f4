//! Which field of a table with ids holds the id, and which the vector, by their names. Upper case and marks between words
//! do not count: `userId`, `user_id` and `USER ID` are one name.

use crate::error::Side;

/// Names of an id on any side, on the users', on the items'.
const IDS: [&str; 2] = ["id", "ids"];
const USERS: [&str; 6] = ["user", "users", "userid", "userids", "uid", "reviewerid"];
const ITEMS: [&str; 8] = ["item", "items", "itemid", "itemids", "iid", "asin", "parentasin", "movieid"];
/// Names of an id where there is no better one; pandas writes the index of a frame as the last of them.
const INDEXES: [&str; 4] = ["index", "key", "name", "indexlevel0"];
const VECTORS: [&str; 7] = ["embedding", "embeddings", "emb", "embs", "vector", "vectors", "vec"];

/// How well a name fits an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Id,
    Index,
    No,
}

pub(super) fn id(name: &str, side: Side) -> Fit {
    let name = plain(name);
    let sides = match side {
        Side::User => &USERS[..],
        Side::Item => &ITEMS[..],
    };
    match name.as_str() {
        name if IDS.contains(&name) || sides.contains(&name) => Fit::Id,
        name if INDEXES.contains(&name) => Fit::Index,
        _ => Fit::No,
    }
}

pub(super) fn is_vector(name: &str) -> bool {
    VECTORS.contains(&plain(name).as_str())
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The one candidate that fits best; `Err` with all of them where several fit equally, or none.
pub(super) fn best(fits: &[Fit]) -> Result<usize, Vec<usize>> {
    for wanted in [Fit::Id, Fit::Index] {
        let found: Vec<usize> = (0..fits.len()).filter(|&k| fits[k] == wanted).collect();
        match found.as_slice() {
            [] => {}
            &[one] => return Ok(one),
            _ => return Err(found),
        }
    }
    Err(vec![])
}

/// For messages.
pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_case_and_marks() {
        for name in ["id", "user_id", "userId", "User ID", "UID"] {
            assert_eq!(id(name, Side::User), Fit::Id, "{name}");
        }
        assert_eq!(id("item_id", Side::User), Fit::No);
        assert_eq!(id("asin", Side::Item), Fit::Id);
        assert_eq!(id("__index_level_0__", Side::Item), Fit::Index);
        assert!(is_vector("Embedding") && !is_vector("profile"));
    }

    #[test]
    fn an_index_counts_where_there_is_no_id() {
        assert_eq!(best(&[Fit::No, Fit::Index, Fit::Id]), Ok(2));
        assert_eq!(best(&[Fit::No, Fit::Index]), Ok(1));
        assert_eq!(best(&[Fit::Id, Fit::Index, Fit::Id]), Err(vec![0, 2]));
        assert_eq!(best(&[Fit::No]), Err(vec![]));
    }
}
