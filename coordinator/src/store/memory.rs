//! The store of `coordinator run` and of the tests: a map. Keeps nothing beyond the process.

use super::decide::{Decision, Held, check_size, decide};
use super::leases::Leases;
use super::watch::Watchers;
use super::{ClusterStore, LeaseId, StoreError, Stored, Version, Watch, Write};
use futures::future::{BoxFuture, FutureExt, ready};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// A map behind a lock.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    keys: BTreeMap<String, Held>,
    leases: Leases,
    watchers: Watchers,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// What there is now: a lease whose time is over is gone, whether its own task has run or not.
    fn shared(&self) -> MutexGuard<'_, Shared> {
        // nothing below panics between two changes that belong together
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(lease) = shared.leases.overdue(Instant::now()) {
            shared.end(lease);
        }
        shared
    }
}

impl Shared {
    fn write(&mut self, write: Write) -> Result<Version, StoreError> {
        check_size(&write)?;
        let fence = write.fence.as_ref().and_then(|fence| self.keys.get(&fence.key));
        let fence = fence.map(|held| held.stored.value.as_slice());
        let version = match decide(&write, self.keys.get(&write.key), fence)? {
            Decision::Done(version) => return Ok(version),
            Decision::Write(version) => version,
        };
        let Write { key, value, lease, .. } = write;
        let Some(value) = value else {
            self.delete(&key);
            return Ok(0);
        };
        self.leases.check(lease)?;
        let stored = Stored { value, version };
        self.watchers.tell(&key, Some(&stored));
        self.keys.insert(key, Held { stored, lease });
        Ok(version)
    }

    fn delete(&mut self, key: &str) {
        if self.keys.remove(key).is_some() {
            self.watchers.tell(key, None);
        }
    }

    fn end(&mut self, lease: LeaseId) {
        let held = self.keys.iter().filter(|(_, held)| held.lease == Some(lease));
        let keys: Vec<String> = held.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.delete(&key);
        }
        self.leases.end(lease);
    }
}

/// Ends a lease when its time is over, so that watchers hear of it though nobody calls.
async fn end_in_time(shared: Weak<Mutex<Shared>>, lease: LeaseId, mut ends: Instant) {
    loop {
        tokio::time::sleep_until(ends).await;
        let Some(shared) = shared.upgrade() else { return };
        let Some(next) = (MemoryStore { shared }).shared().leases.ends(lease) else { return };
        ends = next;
    }
}

impl ClusterStore for MemoryStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        ready(Ok(self.shared().keys.get(key).map(|held| held.stored.clone()))).boxed()
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Stored)>, StoreError>> {
        let shared = self.shared();
        let found = shared.keys.range(prefix.to_string()..).take_while(|(key, _)| key.starts_with(prefix));
        ready(Ok(found.map(|(key, held)| (key.clone(), held.stored.clone())).collect())).boxed()
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Version, StoreError>> {
        ready(self.shared().write(write)).boxed()
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>> {
        let lease = self.shared().leases.grant(Instant::now(), ttl);
        let shared = Arc::downgrade(&self.shared);
        Box::pin(async move {
            tokio::spawn(end_in_time(shared, lease, Instant::now() + ttl));
            Ok(lease)
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(self.shared().leases.keep_alive(Instant::now(), lease)).boxed()
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.shared().end(lease);
        ready(Ok(())).boxed()
    }

    fn watch(&self, prefix: &str) -> BoxFuture<'_, Result<Watch, StoreError>> {
        ready(Ok(self.shared().watchers.watch(prefix))).boxed()
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test(start_paused = true)]
    async fn memory_keeps_the_suite() {
        super::super::suite::run(&super::MemoryStore::new()).await;
    }
}
