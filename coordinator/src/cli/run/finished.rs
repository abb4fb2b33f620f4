//! `coordinator run` on a run that has finished: it is shown where it is whole and is the result of the data that the job
//! names; where its results were lost, it goes on from its last checkpoint and writes them again.

use crate::cli::job_file::JobFile;
use crate::cli::{Usage, output, run, shown, watch};
use crate::run_dir::data::{self, Current};
use crate::run_dir::{self, summary::Summary};
use accord_data::export::{Export, FOLDER};
use accord_spec::JobSpec;
use std::path::Path;

/// True when the result was printed; false when the run has to go on. `old`: the job as it was run in `dir`, which the user
/// knows as `shown_dir`.
///
/// # Errors
/// [`Usage`] when the data, or the metric that selects the epoch, are not those of the run.
pub(super) fn is_shown(
    dir: &Path,
    shown_dir: &Path,
    old: &JobSpec,
    summary: &Summary,
    job: &JobFile,
) -> anyhow::Result<bool> {
    same_selection(summary, job, shown_dir)?;
    let has_data = same_data(old, summary, job, shown_dir)?;
    if let Err(lost) = whole(dir, old, summary) {
        let place = shown_dir.join(FOLDER);
        if !has_data {
            let hint = "hint: put the data, or export/, back";
            return Err(Usage(format!("{} is not whole: {lost}\n  {hint}", place.display())).into());
        }
        run_dir::reopen(dir).map_err(run::usage)?;
        output::note(format!(
            "{} is not whole: {lost}\n  the run goes on from its last checkpoint and writes it again",
            place.display()
        ));
        return Ok(false);
    }
    output::note(format!("{} holds a finished run; --fresh trains again", shown_dir.display()));
    let best = shown::selected(&summary.select, summary.best_validation);
    watch::result(&summary.test, summary.best_epoch, &best, shown_dir);
    Ok(true)
}

/// What a job file leaves to the defaults may depend on the data, so that equal job files are not enough.
fn same_selection(summary: &Summary, job: &JobFile, dir: &Path) -> anyhow::Result<()> {
    match &job.spec.eval.select {
        Some(wanted) if !summary.select.is_empty() && *wanted != summary.select => Err(Usage(format!(
            "{} holds a finished run whose best epoch was selected by {}, and eval.select is {wanted} now\n  hint: give another \
             --run-dir, or train again with --fresh",
            dir.display(),
            summary.select
        ))
        .into()),
        _ => Ok(()),
    }
}

/// A finished run is the result of the data it was trained on. Where those are gone there is nothing else to show. True when
/// they are there.
fn same_data(old: &JobSpec, summary: &Summary, job: &JobFile, dir: &Path) -> anyhow::Result<bool> {
    let path = &job.spec.data.path;
    let changed = |why: String| {
        Usage(format!(
            "{} holds a finished run that was trained on other data than {path} holds now{why}\n  hint: put the data back, give \
             another --run-dir, or train again with --fresh",
            dir.display(),
        ))
    };
    // To read large data takes minutes, which would look like a hang.
    output::note(format!("comparing {path} with the data that the run was trained on"));
    let said = match data::current(&job.spec, &job.root) {
        Current::Digest(digest) if digest == summary.data_digest => return Ok(true),
        // before the metric was recorded, digests were taken in another way
        Current::Digest(_) if summary.select.is_empty() => {
            "the run is of an earlier version: its data cannot be compared with those of today".into()
        }
        Current::Digest(_) => return Err(changed(String::new()).into()),
        Current::Spoilt(error) => return Err(changed(format!(": {error}")).into()),
        Current::Gone if old.data.path != *path => {
            return Err(
                Usage(format!("{path} is missing, or empty: data.path was {} in this run", old.data.path)).into()
            );
        }
        Current::Gone => format!("{path} is gone, so this is the result of the data that were there"),
        Current::OutOfReach(why) => {
            format!("the data cannot be compared with those that the run was trained on: {why}")
        }
    };
    output::note(said);
    Ok(false)
}

/// Whether serving finds all it needs; else why not.
fn whole(dir: &Path, spec: &JobSpec, summary: &Summary) -> Result<(), String> {
    let Some(export) = Export::open(&dir.join(FOLDER)).map_err(|error| error.to_string())? else {
        // workers that share no disk with the run directory leave it in the bucket
        return if spec.checkpoint.in_bucket() { Ok(()) } else { Err("export.json is missing".into()) };
    };
    let said = (&export.manifest.data_digest, &export.manifest.config_digest);
    if said != (&summary.data_digest, &summary.config_digest) {
        return Err("it is the result of another run".into());
    }
    export.verify().map_err(|error| error.to_string())
}
