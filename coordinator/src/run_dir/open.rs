//! Takes a run directory for one generation: locks it, checks that it is this job's, finds the newest good checkpoint
//! and cuts `metrics.jsonl` back to it. Waits for the disk, so it runs off the async threads.

use super::metrics::{self, Kept, MetricsFile, ResumePoint};
use super::{JOB_FILE, JOB_ROOT_FILE, METRICS_FILE, RunDirError, State, config, inspect, io_error, write_whole};
use accord_data::checkpoint::{CheckpointStore, NewestGood};
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
    /// Its workers train already, and say again what came after the newest checkpoint.
    pub is_adopted: bool,
    /// Go on though another process holds the directory's lock: a coordinator that leads no more, which may be frozen.
    pub take_lock: bool,
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
    pub lock: Option<File>,
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
    let OpenRequest { dir, spec, job_toml, job_root, generation, is_adopted, take_lock } = request;
    if let State::Started(old) | State::Finished(old, _) = inspect(&dir)? {
        let differences = config::differences(&old, &spec);
        if !differences.is_empty() {
            return Err(RunDirError::Differs { dir, differences });
        }
    }
    std::fs::create_dir_all(&dir).map_err(io_error(&dir))?;
    let lock = match lock(&dir) {
        Err(RunDirError::Busy(_)) if take_lock => None,
        lock => Some(lock?),
    };
    write_whole(&dir.join(JOB_ROOT_FILE), format!("{}\n", job_root.display()).as_bytes())?;
    write_whole(&dir.join(JOB_FILE), job_toml.as_bytes())?;

    let checkpoints = accord_objects::open(&spec.checkpoint.uri, &dir)?;
    let (newest, warnings) = newest_good(&checkpoints, &spec)?;
    let metrics_file = dir.join(METRICS_FILE);
    let point = newest.as_ref().map(|(_, point)| *point);
    let kept = metrics::rewind(&metrics_file, point)?;
    let mut metrics = MetricsFile::append_to(&metrics_file)?;
    let resume = newest.map(|(resume, _)| resume);
    if let Some(resume) = resume.as_ref().filter(|_| !is_adopted) {
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

pub(super) type Newest = (Resume, ResumePoint);

/// The newest checkpoint that verifies. Damaged ones are moved aside: training will reach their steps again.
pub(super) fn newest_good(
    checkpoints: &CheckpointStore,
    spec: &JobSpec,
) -> Result<(Option<Newest>, Vec<String>), RunDirError> {
    let NewestGood { checkpoint, damaged, mut warnings } = checkpoints.newest_good()?;
    // a bucket does not say whose it is, as a run directory does
    if spec.checkpoint.in_bucket()
        && checkpoint.as_ref().is_some_and(|(_, manifest)| manifest.config_digest != config::digest(spec))
    {
        return Err(RunDirError::OtherCheckpoints(spec.checkpoint.uri.clone()));
    }
    for step in damaged {
        let aside = checkpoints.set_aside(step)?;
        warnings.push(format!("the damaged checkpoint of step {step} is now {aside}"));
    }
    let newest = checkpoint.map(|(step, manifest)| {
        let point = ResumePoint { step, step_in_epoch: manifest.progress.step_in_epoch };
        (Resume { step, data_digest: manifest.data_digest }, point)
    });
    Ok((newest, warnings))
}
