//! Writes checkpoint shards on a thread of its own: training only waits when the one before is still being written.
//! Commits nothing; the coordinator does. Whoever drops the writer, even in a panic, waits for what it was given.

use crate::agent::Uplink;
use accord_data::checkpoint::{CheckpointError, CheckpointStore, Snapshot};
use accord_proto::worker::{CheckpointFile, ShardFailed, ShardWritten, worker_message::Message};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The way to the writing thread.
pub struct SnapshotWriter {
    /// None while it ends.
    snapshots: Option<SyncSender<Snapshot>>,
    /// Says so each time the thread takes one up.
    room: Receiver<()>,
    thread: Option<JoinHandle<()>>,
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
        let (taken_up, room) = channel();
        // there is room for the first
        let _ = taken_up.send(());
        let work = move || write_all(&inbox, &taken_up, &store, generation, rank, &uplink);
        let thread = std::thread::Builder::new().name("snapshots".into()).spawn(work)?;
        Ok(SnapshotWriter { snapshots: Some(snapshots), room, thread: Some(thread) })
    }

    /// To be called before each [`SnapshotWriter::write`], which then does not wait. Returns how long it took.
    pub fn wait_for_room(&self) -> Duration {
        let begin = Instant::now();
        // a thread that is gone: `write` says so
        let _ = self.room.recv();
        begin.elapsed()
    }

    pub fn write(&self, snapshot: Snapshot) {
        if self.snapshots.as_ref().is_none_or(|snapshots| snapshots.send(snapshot).is_err()) {
            tracing::error!("the checkpoint thread is gone");
        }
    }

    /// Waits until everything is written and reported.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        // the thread ends when it has written all that it was given
        drop(self.snapshots.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

fn write_all(
    inbox: &Receiver<Snapshot>,
    taken_up: &Sender<()>,
    store: &CheckpointStore,
    generation: u64,
    rank: u32,
    uplink: &Uplink,
) {
    while let Ok(snapshot) = inbox.recv() {
        // nobody may be waiting any more
        let _ = taken_up.send(());
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
    let (begin, step) = (Instant::now(), snapshot.progress.step);
    let files = store.write_shard(step, generation, rank, snapshot)?;
    let file =
        |f: accord_data::checkpoint::FileEntry| CheckpointFile { name: f.name, bytes: f.bytes, blake3: f.blake3 };
    Ok(ShardWritten {
        step,
        progress_json: serde_json::to_string(&snapshot.progress)?,
        files: files.into_iter().map(file).collect(),
        seconds: begin.elapsed().as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_data::checkpoint::Progress;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_panic_waits_for_the_snapshot_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let (uplink, mut sent) = Uplink::to_channel();
        let writer = SnapshotWriter::start(CheckpointStore::new(dir.path().into()), 1, 0, uplink).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let writer = writer;
            writer.write(Snapshot {
                rows: Vec::new(),
                dense: Vec::new(),
                progress: Progress { step: 7, ..Progress::default() },
            });
            panic!("out of memory");
        }));
        assert!(panicked.is_err());
        assert!(matches!(sent.try_recv().unwrap(), Message::ShardWritten(shard) if shard.step == 7));
    }
}
