//! A run directory whose job has finished: what it trained, by its `export/` alone. The dataset is never asked: it may have
//! changed since, or be gone. Writes nothing but an export that lies in a bucket.

use crate::cli::output::shell_quote;
use crate::cli::{Usage, run};
use crate::run_dir::{self, JOB_FILE, State};
use accord_data::export::{EMBEDDINGS, Export, FOLDER};
use accord_data::{Embeddings, Interactions};
use accord_objects::Options;
use accord_spec::JobSpec;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// Vectors of the best epoch, and whose they are.
pub(crate) struct FinishedRun {
    folder: PathBuf,
    export: Export,
    /// `[U, d]`
    pub(crate) user: Embeddings,
    /// `[I, d]`
    pub(crate) item: Embeddings,
    /// External ids by row.
    pub(crate) user_ids: Vec<String>,
    pub(crate) item_ids: Vec<String>,
}

impl FinishedRun {
    /// Opens a run directory.
    ///
    /// # Errors
    /// [`Usage`] when it is none, or its job has not finished yet; `DataError` when a file of its export was damaged.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<FinishedRun> {
        let export = match Export::open(&folder.join(FOLDER))? {
            Some(export) => export,
            None => fetched(folder)?,
        };
        let (user, item) = export.embeddings()?;
        let (user_ids, item_ids) = (export.user_ids()?, export.item_ids()?);
        Ok(FinishedRun { folder: folder.into(), export, user, item, user_ids, item_ids })
    }

    /// Titles by row of the items; none where the dataset had none.
    ///
    /// # Errors
    /// When the file was damaged.
    pub(crate) fn item_titles(&self) -> anyhow::Result<Option<Vec<String>>> {
        Ok(self.export.item_titles()?)
    }

    /// The interactions that were trained on.
    ///
    /// # Errors
    /// When the file was damaged.
    pub(crate) fn train(&self) -> anyhow::Result<Interactions> {
        Ok(self.export.train()?)
    }

    pub(crate) fn export_folder(&self) -> PathBuf {
        self.folder.join(FOLDER)
    }

    pub(crate) fn embeddings_file(&self) -> PathBuf {
        self.export.path(EMBEDDINGS)
    }
}

/// From the bucket of the checkpoints, where the workers of a finished job shared no disk with this run directory.
fn fetched(folder: &Path) -> anyhow::Result<Export> {
    if !folder.join(JOB_FILE).is_file() {
        let reason = if folder.is_dir() { "has no job.toml" } else { "is not there" };
        return Err(Usage(format!("{} is no run directory: it {reason}", folder.display())).into());
    }
    let dir = shell_quote(folder);
    let (spec, summary) = match run_dir::inspect(folder).map_err(run::usage)? {
        State::Finished(spec, summary) => (spec, summary),
        State::Started(_) | State::Empty => {
            return Err(Usage(format!(
                "the job in {} has no results yet: it has not finished\n  hint: coordinator run JOB.toml --run-dir {dir} \
                 goes on with it",
                folder.display()
            ))
            .into());
        }
    };
    let export = if spec.checkpoint.in_bucket() { from_bucket(folder, &spec)? } else { None };
    let Some(export) = export else {
        return Err(Usage(format!(
            "{} holds no results that can be read without the dataset: export/export.json is not there (the run is of an \
             earlier version, or the file was removed)\n  hint: coordinator run JOB.toml --run-dir {dir} writes it again from \
             the last checkpoint",
            folder.display()
        ))
        .into());
    };
    // a bucket may hold the results of another run
    let said = (&export.manifest.data_digest, &export.manifest.config_digest);
    if said != (&summary.data_digest, &summary.config_digest) {
        return Err(Usage(format!(
            "{} holds the results of another run than the one in {}: remove {} and put the right ones there",
            spec.checkpoint.uri,
            folder.display(),
            folder.join(FOLDER).display()
        ))
        .into());
    }
    Ok(export)
}

fn from_bucket(folder: &Path, spec: &JobSpec) -> anyhow::Result<Option<Export>> {
    let (uri, to) = (&spec.checkpoint.uri, folder.join(FOLDER));
    let found = accord_objects::results::get_export(uri, &to, &Options::from_env());
    match found.with_context(|| format!("the results cannot be fetched from {uri}"))? {
        true => Ok(Export::open(&to)?),
        false => Ok(None),
    }
}

