//! One file of embeddings without ids, read a block of rows at a time: a worker keeps its own rows of tables that may be
//! larger than its memory.

use super::npz::advise_on_objects;
use crate::error::DataError;
use crate::readers::npy::{self, fixed};
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of a block: a few hundred rows of any usual width.
const BLOCK: usize = 1 << 20;
/// A header this long is none.
const MOST_HEADER: u64 = 1 << 24;

/// Key of a safetensors file's metadata: the digest of the ids that its rows belong to.
const IDS_DIGEST: &str = "ids_digest";

/// Type of a value.
#[derive(Clone, Copy)]
pub(super) enum Element {
    F16,
    Bf16,
    F32,
    F64,
}

/// An opened table whose size is that its header promises.
pub(super) struct TableFile {
    path: PathBuf,
    file: File,
    pub(super) matrix: Matrix,
    /// Digest of the ids that the table was written for, where the file says it.
    pub(super) ids_digest: Option<String>,
}

/// Shape and type of a table's values, which lie one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) width: usize,
    element: Element,
    /// In memory as its transpose
    column_major: bool,
}

/// What a header says, and where the values lie.
struct Layout {
    shape: Vec<usize>,
    element: Element,
    column_major: bool,
    from: u64,
    ids_digest: Option<String>,
}

impl TableFile {
    /// # Errors
    /// A missing, truncated or foreign file, or a table that is not two-dimensional.
    pub(super) fn open(path: &Path) -> Result<TableFile, DataError> {
        let mut file = File::open(path).map_err(unreadable(path))?;
        let bytes = file.metadata().map_err(unreadable(path))?.len();
        if bytes == 0 {
            return Err(DataError::Empty { path: path.into(), advice: "write the embeddings again".into() });
        }
        let Layout { shape, element, column_major, from, ids_digest } = match path.extension().and_then(|e| e.to_str())
        {
            Some("npy") => npy_layout(path, &mut file, bytes)?,
            Some("safetensors") => safetensors_layout(path, &mut file, bytes)?,
            _ => {
                return Err(DataError::malformed(
                    path,
                    "the ending is not one of a text table",
                    format!("text tables are read from .{}", super::locate::ENDINGS.join(", .")),
                ));
            }
        };
        let matrix = Matrix::new(path, &shape, element, column_major)?;
        file.seek(SeekFrom::Start(from)).map_err(unreadable(path))?;
        Ok(TableFile { path: path.into(), file, matrix, ids_digest })
    }

    /// As [`Matrix::each_block`]. To be called once.
    pub(super) fn each_block(&self, sink: BlockSink) -> Result<(), DataError> {
        self.matrix.each_block(&self.path, &mut &self.file, sink)
    }
}

/// Takes the first row of a block, and its values.
pub(super) type BlockSink<'a> = &'a mut dyn FnMut(usize, &[f32]) -> Result<(), DataError>;

impl Matrix {
    /// # Errors
    /// A shape that is not two-dimensional, or empty.
    pub(super) fn new(path: &Path, shape: &[usize], element: Element, column_major: bool) -> Result<Matrix, DataError> {
        let &[rows, width] = shape else {
            return Err(DataError::malformed(
                path,
                format!("the array has {} dimensions", shape.len()),
                "save a table with one row a user or item",
            ));
        };
        if rows == 0 || width == 0 {
            let advice = format!("the table has {rows} rows of width {width}");
            return Err(DataError::Empty { path: path.into(), advice });
        }
        Ok(Matrix { rows, width, element, column_major })
    }

    /// The values that `from` gives in blocks of whole rows, in order. A column-major table is one block.
    ///
    /// # Errors
    /// A value that is not finite (row and column are named), or what cannot be read; those of the sink.
    pub(super) fn each_block(&self, path: &Path, from: &mut dyn Read, sink: BlockSink) -> Result<(), DataError> {
        let row_bytes = self.width * self.element.size();
        let most = if self.column_major { self.rows } else { (BLOCK / row_bytes).clamp(1, self.rows) };
        let mut bytes = vec![0; most * row_bytes];
        for first in (0..self.rows).step_by(most) {
            let rows = most.min(self.rows - first);
            let bytes = &mut bytes[..rows * row_bytes];
            from.read_exact(bytes).map_err(unreadable(path))?;
            let values = self.element.to_f32(bytes);
            self.refuse_not_finite(path, first, bytes, &values)?;
            match self.column_major {
                true => sink(first, &transposed(&values, self.rows, self.width))?,
                false => sink(first, &values)?,
            }
        }
        Ok(())
    }

