//! Real processes: `coordinator run` on a small made-up catalog, interrupted, killed, resumed and given bad input.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints for its reader")]

mod bad_input;
mod buckets;
mod commands;
mod configs;
mod disks;
mod docs;
mod metrics;
mod monitoring;
#[path = "../../worker/objects/tests/support/mod.rs"]
mod objects;
mod partition;
mod recovery;
mod resume;
mod serving;
mod soak;
mod takeover;
mod workers;

use accord_harness::catalog;
use std::path::{Path, PathBuf};

/// A folder with the catalog and a job file of `model`.
fn workspace(model: &str, epochs: u32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    catalog::write(&folder.path().join("data"));
    let job = folder.path().join("job.toml");
    std::fs::write(&job, catalog::job(model, epochs)).expect("the job file can be written");
    (folder, job)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}
