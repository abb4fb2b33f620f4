//! Square matrices in a file that is named as no part: the graph of all users and items, or similarities of items, which
//! other programs keep beside a dataset. Read as interactions they would be nonsense, or the test part in training.

use super::files::{self, Parts};
use super::records::Records;
use super::tables::Catalog;
use crate::error::DataError;
use std::path::Path;

/// # Errors
/// A square matrix that is symmetric, or that lies beside text files of interactions.
pub(crate) fn refuse(path: &Path, parts: &Parts<Records>, catalog: &Catalog) -> Result<(), DataError> {
    let Parts::Whole(records) = parts else { return Ok(()) };
    let size = catalog.user_ids.len();
    if files::is_part(path) || size != catalog.item_ids.len() {
        return Ok(());
    }
    let problem = if is_symmetric(records) {
        format!("a symmetric matrix of {size} rows and columns holds a graph or similarities, not users and items")
    } else if let Some(text) = text_beside(path) {
        format!("a square matrix of {size} rows lies beside {text}: it may hold similarities, not users and items")
    } else {
        return Ok(());
    };
    let advice = "set data.format to that of the files of interactions; if its rows are users and its columns items, name \
                  it train.npz";
    Err(DataError::malformed(path, problem, advice))
}

/// The pairs of the diagonal alone are no sign of symmetry.
fn is_symmetric(records: &Records) -> bool {
    let mut pairs = records.pairs.clone();
    pairs.sort_unstable();
    let mirrored = |&(user, item): &(u32, u32)| pairs.binary_search(&(item, user)).is_ok();
    pairs.iter().all(mirrored) && pairs.iter().any(|(user, item)| user != item)
}

fn text_beside(path: &Path) -> Option<String> {
    let beside = files::list(path.parent()?, &["txt", "csv", "tsv", "dat", "data", "inter"]).ok()?;
    beside.first().map(|file| files::name(file))
}
