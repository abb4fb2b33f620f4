//! The run directory: the stable interface between a run and whoever looks at it. Knows its files, who may write them
//! and what must match when a run goes on. The coordinator writes everything but checkpoint shards, `export/` and the
//! partition that several workers keep.
//!
//! # Layout
//! * [`open`]: takes the directory for one generation and finds where to resume.
//! * [`metrics`]: the lines of `metrics.jsonl`, and cutting them back to a checkpoint.
//! * [`events`]: what happened to a run, read back.
//! * [`scribe`]: the one thread that writes while a generation lives.
//! * [`summary`]: what `summary.json` says.
//! * [`config`]: what of a job file affects training. [`data`]: the dataset of a job as it is now.

pub mod config;
pub mod data;
pub mod events;
pub mod metrics;
pub mod open;
pub mod scribe;
pub mod summary;

use accord_data::partition::KEPT_FILE;
use accord_objects::Options;
use accord_spec::{JobSpec, Location};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use summary::Summary;

pub const JOB_FILE: &str = "job.toml";
/// One line: the folder that `data.path` is relative to.
pub const JOB_ROOT_FILE: &str = "job_root.txt";
/// What a directory may hold before it is a run's.
const BEGINNINGS: [&str; 3] = ["job_root.txt.tmp", JOB_ROOT_FILE, "job.toml.tmp"];
pub const DATASET_FILE: &str = "dataset.json";
pub const METRICS_FILE: &str = "metrics.jsonl";
pub const SUMMARY_FILE: &str = "summary.json";
/// Behind the name of a file that is being written.
const UNFINISHED: &str = ".tmp";
const FOLDERS: [&str; 2] = ["export", "logs"];

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0} holds other files and is no run directory: give another --run-dir")]
    Foreign(PathBuf),
    #[error("{dir} holds a run of another job ({}): give another --run-dir, or start over with --fresh", differences.join(", "))]
    Differs { dir: PathBuf, differences: Vec<String> },
    #[error("{dir} also holds {}, which no run writes: move it away, or give another --run-dir; nothing was removed", files.join(", "))]
    HoldsMore { dir: PathBuf, files: Vec<String> },
    #[error("{0} is in use by another run: wait for it, or give another --run-dir")]
    Busy(PathBuf),
    #[error("{0} holds checkpoints of another job: give another checkpoint.uri, or remove them")]
    OtherCheckpoints(String),
    #[error(
        "{0} was removed while the run trained: the run directory lacks what belongs to the result\n  hint: remove what is left \
         of it and run the job again"
    )]
    Removed(PathBuf),
    #[error("{path}: {message}")]
    Unreadable { path: PathBuf, message: String },
    #[error(transparent)]
    Checkpoint(#[from] accord_data::checkpoint::CheckpointError),
}

