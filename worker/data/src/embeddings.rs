//! Frozen text embeddings: dense `f32` tables, checked value by value, their rows in the order of internal ids.
//!
//! # Layout
//! * `source`: the tables that a model needs, read for all rows or for those of some nodes.
//! * `locate`: which file a table lies in. `table`: a file in any of its forms, row by row.
//! * `file` (matrices without ids), `npz`, `columns` (Parquet), `lines` (JSON): one form each. `names`: which field is
//!   the id and which the vector.
//! * `series`: a vector that is spread over numbered columns. `join`: rows find their users and items. `fixed`: what may be said of a matrix without ids.
//!
//! No row is ever given to a user or item by luck: a table has ids, or the order of internal ids is known to whoever wrote
//! it.

mod columns;
mod file;
mod fixed;
mod join;
mod lines;
mod locate;
mod names;
mod npz;
mod series;
mod source;
mod table;

use crate::error::DataError;
use accord_spec::ModelKind;
use file::TableFile;
pub(crate) use fixed::{DIGESTS_FILE, IdDigests, Listed};
use half::f16;
pub(crate) use locate::TableFiles;
pub(crate) use source::{TextSource, Told};
use std::path::Path;

/// A dense table, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    pub rows: usize,
    pub width: usize,
    /// `rows * width` finite values.
    pub values: Vec<f32>,
}

/// The tables of a dataset; users and items agree in width for profiles, and for intents.
#[derive(Clone, Debug, PartialEq)]
pub struct TextTables {
    pub user_profile: Embeddings,
    pub item_profile: Embeddings,
    /// Users' and items' intents, where the model needs them.
    pub intents: Option<[Embeddings; 2]>,
}

/// Which text tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextNeed {
    None,
    Profiles,
    ProfilesAndIntents,
}

impl TextNeed {
    /// What a model reads.
    pub fn of(kind: ModelKind) -> TextNeed {
        match kind {
            ModelKind::Lightgcn => TextNeed::None,
            ModelKind::RlmrecCon => TextNeed::Profiles,
            ModelKind::Irllrec => TextNeed::ProfilesAndIntents,
        }
    }

    /// How many tables that are.
    pub(crate) fn tables(self) -> usize {
        match self {
            TextNeed::None => 0,
            TextNeed::Profiles => 2,
            TextNeed::ProfilesAndIntents => 4,
        }
    }
}

impl Embeddings {
    /// `width` values of row `index`; empty for a row there is not.
    pub fn row(&self, index: usize) -> &[f32] {
        let from = index.saturating_mul(self.width);
        self.values.get(from..from.saturating_add(self.width)).unwrap_or(&[])
    }

    /// Reads a `.npy` (f16, f32, f64) or `.safetensors` (one tensor; f16, bf16, f32) table, rows in the order of the file.
    ///
    /// # Errors
    /// A missing, truncated or foreign file, a table that is not two-dimensional, or a value that is not finite
    /// (row and column are named).
    pub fn read(path: &Path) -> Result<Embeddings, DataError> {
        let file = TableFile::open(path)?;
        let (rows, width) = (file.matrix.rows, file.matrix.width);
        let mut values = Vec::with_capacity(rows * width);
        file.each_block(&mut |_, block| {
            values.extend_from_slice(block);
            Ok(())
        })?;
        Ok(Embeddings { rows, width, values })
    }

    /// Rounds every value to 16 bits, for a table that is to be written with half the bytes. Values beyond f16 become
    /// infinite, which [`prepared::write`](crate::prepared::write) refuses.
    pub fn round_to_f16(&mut self) {
        self.values.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
    }
}

impl TextTables {
    /// In the order of a dataset's digest.
    pub(crate) fn tables(&self) -> Vec<&Embeddings> {
        [&self.user_profile, &self.item_profile].into_iter().chain(self.intents.iter().flatten()).collect()
    }
}