    fn refuse_not_finite(&self, path: &Path, first: usize, bytes: &[u8], values: &[f32]) -> Result<(), DataError> {
        let Some(k) = values.iter().position(|v| !v.is_finite()) else { return Ok(()) };
        let (row, column) =
            if self.column_major { (k % self.rows, k / self.rows) } else { (first + k / self.width, k % self.width) };
        // a finite f64 may be too large for f32
        let value = match self.element {
            Element::F64 => f64::from_le_bytes(fixed(&bytes[8 * k..8 * k + 8])),
            Element::F16 | Element::Bf16 | Element::F32 => f64::from(values[k]),
        };
        Err(DataError::NotFinite { path: path.into(), row, column, value })
    }
}

impl Element {
    /// # Errors
    /// Values that are no floats.
    pub(super) fn of_npy(path: &Path, kind: npy::Kind) -> Result<Element, DataError> {
        match kind {
            npy::Kind::F16 => Ok(Element::F16),
            npy::Kind::F32 => Ok(Element::F32),
            npy::Kind::F64 => Ok(Element::F64),
            other => Err(DataError::malformed(
                path,
                format!("the values are {other}"),
                "save embeddings as float16, float32 or float64",
            )),
        }
    }

    fn size(self) -> usize {
        match self {
            Element::F16 | Element::Bf16 => 2,
            Element::F32 => 4,
            Element::F64 => 8,
        }
    }

    fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Element::F16 => widen_f16(bytes),
            Element::Bf16 => bytes.chunks_exact(2).map(|c| bf16::from_le_bytes(fixed(c)).to_f32()).collect(),
            Element::F32 => bytes.chunks_exact(4).map(|c| f32::from_le_bytes(fixed(c))).collect(),
            Element::F64 => bytes.chunks_exact(8).map(|c| f64::from_le_bytes(fixed(c)) as f32).collect(),
        }
    }
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> DataError + '_ {
    |source| DataError::Io { path: path.into(), action: "read", source }
}

fn npy_layout(path: &Path, file: &mut File, bytes: u64) -> Result<Layout, DataError> {
    let mut start = Vec::new();
    file.take(npy::HEADER_BYTES).read_to_end(&mut start).map_err(unreadable(path))?;
    let (header, from) = npy::parse_header(path, &start).map_err(advise_on_objects)?;
    npy::same_size(path, &header, bytes - from as u64)?;
    let element = Element::of_npy(path, header.kind)?;
    Ok(Layout { shape: header.shape, element, column_major: header.fortran, from: from as u64, ids_digest: None })
}

fn safetensors_layout(path: &Path, file: &mut File, bytes: u64) -> Result<Layout, DataError> {
    let foreign = |what: String| {
        let problem = format!("not a safetensors file ({what})");
        DataError::malformed(path, problem, "write it again; it may be truncated")
    };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|e| foreign(e.to_string()))?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER || length + 8 > bytes {
        return Err(foreign(format!("a header of {length} bytes in a file of {bytes}")));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(unreadable(path))?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| foreign(e.to_string()))?;
    let tensors = header.tensors();
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    let &[name] = names.as_slice() else {
        return Err(DataError::malformed(
            path,
            format!("{} tensors ({})", names.len(), names.join(", ")),
            "save each table in a file of its own",
        ));
    };
    let info = tensors[name];
    let element = match info.dtype {
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::F32 => Element::F32,
        other => {
            return Err(DataError::malformed(
                path,
                format!("tensor `{name}` holds {other:?}"),
                "save embeddings as F16, BF16 or F32",
            ));
        }
    };
    let (begin, end) = info.data_offsets;
    let values = info.shape.iter().try_fold(element.size(), |n, &s| n.checked_mul(s));
    let there = bytes - 8 - length;
    if values != end.checked_sub(begin) || end as u64 != there {
        return Err(foreign(format!("tensor `{name}` should end at byte {end} of {there}")));
    }
    let ids_digest = header.metadata().as_ref().and_then(|metadata| metadata.get(IDS_DIGEST)).cloned();
    let from = 8 + length + begin as u64;
    Ok(Layout { shape: info.shape.clone(), element, column_major: false, from, ids_digest })
}

fn transposed(values: &[f32], rows: usize, width: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (k, &value) in values.iter().enumerate() {
        out[(k % rows) * width + k / rows] = value;
    }
    out
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
