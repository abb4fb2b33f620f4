//! What checkpoints a job has, from their manifests. Reading them waits for a disk or a bucket, so it happens off the
//! async threads, in few places at once, and of a job with many checkpoints only the newest are read.

use crate::run_dir::events::commit_times;
use crate::run_dir::scribe::best_step;
use crate::run_dir::{self, RunDirError, State};
use accord_data::checkpoint::Manifest;
use accord_proto::job::{Checkpoint, CheckpointsReply};
use accord_proto::status::{ApiError, ErrorCode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What a reply names at most; each costs a read.
const MOST: usize = 1000;
/// Lists that are read at once. A place that does not answer holds a thread for each.
const READERS: usize = 4;
/// As long as the command line waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Checkpoints {
    readers: Arc<Semaphore>,
}

impl Checkpoints {
    pub(super) fn new() -> Checkpoints {
        Checkpoints { readers: Arc::new(Semaphore::new(READERS)) }
    }

    /// Those of the run in a directory, newest first.
    ///
    /// # Errors
    /// [`ErrorCode::Deadline`], [`ErrorCode::Unavailable`] for a place that failed, [`ErrorCode::Internal`] for a run
    /// directory that makes no sense.
    pub(super) async fn of(&self, run_dir: PathBuf) -> Result<CheckpointsReply, ApiError> {
        let readers = Arc::clone(&self.readers);
        let read = async move {
            let reader = readers.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                // given back when the reading is over, whoever still waits for it
                let _reader = reader;
                list(&run_dir, MOST)
            })
            .await
        };
        let late = |_| {
            let seconds = ANSWER_WITHIN.as_secs();
            ApiError::new(ErrorCode::Deadline, format!("the checkpoints could not be listed within {seconds} s"))
        };
        let read = timeout(ANSWER_WITHIN, read).await.map_err(late)?;
        read.map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?.map_err(failed)
    }
}

fn failed(error: RunDirError) -> ApiError {
    let may_pass = match &error {
        RunDirError::Io { .. } | RunDirError::Busy(_) => true,
        RunDirError::Checkpoint(error) => error.is_retryable(),
        RunDirError::Foreign(_)
        | RunDirError::HoldsMore { .. }
        | RunDirError::Differs { .. }
        | RunDirError::OtherCheckpoints(_)
        | RunDirError::Removed(_)
        | RunDirError::Unreadable { .. } => false,
    };
    let code = if may_pass { ErrorCode::Unavailable } else { ErrorCode::Internal };
    ApiError::new(code, error.to_string())
}

/// A job that has not begun to train has none.
fn list(run_dir: &Path, most: usize) -> Result<CheckpointsReply, RunDirError> {
    let spec = match run_dir::inspect(run_dir)? {
        State::Empty => return Ok(CheckpointsReply::default()),
        State::Started(spec) | State::Finished(spec, _) => spec,
    };
    let store = accord_objects::open(&spec.checkpoint.uri, run_dir)?;
    // one more than asked for says whether there are more
    let mut found = store.list_newest(most + 1)?;
    let more = found.len() > most;
    found.truncate(most);
    let best = best_step(found.iter().map(|(step, manifest)| (*step, manifest.progress.best_epoch)));
    // a history that cannot be read leaves the times unknown
    let times = commit_times(run_dir).unwrap_or_default();
    let one = |(step, manifest): (u64, Manifest)| Checkpoint {
        step,
        epoch: manifest.progress.epoch,
        best: manifest.progress.best,
        best_epoch: manifest.progress.best_epoch,
        generation: manifest.generation,
        world: manifest.world,
        bytes: manifest.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add),
        address: store.address(step),
        holds_best: manifest.progress.best.is_some() && best == Some(step),
        committed_at_unix_ms: times.get(&step).copied(),
    };
    Ok(CheckpointsReply { checkpoints: found.into_iter().map(one).collect(), more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_data::checkpoint::{CheckpointStore, FileEntry, Progress, Snapshot};
    use std::fs;

    /// A run directory with checkpoints of these steps; the best epoch is that of step 20.
    fn run_dir(steps: &[u64]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let job = "[job]\nname = \"a\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\n";
        fs::write(dir.path().join(run_dir::JOB_FILE), job).unwrap();
        fs::write(dir.path().join(run_dir::JOB_ROOT_FILE), "/\n").unwrap();
        let store = CheckpointStore::new(dir.path().join("checkpoints"));
        for &step in steps {
            let best = (step >= 20).then_some(0.25);
            let progress = Progress { epoch: step / 10, step, best, best_epoch: 2, ..Progress::default() };
            let snapshot = Snapshot { rows: vec![], dense: vec![], progress: progress.clone() };
            let files: Vec<FileEntry> = store.write_shard(step, 3, 0, &snapshot).unwrap();
            let digest = || "digest".to_string();
            let (config_digest, data_digest) = (digest(), digest());
            let manifest =
                Manifest { version: 1, generation: 3, world: 2, progress, config_digest, data_digest, files };
            store.commit(step, &manifest).unwrap();
        }
        dir
    }

    #[test]
    fn the_newest_come_first_and_older_ones_than_asked_for_are_only_mentioned() {
        let dir = run_dir(&[10, 20, 30]);
        fs::create_dir(dir.path().join("checkpoints/step-0000000040")).unwrap();
        let all = list(dir.path(), 3).unwrap();
        assert_eq!(all.checkpoints.iter().map(|c| c.step).collect::<Vec<_>>(), [30, 20, 10], "40 is not committed");
        assert!(!all.more);
        let first = &all.checkpoints[0];
        assert_eq!((first.epoch, first.generation, first.world, first.best), (3, 3, 2, Some(0.25)));
        let folder = fs::read_dir(&first.address).unwrap().flatten();
        let shards = folder.filter(|file| file.path().extension().is_some_and(|e| e == "safetensors"));
        assert_eq!(first.bytes, shards.map(|file| file.metadata().unwrap().len()).sum::<u64>());
        let some = list(dir.path(), 2).unwrap();
        assert_eq!((some.checkpoints.len(), some.more), (2, true));
    }

    #[test]
    fn the_best_is_where_retention_keeps_it_and_none_before_the_first_evaluation() {
        let holders = |dir: tempfile::TempDir| {
            let all = list(dir.path(), 9).unwrap().checkpoints;
            all.into_iter().filter(|c| c.holds_best).map(|c| c.step).collect::<Vec<_>>()
        };
        assert_eq!(holders(run_dir(&[20, 30, 40])), [20]);
        assert!(holders(run_dir(&[5, 10])).is_empty());
    }

    #[test]
    fn a_run_that_has_not_begun_has_none_and_another_folder_is_said() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(list(dir.path(), 9).unwrap(), CheckpointsReply::default());
        assert_eq!(list(&dir.path().join("absent"), 9).unwrap(), CheckpointsReply::default());
        fs::write(dir.path().join("novel.txt"), "").unwrap();
        assert_eq!(failed(list(dir.path(), 9).unwrap_err()).code, ErrorCode::Internal);
    }
}
