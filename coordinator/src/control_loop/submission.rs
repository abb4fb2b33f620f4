//! A submission becomes a job: parsed and validated again, whatever the client did. Pure but for the random token.

use super::handle::Submission;
use crate::job::{History, Job, JobId, Phase, Policy, UnixMs};
use crate::membership::Timeouts;
use accord_proto::status::{ApiError, ErrorCode};
use accord_spec::JobSpec;
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
pub(super) fn job_of(submission: Submission, dirs: &RunDirs, now: UnixMs) -> Result<(Job, JobSpec), ApiError> {
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
    let id = JobId::of(&spec.job.name, &submission_id);
    let job = Job {
        run_dir: dirs.of(&id),
        id,
        name: spec.job.name.clone(),
        submission_id,
        job_toml,
        job_root,
        token: uuid::Uuid::new_v4().simple().to_string(),
        priority: spec.job.priority,
        workers: spec.cluster.workers,
        policy: Policy {
            min_workers: spec.cluster.min_workers,
            max_restarts: spec.recovery.max_restarts,
            replace_within_ms: Timeouts::of(&spec.recovery).register_ms,
        },
        world: spec.cluster.workers,
        submitted_at: now,
        phase: Phase::Queued,
        since: now,
        generation: 0,
        stopping: None,
        history: History::default(),
    };
    Ok((job, spec))
}

/// # Errors
/// [`ErrorCode::BadInput`] for a number of workers that no job file may ask for.
pub(super) fn scalable(workers: u32) -> Result<(), ApiError> {
    if (1..=accord_spec::MAX_WORKERS).contains(&workers) {
        return Ok(());
    }
    let text = format!("{workers} workers: a job has 1 to {}", accord_spec::MAX_WORKERS);
    Err(ApiError::new(ErrorCode::BadInput, text))
}

/// The job that this submission made before, if it did.
///
/// # Errors
/// [`ErrorCode::BadInput`] when the submission id, or the job id made from it, is another job's.
pub(super) fn known<'a>(job: &Job, jobs: impl Iterator<Item = &'a Job> + Clone) -> Result<Option<JobId>, ApiError> {
    let bad = |text: String| Err(ApiError::new(ErrorCode::BadInput, text));
    if let Some(known) = jobs.clone().find(|j| j.submission_id == job.submission_id) {
        if (&known.job_toml, &known.job_root) != (&job.job_toml, &job.job_root) {
            return bad(format!("submission id {} was used for another job", job.submission_id));
        }
        return Ok(Some(known.id.clone()));
    }
    if jobs.into_iter().any(|j| j.id == job.id) {
        return bad(format!("the submission id makes the id of another job, {}", job.id));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(submission_id: &str, name: &str, job_root: &str) -> Job {
        let job_toml = format!("[job]\nname = \"{name}\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\n");
        let (submission_id, job_root) = (submission_id.into(), job_root.into());
        let submission = Submission { submission_id, job_toml, overrides: Vec::new(), job_root };
        job_of(submission, &RunDirs::Under("runs".into()), 0).unwrap().0
    }

    #[test]
    fn a_submission_id_is_one_job_and_no_other() {
        let first = job("s", "a", "/data");
        let jobs = [first.clone()];
        assert_eq!(known(&job("s", "a", "/data"), jobs.iter()).unwrap(), Some(first.id));
        assert_eq!(known(&job("t", "a", "/data"), jobs.iter()).unwrap(), None);
        // another name makes another job id: the submission id tells
        for other in [job("s", "b", "/data"), job("s", "a", "/elsewhere")] {
            let error = known(&other, jobs.iter()).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadInput);
            assert_eq!(error.message, "submission id s was used for another job");
        }
    }
}
