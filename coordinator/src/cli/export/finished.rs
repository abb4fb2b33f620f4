//! A run directory whose job has succeeded: what it trained, and on what. Writes nothing but embeddings that lie in a
//! bucket.

use crate::cli::Usage;
use crate::run_dir::{self, State};
use accord_data::{Dataset, Embeddings, TextNeed};
use accord_objects::Options;
use accord_spec::JobSpec;
use anyhow::Context as _;
use safetensors::{Dtype, SafeTensors};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Vectors of the best epoch, and the job that made them.
pub(crate) struct FinishedRun {
    folder: PathBuf,
    /// Folder that `data.path` of the job is relative to.
    root: PathBuf,
    pub(crate) spec: JobSpec,
    /// `[U, d]`
    pub(crate) user: Embeddings,
    /// `[I, d]`
    pub(crate) item: Embeddings,
}

impl FinishedRun {
    /// Opens a run directory.
    ///
    /// # Errors
    /// [`Usage`] when it is none, or its job has not succeeded yet.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<FinishedRun> {
        let job = folder.join("job.toml");
        if !job.is_file() {
            let reason = if folder.is_dir() { "has no job.toml" } else { "is not there" };
            return Err(Usage(format!("{} is no run directory: it {reason}", folder.display())).into());
        }
        let spec = accord_spec::parse(&read(&job)?, &[]).with_context(|| job.display().to_string())?;
        let file = embeddings_file(folder);
        if !file.is_file() && !fetched(folder, &spec, &file)? {
            let message = format!(
                "the job in {} has no results yet: they come in {} when it has succeeded (`coordinator run` with the \
                 same --run-dir goes on with it)",
                folder.display(),
                file.display()
            );
            return Err(Usage(message).into());
        }
        let root = read(&folder.join("job_root.txt"))?.trim_end_matches(['\r', '\n']).into();
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let (user, item) = parse_embeddings(&bytes).with_context(|| file.display().to_string())?;
        Ok(FinishedRun { folder: folder.into(), root, spec, user, item })
    }

    /// The dataset the job was trained on, without its texts.
    ///
    /// # Errors
    /// When it cannot be read, or no longer is what the job was trained on.
    pub(crate) fn dataset(&self) -> anyhow::Result<Dataset> {
        let data = accord_objects::dataset::local(&self.spec.data, Duration::ZERO)?;
        let dataset = Dataset::load(&data, &self.root, self.spec.job.seed, TextNeed::None)?;
        let (now, then) = ((dataset.users(), dataset.items()), (self.user.rows, self.item.rows));
        anyhow::ensure!(
            now == then,
            "the dataset has {} users and {} items now, but the job in {} was trained on {} and {}: put the old data \
             back, or train again",
            now.0,
            now.1,
            self.folder.display(),
            then.0,
            then.1
        );
        Ok(dataset)
    }

    pub(crate) fn export_folder(&self) -> PathBuf {
        self.folder.join("export")
    }

    pub(crate) fn embeddings_file(&self) -> PathBuf {
        embeddings_file(&self.folder)
    }
}

/// From the bucket, where the workers of a job that has succeeded shared no disk with this run directory.
fn fetched(folder: &Path, spec: &JobSpec, file: &Path) -> anyhow::Result<bool> {
    // a bucket may still hold those of an earlier run
    if !spec.checkpoint.in_bucket() || !matches!(run_dir::inspect(folder), Ok(State::Finished(..))) {
        return Ok(false);
    }
    accord_objects::results::get_embeddings(&spec.checkpoint.uri, file, &Options::from_env())
        .with_context(|| format!("the embeddings cannot be fetched from {}", spec.checkpoint.uri))
}

