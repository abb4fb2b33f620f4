//! A submission becomes a job: parsed and validated again, whatever the client did. Pure but for the random token.

use super::handle::Submission;
use crate::job::{Job, JobId, Phase, UnixMs};
use accord_proto::status::{ApiError, ErrorCode};
use std::path::{Path, PathBuf};

/// Longer ids are no ids.
const MAX_ID_BYTES: usize = 128;

/// Where jobs keep their run directories.
#[derive(Clone, Debug)]
pub enum RunDirs {
    /// The one job of `coordinator run`.
    Fixed(PathBuf),
    /// `<folder>/<job id>` (`coordinator serve`).
    Under(PathBuf),
}

impl RunDirs {
    fn of(&self, id: &JobId) -> PathBuf {
        match self {
            RunDirs::Fixed(dir) => dir.clone(),
            RunDirs::Under(folder) => folder.join(&id.0),
        }
    }
}

/// # Errors
/// [`ErrorCode::BadInput`], with the message of the job file's parser.
pub(super) fn job_of(submission: Submission, dirs: &RunDirs, now: UnixMs) -> Result<Job, ApiError> {
    let bad = |text: String| ApiError::new(ErrorCode::BadInput, text);
    let Submission { submission_id, job_toml, overrides, job_root } = submission;
    if submission_id.is_empty() || submission_id.len() > MAX_ID_BYTES {
        return Err(bad(format!(
            "a submission id has 1 to {MAX_ID_BYTES} bytes, this one has {}",
            submission_id.len()
        )));
    }
    let spec = accord_spec::parse(&job_toml, &overrides).map_err(|e| bad(e.to_string()))?;
    if !Path::new(&job_root).is_absolute() || job_root.display().to_string().contains(['\n', '\r']) {
        return Err(bad(format!("the job file's folder {} is no absolute path of one line", job_root.display())));
    }
    let job_toml = toml::to_string(&spec).map_err(|e| bad(format!("the job file cannot be written back: {e}")))?;
    // the same submission id gives the same job
    let digest = blake3::hash(submission_id.as_bytes()).to_hex();
    let id = JobId(format!("{}-{}", spec.job.name, &digest[..10]));
    Ok(Job {
        run_dir: dirs.of(&id),
        id,
        name: spec.job.name,
        submission_id,
        job_toml,
        job_root,
        token: uuid::Uuid::new_v4().simple().to_string(),
        priority: spec.job.priority,
        world: spec.cluster.workers,
        submitted_at: now,
        phase: Phase::Queued,
        since: now,
        generation: 0,
        stopping: false,
    })
}
