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
use std::cell::Cell;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// A temporary folder of a test that trains. Such tests take turns: workers that exchange hundreds of messages a second lose
/// a time slice for each where two jobs share two cores, and both together take several times as long as one after the other.
struct Workspace {
    folder: TempDir,
    // a test may have several
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Workspace {
    fn new() -> Workspace {
        static TURN: Mutex<()> = Mutex::new(());
        let is_mine = OPEN.with(|open| open.replace(open.get() + 1)) > 0;
        // a test that failed says nothing against the next
        let turn = (!is_mine).then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
        Workspace { folder: tempfile::tempdir().expect("a temporary folder"), _turn: turn }
    }
}

thread_local! {
    /// Workspaces of this thread's test.
    static OPEN: Cell<usize> = const { Cell::new(0) };
}

impl Drop for Workspace {
    fn drop(&mut self) {
        OPEN.with(|open| open.set(open.get() - 1));
    }
}

impl Deref for Workspace {
    type Target = TempDir;

    fn deref(&self) -> &TempDir {
        &self.folder
    }
}

/// A folder with the catalog and a job file of `model`.
fn workspace(model: &str, epochs: u32) -> (Workspace, PathBuf) {
    let folder = Workspace::new();
    catalog::write(&folder.path().join("data"));
    let job = folder.path().join("job.toml");
    std::fs::write(&job, catalog::job(model, epochs)).expect("the job file can be written");
    (folder, job)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}
