//! The store of `coordinator serve`: one redb file. Every write is on disk before it returns.

use super::{ClusterStore, Precondition, StoreError, Stored, Version, check, check_size};
use futures::future::BoxFuture;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;
use std::sync::Arc;

/// Key -> version (8 bytes, little-endian), then the value.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accord");

/// A redb file; one process at a time.
#[derive(Clone)]
pub struct EmbeddedStore {
    database: Arc<Database>,
}

impl EmbeddedStore {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// When the file is another process's, not a store, or cannot be written.
    pub fn open(path: &Path) -> Result<EmbeddedStore, StoreError> {
        let named = |e: &dyn std::fmt::Display| StoreError::Unavailable(format!("{}: {e}", path.display()));
        let database = Database::create(path).map_err(|e| named(&e))?;
        // so that reads find the table
        let write = database.begin_write().map_err(|e| named(&e))?;
        write.open_table(TABLE).map_err(|e| named(&e))?;
        write.commit().map_err(|e| named(&e))?;
        Ok(EmbeddedStore { database: Arc::new(database) })
    }

    /// redb waits for the disk: off the async threads.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let database = Arc::clone(&self.database);
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || work(&database)).await {
                Ok(result) => result,
                Err(error) => Err(unavailable(error)),
            }
        })
    }
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn decode(key: &str, bytes: &[u8]) -> Result<Stored, StoreError> {
    let (version, value) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| StoreError::Unavailable(format!("key {key}: {} bytes are no stored value", bytes.len())))?;
    Ok(Stored { value: value.to_vec(), version: u64::from_le_bytes(*version) })
}

fn encode(value: &[u8], version: Version) -> Vec<u8> {
    let mut bytes = version.to_le_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes
}

impl ClusterStore for EmbeddedStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        let key = key.to_string();
        self.blocking(move |database| {
            let table = database.begin_read().map_err(unavailable)?.open_table(TABLE).map_err(unavailable)?;
            let found = table.get(key.as_str()).map_err(unavailable)?;
            found.map(|bytes| decode(&key, bytes.value())).transpose()
        })
    }

    fn put(&self, key: &str, value: Vec<u8>, when: Precondition) -> BoxFuture<'_, Result<Version, StoreError>> {
        let key = key.to_string();
        self.blocking(move |database| {
            check_size(&key, &value)?;
            let write = database.begin_write().map_err(unavailable)?;
            let version = {
                let mut table = write.open_table(TABLE).map_err(unavailable)?;
                let found = version_of(&table, &key)?;
                check(&key, when, found)?;
                let version = found.unwrap_or(0) + 1;
                table.insert(key.as_str(), encode(&value, version).as_slice()).map_err(unavailable)?;
                version
            };
            write.commit().map_err(unavailable)?;
            Ok(version)
        })
    }

    fn delete(&self, key: &str, when: Precondition) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_string();
        self.blocking(move |database| {
            let write = database.begin_write().map_err(unavailable)?;
            {
                let mut table = write.open_table(TABLE).map_err(unavailable)?;
                check(&key, when, version_of(&table, &key)?)?;
                table.remove(key.as_str()).map_err(unavailable)?;
            }
            write.commit().map_err(unavailable)
        })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Stored)>, StoreError>> {
        let prefix = prefix.to_string();
        self.blocking(move |database| {
            let table = database.begin_read().map_err(unavailable)?.open_table(TABLE).map_err(unavailable)?;
            let mut found = Vec::new();
            for entry in table.range(prefix.as_str()..).map_err(unavailable)? {
                let (key, bytes) = entry.map_err(unavailable)?;
                if !key.value().starts_with(&prefix) {
                    break;
                }
                found.push((key.value().to_string(), decode(key.value(), bytes.value())?));
            }
            Ok(found)
        })
    }
}

fn version_of(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<Version>, StoreError> {
    let found = table.get(key).map_err(unavailable)?;
    found.map(|bytes| decode(key, bytes.value()).map(|s| s.version)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn embedded_keeps_the_suite() {
        let dir = tempfile::tempdir().unwrap();
        super::super::suite::run(&EmbeddedStore::open(&dir.path().join("store.redb")).unwrap()).await;
    }

    #[tokio::test]
    async fn what_was_put_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let store = EmbeddedStore::open(&path).unwrap();
        store.put("jobs/a", b"1".to_vec(), Precondition::Absent).await.unwrap();
        assert!(EmbeddedStore::open(&path).is_err(), "two processes must not share a store");
        drop(store);
        let stored = EmbeddedStore::open(&path).unwrap().get("jobs/a").await.unwrap();
        assert_eq!(stored, Some(Stored { value: b"1".to_vec(), version: 1 }));
    }
}
