//! Snapshots <-> safetensors bytes. A row table is two tensors: `NAME` (F32, rows x width) and `NAME.ids` (U32).
//! Opens no file.

use super::{CheckpointError, DenseArray, RowTable};
use safetensors::tensor::View;
use safetensors::{Dtype, SafeTensors};
use std::borrow::Cow;
use std::ops::Range;

const IDS: &str = ".ids";
/// Numbers of a row at most. A table without rows may claim any width, and a reader makes room by it.
const MOST_WIDTH: usize = 1 << 16;

/// A tensor whose bytes are made when they are written.
struct Tensor<'a> {
    shape: Vec<usize>,
    words: Words<'a>,
}

enum Words<'a> {
    F32(&'a [f32]),
    U32(&'a [u32]),
}

impl View for &Tensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.words {
            Words::F32(_) => Dtype::F32,
            Words::U32(_) => Dtype::U32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.words {
            Words::F32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Words::U32(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    fn data_len(&self) -> usize {
        match self.words {
            Words::F32(values) => 4 * values.len(),
            Words::U32(values) => 4 * values.len(),
        }
    }
}

/// The file of one rank's rows.
pub(super) fn encode_rows(tables: &[RowTable]) -> Result<Vec<u8>, CheckpointError> {
    let mut tensors: Vec<(String, Tensor<'_>)> = Vec::new();
    for table in tables {
        if table.ids.len().checked_mul(table.width) != Some(table.values.len()) {
            return Err(CheckpointError::Invalid {
                what: format!(
                    "row table `{}` has {} values for {} rows of width {}",
                    table.name,
                    table.values.len(),
                    table.ids.len(),
                    table.width
                ),
            });
        }
        let shape = vec![table.ids.len(), table.width];
        tensors.push((table.name.clone(), Tensor { shape, words: Words::F32(&table.values) }));
        let ids = Tensor { shape: vec![table.ids.len()], words: Words::U32(&table.ids) };
        tensors.push((format!("{}{IDS}", table.name), ids));
    }
    encode(&tensors)
}

/// The file of the replicated arrays.
pub(super) fn encode_dense(arrays: &[DenseArray]) -> Result<Vec<u8>, CheckpointError> {
    let mut tensors: Vec<(String, Tensor<'_>)> = Vec::new();
    for array in arrays {
        if array.shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s)) != Some(array.values.len()) {
            return Err(CheckpointError::Invalid {
                what: format!("array `{}` has {} values for shape {:?}", array.name, array.values.len(), array.shape),
            });
        }
        let tensor = Tensor { shape: array.shape.clone(), words: Words::F32(&array.values) };
        tensors.push((array.name.clone(), tensor));
    }
    encode(&tensors)
}

fn encode(tensors: &[(String, Tensor<'_>)]) -> Result<Vec<u8>, CheckpointError> {
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CheckpointError::Invalid { what: format!("two tables of a snapshot are named `{}`", twice[0]) });
    }
    safetensors::serialize(tensors.iter().map(|(name, tensor)| (name, tensor)), None)
        .map_err(|e| CheckpointError::Invalid { what: format!("the snapshot cannot be encoded: {e}") })
}

/// The rows of one table in a shard, where they lie in its file.
pub(super) struct RowView<'a> {
    pub(super) name: String,
    pub(super) width: usize,
    ids: &'a [u8],
    values: &'a [u8],
}

impl RowView<'_> {
    pub(super) fn rows(&self) -> usize {
        self.ids.len() / 4
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        words(self.ids, u32::from_le_bytes)
    }

    /// The numbers of some of its rows.
    pub(super) fn values(&self, rows: Range<usize>) -> impl Iterator<Item = f32> {
        words(&self.values[4 * self.width * rows.start..4 * self.width * rows.end], f32::from_le_bytes)
    }
}

/// Row tables of a shard, by name; `Err` says what is wrong with it.
pub(super) fn decode_rows(bytes: &[u8]) -> Result<Vec<RowView<'_>>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut tables = Vec::new();
    for (name, tensor) in file.iter().filter(|(name, _)| !name.ends_with(IDS)) {
        let ids = file.tensor(&format!("{name}{IDS}")).map_err(|e| e.to_string())?;
        match (tensor.dtype(), tensor.shape(), ids.dtype(), ids.shape()) {
            (Dtype::F32, &[_, width], _, _) if width > MOST_WIDTH => {
                return Err(format!("table `{name}` has rows of {width} numbers, {MOST_WIDTH} is the most"));
            }
            (Dtype::F32, &[rows, width], Dtype::U32, &[count]) if rows == count => {
                tables.push(RowView { name: name.into(), width, ids: ids.data(), values: tensor.data() });
            }
            _ => return Err(format!("table `{name}` is not rows of f32 with an id each")),
        }
    }
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tables)
}

/// Arrays of a dense file, by name; `Err` says what is wrong with it.
pub(super) fn decode_dense(bytes: &[u8]) -> Result<Vec<DenseArray>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut arrays = Vec::new();
    for (name, tensor) in file.iter() {
        if tensor.dtype() != Dtype::F32 {
            return Err(format!("array `{name}` holds {:?}, not f32", tensor.dtype()));
        }
        let values = words(tensor.data(), f32::from_le_bytes).collect();
        arrays.push(DenseArray { name: name.into(), shape: tensor.shape().to_vec(), values });
    }
    arrays.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(arrays)
}

fn words<T>(bytes: &[u8], from: impl Fn([u8; 4]) -> T) -> impl Iterator<Item = T> {
    bytes.chunks_exact(4).map(move |c| from([c[0], c[1], c[2], c[3]]))
}
