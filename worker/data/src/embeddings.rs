//! Frozen text embeddings: dense `f32` tables from `.npy`, `.safetensors` or a pickle, checked value by value.

mod file;

use crate::error::DataError;
use crate::manifest::Digest;
use accord_spec::TextFiles;
use file::TableFile;
use std::path::Path;

/// A dense table, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    pub rows: usize,
    pub width: usize,
    /// `rows * width` finite values.
    pub values: Vec<f32>,
}

/// The four tables of a dataset; users and items agree in width for profiles, and for intents.
#[derive(Clone, Debug, PartialEq)]
pub struct TextTables {
    pub user_profile: Embeddings,
    pub item_profile: Embeddings,
    pub user_intent: Embeddings,
    pub item_intent: Embeddings,
}

impl Embeddings {
    /// `width` values of row `index`; empty for a row there is not.
    pub fn row(&self, index: usize) -> &[f32] {
        let from = index.saturating_mul(self.width);
        self.values.get(from..from.saturating_add(self.width)).unwrap_or(&[])
    }

    /// The width of a table, by the file's header.
    ///
    /// # Errors
    /// As [`Embeddings::read`], as far as a header shows it.
    pub(crate) fn width_of(path: &Path) -> Result<usize, DataError> {
        Ok(TableFile::open(path)?.width)
    }

    /// Reads a `.npy` or `.pkl` (f16, f32, f64) or `.safetensors` (one tensor; f16, bf16, f32) table.
    ///
    /// # Errors
    /// A missing, truncated or foreign file, a table that is not two-dimensional, or a value that is not finite
    /// (row and column are named).
    pub fn read(path: &Path) -> Result<Embeddings, DataError> {
        let file = TableFile::open(path)?;
        let (rows, width) = (file.rows, file.width);
        let mut values = Vec::with_capacity(rows * width);
        file.each_block(&mut |_, block| values.extend_from_slice(block))?;
        Ok(Embeddings { rows, width, values })
    }
}

/// Where tables are read from, and what of them.
pub(crate) struct TextSource<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) files: &'a TextFiles,
    pub(crate) users: usize,
    pub(crate) items: usize,
    /// Only the rows of these nodes (ascending; item i is node users + i); none: all.
    pub(crate) keep: Option<&'a [u32]>,
}

impl TextSource<'_> {
    /// The tables; the digest takes in every row of them, kept or not.
    pub(crate) fn read(&self, digest: &mut Digest) -> Result<TextTables, DataError> {
        let files = self.files;
        let tables = TextTables {
            user_profile: self.table(&files.user_profile, "user", digest)?,
            item_profile: self.table(&files.item_profile, "item", digest)?,
            user_intent: self.table(&files.user_intent, "user", digest)?,
            item_intent: self.table(&files.item_intent, "item", digest)?,
        };
        for (user, item, user_file, item_file) in [
            (&tables.user_profile, &tables.item_profile, &files.user_profile, &files.item_profile),
            (&tables.user_intent, &tables.item_intent, &files.user_intent, &files.item_intent),
        ] {
            if user.width != item.width {
                return Err(DataError::WrongShape {
                    path: self.folder.join(item_file),
                    found: format!("width {}", item.width),
                    expected: format!("{user_file} has width {}", user.width),
                    advice: "encode users and items with the same text model".into(),
                });
            }
        }
        Ok(tables)
    }

    fn table(&self, name: &str, side: &str, digest: &mut Digest) -> Result<Embeddings, DataError> {
        let path = self.folder.join(name);
        let file = TableFile::open(&path)?;
        let (rows, width) = (file.rows, file.width);
        // nodes of the side, from its first to behind its last
        let (first, behind) = if side == "user" { (0, self.users) } else { (self.users, self.users + self.items) };
        if rows != behind - first {
            return Err(DataError::WrongShape {
                path,
                found: format!("{rows} rows"),
                expected: format!("there are {} {side}s", behind - first),
                advice: format!(
                    "row i belongs to {side} i; list the external ids in {side}s.txt, one a row, if rows and \
                     interactions differ"
                ),
            });
        }
        digest.table_of(rows, width);
        let within = |nodes: &&[u32], node: usize| nodes.partition_point(|&n| (n as usize) < node);
        let kept = self.keep.map_or(rows, |nodes| within(&nodes, behind) - within(&nodes, first));
        let mut values = Vec::with_capacity(kept * width);
        file.each_block(&mut |row, block| {
            digest.values(block);
            let Some(nodes) = self.keep else { return values.extend_from_slice(block) };
            let start = first + row;
            for &node in &nodes[within(&nodes, start)..within(&nodes, start + block.len() / width)] {
                let from = (node as usize - start) * width;
                values.extend_from_slice(&block[from..from + width]);
            }
        })?;
        Ok(Embeddings { rows: kept, width, values })
    }
}

impl TextTables {
    /// In the order of a dataset's digest.
    pub(crate) fn tables(&self) -> [&Embeddings; 4] {
        [&self.user_profile, &self.item_profile, &self.user_intent, &self.item_intent]
    }
}
