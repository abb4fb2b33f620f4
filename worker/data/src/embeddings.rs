//! Frozen text embeddings: dense `f32` tables from `.npy` or `.safetensors`, checked value by value.

use crate::error::DataError;
use crate::readers::npy;
use accord_spec::TextFiles;
use half::bf16;
use safetensors::{Dtype, SafeTensors};
use std::fs;
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

    /// The rows that `indices` name.
    fn select(&self, indices: impl Iterator<Item = usize>) -> Embeddings {
        let values: Vec<f32> = indices.flat_map(|index| self.row(index)).copied().collect();
        Embeddings { rows: values.len() / self.width.max(1), width: self.width, values }
    }

    /// Reads a `.npy` (f16, f32, f64) or `.safetensors` (one tensor; f16, bf16, f32) table.
    ///
    /// # Errors
    /// A missing, truncated or foreign file, a table that is not two-dimensional, or a value that is not finite
    /// (row and column are named).
    pub fn read(path: &Path) -> Result<Embeddings, DataError> {
        let bytes = fs::read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => DataError::Missing {
                path: path.into(),
                advice: "models rlmrec-con and irllrec need text embeddings: run `coordinator data fetch`, name the \
                         file under data.text, or train model.kind = \"lightgcn\""
                    .into(),
            },
            _ => DataError::Io { path: path.into(), action: "read", source },
        })?;
        if bytes.is_empty() {
            return Err(DataError::Empty { path: path.into(), advice: "write the embeddings again".into() });
        }
        let table = match path.extension().and_then(|e| e.to_str()) {
            Some("npy") => from_npy(path, &bytes)?,
            Some("safetensors") => from_safetensors(path, &bytes)?,
            _ => {
                return Err(DataError::malformed(
                    path,
                    "the ending is neither .npy nor .safetensors",
                    "text embeddings are read from these two formats",
                ));
            }
        };
        if table.rows == 0 || table.width == 0 {
            return Err(DataError::Empty {
                path: path.into(),
                advice: format!("the table has {} rows of width {}", table.rows, table.width),
            });
        }
        Ok(table)
    }
}

impl TextTables {
    /// In the order of a dataset's digest.
    pub(crate) fn tables(&self) -> [&Embeddings; 4] {
        [&self.user_profile, &self.item_profile, &self.user_intent, &self.item_intent]
    }

    /// `[users, items]`; `each` sees every table whole, in the order of [`TextTables::tables`]; `keep`: of each table only
    /// the rows of these nodes stay.
    pub(crate) fn read(
        folder: &Path,
        files: &TextFiles,
        [users, items]: [usize; 2],
        keep: Option<&[u32]>,
        each: &mut dyn FnMut(&Embeddings),
    ) -> Result<TextTables, DataError> {
        let mut read = |file: &str, expected: usize, side: &str| -> Result<Embeddings, DataError> {
            let path = folder.join(file);
            let table = Embeddings::read(&path)?;
            if table.rows != expected {
                return Err(DataError::WrongShape {
                    path,
                    found: format!("{} rows", table.rows),
                    expected: format!("there are {expected} {side}s"),
                    advice: format!(
                        "row i belongs to {side} i; list the external ids in {side}s.txt, one a row, if rows and \
                         interactions differ"
                    ),
                });
            }
            each(&table);
            let Some(keep) = keep else { return Ok(table) };
            let own = keep.iter().map(|&node| node as usize);
            Ok(match side {
                "user" => table.select(own.take_while(|&node| node < users)),
                _ => table.select(own.skip_while(|&node| node < users).map(|node| node - users)),
            })
        };
        let tables = TextTables {
            user_profile: read(&files.user_profile, users, "user")?,
            item_profile: read(&files.item_profile, items, "item")?,
            user_intent: read(&files.user_intent, users, "user")?,
            item_intent: read(&files.item_intent, items, "item")?,
        };
        for (user, item, user_file, item_file) in [
            (&tables.user_profile, &tables.item_profile, &files.user_profile, &files.item_profile),
            (&tables.user_intent, &tables.item_intent, &files.user_intent, &files.item_intent),
        ] {
            if user.width != item.width {
                return Err(DataError::WrongShape {
                    path: folder.join(item_file),
                    found: format!("width {}", item.width),
                    expected: format!("{user_file} has width {}", user.width),
                    advice: "encode users and items with the same text model".into(),
                });
            }
        }
        Ok(tables)
    }
}

