//! Dataset files -> interactions with internal ids, in three parts, and a catalog.
//!
//! # Layout
//! * `pairs`, `adjacency`, `recbole`, `npz`: one format each.
//! * `files`: which files are which part. `tables`: external ids. `split`: holding interactions out.
//! * `npy`: numpy arrays, also used for text embeddings.
//!
//! Nothing here deduplicates across parts or judges whether the data can be trained on: `dataset` does.

mod adjacency;
mod files;
pub(crate) mod npy;
pub(crate) mod npz;
mod pairs;
pub mod recbole;
mod split;
mod tables;

use crate::error::DataError;
use crate::manifest::Repairs;
use accord_spec::{Data, Format, Split};
use files::Wanted;
use std::path::Path;
pub(crate) use tables::Catalog;

/// What the files hold: pairs of internal ids, duplicates still in.
pub(crate) struct Content {
    pub(crate) catalog: Catalog,
    pub(crate) train: Vec<(u32, u32)>,
    pub(crate) validation: Vec<(u32, u32)>,
    pub(crate) test: Vec<(u32, u32)>,
}

/// Reads the dataset in `folder` and splits what does not lie apart.
pub(crate) fn read(data: &Data, folder: &Path, seed: u64, repairs: &mut Repairs) -> Result<Content, DataError> {
    let ending = |endings: &[&str]| files::locate(folder, endings).map(|parts| parts.needs_split());
    let needs_split = match data.format {
        Format::Npz => ending(&["npz"])?,
        Format::Pairs => ending(&pairs::ENDINGS)?,
        Format::Adjacency => ending(&adjacency::ENDINGS)?,
        Format::Recbole => recbole::locate(folder)?.needs_split(),
    };
    let wanted = Wanted { min_rating: data.min_rating, time: needs_split && data.split == Split::Time };
    let (catalog, parts) = match data.format {
        Format::Npz => npz::read(folder, &wanted, repairs)?,
        Format::Pairs => pairs::read(folder, &wanted, repairs)?,
        Format::Adjacency => adjacency::read(folder, &wanted)?,
        Format::Recbole => recbole::read(folder, &wanted, repairs)?,
    };
    let [train, validation, test] = split::into_three(parts, data, seed, repairs);
    Ok(Content { catalog, train, validation, test })
}
