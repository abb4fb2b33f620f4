//! `coordinator data`: gets a known dataset, looks at one, or brings one into Accord's own form. One file per command;
//! `read` is what the last two share.

mod fetch;
mod import;
mod inspect;
mod read;

pub use fetch::{FetchArgs, KnownDataset};
pub use import::ImportArgs;
pub use inspect::InspectArgs;
pub use read::{FormatName, ReadArgs};

use clap::{Args, Subcommand};

/// Get a dataset, look at one, or import one
#[derive(Args, Debug)]
pub struct DataArgs {
    #[command(subcommand)]
    pub command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    Fetch(FetchArgs),
    Inspect(InspectArgs),
    Import(ImportArgs),
}

/// Runs one of the three.
///
/// # Errors
/// What could not be had, read or written.
pub fn run(args: DataArgs) -> anyhow::Result<()> {
    match args.command {
        DataCommand::Fetch(args) => fetch::run(args),
        DataCommand::Inspect(args) => inspect::run(&args),
        DataCommand::Import(args) => import::run(&args),
    }
}
