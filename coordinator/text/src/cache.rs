//! Encoded texts in the user's cache, so that a second run does not compute them again.
//!
//! A file holds the numbers (f32, little-endian) and then the BLAKE3 digest of those bytes; a damaged file counts as
//! absent.

use crate::TextError;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Bytes of a BLAKE3 digest.
const DIGEST: usize = blake3::OUT_LEN;

/// Where encoded texts lie.
pub(crate) fn folder() -> Result<PathBuf, TextError> {
    Ok(accord_data::wheel::cache_folder()?.join("embeddings"))
}

/// Name of one list of texts under one model. Lengths are hashed too: `["ab", "c"]` is not `["a", "bc"]`.
pub(crate) fn key(model: &str, texts: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in std::iter::once(model).chain(texts.iter().map(String::as_str)) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The `count` numbers stored under `key`, if they are there and whole.
pub(crate) fn read(folder: &Path, key: &str, count: usize) -> Option<Vec<f32>> {
    let bytes = fs::read(path(folder, key)).ok()?;
    if bytes.len() != count * size_of::<f32>() + DIGEST {
        return None;
    }
    let (numbers, digest) = bytes.split_at(bytes.len() - DIGEST);
    if blake3::hash(numbers).as_bytes() != digest {
        return None;
    }
    let (chunks, _) = numbers.as_chunks();
    Some(chunks.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

/// Stores numbers under `key`; a reader sees all of them or none.
pub(crate) fn write(folder: &Path, key: &str, values: &[f32]) -> Result<(), TextError> {
    let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    fs::create_dir_all(folder).map_err(TextError::io("create", folder))?;
    let file = path(folder, key);
    let temporary = folder.join(format!("{key}.{}.part", std::process::id()));
    fs::File::create(&temporary)
        .and_then(|mut f| f.write_all(&bytes).and_then(|()| f.sync_all()))
        .and_then(|()| fs::rename(&temporary, &file))
        .map_err(|error| {
            // what is half-written is of no use; that it stays is no second error
            let _ = fs::remove_file(&temporary);
            TextError::io("write", &file)(error)
        })
}

fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.f32"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let values = [1.5f32, -0.0, f32::MIN_POSITIVE];
        write(folder.path(), "k", &values).unwrap();
        let found = read(folder.path(), "k", 3).unwrap();
        assert_eq!(found.map_bits(), values.to_vec().map_bits());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn damaged_or_short_file_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "k", &[1.0, 2.0]).unwrap();
        assert_eq!(read(folder.path(), "k", 3), None);
        let file = path(folder.path(), "k");
        let mut bytes = fs::read(&file).unwrap();
        bytes[0] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert_eq!(read(folder.path(), "k", 2), None);
    }

    #[test]
    fn key_tells_models_and_text_borders_apart() {
        let texts = |t: &[&str]| t.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        assert_ne!(key("m", &texts(&["ab", "c"])), key("m", &texts(&["a", "bc"])));
        assert_ne!(key("m", &texts(&["a"])), key("n", &texts(&["a"])));
    }

    trait Bits {
        fn map_bits(self) -> Vec<u32>;
    }
    impl Bits for Vec<f32> {
        fn map_bits(self) -> Vec<u32> {
            self.into_iter().map(f32::to_bits).collect()
        }
    }
}
