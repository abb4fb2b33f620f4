//! What a dataset is, in numbers: written as `dataset.json`, compared by digest when a run resumes.

use crate::{Embeddings, Interactions, Reading};
use serde::{Deserialize, Serialize};

/// Sizes, digest and repairs of a loaded dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetManifest {
    pub users: u64,
    pub items: u64,
    /// Interactions of each part.
    pub train: u64,
    pub validation: u64,
    pub test: u64,
    /// Widths of the text tables; none where they were not loaded.
    pub profile_width: Option<u64>,
    pub intent_width: Option<u64>,
    /// BLAKE3 (hex) of the canonical content: sizes, external ids, the pairs of the three parts, and the text tables
    /// as `f32` where they were loaded, by the digests of their rows in the order of internal ids. The same content has
    /// the same digest whatever files it was read from, and in whatever order their rows are; titles are not part of it.
    pub digest: String,
    /// What was changed or is worth knowing, counted.
    pub repairs: Vec<Repair>,
    /// How the files were understood; empty for a made-up catalog.
    #[serde(default)]
    pub reading: Reading,
}

/// One kind of repair and how often it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    pub what: String,
    pub count: u64,
}

/// Collects repairs; those that were never made are left out.
#[derive(Debug, Default)]
pub(crate) struct Repairs(pub(crate) Vec<Repair>);

impl Repairs {
    pub(crate) fn add(&mut self, what: impl Into<String>, count: u64) {
        if count == 0 {
            return;
        }
        let what = what.into();
        match self.0.iter_mut().find(|r| r.what == what) {
            Some(repair) => repair.count += count,
            None => self.0.push(Repair { what, count }),
        }
    }
}

/// What goes into the digest before the text.
pub(crate) struct Content<'a> {
    pub(crate) user_ids: &'a [String],
    pub(crate) item_ids: &'a [String],
    pub(crate) parts: [&'a Interactions; 3],
}

/// A digest under way. Every list goes in behind its length, so no two contents share their bytes.
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn begin(content: &Content) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"accord dataset 2\n");
        for ids in [content.user_ids, content.item_ids] {
            number(&mut hasher, ids.len());
            for id in ids {
                number(&mut hasher, id.len());
                hasher.update(id.as_bytes());
            }
        }
        for part in content.parts {
            words(&mut hasher, part.start());
            words(&mut hasher, part.item());
        }
        Digest(hasher)
    }

    /// Says that so many text tables follow.
    pub(crate) fn tables(&mut self, count: usize) {
        number(&mut self.0, count);
    }

    /// One whole table, by the digests of its rows: user profiles, item profiles, user intents, item intents.
    pub(crate) fn table(&mut self, width: usize, rows: &[[u8; 32]]) {
        number(&mut self.0, rows.len());
        number(&mut self.0, width);
        rows.iter().for_each(|row| {
            self.0.update(row);
        });
    }

    pub(crate) fn whole_table(&mut self, table: &Embeddings) {
        let rows: Vec<[u8; 32]> = table.values.chunks(table.width.max(1)).map(row_digest).collect();
        self.table(table.width, &rows);
    }

    pub(crate) fn finish(self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// Of the values of one row of a text table.
pub(crate) fn row_digest(values: &[f32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    bytes_of(&mut hasher, values, f32::to_le_bytes);
    hasher.finalize().into()
}

fn number(hasher: &mut blake3::Hasher, value: usize) {
    hasher.update(&(value as u64).to_le_bytes());
}

fn words(hasher: &mut blake3::Hasher, values: &[u32]) {
    number(hasher, values.len());
    bytes_of(hasher, values, u32::to_le_bytes);
}

fn bytes_of<T: Copy>(hasher: &mut blake3::Hasher, values: &[T], bytes: impl Fn(T) -> [u8; 4]) {
    let mut buffer = Vec::with_capacity(4 * values.len().min(16 * 1024));
    for chunk in values.chunks(16 * 1024) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|&v| bytes(v)));
        hasher.update(&buffer);
    }
}
