//! Rows of users and items by the ids that a person gives, and which ids are near one that is unknown. Pure.

use crate::cli::Usage;
use std::collections::HashMap;

/// Unknown ids for which near ones are looked for: that takes a pass over all ids for each.
const EXPLAINED: usize = 5;

/// Row of a user named by external id, or by `#row`.
///
/// # Errors
/// [`Usage`] with the nearest ids.
pub(super) fn user(name: &str, ids: &[String]) -> Result<u32, Usage> {
    if let Some(row) = ids.iter().position(|id| id == name) {
        return Ok(row as u32);
    }
    let rows = format!("rows go from #0 to #{}", ids.len().saturating_sub(1));
    match name.strip_prefix('#').map(str::parse::<u32>) {
        Some(Ok(row)) if (row as usize) < ids.len() => Ok(row),
        Some(_) => Err(Usage(format!("there is no user row `{name}`: {rows}"))),
        None => Err(Usage(format!("there is no user `{name}`: {}; {rows}", nearest(name, ids, "user")))),
    }
}

/// Rows of the items that `given` names, ascending and distinct. One value lists ids between commas, unless the whole of it
/// is an id; of several values each is one id.
///
/// # Errors
/// [`Usage`] that names every unknown id, with the nearest ones.
pub(super) fn items(given: &[String], ids: &[String]) -> Result<Vec<u32>, Usage> {
    let row_of: HashMap<&str, u32> = ids.iter().enumerate().map(|(row, id)| (id.as_str(), row as u32)).collect();
    let names: Vec<&str> = match given {
        [list] if !row_of.contains_key(list.as_str()) => list.split(',').collect(),
        names => names.iter().map(String::as_str).collect(),
    };
    let find = |name: &str| row_of.get(name).or_else(|| row_of.get(name.trim())).copied();
    let (mut rows, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        match find(name) {
            Some(row) => rows.push(row),
            None if name.trim().is_empty() => {
                return Err(Usage("--items has an empty id: give ids of items between commas, such as a,b,c".into()));
            }
            None if !unknown.contains(&name) => unknown.push(name),
            None => {}
        }
    }
    if !unknown.is_empty() {
        return Err(Usage(unknown_items(&unknown, ids)));
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(rows)
}

fn unknown_items(unknown: &[&str], ids: &[String]) -> String {
    let (explained, others) = unknown.split_at(unknown.len().min(EXPLAINED));
    let mut lines: Vec<String> = explained
        .iter()
        .map(|name| format!("there is no item `{}`: {}", name.trim(), nearest(name.trim(), ids, "item")))
        .collect();
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|name| format!("`{}`", name.trim())).collect();
        lines.push(format!("there are no items {} either", names.join(", ")));
    }
    lines.join("\n")
}

/// Known ids near an unknown one, as a clause: by value where ids are whole numbers, else by how many letters differ.
fn nearest(name: &str, ids: &[String], what: &str) -> String {
    let numbers: Option<Vec<u64>> = ids.iter().map(|id| id.parse().ok()).collect();
    if let Some(mut numbers) = numbers {
        numbers.sort_unstable();
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            return format!("the run has no {what}s");
        };
        let range = format!("ids go from {first} to {last}");
        let Ok(wanted) = name.parse::<u64>() else { return range };
        let place = numbers.partition_point(|&n| n < wanted);
        return match place.checked_sub(1).and_then(|p| Some((numbers[p], numbers.get(place)?))) {
            Some((below, above)) => format!("{range}, and its neighbours are {below} and {above}"),
            None => range,
        };
    }
    let wanted = name.to_lowercase();
    let mut near: Vec<(usize, &str)> =
        ids.iter().map(|id| (strsim::osa_distance(&wanted, &id.to_lowercase()), id.as_str())).collect();
    near.sort_unstable();
    // with more than half of its letters changed, any word is near
    let most = (wanted.chars().count() / 2).max(1);
    match &near[..] {
        [(first, one), (second, other), ..] if *first <= most && *second <= most && *second <= first + 1 => {
            format!("the nearest ids are `{one}` and `{other}`")
        }
        [(first, one), ..] if *first <= most => format!("the nearest id is `{one}`"),
        [(_, one), ..] => format!("none is near it; ids look like `{one}`"),
        [] => format!("the run has no {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn user_is_found_by_id_and_by_row() {
        let known = ids(&["196", "7", "#x", "#1"]);
        assert_eq!(user("7", &known).unwrap(), 1);
        assert_eq!(user("#0", &known).unwrap(), 0);
        assert_eq!(user("#x", &known).unwrap(), 2);
        assert_eq!(user("#1", &known).unwrap(), 3, "an id is an id first");
    }

    #[test]
    fn unknown_user_is_told_the_nearest_ones() {
        let message = |name: &str, known: &[&str]| user(name, &ids(known)).unwrap_err().0;
        assert_eq!(
            message("10", &["196", "7", "9"]),
            "there is no user `10`: ids go from 7 to 196, and its neighbours are 9 and 196; rows go from #0 to #2"
        );
        assert!(message("900", &["196", "7"]).contains("ids go from 7 to 196; rows"));
        assert!(message("ann", &["196", "7"]).contains("ids go from 7 to 196; rows"));
        let users: Vec<String> = (0..600).map(|n| format!("user-{n:04}")).collect();
        assert!(user("usr-0001", &users).unwrap_err().0.contains("the nearest ids are `user-0001` and `user-0000`"));
        assert!(message("Carl", &["carl", "anna", "dora"]).contains("the nearest id is `carl`"));
        assert!(message("bo", &["carl", "anna", "dora"]).contains("none is near it; ids look like `"));
        assert_eq!(message("#3", &["a", "b", "c"]), "there is no user row `#3`: rows go from #0 to #2");
        assert_eq!(message("#x", &["a", "b", "c"]), "there is no user row `#x`: rows go from #0 to #2");
    }

    #[test]
    fn items_are_listed_between_commas_or_given_one_by_one() {
        let known = ids(&["x", "a,b", "y", "a", " z "]);
        let rows = |given: &[&str]| items(&ids(given), &known);
        assert_eq!(rows(&["y,x,y"]).unwrap(), [0, 2], "each once");
        assert_eq!(rows(&["x, y"]).unwrap(), [0, 2]);
        assert_eq!(rows(&["a,b"]).unwrap(), [1], "the whole of it is an id");
        assert_eq!(rows(&["a,b", "x"]).unwrap(), [0, 1]);
        assert_eq!(rows(&[" z ,a"]).unwrap(), [3, 4]);
        assert!(rows(&["x,y", "a"]).unwrap_err().0.contains("there is no item `x,y`"), "one of several is one id");
        assert!(rows(&["x,,y"]).unwrap_err().0.contains("empty id"));
        assert!(rows(&[""]).unwrap_err().0.contains("empty id"));
    }

    #[test]
    fn all_unknown_items_are_named_at_once() {
        let known = ids(&["film-a", "film-b", "book-a"]);
        let said = items(&ids(&["film-a,flim-a,zzz,zzz"]), &known).unwrap_err().0;
        assert_eq!(
            said,
            "there is no item `flim-a`: the nearest ids are `film-a` and `film-b`\n\
             there is no item `zzz`: none is near it; ids look like `book-a`"
        );
        let many: Vec<String> = (0..8).map(|n| format!("q{n}")).collect();
        let said = items(&[many.join(",")], &known).unwrap_err().0;
        assert!(said.ends_with("there are no items `q5`, `q6`, `q7` either"), "{said}");
    }
}
