//! `summary.json`: how a run ended, for people and programs. Written once, when a run has succeeded.

use super::{DATASET_FILE, JOB_FILE, JOB_ROOT_FILE, METRICS_FILE, RunDirError, SUMMARY_FILE, write_whole};
use accord_spec::TestMetrics;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub job: String,
    pub model: String,
    pub best_epoch: u64,
    /// The validation metric that selected the best epoch, such as `recall@20`; empty in a summary of an earlier version.
    #[serde(default)]
    pub select: String,
    /// Its value at the best epoch.
    pub best_validation: f64,
    /// Epochs and steps trained.
    pub epochs: u64,
    pub steps: u64,
    /// Of the best epoch.
    pub test: TestMetrics,
    pub seconds: Seconds,
    pub ranks: Vec<RankUse>,
    /// BLAKE3 (hex) of the data, and of what affects training in the job file.
    pub data_digest: String,
    pub config_digest: String,
    pub generation: u64,
    pub world: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Of every epoch, those before an interruption too.
    pub training: f64,
    /// By phase of a step, since the last resumption.
    pub by_phase: BTreeMap<String, f64>,
}

/// What one worker used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankUse {
    pub rank: u32,
    /// Of the process: at its highest; when training ended; and of that the libraries and what there was before the data.
    pub peak_memory_bytes: u64,
    #[serde(default)]
    pub resident_bytes: u64,
    #[serde(default)]
    pub baseline_bytes: u64,
    /// To other workers: in all, and of one step on the average: in all, and by the halo exchanges of propagation.
    pub bytes_sent: u64,
    #[serde(default)]
    pub step_bytes_sent: u64,
    #[serde(default)]
    pub step_halo_bytes_sent: u64,
}

/// Files without which a summary would speak of a run that nobody can look at.
const BESIDE: [&str; 4] = [JOB_FILE, JOB_ROOT_FILE, DATASET_FILE, METRICS_FILE];

impl Summary {
    /// Says that the run has succeeded.
    ///
    /// # Errors
    /// When the file cannot be written; [`RunDirError::Removed`] when another file of the run is gone: checkpoints and results
    /// that came after somebody removed the run directory have made the folder again, but nothing else of it.
    pub fn write(&self, run_dir: &Path) -> Result<(), RunDirError> {
        if let Some(gone) = BESIDE.iter().map(|name| run_dir.join(name)).find(|path| !path.is_file()) {
            return Err(RunDirError::Removed(gone));
        }
        let path = run_dir.join(SUMMARY_FILE);
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|e| RunDirError::Unreadable { path: path.clone(), message: e.to_string() })?;
        text.push('\n');
        write_whole(&path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            job: "a".into(),
            model: "lightgcn".into(),
            best_epoch: 1,
            select: "recall@20".into(),
            best_validation: 0.5,
            epochs: 1,
            steps: 3,
            test: TestMetrics::default(),
            seconds: Seconds::default(),
            ranks: Vec::new(),
            data_digest: "d".into(),
            config_digest: "c".into(),
            generation: 1,
            world: 1,
        }
    }

    #[test]
    fn a_run_directory_that_was_removed_meanwhile_gets_no_summary() {
        let dir = tempfile::tempdir().unwrap();
        BESIDE.iter().for_each(|name| std::fs::write(dir.path().join(name), "x").unwrap());
        summary().write(dir.path()).unwrap();
        for name in BESIDE {
            std::fs::remove_file(dir.path().join(SUMMARY_FILE)).unwrap();
            std::fs::remove_file(dir.path().join(name)).unwrap();
            let error = summary().write(dir.path()).unwrap_err();
            assert!(error.to_string().contains(name) && !error.is_bad_input(), "{error}");
            assert!(!dir.path().join(SUMMARY_FILE).exists());
            std::fs::write(dir.path().join(name), "x").unwrap();
            summary().write(dir.path()).unwrap();
        }
    }
}