/// A tiny finished run, for the tests of what reads one.
#[cfg(test)]
pub(crate) mod fixture {
    use accord_data::export::{Catalog, ExportManifest, ExportWriter};
    use accord_data::{Dataset, Interactions};
    use safetensors::Dtype;
    use safetensors::tensor::{TensorView, serialize};
    use std::fs;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};

    /// `DIR/data` (pairs) and `DIR/runs/tiny` (its job, finished). Users `ann`, `bob`, `eve`; items 10, 11, 12, 13 with
    /// scores 1, 2, 3, 4 times the user's number counted from 1. Ann trained with 13, Bob with 10 and 11, Eve with 12.
    pub(crate) fn finished_run() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("runs/tiny");
        fs::create_dir_all(&run).unwrap();
        fs::create_dir(root.path().join("data")).unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("data/train.txt", "ann 13\nbob 10\nbob 11\neve 12\n");
        write("data/valid.txt", "ann 10\nbob 12\n");
        write("data/test.txt", "ann 11\neve 10\n");
        write("data/item_titles.txt", "Ten\nEleven\nTwelve\nThirteen\n");
        let job = "[job]\nname = \"tiny\"\n[data]\npath = \"data\"\nformat = \"pairs\"\n[model]\nkind = \"lightgcn\"\n";
        write("runs/tiny/job.toml", job);
        write("runs/tiny/job_root.txt", &format!("{}\n", root.path().display()));
        let spec = accord_spec::parse(job, &[]).unwrap();
        let dataset = Dataset::load(&spec.data, root.path(), spec.job.seed, accord_data::TextNeed::None).unwrap();
        let item = [1.0, 9.0, 2.0, 9.0, 3.0, 9.0, 4.0, 9.0];
        export(&run, &dataset, &[1.0, 0.0, 2.0, 0.0, 3.0, 0.0], &item);
        (root, run)
    }

    /// Writes what a worker leaves, width 2.
    pub(crate) fn export(run: &Path, dataset: &Dataset, user: &[f32], item: &[f32]) {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (u, i) = (bytes(user), bytes(item));
        let views = [
            ("user", TensorView::new(Dtype::F32, vec![user.len() / 2, 2], &u).unwrap()),
            ("item", TensorView::new(Dtype::F32, vec![item.len() / 2, 2], &i).unwrap()),
        ];
        let mut writer = ExportWriter::begin(&run.join("export")).unwrap();
        let mut file = writer.embeddings().unwrap();
        file.write_all(&serialize(views, None).unwrap()).unwrap();
        writer.keep(file).unwrap();
        writer.dataset(&Catalog::of(dataset, Path::new("data")).unwrap(), &dataset.train).unwrap();
        let manifest = ExportManifest {
            version: ExportManifest::VERSION,
            job: "tiny".into(),
            model: "lightgcn".into(),
            users: dataset.users() as u64,
            items: dataset.items() as u64,
            dim: 2,
            data_digest: dataset.manifest.digest.clone(),
            config_digest: "c".into(),
            best_epoch: 1,
            select: "recall@20".into(),
            best_validation: 0.5,
            test: Default::default(),
            files: Vec::new(),
        };
        writer.commit(manifest).unwrap();
    }

    /// Says that the job of `run` has finished.
    pub(crate) fn summarize(run: &Path, data_digest: &str) {
        let test = serde_json::json!({"users": 1, "recall": {"5": 0.5}, "ndcg": {"5": 0.25}});
        let summary = serde_json::json!({
            "job": "tiny", "model": "lightgcn", "best_epoch": 1, "best_validation": 0.5, "epochs": 1, "steps": 1,
            "test": test, "seconds": {"training": 1.0, "by_phase": {}}, "ranks": [], "data_digest": data_digest,
            "config_digest": "c", "generation": 1, "world": 1
        });
        fs::write(run.join("summary.json"), summary.to_string()).unwrap();
    }

    /// The training interactions of [`finished_run`].
    pub(crate) fn train() -> Interactions {
        Interactions::from_pairs(3, 4, &[(0, 3), (1, 0), (1, 1), (2, 2)]).unwrap().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_data::DataError;
    use std::fs;

    fn refusal(folder: &Path) -> String {
        let error = FinishedRun::open(folder).map(|_| ()).unwrap_err();
        assert!(error.is::<Usage>() || error.is::<DataError>(), "{error:#} does not end with exit code 2");
        error.to_string()
    }

    #[test]
    fn a_run_is_read_without_its_dataset() {
        let (root, run) = fixture::finished_run();
        fs::remove_dir_all(root.path().join("data")).unwrap();
        // nor is anything of the run needed but its export
        fs::remove_file(run.join("job.toml")).unwrap();
        let found = FinishedRun::open(&run).unwrap();
        assert_eq!(found.user_ids, ["ann", "bob", "eve"]);
        assert_eq!(found.item_ids, ["10", "11", "12", "13"]);
        assert_eq!(found.item_titles().unwrap().unwrap()[3], "Thirteen");
        assert_eq!(found.train().unwrap(), fixture::train());
        assert_eq!((found.user.row(2), found.item.row(1)), (&[3.0, 0.0][..], &[2.0, 9.0][..]));
    }

    #[test]
    fn what_is_no_finished_run_is_a_usage_error() {
        let (root, run) = fixture::finished_run();
        assert!(refusal(&root.path().join("absent")).ends_with("is no run directory: it is not there"));
        assert!(refusal(root.path()).ends_with("it has no job.toml"));
        // a run that was killed between the embeddings and the last file
        fs::remove_file(run.join("export/export.json")).unwrap();
        assert!(refusal(&run).contains("has no results yet"));
        assert!(refusal(&run).contains("coordinator run JOB.toml --run-dir "));
        // one that an earlier version finished
        fixture::summarize(&run, "d");
        let said = refusal(&run);
        assert!(
            said.contains("export/export.json is not there") && said.contains("from the last checkpoint"),
            "{said}"
        );
    }

    #[test]
    fn a_hint_quotes_a_path_with_blanks() {
        let (root, run) = fixture::finished_run();
        fs::remove_file(run.join("export/export.json")).unwrap();
        let moved = root.path().join("run 1");
        fs::rename(&run, &moved).unwrap();
        assert!(refusal(&moved).contains(&format!("--run-dir '{}'", moved.display())), "{}", refusal(&moved));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let (_root, run) = fixture::finished_run();
        for name in ["embeddings.safetensors", "users.txt", "items.txt", "export.json"] {
            let path = run.join("export").join(name);
            let good = fs::read(&path).unwrap();
            fs::write(&path, &good[1..]).unwrap();
            let said = refusal(&run);
            assert!(said.contains(name) && said.contains("repeat the command"), "{said}");
            fs::write(&path, good).unwrap();
        }
        // read when it is needed
        fs::write(run.join("export/train.npz"), b"short").unwrap();
        let error = FinishedRun::open(&run).unwrap().train().unwrap_err();
        assert!(error.is::<DataError>() && error.to_string().contains("train.npz"), "{error}");
    }
}
