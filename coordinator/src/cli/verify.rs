//! `coordinator verify`: whether checkpoints are what was committed.

use crate::cli::{Usage, output};
use accord_data::checkpoint::{CheckpointStore, VerifyReport};
use clap::Args;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

/// Check a checkpoint's digests
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator verify runs/ml-100k/checkpoints                      every checkpoint there
  coordinator verify runs/ml-100k/checkpoints/step-0000000400      one of them
  coordinator verify s3://bucket/ml-100k                           those in an object store

Exit code 0: all good. 1: a file is bad; each is named. A step folder without a manifest was never committed: named
on its own it is bad, among others it is only mentioned, as a run does not resume from it.")]
pub struct VerifyArgs {
    /// A step folder, or a folder of step folders, here or in an object store
    #[arg(value_name = "CHECKPOINT")]
    pub path: String,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Checked {
    path: String,
    good: bool,
    /// Whether there is a manifest; without one it is no checkpoint.
    committed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    good_files: usize,
    good_bytes: u64,
    problems: Vec<String>,
}

/// Checks and reports; the exit code is 1 when a committed checkpoint is bad.
///
/// # Errors
/// [`Usage`] for a folder that holds no checkpoint; an object store that does not answer.
pub fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let checked = check(&args.path)?;
    let bad = checked.iter().filter(|c| !c.good).count();
    if args.json {
        output::json(&checked)?;
    } else {
        show(&checked);
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(checkpoint: &str) -> anyhow::Result<Vec<Checked>> {
    let (store, step) = open(checkpoint)?;
    if let Some(step) = step {
        return Ok(vec![summary(store.verify(step), true)]);
    }
    let mut steps = store.steps()?;
    if steps.is_empty() {
        let message = format!("{checkpoint} holds no checkpoint: no folder is named like step-0000000400");
        return Err(Usage(message).into());
    }
    steps.sort_unstable();
    Ok(steps.into_iter().map(|step| summary(store.verify(step), false)).collect())
}

/// The store, and the step where one was named.
fn open(checkpoint: &str) -> anyhow::Result<(CheckpointStore, Option<u64>)> {
    let named = checkpoint.trim_end_matches('/');
    let (above, last) = named.rsplit_once('/').unwrap_or((".", named));
    let step = CheckpointStore::step_of(last);
    let root = match (step, above) {
        (None, _) => named,
        (Some(_), "") => "/",
        (Some(_), above) => above,
    };
    if checkpoint.contains("://") {
        let store = accord_objects::open(root, Path::new("."));
        return Ok((store.map_err(|e| Usage(e.to_string()))?, step));
    }
    if !Path::new(checkpoint).is_dir() {
        return Err(Usage(format!("{checkpoint} is no folder: name a step folder or a checkpoints folder")).into());
    }
    Ok((CheckpointStore::new(root.into()), step))
}

/// `alone`: the user named this very folder, so it has to be a checkpoint.
fn summary(report: VerifyReport, alone: bool) -> Checked {
    Checked {
        good: report.is_good() || !(report.committed || alone),
        committed: report.committed,
        epoch: report.manifest.as_ref().map(|m| m.progress.epoch),
        generation: report.manifest.as_ref().map(|m| m.generation),
        good_files: report.good_files,
        good_bytes: report.good_bytes,
        problems: report.problems.iter().map(ToString::to_string).collect(),
        path: report.address,
    }
}

fn show(checked: &[Checked]) {
    let mut rows = Vec::new();
    for c in checked {
        let verdict = match (c.good, c.committed) {
            (true, true) => "good",
            (true, false) => "not committed",
            (false, _) => "BAD",
        };
        let epoch = c.epoch.map_or_else(|| "-".into(), |e| e.to_string());
        let name = c.path.clone();
        rows.push(vec![name, verdict.into(), epoch, c.good_files.to_string(), c.good_bytes.to_string()]);
    }
    output::table(&["checkpoint", "verdict", "epoch", "good files", "good bytes"], rows);
    for c in checked {
        for problem in c.problems.iter().filter(|_| c.committed || !c.good) {
            output::note(format!("{}: {problem}", c.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_data::checkpoint::{Manifest, Progress, RowTable, Snapshot};
    use std::fs;

    /// A store with steps 10 and 20 committed and 30 begun.
    fn store() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(root.path().into());
        for step in [10, 20, 30] {
            let table = RowTable { name: "embeds".into(), ids: vec![0, 1], width: 2, values: vec![1., 2., 3., 4.] };
            let progress = Progress { epoch: step / 10, step, ..Progress::default() };
            let snapshot = Snapshot { rows: vec![table], dense: vec![], progress: progress.clone() };
            let files = store.write_shard(step, 0, 0, &snapshot).unwrap();
            if step < 30 {
                let manifest = Manifest {
                    version: 1,
                    generation: 0,
                    world: 1,
                    progress,
                    config_digest: "c".into(),
                    data_digest: "d".into(),
                    files,
                };
                store.commit(step, &manifest).unwrap();
            }
        }
        root
    }

    #[test]
    fn good_store_is_good_and_an_uncommitted_step_is_only_mentioned() {
        let root = store();
        let checked = check(root.path().to_str().unwrap()).unwrap();
        assert_eq!(
            checked.iter().map(|c| (c.good, c.committed)).collect::<Vec<_>>(),
            [(true, true), (true, true), (true, false)]
        );
        assert_eq!(checked[1].epoch, Some(2));
        let alone = check(&format!("{}/step-0000000030/", root.path().display())).unwrap();
        assert!(!alone[0].good);
    }

    #[test]
    fn damaged_and_missing_files_are_named() {
        let root = store();
        let rows = root.path().join("step-0000000010/rows-00000.safetensors");
        let mut bytes = fs::read(&rows).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&rows, bytes).unwrap();
        fs::remove_file(root.path().join("step-0000000020/dense.safetensors")).unwrap();
        let checked = check(root.path().to_str().unwrap()).unwrap();
        assert!(!checked[0].good && checked[0].problems[0].starts_with("rows-00000.safetensors: "));
        assert!(!checked[1].good && checked[1].problems[0].starts_with("dense.safetensors: "));
        let args = VerifyArgs { path: root.path().to_str().unwrap().into(), json: true };
        assert_eq!(run(args).unwrap(), ExitCode::FAILURE);
    }

    #[test]
    fn folder_without_checkpoints_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().to_str().unwrap();
        for bad in [empty, "/no/such/folder", "s3://B/x", "gs://bucket/x"] {
            assert!(check(bad).unwrap_err().downcast_ref::<Usage>().is_some(), "{bad}");
        }
    }
}
