//! Watches: bounded queues of changes. One that cannot keep up ends instead of growing.

use super::Stored;
use tokio::sync::mpsc;

/// Changes that wait for a watcher, at most 64 KiB each.
pub(super) const WAITING: usize = 256;

/// A key that was written, or deleted (`stored` is None).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    pub stored: Option<Stored>,
}

/// The changes of the keys under one prefix, in order. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Change>,
}

impl Watch {
    pub(super) fn new() -> (mpsc::Sender<Change>, Watch) {
        let (sender, changes) = mpsc::channel(WAITING);
        (sender, Watch { changes })
    }

    /// The next change. None when the watch has ended, because the watcher fell behind or the store went away: changes
    /// are missing then, so watch again and list.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}

/// The watchers of a store within this process.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    watchers: Vec<(String, mpsc::Sender<Change>)>,
}

impl Watchers {
    pub(super) fn watch(&mut self, prefix: &str) -> Watch {
        let (sender, watch) = Watch::new();
        self.watchers.retain(|(_, watcher)| !watcher.is_closed());
        self.watchers.push((prefix.into(), sender));
        watch
    }

    pub(super) fn tell(&mut self, key: &str, stored: Option<&Stored>) {
        self.watchers.retain(|(prefix, watcher)| {
            let change = || Change { key: key.into(), stored: stored.cloned() };
            // a full queue ends its watch
            !key.starts_with(prefix.as_str()) || watcher.try_send(change()).is_ok()
        });
    }
}
