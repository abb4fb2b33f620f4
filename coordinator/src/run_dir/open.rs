//! Takes a run directory for one generation: locks it, checks that it is this job's, finds the newest good checkpoint
//! and cuts `metrics.jsonl` back to it. Waits for the disk, so it runs off the async threads.

use super::metrics::{self, Kept, MetricsFile, ResumePoint};
use super::{JOB_FILE, JOB_ROOT_FILE, METRICS_FILE, RunDirError, State, config, inspect, io_error, write_whole};
use accord_data::checkpoint::{CheckpointError, CheckpointStore, NewestGood};
use accord_spec::JobSpec;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// What a run directory is opened for.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    pub dir: PathBuf,
    pub spec: JobSpec,
    /// The resolved text of `spec`.
    pub job_toml: String,
    pub job_root: PathBuf,
    pub generation: u64,
}

/// A run directory that is ours as long as this lives.
pub struct Opened {
    pub dir: PathBuf,
    pub metrics: MetricsFile,
    pub checkpoints: CheckpointStore,
    /// None: train from the start.
    pub resume: Option<Resume>,
    /// What `metrics.jsonl` holds of earlier sessions.
    pub kept: Kept,
    /// Checkpoints that were passed over, and why.
    pub warnings: Vec<String>,
    /// Held until the last line is written.
    pub lock: File,
}

/// A checkpoint to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    pub step: u64,
    pub data_digest: String,
}

/// # Errors
/// When the directory is another run's, in use, or not writable.
pub fn open(request: OpenRequest) -> Result<Opened, RunDirError> {
    let OpenRequest { dir, spec, job_toml, job_root, generation } = request;
    if let State::Started(old) | State::Finished(old, _) = inspect(&dir)? {
        let differences = config::differences(&old, &spec);
        if !differences.is_empty() {
            return Err(RunDirError::Differs { dir, differences });
        }
    }
    std::fs::create_dir_all(&dir).map_err(io_error(&dir))?;
    let lock = lock(&dir)?;
    write_whole(&dir.join(JOB_ROOT_FILE), format!("{}\n", job_root.display()).as_bytes())?;
    write_whole(&dir.join(JOB_FILE), job_toml.as_bytes())?;

    let checkpoints = CheckpointStore::new(dir.join(&spec.checkpoint.uri));
    let (newest, warnings) = newest_good(&checkpoints)?;
    let metrics_file = dir.join(METRICS_FILE);
    let point = newest.as_ref().map(|(_, point)| *point);
    let kept = metrics::rewind(&metrics_file, point)?;
    let mut metrics = MetricsFile::append_to(&metrics_file)?;
    let resume = newest.map(|(resume, _)| resume);
    if let Some(resume) = &resume {
        metrics.event(&metrics::Event::Resumed { step: resume.step, generation })?;
    }
    Ok(Opened { dir, metrics, checkpoints, resume, kept, warnings, lock })
}

/// Takes the directory for this process. The kernel lets go of it when the process ends, however it ends.
pub(super) fn lock(dir: &Path) -> Result<File, RunDirError> {
    let handle = File::open(dir).map_err(io_error(dir))?;
    match handle.try_lock() {
        Ok(()) => Ok(handle),
        Err(TryLockError::WouldBlock) => Err(RunDirError::Busy(dir.into())),
        Err(TryLockError::Error(error)) => Err(io_error(dir)(error)),
    }
}

type Newest = (Resume, ResumePoint);

/// The newest checkpoint that verifies. Damaged ones are moved aside: training will reach their steps again.
fn newest_good(checkpoints: &CheckpointStore) -> Result<(Option<Newest>, Vec<String>), CheckpointError> {
    let NewestGood { checkpoint, mut warnings } = checkpoints.newest_good()?;
    if !warnings.is_empty() {
        let good = checkpoint.as_ref().map(|(step, _)| *step);
        for step in damaged_steps(checkpoints, good) {
            let aside = checkpoints.set_aside(step)?;
            warnings.push(format!("the damaged checkpoint of step {step} is now {}", aside.display()));
        }
    }
    let newest = checkpoint.map(|(step, manifest)| {
        let point = ResumePoint { step, step_in_epoch: manifest.progress.step_in_epoch };
        (Resume { step, data_digest: manifest.data_digest }, point)
    });
    Ok((newest, warnings))
}

/// Folders that were committed and are newer than the newest good one.
fn damaged_steps(checkpoints: &CheckpointStore, good: Option<u64>) -> Vec<u64> {
    let entries = std::fs::read_dir(checkpoints.root()).into_iter().flatten().flatten();
    let committed = entries.filter(|entry| entry.path().join("manifest.json").exists());
    committed
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .filter(|step| good.is_none_or(|good| *step > good))
        .collect()
}