fn from_npy(path: &Path, bytes: &[u8]) -> Result<Embeddings, DataError> {
    let array = npy::parse(path, bytes)?;
    let &[rows, width] = array.header.shape.as_slice() else {
        return Err(DataError::malformed(
            path,
            format!("the array has {} dimensions", array.header.shape.len()),
            "save a table with one row a user or item",
        ));
    };
    let wide: Option<Vec<f64>>;
    let values = match array.header.kind {
        npy::Kind::F16 => {
            wide = None;
            widen_f16(array.data)
        }
        npy::Kind::F32 => {
            wide = None;
            le_f32(array.data)
        }
        npy::Kind::F64 => {
            let exact: Vec<f64> = array.data.chunks_exact(8).map(|c| f64::from_le_bytes(npy::fixed(c))).collect();
            let values = exact.iter().map(|&v| v as f32).collect();
            wide = Some(exact);
            values
        }
        other => {
            return Err(DataError::malformed(
                path,
                format!("the values are {other}"),
                "save embeddings as float16, float32 or float64",
            ));
        }
    };
    // a column-major table lies in memory as its transpose
    let place = |k: usize| if array.header.fortran { (k % rows, k / rows) } else { (k / width, k % width) };
    if let Some(k) = values.iter().position(|v: &f32| !v.is_finite()) {
        let (row, column) = place(k);
        let value = wide.map_or(f64::from(values[k]), |w| w[k]);
        return Err(DataError::NotFinite { path: path.into(), row, column, value });
    }
    let values = if array.header.fortran && rows > 1 && width > 1 {
        let mut transposed = vec![0.0; values.len()];
        for (k, v) in values.into_iter().enumerate() {
            transposed[(k % rows) * width + k / rows] = v;
        }
        transposed
    } else {
        values
    };
    Ok(Embeddings { rows, width, values })
}

fn from_safetensors(path: &Path, bytes: &[u8]) -> Result<Embeddings, DataError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| {
        DataError::malformed(path, format!("not a safetensors file ({e})"), "write it again; it may be truncated")
    })?;
    let mut names = file.names();
    names.sort_unstable();
    let &[name] = names.as_slice() else {
        return Err(DataError::malformed(
            path,
            format!("{} tensors ({})", names.len(), names.join(", ")),
            "save each table in a file of its own",
        ));
    };
    let tensor = file.tensor(name).map_err(|e| DataError::malformed(path, e.to_string(), "write it again"))?;
    let &[rows, width] = tensor.shape() else {
        return Err(DataError::malformed(
            path,
            format!("tensor `{name}` has {} dimensions", tensor.shape().len()),
            "save a table with one row a user or item",
        ));
    };
    let values = match tensor.dtype() {
        Dtype::F16 => widen_f16(tensor.data()),
        Dtype::BF16 => tensor.data().chunks_exact(2).map(|c| bf16::from_le_bytes(npy::fixed(c)).to_f32()).collect(),
        Dtype::F32 => le_f32(tensor.data()),
        other => {
            return Err(DataError::malformed(
                path,
                format!("tensor `{name}` holds {other:?}"),
                "save embeddings as F16, BF16 or F32",
            ));
        }
    };
    if let Some(k) = values.iter().position(|v: &f32| !v.is_finite()) {
        let value = f64::from(values[k]);
        return Err(DataError::NotFinite { path: path.into(), row: k / width, column: k % width, value });
    }
    Ok(Embeddings { rows, width, values })
}

/// IEEE half to single, exactly. In plain arithmetic, so that the loop is vectorised in every profile.
fn widen_f16(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(2).map(|c| widen(u32::from(u16::from_le_bytes([c[0], c[1]])))).collect()
}

#[inline]
fn widen(half: u32) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits(0x7780_0000);
    let magnitude = half & 0x7fff;
    // the exponent's bias grows by 112; a product does it right for subnormal numbers too
    let finite = (f32::from_bits(magnitude << 13) * TWO_TO_112).to_bits();
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(finite | special | (half & 0x8000) << 16)
}

fn le_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(npy::fixed(c))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (widen(u32::from(bits)), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#x}");
        }
    }
}
