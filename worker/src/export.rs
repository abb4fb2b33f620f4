//! The final embeddings as a file: what `coordinator export` and `recommend` read.

use safetensors::{Dtype, View, serialize_to_file};
use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// Why the embeddings could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct ExportError {
    pub path: PathBuf,
    pub reason: String,
}

/// A row-major f32 table.
struct Table<'a> {
    shape: [usize; 2],
    values: &'a [f32],
}

impl View for Table<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// Writes `<run_dir>/export/embeddings.safetensors` with the tensors `user` [U, d] and `item` [I, d]. A reader sees
/// the old file or the new one.
///
/// # Errors
/// When the disk does not take it.
pub fn write_embeddings(run_dir: &Path, dim: usize, user: &[f32], item: &[f32]) -> Result<PathBuf, ExportError> {
    let folder = run_dir.join("export");
    let path = folder.join("embeddings.safetensors");
    let temporary = folder.join("embeddings.safetensors.tmp");
    let failed = |reason: String| ExportError { path: path.clone(), reason };
    let table = |values| Table { shape: [<[f32]>::len(values) / dim.max(1), dim], values };
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        serialize_to_file([("user", table(user)), ("item", table(item))], None, &temporary)
            .map_err(io::Error::other)?;
        std::fs::File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|e| failed(e.to_string()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_read_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let (user, item) = ([1.0f32, -0.0, 3.5, f32::MIN_POSITIVE], [0.1f32, 0.2]);
        let path = write_embeddings(dir.path(), 2, &user, &item).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = tensors.tensor("user").unwrap();
        assert_eq!(view.shape(), [2, 2]);
        let expected: Vec<u8> = user.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(view.data(), expected);
        assert_eq!(tensors.tensor("item").unwrap().shape(), [1, 2]);
    }
}
