//! Dataset files -> interactions with internal ids, in three parts, and a catalog.
//!
//! # Layout
//! * `pairs` (with `columns` for Parquet), `adjacency`, `recbole`, `npz`, `rlmrec`: one format each. `recbole_header`:
//!   columns that were left over and are no user or item.
//! * `text`: lines of text files, packed or not. `fields`: separators and quotation marks. `layout`: what the columns are.
//!   `list_forms`: what is no list of items.
//! * `matrices`: what the formats of matrices share. `npy`: numpy arrays, `pickle`: pickled ones; also used for text embeddings.
//! * `files`: which files are which part. `listing`: which files may be. `guess`: of which format. `unread`: what is there instead.
//!   `same_columns`: whether all files have the same ones. `tables`: external ids. `strangers`: held-out ids that training does not have. `square`: matrices that
//!   are no interactions.
//! * `split`: holding interactions out. `movielens`: titles. `parquet`: columns of Parquet files.
//!
//! Nothing here deduplicates across parts or judges whether the data can be trained on: `dataset` does.

mod adjacency;
mod columns;
mod fields;
mod files;
mod guess;
mod ids;
pub(crate) mod layout;
mod list_forms;
mod listing;
mod matrices;
mod movielens;
pub(crate) mod npy;
pub(crate) mod npz;
mod pairs;
pub mod parquet;
pub(crate) mod pickle;
pub mod recbole;
mod recbole_header;
mod records;
pub(crate) mod rlmrec;
mod same_columns;
mod split;
mod square;
mod strangers;
mod tables;
mod text;
mod unread;

use crate::error::DataError;
use crate::manifest::Repairs;
use crate::reading::Reading;
use accord_spec::{Data, Format, Split};
pub(crate) use files::join_names;
use files::{Parts, Wanted};
pub use guess::guess_format;
use records::Records;
use std::path::Path;
pub(crate) use tables::Catalog;

/// What the files hold: pairs of internal ids, duplicates still in.
pub(crate) struct Content {
    pub(crate) catalog: Catalog,
    pub(crate) train: Vec<(u32, u32)>,
    pub(crate) validation: Vec<(u32, u32)>,
    pub(crate) test: Vec<(u32, u32)>,
    pub(crate) reading: Reading,
}

/// What a format's reader is given.
pub(crate) struct Source<'a> {
    pub(crate) folder: &'a Path,
    data: &'a Data,
    wanted: Wanted,
}

/// What a format's reader gives: parts as they lie on disk, with internal ids.
pub(crate) struct Found {
    catalog: Catalog,
    parts: Parts<Records>,
    reading: Reading,
}

/// Reads the dataset in `folder` and splits what does not lie apart.
pub(crate) fn read(data: &Data, folder: &Path, seed: u64, repairs: &mut Repairs) -> Result<Content, DataError> {
    let none = |_: &[std::path::PathBuf]| None;
    let mut located = match data.format {
        Format::Npz => files::locate(folder, &["npz"], &none)?,
        Format::Pairs => pairs::locate(folder, data)?,
        Format::Adjacency => files::locate(folder, &adjacency::ENDINGS, &none)?,
        Format::Recbole => recbole::locate(folder)?,
        Format::Rlmrec => rlmrec::locate(folder)?,
    };
    let wanted = Wanted { min_rating: data.min_rating, time: located.parts.needs_split() && data.split == Split::Time };
    let source = Source { folder, data, wanted };
    let passed_over = std::mem::take(&mut located.passed_over);
    let whole = match &located.parts {
        Parts::Whole(path) if data.format == Format::Npz => Some(path.clone()),
        Parts::Whole(_) | Parts::Apart { .. } => None,
    };
    let Found { catalog, parts, mut reading } = match data.format {
        Format::Npz => npz::read(&source, located, repairs)?,
        Format::Pairs => pairs::read(&source, located, repairs)?,
        Format::Adjacency => adjacency::read(&source, located, repairs)?,
        Format::Recbole => recbole::read(&source, located, repairs)?,
        Format::Rlmrec => rlmrec::read(&source, located, repairs)?,
    };
    if let Some(path) = whole {
        square::refuse(&path, &parts, &catalog)?;
    }
    reading.passed_over.extend(passed_over.into_iter().filter(|name| !is_text(data, name)));
    strangers::refuse(&source, &parts, &catalog, &reading)?;
    let [train, validation, test] = split::into_three(parts, data, seed, repairs);
    Ok(Content { catalog, train, validation, test, reading })
}

/// Whether a file has the name of a text table, given or default.
fn is_text(data: &Data, name: &str) -> bool {
    data.text_names().contains(&name)
}
