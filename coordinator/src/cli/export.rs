//! `coordinator export`: a finished run's embeddings or recommendations as files for serving.

mod files;
pub(crate) mod finished;
mod parquet;

use crate::cli::{Usage, output};
use accord_data::export::{ITEMS, MANIFEST, USERS};
use accord_data::{Embeddings, ranking};
use clap::{Args, ValueEnum};
use files::{Column, Folder};
use finished::FinishedRun;
use serde::Serialize;
use std::path::PathBuf;

/// Items per user, where nobody says how many.
const DEFAULT_K: usize = 20;

/// Write a finished run's results for serving
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator export runs/ml-100k-irllrec --what embeddings --format npy --out exported
  coordinator export runs/ml-100k-irllrec --what topk --k 50 --format parquet

Only the run's export/ is read: the dataset may have changed, or be gone.
Files (rows in the order of users.txt and items.txt, which hold the ids of the dataset):
  embeddings  safetensors: embeddings.safetensors (user, item)   npy: user.npy, item.npy
              parquet: users.parquet, items.parquet (id, embedding)
  topk        safetensors: topk.safetensors (items, scores)   npy: topk_items.npy, topk_scores.npy
              parquet: topk.parquet (user, rank, item, score)
In safetensors and npy a top-k item is a row of items.txt counted from 0; -1 fills the row of a user who has fewer
than k items left. Items of the training part are never recommended.")]
pub struct ExportArgs {
    /// Run directory of a job that has finished
    #[arg(value_name = "RUN")]
    pub job: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    pub what: What,
    #[arg(long, value_enum, default_value_t = Format::Safetensors)]
    pub format: Format,
    /// Items per user (topk) [default: 20, or all where there are fewer]
    #[arg(long)]
    pub k: Option<usize>,
    /// Folder for the files [default: the run's export/]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Say what was written as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Vectors of users and items
    Embeddings,
    /// The best items of each user
    Topk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Safetensors,
    Npy,
    Parquet,
}

#[derive(Serialize)]
struct Written {
    users: usize,
    items: usize,
    files: Vec<PathBuf>,
}

/// Writes the files and prints their paths.
///
/// # Errors
/// [`Usage`] for a folder that is no finished run; otherwise what could not be read or written.
pub fn run(args: ExportArgs) -> anyhow::Result<()> {
    if args.what == What::Topk && args.k == Some(0) {
        return Err(Usage("--k 0 asks for no items: give 1 or more".into()).into());
    }
    let run = FinishedRun::open(&args.job)?;
    let items = run.item.rows;
    if let Some(k) = args.k.filter(|&k| args.what == What::Topk && k > items) {
        return Err(Usage(format!("--k {k} asks for more than there is: give {items}, all items, or less")).into());
    }
    let k = args.k.unwrap_or(DEFAULT_K.min(items));
    let mut folder = Folder::create(args.out.clone().unwrap_or_else(|| run.export_folder()))?;
    // the run's own files have this very form
    let own = folder.holds(&run.embeddings_file());
    if let Some(out) = args.out.filter(|out| !own && out.join(MANIFEST).exists()) {
        let message = format!("--out {} is the export/ of another run: give another folder", out.display());
        return Err(Usage(message).into());
    }
    for (name, ids) in [(USERS, &run.user_ids), (ITEMS, &run.item_ids)] {
        match own {
            true => folder.files.push(run.export_folder().join(name)),
            false => folder.lines(name, ids)?,
        }
    }
    match args.what {
        What::Embeddings => write_embeddings(&mut folder, &run, args.format)?,
        What::Topk => {
            let users: Vec<u32> = (0..run.user.rows as u32).collect();
            output::note(format!("ranking {} items for {} users", run.item.rows, run.user.rows));
            let ranked = ranking::top_k(&run.user, &run.item, &run.train()?, &users, k);
            write_top_k(&mut folder, &run, &ranked, k, args.format)?;
        }
    }
    let written = Written { users: run.user.rows, items: run.item.rows, files: folder.files };
    if args.json {
        return output::json(&written);
    }
    for file in &written.files {
        output::line(file.display());
    }
    Ok(())
}

