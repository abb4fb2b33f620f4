//! What a finished run leaves for serving, written at the end of training: `export/` of the run directory, or of the bucket
//! of its checkpoints. Rank 0 writes; rows of the others come to it a block at a time, so no process ever holds a second
//! copy of the tables. The form of the files is `accord_data::export`'s.

use accord_data::export::{Catalog, ExportFile, ExportManifest, ExportWriter, FOLDER};
use accord_data::{DataError, Interactions};
use accord_engine::report::EvalReport;
use accord_engine::world::World;
use accord_engine::{EngineError, Trainer, export};
use accord_objects::Options;
use accord_objects::results::put_export;
use accord_spec::{JobSpec, MetricTable, TestMetrics};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tch::Tensor;

/// How long a store that fails is tried again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
/// Every run directory has it, written by the coordinator before training began.
const JOB_FILE: &str = "job.toml";

/// Why the results could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the results cannot be kept: {0}")]
    Write(#[from] DataError),
    #[error(
        "the run directory {0} was removed while the run trained, so its results cannot be kept\n  hint: remove what is left of it \
         and run the job again"
    )]
    NoRunDir(PathBuf),
    #[error("the results cannot be stored in {uri}: {source}")]
    Send { uri: String, source: io::Error },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Where the results go.
#[derive(Clone, Copy, Debug)]
pub enum Destination<'a> {
    RunDir(&'a Path),
    /// Beside the checkpoints, at their `s3://` address.
    Bucket(&'a str),
}

/// What `export.json` says of a run, and what goes into the files beside it. Rank 0 alone has it.
#[derive(Clone, Copy, Debug)]
pub struct Results<'a> {
    pub spec: &'a JobSpec,
    pub data_digest: &'a str,
    pub config_digest: &'a str,
    pub catalog: &'a Catalog,
    pub best_epoch: u64,
    /// Of the best epoch.
    pub test: &'a EvalReport,
}

/// Writes the final embeddings, ids, titles and training interactions, `export.json` last. Every rank must call it:
/// rank 0, which writes, with `results`, the others without. A reader sees the export before, none, or the new one.
///
/// # Errors
/// When the disk or the object store does not take it, or another worker is gone.
pub fn write_results(trainer: &Trainer, results: Option<Results<'_>>, to: Destination<'_>) -> Result<(), ExportError> {
    let (world, x) = (trainer.world(), trainer.final_embeddings()?);
    let Some(results) = results else {
        return export::each_block(world, &x, |_| Ok(()));
    };
    match to {
        Destination::RunDir(run_dir) => write_export(world, &x, trainer.train(), results, export_folder(run_dir)),
        // files first: what travels is then of a size that is known
        Destination::Bucket(uri) => {
            let scratch = std::env::temp_dir().join(format!("accord-export-{}", std::process::id()));
            let written = write_export(world, &x, trainer.train(), results, Ok(scratch.clone()));
            let sent = written.and_then(|()| send(&scratch, uri));
            // what stays of a pod's files goes with the pod
            let _ = std::fs::remove_dir_all(&scratch);
            sent
        }
    }
}

/// Writing a checkpoint makes a run directory again that was removed; the coordinator's files are lost all the same.
fn export_folder(run_dir: &Path) -> Result<PathBuf, ExportError> {
    match run_dir.join(JOB_FILE).is_file() {
        true => Ok(run_dir.join(FOLDER)),
        false => Err(ExportError::NoRunDir(run_dir.into())),
    }
}

fn send(scratch: &Path, uri: &str) -> Result<(), ExportError> {
    let sent = put_export(uri, scratch, &Options::from_env(), PATIENCE);
    let address = sent.map_err(|source| ExportError::Send { uri: uri.into(), source })?;
    tracing::info!(address, "the results are stored");
    Ok(())
}

/// `x` [n, d]: rows of the own nodes.
fn write_export(
    world: &World,
    x: &Tensor,
    train: &Interactions,
    results: Results<'_>,
    folder: Result<PathBuf, ExportError>,
) -> Result<(), ExportError> {
    let dim = x.size()[1] as usize;
    let begin = |folder: PathBuf| -> Result<(ExportWriter, ExportFile), ExportError> {
        let writer = ExportWriter::begin(&folder)?;
        let mut file = writer.embeddings()?;
        file.write_all(&header(world.users, world.items, dim)).map_err(|error| file.failed(error))?;
        Ok((writer, file))
    };
    // the others send whatever happens here: a disk that is full must not leave them waiting
    let mut begun = folder.and_then(begin);
    export::each_block(world, x, |rows| {
        if let Ok((_, file)) = &mut begun
            && let Err(error) = rows.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
        {
            begun = Err(file.failed(error).into());
        }
        Ok::<(), EngineError>(())
    })?;
    let (mut writer, file) = begun?;
    writer.keep(file)?;
    writer.dataset(results.catalog, train)?;
    writer.commit(manifest(world, dim, results))?;
    Ok(())
}

