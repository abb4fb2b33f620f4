//! Held-out files whose users or items are not those of training: columns in another order, or ids in another form. Metrics
//! over them would be numbers about nobody, so they are refused.

use super::Source;
use super::files::Parts;
use super::records::Records;
use super::tables::Catalog;
use crate::error::{DataError, Side};
use crate::reading::Reading;
use accord_spec::Format;
use std::collections::HashSet;

/// Share of a part's users or items that may be unknown in training.
const MOST_UNKNOWN: f64 = 0.9;

/// Where `users.txt` and `items.txt` fix the rows and columns of matrices, as in Accord's own form, ids have one form and
/// one place: such a split is taken as it is.
///
/// # Errors
/// A validation or test part of which nine in ten users or items have no training interaction.
pub(crate) fn refuse(
    source: &Source,
    parts: &Parts<Records>,
    catalog: &Catalog,
    reading: &Reading,
) -> Result<(), DataError> {
    let matrices = matches!(source.data.format, Format::Npz | Format::Rlmrec);
    if matrices && ["users.txt", "items.txt"].iter().all(|list| source.folder.join(list).is_file()) {
        return Ok(());
    }
    let Parts::Apart { train, validation, test } = parts else { return Ok(()) };
    let held_out = [validation.as_ref(), Some(test)].into_iter().flatten();
    // the reading lists the files in this order
    for (part, file) in held_out.zip(reading.files.iter().skip(1)) {
        for side in [Side::User, Side::Item] {
            let (known, own) = (ids(train, side), ids(part, side));
            let mut unknown: Vec<u32> = own.difference(&known).copied().collect();
            unknown.sort_unstable();
            if (unknown.len() as f64) < MOST_UNKNOWN * own.len() as f64 || unknown.is_empty() {
                continue;
            }
            // rows and columns of matrices have the same numbers
            let swapped = if matrices { 0 } else { unknown_that_others_have(&unknown, side, train, catalog) };
            return Err(error(side, &file.file, &unknown, own.len(), &known, swapped, catalog));
        }
    }
    Ok(())
}

fn ids(records: &Records, side: Side) -> HashSet<u32> {
    records.pairs.iter().map(|&(user, item)| if side == Side::User { user } else { item }).collect()
}

/// How many of the unknown ids of one side are ids of the other side in training.
fn unknown_that_others_have(unknown: &[u32], side: Side, train: &Records, catalog: &Catalog) -> usize {
    let (own, others, other) = match side {
        Side::User => (&catalog.user_ids, &catalog.item_ids, Side::Item),
        Side::Item => (&catalog.item_ids, &catalog.user_ids, Side::User),
    };
    let names: HashSet<&str> = ids(train, other).into_iter().map(|id| others[id as usize].as_str()).collect();
    unknown.iter().filter(|&&id| names.contains(own[id as usize].as_str())).count()
}

fn error(
    side: Side,
    file: &str,
    unknown: &[u32],
    of: usize,
    known: &HashSet<u32>,
    swapped: usize,
    catalog: &Catalog,
) -> DataError {
    let names = if side == Side::User { &catalog.user_ids } else { &catalog.item_ids };
    let quoted = |ids: &[u32]| -> String {
        ids.iter().take(2).map(|&id| format!("`{}`", names[id as usize])).collect::<Vec<_>>().join(", ")
    };
    let mut usual: Vec<u32> = known.iter().copied().collect();
    usual.sort_unstable();
    let advice = match side {
        _ if 2 * swapped < unknown.len() => {
            "write ids in all files in the same form; or they are new: a user or item without training interactions cannot \
             be ranked, so leave it out"
        }
        Side::User => "they are ids of items: exchange the columns of this file, or name them in its header",
        Side::Item => "they are ids of users: exchange the columns of this file, or name them in its header",
    };
    DataError::Malformed {
        place: file.into(),
        problem: format!(
            "{} of its {of} {side}s do not occur in training, such as {}; training has {}",
            unknown.len(),
            quoted(unknown),
            quoted(&usual)
        ),
        advice: advice.into(),
    }
}
