//! `coordinator data import`: a dataset of any format, written once as the folder that loads fastest.

use super::read::{FormatName, Read, ReadArgs};
use crate::cli::{Usage, output};
use accord_data::{Dataset, DatasetManifest, prepared};
use accord_spec::{Data, Format};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Read a dataset of any format and write it in Accord's own
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator data import IRLLRec/data/amazon --dest data/amazon
  coordinator data import logs/ --format pairs --min-rating 4 --dest data/logs

Writes trn.npz, val.npz and tst.npz (what was not split is split now), users.txt, items.txt and the text tables; a job
reads them with data.format = \"npz\". The folder appears whole or not at all.")]
pub struct ImportArgs {
    #[command(flatten)]
    pub read: ReadArgs,
    /// Folder to write; it must not hold anything yet
    #[arg(long, value_name = "DIR")]
    pub dest: PathBuf,
    /// Print the written dataset's manifest as JSON
    #[arg(long)]
    pub json: bool,
}

/// What `data import --json` says.
#[derive(Serialize)]
struct Imported<'a> {
    folder: &'a Path,
    /// How it was read.
    read_as: String,
    #[serde(flatten)]
    manifest: DatasetManifest,
}

/// # Errors
/// What could not be read or written.
pub(super) fn run(args: &ImportArgs) -> anyhow::Result<()> {
    refuse_occupied(&args.dest)?;
    let Read { dataset, format } = args.read.load()?;
    if !args.json {
        tell(&args.read.folder, format, &dataset.manifest);
    }
    // checked before it has its name, so that --dest never holds what cannot be trained on
    let written = prepared::write_checked(&args.dest, &dataset, |fresh| {
        same_dataset(read_back(fresh)?, &dataset.manifest.digest)
    })?;
    if args.json {
        // what was repaired is no longer there to be repaired
        let manifest = DatasetManifest { repairs: dataset.manifest.repairs, ..written };
        let (folder, read_as) = (args.dest.as_path(), format.to_string());
        return output::json(&Imported { folder, read_as, manifest });
    }
    output::note(format!("wrote the dataset {}: train it with data.format = \"npz\"", written.digest));
    output::line(args.dest.display());
    Ok(())
}

fn refuse_occupied(dest: &Path) -> Result<(), Usage> {
    if dest.to_string_lossy().starts_with("s3://") {
        return Err(Usage("--dest names a folder of this machine; upload it to the bucket afterwards".into()));
    }
    let occupied = match dest.read_dir() {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => dest.exists(),
    };
    if occupied {
        return Err(Usage(format!("{} exists and is no empty folder: name a new one with --dest", dest.display())));
    }
    Ok(())
}

fn tell(folder: &str, format: FormatName, manifest: &DatasetManifest) {
    let DatasetManifest { users, items, train, validation, test, .. } = manifest;
    let text = match (manifest.profile_width, manifest.intent_width) {
        (Some(profile), Some(intent)) => format!("profiles {profile} wide, intents {intent} wide"),
        (Some(profile), None) => format!("profiles {profile} wide"),
        _ => "no text".into(),
    };
    output::note(format!(
        "read {folder} as {format}: {users} users, {items} items, {train} training, {validation} validation and {test} \
         test interactions, {text}"
    ));
    super::read::tell_how(manifest);
}

/// What was read back, if it is what was written.
fn same_dataset(written: DatasetManifest, digest: &str) -> anyhow::Result<DatasetManifest> {
    if written.digest != digest {
        anyhow::bail!("what was written is not what was read: its digest is {}, not {digest}", written.digest);
    }
    Ok(written)
}

fn read_back(dest: &Path) -> anyhow::Result<DatasetManifest> {
    let data = Data::at(dest.display().to_string(), Format::Npz);
    // its parts lie apart: the seed decides nothing
    let text = Dataset::text_found(&data, Path::new(""))?;
    Ok(Dataset::load(&data, Path::new(""), 0, text)?.manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(folder: &Path, dest: PathBuf) -> ImportArgs {
        let folder = folder.display().to_string();
        ImportArgs {
            read: ReadArgs { folder, format: None, min_rating: Some(3.0), seed: 1, set: vec![] },
            dest,
            json: false,
        }
    }

    #[test]
    fn what_is_imported_is_the_dataset_that_was_read() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("logs");
        std::fs::create_dir(&source).unwrap();
        let lines: String = (0..60).map(|k| format!("u{},i{},{}\n", k % 7, k % 11, 1 + k % 5)).collect();
        std::fs::write(source.join("all.csv"), format!("user,item,rating\n{lines}")).unwrap();
        let args = args(&source, root.path().join("new/logs"));
        run(&args).unwrap();
        let read = args.read.load().unwrap();
        assert_eq!(read.format, FormatName::Pairs);
        let written = read_back(&args.dest).unwrap();
        assert_eq!(written.digest, read.dataset.manifest.digest);
        assert_eq!(std::fs::read_to_string(args.dest.join("users.txt")).unwrap().lines().count() as u64, written.users);
    }

    /// Each item occurs once, so most items of the test part are not in training.
    #[test]
    fn a_split_of_our_own_is_imported_whatever_it_holds() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("once");
        std::fs::create_dir(&source).unwrap();
        let lines: String = (0..300).map(|k| format!("u{},i{k},5\n", k % 30)).collect();
        std::fs::write(source.join("all.csv"), format!("user,item,rating\n{lines}")).unwrap();
        let args = args(&source, root.path().join("new"));
        run(&args).unwrap();
        assert_eq!(read_back(&args.dest).unwrap().items, 300);
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("trn.npz"), "mine").unwrap();
        let said = run(&args(root.path(), root.path().into())).unwrap_err();
        assert!(said.is::<Usage>() && said.to_string().contains("name a new one"), "{said}");
        assert_eq!(std::fs::read(root.path().join("trn.npz")).unwrap(), b"mine");
        let file = root.path().join("trn.npz");
        assert!(run(&args(root.path(), file)).unwrap_err().is::<Usage>());
        assert!(refuse_occupied(Path::new("s3://bucket/set")).is_err());
    }
}