fn manifest(world: &World, dim: usize, results: Results<'_>) -> ExportManifest {
    let Results { spec, data_digest, config_digest, best_epoch, test, .. } = results;
    let by_cutoff = |values: &[(usize, f64)]| values.iter().map(|&(k, value)| (k as u32, value)).collect();
    let values = test.metrics.iter().map(|m| (m.metric.name().to_owned(), by_cutoff(&m.at))).collect();
    ExportManifest {
        version: ExportManifest::VERSION,
        job: spec.job.name.clone(),
        model: spec.model.kind.name().into(),
        users: world.users as u64,
        items: world.items as u64,
        dim: dim as u64,
        data_digest: data_digest.into(),
        config_digest: config_digest.into(),
        best_epoch,
        select: test.select.to_string(),
        best_validation: test.best,
        test: TestMetrics { users: test.users, values: MetricTable(values) },
        // the writer knows them
        files: Vec::new(),
    }
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
    use accord_data::export::Export;
    use accord_data::{Dataset, TextNeed};
    use accord_engine::eval::MetricValues;
    use accord_engine::report::EvalSplit;
    use accord_spec::{Metric, MetricAtK};
    use std::path::Path;

    const JOB: &str =
        "[job]\nname = \"tiny\"\n[data]\npath = \"data\"\nformat = \"pairs\"\n[model]\nkind = \"lightgcn\"\n";

    /// Two users and two items in `root`/data, of which each user trained with one.
    fn dataset(root: &Path, spec: &JobSpec) -> Dataset {
        std::fs::create_dir(root.join("data")).unwrap();
        for (name, text) in [("train", "ann x\nbob y\n"), ("valid", "ann y\n"), ("test", "bob x\n")] {
            std::fs::write(root.join(format!("data/{name}.txt")), text).unwrap();
        }
        Dataset::load(&spec.data, root, 1, TextNeed::None).unwrap()
    }

    fn write(root: &Path, values: &[f32], folder: Result<PathBuf, ExportError>) -> Result<Dataset, ExportError> {
        let spec = accord_spec::parse(JOB, &[]).unwrap();
        let dataset = dataset(root, &spec);
        let catalog = Catalog::of(&dataset, Path::new("data")).unwrap();
        let test = EvalReport {
            epoch: 4,
            step: 9,
            split: EvalSplit::Test,
            users: 1,
            metrics: vec![
                MetricValues { metric: Metric::Recall, at: vec![(5, 0.5), (20, 0.75)] },
                MetricValues { metric: Metric::Ndcg, at: vec![(5, 0.25)] },
            ],
            select: MetricAtK { metric: Metric::Recall, k: 20 },
            best: 0.5,
            best_epoch: 4,
            seconds: 0.1,
        };
        let results = Results {
            spec: &spec,
            data_digest: &dataset.manifest.digest,
            config_digest: "c",
            catalog: &catalog,
            best_epoch: 4,
            test: &test,
        };
        let world = World::alone(&dataset.train, tch::Device::Cpu);
        let x = Tensor::from_slice(values).view([4, values.len() as i64 / 4]);
        write_export(&world, &x, &dataset.train, results, folder).map(|()| dataset)
    }

    #[test]
    fn what_a_run_leaves_is_read_back_without_its_dataset() {
        let root = tempfile::tempdir().unwrap();
        let values = [1.0f32, -0.0, 3.5, f32::MIN_POSITIVE, 0.1, 0.2, 0.3, 0.4];
        let folder = root.path().join(FOLDER);
        let dataset = write(root.path(), &values, Ok(folder.clone())).unwrap();
        std::fs::remove_dir_all(root.path().join("data")).unwrap();
        let export = Export::open(&folder).unwrap().unwrap();
        let (user, item) = export.embeddings().unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        assert_eq!((user.rows, item.rows, user.width), (2, 2, 2));
        assert_eq!((bits(&user.values), bits(&item.values)), (bits(&values[..4]), bits(&values[4..])));
        assert_eq!((export.user_ids().unwrap(), export.item_ids().unwrap()), (dataset.user_ids, dataset.item_ids));
        assert_eq!(export.train().unwrap(), dataset.train);
        let said = export.manifest;
        assert_eq!((said.job.as_str(), said.model.as_str(), said.best_epoch), ("tiny", "lightgcn", 4));
        assert_eq!(said.data_digest, dataset.manifest.digest);
        assert_eq!((said.config_digest.as_str(), said.select.as_str(), said.best_validation), ("c", "recall@20", 0.5));
        let values = vec![("recall".into(), [(5, 0.5), (20, 0.75)].into()), ("ndcg".into(), [(5, 0.25)].into())];
        assert_eq!(said.test, TestMetrics { users: 1, values: MetricTable(values) });
    }

    #[test]
    fn a_disk_that_takes_nothing_is_said_so() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(FOLDER);
        std::fs::write(&folder, "a file where the folder should be").unwrap();
        let error = write(root.path(), &[1.0; 4], Ok(folder)).unwrap_err();
        assert!(error.to_string().contains("export cannot be written"), "{error}");
    }

    #[test]
    fn a_run_directory_that_was_removed_is_said_so() {
        let root = tempfile::tempdir().unwrap();
        // as a checkpoint makes it again
        std::fs::create_dir_all(root.path().join("run/checkpoints")).unwrap();
        let error = write(root.path(), &[1.0; 4], export_folder(&root.path().join("run"))).unwrap_err();
        assert!(error.to_string().contains("was removed while the run trained"), "{error}");
        std::fs::write(root.path().join("run/job.toml"), JOB).unwrap();
        assert_eq!(export_folder(&root.path().join("run")).unwrap(), root.path().join("run/export"));
    }
}
