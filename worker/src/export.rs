//! The final embeddings as a file: what `coordinator export` and `recommend` read. Rank 0 writes; rows of the others come
//! to it a block at a time, so no process ever holds a second copy of the tables.

use accord_engine::world::World;
use accord_engine::{EngineError, Trainer, export};
use accord_objects::Options;
use accord_objects::results::put_embeddings;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tch::Tensor;

/// With an object store that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
const FILE: &str = "export/embeddings.safetensors";

/// Why the embeddings could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("the embeddings cannot be stored in {uri}: {source}")]
    Send { uri: String, source: io::Error },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Where the embeddings go.
#[derive(Clone, Copy, Debug)]
pub enum Destination<'a> {
    RunDir(&'a Path),
    /// Beside the checkpoints, at their `s3://` address.
    Bucket(&'a str),
}

/// Writes `export/embeddings.safetensors` with the tensors `user` [U, d] and `item` [I, d], on rank 0. Every rank must call
/// it. A reader sees the old file or the new one.
///
/// # Errors
/// When the disk or the object store does not take it, or another worker is gone.
pub fn write_embeddings(trainer: &Trainer, to: Destination<'_>) -> Result<(), ExportError> {
    let (world, x) = (trainer.world(), trainer.final_embeddings()?);
    match to {
        Destination::RunDir(run_dir) => write_table(world, &x, run_dir),
        // the file first: what travels is then of a size that is known
        Destination::Bucket(uri) => {
            let scratch = std::env::temp_dir().join(format!("accord-export-{}", std::process::id()));
            let sent = write_table(world, &x, &scratch).and_then(|()| send(world, &scratch, uri));
            // the pod's disk goes with it, and a machine's is tidied by its owner
            let _ = std::fs::remove_dir_all(&scratch);
            sent
        }
    }
}

fn send(world: &World, scratch: &Path, uri: &str) -> Result<(), ExportError> {
    if world.rank() > 0 {
        return Ok(());
    }
    let sent = put_embeddings(uri, &scratch.join(FILE), &Options::from_env(), PATIENCE);
    let address = sent.map_err(|source| ExportError::Send { uri: uri.into(), source })?;
    tracing::info!(address, "embeddings are stored");
    Ok(())
}

/// `x` [n, d]: rows of the own nodes.
fn write_table(world: &World, x: &Tensor, run_dir: &Path) -> Result<(), ExportError> {
    if world.rank() > 0 {
        return export::each_block(world, x, |_| Ok(()));
    }
    let path = run_dir.join(FILE);
    let temporary = path.with_extension("safetensors.tmp");
    let failed = |source: io::Error| ExportError::Write { path: path.clone(), source };
    let create = || -> io::Result<BufWriter<File>> {
        std::fs::create_dir_all(run_dir.join("export"))?;
        let mut file = BufWriter::new(File::create(&temporary)?);
        file.write_all(&header(world.users, world.items, x.size()[1] as usize))?;
        Ok(file)
    };
    // the others send whatever happens here: a disk that is full must not leave them waiting
    let mut file = create();
    export::each_block(world, x, |rows| {
        if let Ok(open) = &mut file
            && let Err(error) = rows.iter().try_for_each(|value| open.write_all(&value.to_le_bytes()))
        {
            file = Err(error);
        }
        Ok::<(), EngineError>(())
    })?;
    let finish = |file: BufWriter<File>| {
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&temporary, &path)
    };
    file.and_then(finish).map_err(failed)
}

/// Of a safetensors file with both tables, users first: length, then JSON padded to eight bytes.
fn header(users: usize, items: usize, d: usize) -> Vec<u8> {
    let (user_end, end) = (users * d * 4, (users + items) * d * 4);
    let mut json = format!(
        r#"{{"user":{{"dtype":"F32","shape":[{users},{d}],"data_offsets":[0,{user_end}]}},"item":{{"dtype":"F32","shape":[{items},{d}],"data_offsets":[{user_end},{end}]}}}}"#
    );
    json.extend(std::iter::repeat_n(' ', json.len().next_multiple_of(8) - json.len()));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_data::Interactions;

    #[test]
    fn embeddings_are_read_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let (train, _) = Interactions::from_pairs(2, 1, &[(0, 0), (1, 0)]).unwrap();
        let world = World::alone(&train, tch::Device::Cpu);
        let values = [1.0f32, -0.0, 3.5, f32::MIN_POSITIVE, 0.1, 0.2];
        write_table(&world, &Tensor::from_slice(&values).view([3, 2]), dir.path()).unwrap();
        let bytes = std::fs::read(dir.path().join("export/embeddings.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let bits = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (user, item) = (tensors.tensor("user").unwrap(), tensors.tensor("item").unwrap());
        assert_eq!((user.shape(), item.shape()), ([2, 2].as_slice(), [1, 2].as_slice()));
        assert_eq!(user.data(), bits(&values[..4]));
        assert_eq!(item.data(), bits(&values[4..]));
    }

    #[test]
    fn a_disk_that_takes_nothing_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("export"), "a file where the folder should be").unwrap();
        let (train, _) = Interactions::from_pairs(1, 1, &[(0, 0)]).unwrap();
        let world = World::alone(&train, tch::Device::Cpu);
        let error = write_table(&world, &Tensor::from_slice(&[1.0f32, 2.0]).view([2, 1]), dir.path()).unwrap_err();
        assert!(error.to_string().contains("embeddings.safetensors"), "{error}");
    }
}