fn embeddings_file(folder: &Path) -> PathBuf {
    folder.join("export").join("embeddings.safetensors")
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Tensors `user` and `item` of equal width.
fn parse_embeddings(bytes: &[u8]) -> anyhow::Result<(Embeddings, Embeddings)> {
    let tensors = SafeTensors::deserialize(bytes).context("not a whole safetensors file")?;
    let matrix = |name: &str| -> anyhow::Result<Embeddings> {
        let view = tensors.tensor(name).with_context(|| format!("tensor `{name}`"))?;
        let &[rows, width] = view.shape() else {
            anyhow::bail!("tensor `{name}` has shape {:?}: a matrix is needed", view.shape());
        };
        anyhow::ensure!(view.dtype() == Dtype::F32, "tensor `{name}` is {:?}: F32 is needed", view.dtype());
        let (numbers, _) = view.data().as_chunks();
        let values: Vec<f32> = numbers.iter().map(|&b| f32::from_le_bytes(b)).collect();
        if let Some(place) = values.iter().position(|v| !v.is_finite()) {
            anyhow::bail!("tensor `{name}` is {} in row {}", values[place], place / width);
        }
        Ok(Embeddings { rows, width, values })
    };
    let (user, item) = (matrix("user")?, matrix("item")?);
    anyhow::ensure!(user.width == item.width, "`user` has width {} and `item` {}", user.width, item.width);
    Ok((user, item))
}

/// A tiny finished run, for the tests of what reads one.
#[cfg(test)]
pub(crate) mod fixture {
    use safetensors::Dtype;
    use safetensors::tensor::{TensorView, serialize};
    use std::fs;
    use std::path::PathBuf;

    /// `DIR/data` (pairs) and `DIR/runs/tiny` (its job, finished). Users `ann`, `bob`, `eve`; items 10, 11, 12, 13 with
    /// scores 1, 2, 3, 4 times the user's number counted from 1. Ann trained with 13, Bob with 10 and 11, Eve with 12.
    pub(crate) fn finished_run() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("runs/tiny");
        fs::create_dir_all(run.join("export")).unwrap();
        fs::create_dir(root.path().join("data")).unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("data/train.txt", "ann 13\nbob 10\nbob 11\neve 12\n");
        write("data/valid.txt", "ann 10\nbob 12\n");
        write("data/test.txt", "ann 11\neve 10\n");
        write("data/item_titles.txt", "Ten\nEleven\nTwelve\nThirteen\n");
        write(
            "runs/tiny/job.toml",
            "[job]\nname = \"tiny\"\n[data]\npath = \"data\"\nformat = \"pairs\"\n[model]\nkind = \"lightgcn\"\n",
        );
        write("runs/tiny/job_root.txt", &format!("{}\n", root.path().display()));
        embeddings(&run, &[1.0, 0.0, 2.0, 0.0, 3.0, 0.0], &[1.0, 9.0, 2.0, 9.0, 3.0, 9.0, 4.0, 9.0]);
        (root, run)
    }

    /// Writes what a worker leaves, width 2.
    pub(crate) fn embeddings(run: &std::path::Path, user: &[f32], item: &[f32]) {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (u, i) = (bytes(user), bytes(item));
        let views = [
            ("user", TensorView::new(Dtype::F32, vec![user.len() / 2, 2], &u).unwrap()),
            ("item", TensorView::new(Dtype::F32, vec![item.len() / 2, 2], &i).unwrap()),
        ];
        fs::write(run.join("export/embeddings.safetensors"), serialize(views, None).unwrap()).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(folder: &Path) -> String {
        let error = FinishedRun::open(folder).map(|_| ()).unwrap_err();
        assert!(error.downcast_ref::<Usage>().is_some(), "{error:#} is no usage error");
        error.to_string()
    }

    #[test]
    fn what_is_no_finished_run_is_a_usage_error() {
        let (root, run) = fixture::finished_run();
        assert!(refusal(&root.path().join("absent")).ends_with("is no run directory: it is not there"));
        assert!(refusal(root.path()).ends_with("it has no job.toml"));
        fs::remove_file(run.join("export/embeddings.safetensors")).unwrap();
        assert!(refusal(&run).contains("has no results yet"));
    }

    #[test]
    fn changed_data_and_damaged_results_are_told() {
        let (root, run) = fixture::finished_run();
        fs::write(root.path().join("data/test.txt"), "ann 11\nzoe 10\n").unwrap();
        let error = FinishedRun::open(&run).unwrap().dataset().unwrap_err().to_string();
        assert!(error.starts_with("the dataset has 4 users and 4 items now"), "{error}");
        fixture::embeddings(&run, &[1.0, 2.0, 3.0, f32::NAN], &[1.0, 2.0]);
        let error = format!("{:#}", FinishedRun::open(&run).map(|_| ()).unwrap_err());
        assert!(error.ends_with("tensor `user` is NaN in row 1"), "{error}");
        fs::write(run.join("export/embeddings.safetensors"), b"short").unwrap();
        let error = format!("{:#}", FinishedRun::open(&run).map(|_| ()).unwrap_err());
        assert!(error.contains("not a whole safetensors file"), "{error}");
    }
}
