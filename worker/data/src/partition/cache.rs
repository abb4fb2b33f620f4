//! A partition as a file, so that the next run of the same job need not compute it. The file carries what it was made
//! from and a digest; one that does not fit is as good as none.

use super::{Partition, PartitionError};
use crate::durable;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

const MAGIC: &[u8] = b"accord partition 1\n";
/// Bytes of the BLAKE3 digest at the end.
const DIGEST: usize = 32;

pub(super) fn save(partition: &Partition, path: &Path, key: &str) -> Result<(), PartitionError> {
    let failed = |source| PartitionError::Io { path: path.into(), action: "written", source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut bytes = Vec::with_capacity(MAGIC.len() + key.len() + 24 + 2 * partition.owner.len() + DIGEST);
    bytes.extend_from_slice(MAGIC);
    for number in [key.len(), partition.parts, partition.owner.len()] {
        bytes.extend_from_slice(&(number as u64).to_le_bytes());
    }
    bytes.extend_from_slice(key.as_bytes());
    partition.owner.iter().for_each(|owner| bytes.extend_from_slice(&owner.to_le_bytes()));
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    durable::replace(path, &bytes).map_err(failed)
}

pub(super) fn load(path: &Path, key: &str) -> Result<Option<Partition>, PartitionError> {
    match fs::read(path) {
        Ok(bytes) => Ok(decode(&bytes, key)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PartitionError::Io { path: path.into(), action: "read", source }),
    }
}

fn decode(bytes: &[u8], key: &str) -> Option<Partition> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if blake3::hash(content).as_bytes() != digest {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let mut number = || -> Option<usize> {
        let (word, tail) = rest.split_first_chunk::<8>()?;
        rest = tail;
        usize::try_from(u64::from_le_bytes(*word)).ok()
    };
    let (key_len, parts, nodes) = (number()?, number()?, number()?);
    let (written, owner) = rest.split_at_checked(key_len)?;
    if written != key.as_bytes() || owner.len() != nodes.checked_mul(2)? {
        return None;
    }
    let owner = owner.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Partition::from_owner(parts, owner).ok()
}
