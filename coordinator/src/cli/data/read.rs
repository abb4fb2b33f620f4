//! How `data inspect` and `data import` read a dataset: the keys of `[data]` as arguments, and what is told by the files.

use crate::cli::{Usage, output};
use accord_data::{Dataset, DatasetManifest};
use accord_spec::{Data, Format, Override};
use clap::{Args, ValueEnum};
use std::path::Path;
use std::time::Duration;

/// Where a dataset lies and how it is read.
#[derive(Args, Debug)]
pub struct ReadArgs {
    /// Folder of the dataset, or s3://bucket/prefix
    #[arg(value_name = "DIR")]
    pub folder: String,
    /// How the interactions lie on disk [default: by the files' names]
    #[arg(long, value_enum)]
    pub format: Option<FormatName>,
    /// Drop interactions rated below this
    #[arg(long, value_name = "RATING")]
    pub min_rating: Option<f64>,
    /// Seed of the split, where one file has to be split (job.seed)
    #[arg(long, default_value_t = 2023)]
    pub seed: u64,
    /// Another key of a job file's [data], such as data.columns.user=buyer; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<Override>,
}

/// `data.format` of a job file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    Pairs,
    Adjacency,
    Recbole,
    Npz,
    Rlmrec,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Format {
        match name {
            FormatName::Pairs => Format::Pairs,
            FormatName::Adjacency => Format::Adjacency,
            FormatName::Recbole => Format::Recbole,
            FormatName::Npz => Format::Npz,
            FormatName::Rlmrec => Format::Rlmrec,
        }
    }
}

impl From<Format> for FormatName {
    fn from(format: Format) -> FormatName {
        match format {
            Format::Pairs => FormatName::Pairs,
            Format::Adjacency => FormatName::Adjacency,
            Format::Recbole => FormatName::Recbole,
            Format::Npz => FormatName::Npz,
            Format::Rlmrec => FormatName::Rlmrec,
        }
    }
}

impl std::fmt::Display for FormatName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// A dataset, and the format it was read by.
pub(super) struct Read {
    pub(super) dataset: Dataset,
    pub(super) format: FormatName,
}

impl ReadArgs {
    /// `[data]` of a job file that reads this dataset.
    fn keys(&self) -> Result<Data, Usage> {
        if let Some(other) = self.set.iter().find(|set| !set.key.starts_with("data.")) {
            return Err(Usage(format!("--set {}: only keys of [data] say how a dataset is read", other.key)));
        }
        // what the arguments say already, and a catalog that is made up
        let not_here = |set: &&Override| set.key == "data.path" || set.key.starts_with("data.synthetic");
        if let Some(other) = self.set.iter().find(not_here) {
            return Err(Usage(format!("--set {}: DIR says where the dataset lies", other.key)));
        }
        let job = "[job]\nname = \"read\"\n[data]\npath = \".\"\n[model]\nkind = \"lightgcn\"\n";
        let rating = self.min_rating.map(|value| Override { key: "data.min_rating".into(), value: value.to_string() });
        let set: Vec<Override> = self.set.iter().cloned().chain(rating).collect();
        let data = accord_spec::parse(job, &set).map_err(|error| Usage(error.to_string()))?.data;
        Ok(Data { path: self.folder.clone(), ..data })
    }

    /// The dataset with its texts, where there are any.
    ///
    /// # Errors
    /// A folder that cannot be fetched or read, or whose format cannot be told.
    pub(super) fn load(&self) -> anyhow::Result<Read> {
        let local = accord_objects::dataset::local(&self.keys()?, Duration::ZERO)?;
        let is_set = self.set.iter().any(|set| set.key == "data.format");
        let format = match self.format {
            Some(format) if is_set && Format::from(format) != local.format => {
                return Err(Usage(format!("--format {format} and --set data.format say different things")).into());
            }
            Some(format) => format,
            None if is_set => local.format.into(),
            None => guess_format(Path::new(&local.path))?,
        };
        let data = Data { format: format.into(), ..local };
        let text = Dataset::text_found(&data, Path::new(""))?;
        let dataset = Dataset::load(&data, Path::new(""), self.seed, text)?;
        Ok(Read { dataset, format })
    }
}

/// Says how the files were understood, and what was repaired.
pub(super) fn tell_how(manifest: &DatasetManifest) {
    for line in manifest.reading.lines() {
        output::note(format!("read {line}"));
    }
    for repair in &manifest.repairs {
        output::note(format!("repaired or noted: {} ({})", repair.what, repair.count));
    }
}

/// The format whose files the folder has.
fn guess_format(folder: &Path) -> Result<FormatName, Usage> {
    match accord_data::guess_format(folder) {
        Ok(format) => Ok(format.into()),
        Err(error) => Err(Usage(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_told_by_the_files_or_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("train.txt"), "").unwrap();
        assert!(guess_format(folder.path()).unwrap_err().0.contains("--format"));
        std::fs::remove_file(path("train.txt")).unwrap();
        std::fs::write(path("trn.npz"), "").unwrap();
        assert_eq!(guess_format(folder.path()).unwrap(), FormatName::Npz);
        assert!(guess_format(&path("trn.npz")).unwrap_err().0.contains("name the folder"));
        assert!(guess_format(&path("absent")).is_err());
    }

    #[test]
    fn keys_of_data_are_those_of_a_job_file() {
        let args = |set: &str| ReadArgs {
            folder: "logs".into(),
            format: None,
            min_rating: Some(3.0),
            seed: 1,
            set: vec![set.parse().unwrap()],
        };
        let data = args("data.columns.user=buyer").keys().unwrap();
        assert_eq!((data.path.as_str(), data.min_rating), ("logs", Some(3.0)));
        assert_eq!(data.columns.user, Some(accord_spec::Column::Name("buyer".into())));
        assert!(args("data.column.user=buyer").keys().unwrap_err().0.contains("column"));
        assert!(args("data.path=x").keys().unwrap_err().0.contains("DIR says where"));
        assert!(args("data.synthetic.users=5").keys().unwrap_err().0.contains("DIR says where"));
        assert!(args("optim.lr=1").keys().unwrap_err().0.contains("only keys of [data]"));
    }

    #[test]
    fn a_format_is_shown_as_it_is_written() {
        assert_eq!(FormatName::Rlmrec.to_string(), "rlmrec");
    }
}