fn write_embeddings(folder: &mut Folder, run: &FinishedRun, format: Format) -> anyhow::Result<()> {
    let shape = |m: &Embeddings| vec![m.rows, m.width];
    let columns = [
        ("user", shape(&run.user), Column::F32(&run.user.values)),
        ("item", shape(&run.item), Column::F32(&run.item.values)),
    ];
    match format {
        Format::Safetensors if folder.holds(&run.embeddings_file()) => {
            folder.files.push(run.embeddings_file());
            Ok(())
        }
        Format::Safetensors => folder.safetensors("embeddings.safetensors", &columns),
        Format::Npy => {
            columns.iter().try_for_each(|(name, shape, column)| folder.npy(&format!("{name}.npy"), shape, column))
        }
        Format::Parquet => {
            folder.write("users.parquet", |file| parquet::embeddings(file, &run.user_ids, &run.user))?;
            folder.write("items.parquet", |file| parquet::embeddings(file, &run.item_ids, &run.item))
        }
    }
}

fn write_top_k(
    folder: &mut Folder,
    run: &FinishedRun,
    ranked: &[Vec<ranking::Scored>],
    k: usize,
    format: Format,
) -> anyhow::Result<()> {
    if format == Format::Parquet {
        return folder.write("topk.parquet", |file| parquet::top_k(file, &run.user_ids, &run.item_ids, ranked));
    }
    let shape = vec![ranked.len(), k];
    let mut items = vec![-1i32; ranked.len() * k];
    let mut scores = vec![f32::NEG_INFINITY; ranked.len() * k];
    for (user, list) in ranked.iter().enumerate() {
        for (rank, scored) in list.iter().enumerate() {
            // a table of 2^31 items does not fit the memory of this program
            items[user * k + rank] = scored.item as i32;
            scores[user * k + rank] = scored.score;
        }
    }
    let columns = [("items", shape.clone(), Column::I32(&items)), ("scores", shape, Column::F32(&scores))];
    match format {
        Format::Npy => {
            columns.iter().try_for_each(|(name, shape, column)| folder.npy(&format!("topk_{name}.npy"), shape, column))
        }
        _ => folder.safetensors("topk.safetensors", &columns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
    use ::parquet::record::RowAccessor as _;
    use std::fs;

    fn export(what: What, format: Format) -> (tempfile::TempDir, PathBuf) {
        let (root, run_dir) = finished::fixture::finished_run();
        let out = root.path().join("out");
        let args = ExportArgs { job: run_dir, what, format, k: Some(3), out: Some(out.clone()), json: true };
        run(args).unwrap();
        assert_eq!(fs::read_to_string(out.join("users.txt")).unwrap(), "ann\nbob\neve\n");
        assert_eq!(fs::read_to_string(out.join("items.txt")).unwrap(), "10\n11\n12\n13\n");
        (root, out)
    }

    #[test]
    fn embeddings_are_the_runs_own_in_every_format() {
        let (_root, out) = export(What::Embeddings, Format::Npy);
        let user = Embeddings::read(&out.join("user.npy")).unwrap();
        assert_eq!((user.rows, user.width, user.values), (3, 2, vec![1.0, 0.0, 2.0, 0.0, 3.0, 0.0]));
        let (root, out) = export(What::Embeddings, Format::Safetensors);
        let own = root.path().join("runs/tiny/export/embeddings.safetensors");
        let tensors = |file| {
            let bytes = fs::read(file).unwrap();
            let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            ["user", "item"].map(|n| parsed.tensor(n).unwrap().data().to_vec())
        };
        assert_eq!(tensors(own), tensors(out.join("embeddings.safetensors")));
        let (_root, out) = export(What::Embeddings, Format::Parquet);
        let file = SerializedFileReader::new(fs::File::open(out.join("items.parquet")).unwrap()).unwrap();
        let rows: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows[3].get_string(0).unwrap(), "13");
        let list = rows[3].get_list(1).unwrap();
        assert_eq!(list.elements(), [::parquet::record::Field::Float(4.0), ::parquet::record::Field::Float(9.0)]);
    }

    #[test]
    fn top_k_leaves_training_items_out_in_every_format() {
        let (_root, out) = export(What::Topk, Format::Parquet);
        let file = SerializedFileReader::new(fs::File::open(out.join("topk.parquet")).unwrap()).unwrap();
        let rows: Vec<String> = file
            .get_row_iter(None)
            .unwrap()
            .map(|r| {
                let r = r.unwrap();
                let (user, item) = (r.get_string(0).unwrap(), r.get_string(2).unwrap());
                format!("{user} {} {item} {}", r.get_int(1).unwrap(), r.get_float(3).unwrap())
            })
            .collect();
        // Bob has two items left
        let wanted = [
            "ann 1 12 3",
            "ann 2 11 2",
            "ann 3 10 1",
            "bob 1 13 8",
            "bob 2 12 6",
            "eve 1 13 12",
            "eve 2 11 6",
            "eve 3 10 3",
        ];
        assert_eq!(rows, wanted);
        let (_root, out) = export(What::Topk, Format::Safetensors);
        let bytes = fs::read(out.join("topk.safetensors")).unwrap();
        let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let items = parsed.tensor("items").unwrap();
        assert_eq!(items.shape(), [3, 3]);
        let (numbers, _) = items.data().as_chunks();
        let numbers: Vec<i32> = numbers.iter().map(|&b| i32::from_le_bytes(b)).collect();
        assert_eq!(numbers, [2, 1, 0, 3, 2, -1, 3, 1, 0]);
        let (_root, out) = export(What::Topk, Format::Npy);
        assert!(fs::read(out.join("topk_items.npy")).unwrap().starts_with(b"\x93NUMPY\x01\x00"));
        assert_eq!(fs::metadata(out.join("topk_scores.npy")).unwrap().len(), 128 + 4 * 9);
    }

    #[test]
    fn more_items_than_there_are_is_refused_before_anything_is_written() {
        let (root, run_dir) = finished::fixture::finished_run();
        let out = root.path().join("out");
        let args = ExportArgs {
            job: run_dir,
            what: What::Topk,
            format: Format::Npy,
            k: Some(5),
            out: Some(out.clone()),
            json: false,
        };
        let error = run(args).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("give 4"), "{error}");
        assert!(!out.exists());
    }

    #[test]
    fn the_runs_own_files_are_not_written_over() {
        use std::os::unix::fs::MetadataExt as _;
        let (_root, run_dir) = finished::fixture::finished_run();
        // a file that is written anew is another one
        let number = |name: &str| fs::metadata(run_dir.join("export").join(name)).unwrap().ino();
        let files = ["embeddings.safetensors", "users.txt", "items.txt", "export.json"];
        let before = files.map(number);
        for (what, format) in [(What::Embeddings, Format::Safetensors), (What::Topk, Format::Npy)] {
            run(ExportArgs { job: run_dir.clone(), what, format, k: Some(2), out: None, json: false }).unwrap();
        }
        assert_eq!(files.map(number), before);
        assert!(FinishedRun::open(&run_dir).is_ok());
    }

    #[test]
    fn another_runs_own_files_are_not_written_over() {
        let ((_root, run_dir), (_other, other_run)) =
            (finished::fixture::finished_run(), finished::fixture::finished_run());
        let out = other_run.join("export");
        let args = ExportArgs {
            job: run_dir,
            what: What::Topk,
            format: Format::Npy,
            k: Some(2),
            out: Some(out.clone()),
            json: false,
        };
        let error = run(args).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("another run"), "{error}");
        assert!(!out.join("topk_items.npy").exists());
    }

    #[test]
    fn a_run_is_exported_without_its_dataset() {
        let (root, run_dir) = finished::fixture::finished_run();
        fs::remove_dir_all(root.path().join("data")).unwrap();
        for what in [What::Embeddings, What::Topk] {
            let out = Some(root.path().join("out"));
            run(ExportArgs { job: run_dir.clone(), what, format: Format::Npy, k: Some(2), out, json: false }).unwrap();
        }
        assert_eq!(fs::read_to_string(root.path().join("out/users.txt")).unwrap(), "ann\nbob\neve\n");
    }
}
