//! Writes checkpoint shards on a thread of its own: training only waits when the one before is still being written.
//! Commits nothing; the coordinator does.

use crate::agent::Uplink;
use accord_data::checkpoint::{CheckpointError, CheckpointStore, Snapshot};
use accord_proto::worker::{CheckpointFile, ShardFailed, ShardWritten, worker_message::Message};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The way to the writing thread.
pub struct SnapshotWriter {
    snapshots: SyncSender<Snapshot>,
    thread: JoinHandle<()>,
}

impl SnapshotWriter {
    /// # Errors
    /// When the machine has no thread left.
    pub fn start(
        store: CheckpointStore,
        generation: u64,
        rank: u32,
        uplink: Uplink,
    ) -> std::io::Result<SnapshotWriter> {
        // one in the hand, one waiting: more would only cost memory
        let (snapshots, inbox) = sync_channel(1);
        let work = move || write_all(&inbox, &store, generation, rank, &uplink);
        let thread = std::thread::Builder::new().name("snapshots".into()).spawn(work)?;
        Ok(SnapshotWriter { snapshots, thread })
    }

    pub fn write(&self, snapshot: Snapshot) {
        if self.snapshots.send(snapshot).is_err() {
            tracing::error!("the checkpoint thread is gone");
        }
    }

    /// Waits until everything is written and reported.
    pub fn finish(self) {
        drop(self.snapshots);
        if self.thread.join().is_err() {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

fn write_all(inbox: &Receiver<Snapshot>, store: &CheckpointStore, generation: u64, rank: u32, uplink: &Uplink) {
    while let Ok(snapshot) = inbox.recv() {
        let step = snapshot.progress.step;
        let message = match write(store, generation, rank, &snapshot) {
            Ok(shard) => Message::ShardWritten(shard),
            // saved before, by an earlier session or for another reason: the same state
            Err(WriteError::Checkpoint(CheckpointError::AlreadyCommitted { .. })) => continue,
            Err(error) => {
                tracing::warn!(step, %error, "a checkpoint was not written");
                Message::ShardFailed(ShardFailed { step, reason: error.to_string() })
            }
        };
        if !uplink.send_blocking(message) {
            // nobody is left to commit it
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("the progress cannot be written: {0}")]
    Progress(#[from] serde_json::Error),
}

fn write(store: &CheckpointStore, generation: u64, rank: u32, snapshot: &Snapshot) -> Result<ShardWritten, WriteError> {
    let step = snapshot.progress.step;
    let files = store.write_shard(step, generation, rank, snapshot)?;
    let file =
        |f: accord_data::checkpoint::FileEntry| CheckpointFile { name: f.name, bytes: f.bytes, blake3: f.blake3 };
    Ok(ShardWritten {
        step,
        progress_json: serde_json::to_string(&snapshot.progress)?,
        files: files.into_iter().map(file).collect(),
    })
}