impl RunDirError {
    /// Whether the user gave something unusable, rather than the machine failing.
    pub fn is_bad_input(&self) -> bool {
        match self {
            RunDirError::Foreign(_)
            | RunDirError::HoldsMore { .. }
            | RunDirError::Differs { .. }
            | RunDirError::OtherCheckpoints(_)
            | RunDirError::Unreadable { .. } => true,
            RunDirError::Io { .. } | RunDirError::Busy(_) | RunDirError::Removed(_) | RunDirError::Checkpoint(_) => {
                false
            }
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    let path = path.to_path_buf();
    move |source| RunDirError::Io { path, source }
}

/// What lies at a path that is to become a run directory.
#[derive(Debug)]
pub enum State {
    /// Nothing, or an empty folder.
    Empty,
    /// A run that may go on.
    Started(Box<JobSpec>),
    /// A run that is over.
    Finished(Box<JobSpec>, Box<Summary>),
}

/// Looks at a directory without changing it. One in which a job was tried and nothing trained counts as empty: the job may
/// be corrected.
///
/// # Errors
/// [`RunDirError::Foreign`] when it holds something else, or when its files cannot be read.
pub fn inspect(dir: &Path) -> Result<State, RunDirError> {
    Ok(match look(dir)? {
        State::Started(spec) if !has_trained(dir, &spec) => State::Empty,
        state => state,
    })
}

/// Whether something would be lost with the run: a checkpoint or an epoch.
fn has_trained(dir: &Path, spec: &JobSpec) -> bool {
    let saved = match Location::of_checkpoints(&spec.checkpoint.uri) {
        Ok(Location::Folder(folder)) => std::fs::read_dir(dir.join(folder)).is_ok_and(|mut all| all.next().is_some()),
        // a bucket is not asked
        Ok(Location::S3 { .. }) | Err(_) => true,
    };
    let lines = std::fs::read_to_string(dir.join(METRICS_FILE)).unwrap_or_default();
    saved || lines.lines().any(|line| line.contains(r#""kind":"epoch""#))
}

/// [`inspect`], whether anything was trained or not.
fn look(dir: &Path) -> Result<State, RunDirError> {
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Empty),
        Err(error) => return Err(io_error(dir)(error)),
    };
    let job_file = dir.join(JOB_FILE);
    if !job_file.is_file() || !dir.join(JOB_ROOT_FILE).is_file() {
        // a run writes JOB_ROOT_FILE and then JOB_FILE: whoever looks, or crashed, in between. A JOB_FILE alone may be a
        // user's own
        let begins = |name: &OsStr| BEGINNINGS.iter().any(|beginning| name == *beginning);
        let is_foreign = entries.any(|entry| !entry.is_ok_and(|entry| begins(&entry.file_name())));
        return if is_foreign { Err(RunDirError::Foreign(dir.into())) } else { Ok(State::Empty) };
    }
    let text = std::fs::read_to_string(&job_file).map_err(io_error(&job_file))?;
    let spec = accord_spec::parse(&text, &[])
        .map_err(|e| RunDirError::Unreadable { path: job_file, message: e.to_string() })?;
    let summary_file = dir.join(SUMMARY_FILE);
    if !summary_file.is_file() {
        return Ok(State::Started(Box::new(spec)));
    }
    let text = std::fs::read_to_string(&summary_file).map_err(io_error(&summary_file))?;
    let summary = serde_json::from_str(&text)
        .map_err(|e| RunDirError::Unreadable { path: summary_file, message: e.to_string() })?;
    Ok(State::Finished(Box::new(spec), Box::new(summary)))
}

/// Says that a finished run has to go on, so that it writes its results again.
///
/// # Errors
/// When the directory is in use, or the summary cannot be removed.
pub fn reopen(dir: &Path) -> Result<(), RunDirError> {
    let _lock = open::lock(dir)?;
    let summary = dir.join(SUMMARY_FILE);
    std::fs::remove_file(&summary).map_err(io_error(&summary))
}

/// Files of a run, the two that make a folder a run directory last.
const FILES: [&str; 6] = [METRICS_FILE, SUMMARY_FILE, DATASET_FILE, KEPT_FILE, JOB_FILE, JOB_ROOT_FILE];

/// Removes a run from its directory.
///
/// # Errors
/// When the directory is no run directory, is in use, or holds something that no run writes (nothing is removed then), or
/// when something cannot be removed.
pub fn clear(dir: &Path) -> Result<(), RunDirError> {
    let spec = match look(dir)? {
        State::Empty => return Ok(()),
        State::Started(spec) | State::Finished(spec, _) => spec,
    };
    let _lock = open::lock(dir)?;
    holds_only_a_run(dir, &spec)?;
    let absent_is_fine = |result: io::Result<()>, path: &Path| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    };
    let checkpoints = match Location::of_checkpoints(&spec.checkpoint.uri) {
        Ok(Location::Folder(folder)) => Some(folder),
        Ok(Location::S3 { .. }) | Err(_) => {
            accord_objects::open(&spec.checkpoint.uri, dir)?.clear()?;
            accord_objects::results::remove_export(&spec.checkpoint.uri, &Options::from_env())
                .map_err(|source| RunDirError::Io { path: PathBuf::from(&spec.checkpoint.uri), source })?;
            None
        }
    };
    for folder in FOLDERS.into_iter().chain(checkpoints) {
        let path = dir.join(folder);
        absent_is_fine(std::fs::remove_dir_all(&path), &path)?;
    }
    // in this order an interrupted clearing can be repeated
    for file in FILES {
        for path in [dir.join(format!("{file}{UNFINISHED}")), dir.join(file)] {
            absent_is_fine(std::fs::remove_file(&path), &path)?;
        }
    }
    Ok(())
}

fn holds_only_a_run(dir: &Path, spec: &JobSpec) -> Result<(), RunDirError> {
    let checkpoints = Path::new(&spec.checkpoint.uri).components().next();
    let is_own = |name: &str| {
        let whole = name.strip_suffix(UNFINISHED).unwrap_or(name);
        let is_folder = FOLDERS.contains(&name) || checkpoints.is_some_and(|own| own.as_os_str() == OsStr::new(name));
        is_folder || FILES.contains(&whole)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error(dir))? {
        let name = entry.map_err(io_error(dir))?.file_name().to_string_lossy().into_owned();
        if !is_own(&name) {
            files.push(name);
        }
    }
    files.sort();
    if files.is_empty() { Ok(()) } else { Err(RunDirError::HoldsMore { dir: dir.into(), files }) }
}

/// Writes a whole file so that a reader, or a crash, sees the old one or the new one.
pub(crate) fn write_whole(path: &Path, contents: &[u8]) -> Result<(), RunDirError> {
    use std::io::Write;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(UNFINISHED);
    let temporary = PathBuf::from(temporary);
    let mut file = std::fs::File::create(&temporary).map_err(io_error(&temporary))?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(io_error(&temporary))?;
    std::fs::rename(&temporary, path).map_err(io_error(path))
}

#[cfg(test)]
mod tests;
