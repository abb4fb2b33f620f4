//! The store of `coordinator run` and of the tests: a map. Keeps nothing beyond the process.

use super::{ClusterStore, Precondition, StoreError, Stored, Version, check, check_size};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A map behind a lock.
#[derive(Debug, Default)]
pub struct MemoryStore {
    keys: Mutex<BTreeMap<String, Stored>>,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        // every write below is one insert or remove: a poisoned lock guards a whole map
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_now(&self, key: &str, value: Vec<u8>, when: Precondition) -> Result<Version, StoreError> {
        check_size(key, &value)?;
        let mut keys = self.keys();
        let found = keys.get(key).map(|s| s.version);
        check(key, when, found)?;
        let version = found.unwrap_or(0) + 1;
        keys.insert(key.into(), Stored { value, version });
        Ok(version)
    }

    fn delete_now(&self, key: &str, when: Precondition) -> Result<(), StoreError> {
        let mut keys = self.keys();
        check(key, when, keys.get(key).map(|s| s.version))?;
        keys.remove(key);
        Ok(())
    }
}

impl ClusterStore for MemoryStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        let found = self.keys().get(key).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn put(&self, key: &str, value: Vec<u8>, when: Precondition) -> BoxFuture<'_, Result<Version, StoreError>> {
        let result = self.put_now(key, value, when);
        Box::pin(async move { result })
    }

    fn delete(&self, key: &str, when: Precondition) -> BoxFuture<'_, Result<(), StoreError>> {
        let result = self.delete_now(key, when);
        Box::pin(async move { result })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Stored)>, StoreError>> {
        let found = self
            .keys()
            .range(prefix.to_string()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, stored)| (key.clone(), stored.clone()))
            .collect();
        Box::pin(async move { Ok(found) })
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn memory_keeps_the_suite() {
        super::super::suite::run(&super::MemoryStore::new()).await;
    }
}
