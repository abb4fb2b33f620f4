//! The store of `coordinator serve`: one redb file. Every write is on disk before it returns.
//!
//! Calls happen one after the other, in the order they were made. So a call whose caller stopped waiting has either not
//! begun or is over before the next one begins: what that one reads is the truth.

use super::decide::{Decision, Held, check_size, decide};
use super::leases::Leases;
use super::watch::Watchers;
use super::{ClusterStore, LeaseId, StoreError, Stored, Version, Watch, Write};
use futures::future::BoxFuture;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Key -> version (8 bytes, little-endian), then the value.
const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("accord");
/// Key -> its lease. Leases live in this process only: at the next opening these keys go.
const LEASED: TableDefinition<'_, &str, i64> = TableDefinition::new("leased");

/// Between two tries to take the keys of an ended lease off a disk that does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Opens the file again.
type Reopen = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// A redb file; one process at a time.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// None after an error: redb refuses everything on a handle that has seen one.
    database: Option<Database>,
    reopen: Reopen,
    leases: Leases,
    watchers: Watchers,
}

impl EmbeddedStore {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// When the file is another process's, not a store, or cannot be written.
    pub fn open(path: &Path) -> Result<EmbeddedStore, StoreError> {
        let database = Database::create(path).map_err(|e| unavailable(format!("{}: {e}", path.display())))?;
        let path = path.to_path_buf();
        // never created anew: that would be a store which has lost everything
        EmbeddedStore::on(database, Box::new(move || Database::open(&path)))
    }

    fn on(database: Database, reopen: Reopen) -> Result<EmbeddedStore, StoreError> {
        forget_leased(&database)?;
        let inner =
            Inner { database: Some(database), reopen, leases: Leases::default(), watchers: Watchers::default() };
        Ok(EmbeddedStore { inner: Arc::new(Mutex::new(inner)) })
    }

    /// redb waits for the disk: off the async threads.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner, &Database) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let mut inner = inner.lock_owned().await;
            let now = Instant::now();
            match tokio::task::spawn_blocking(move || inner.call(now, work)).await {
                Ok(result) => result,
                Err(error) => Err(unavailable(error)),
            }
        })
    }
}

impl Inner {
    /// Does `work` on the database, which is opened again if the last call spoilt it.
    fn call<T>(
        &mut self,
        now: Instant,
        work: impl FnOnce(&mut Inner, &Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.reopen)().map_err(unavailable)?,
        };
        let result = self.end_overdue(&database, now).and_then(|()| work(self, &database));
        if matches!(result, Err(StoreError::Unavailable(_))) {
            // the write may be on the disk, and nobody was told
            self.watchers = Watchers::default();
        } else {
            self.database = Some(database);
        }
        result
    }

    fn write(&mut self, database: &Database, write: Write) -> Result<Version, StoreError> {
        check_size(&write)?;
        let transaction = database.begin_write().map_err(unavailable)?;
        let fence = write.fence.as_ref().map(|fence| held(&transaction, &fence.key)).transpose()?.flatten();
        let found = held(&transaction, &write.key)?;
        let fence = fence.as_ref().map(|held| held.stored.value.as_slice());
        let version = match decide(&write, found.as_ref(), fence)? {
            Decision::Done(version) => return Ok(version),
            Decision::Write(version) => version,
        };
        let Write { key, value, lease, .. } = write;
        let Some(value) = value else {
            remove(&transaction, &key)?;
            transaction.commit().map_err(unavailable)?;
            if found.is_some() {
                self.watchers.tell(&key, None);
            }
            return Ok(0);
        };
        self.leases.check(lease)?;
        let stored = Stored { value, version };
        insert(&transaction, &key, &stored, lease)?;
        transaction.commit().map_err(unavailable)?;
        self.watchers.tell(&key, Some(&stored));
        Ok(version)
    }

    fn end_overdue(&mut self, database: &Database, now: Instant) -> Result<(), StoreError> {
        while let Some(lease) = self.leases.overdue(now) {
            self.end(database, lease)?;
        }
        Ok(())
    }

    fn end(&mut self, database: &Database, lease: LeaseId) -> Result<(), StoreError> {
        let transaction = database.begin_write().map_err(unavailable)?;
        let keys = leased(&transaction, Some(lease))?;
        for key in &keys {
            remove(&transaction, key)?;
        }
        transaction.commit().map_err(unavailable)?;
        self.leases.end(lease);
        for key in &keys {
            self.watchers.tell(key, None);
        }
        Ok(())
    }
}

/// Makes the tables, so that reads find them, and deletes the keys under an earlier process's leases.
fn forget_leased(database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(unavailable)?;
    transaction.open_table(TABLE).map_err(unavailable)?;
    for key in leased(&transaction, None)? {
        remove(&transaction, &key)?;
    }
    transaction.commit().map_err(unavailable)
}

/// The keys under this lease, or under any.
fn leased(transaction: &WriteTransaction, lease: Option<LeaseId>) -> Result<Vec<String>, StoreError> {
    let mut keys = Vec::new();
    for entry in transaction.open_table(LEASED).map_err(unavailable)?.iter().map_err(unavailable)? {
        let (key, id) = entry.map_err(unavailable)?;
        if lease.is_none_or(|lease| lease == LeaseId(id.value())) {
            keys.push(key.value().to_string());
        }
    }
    Ok(keys)
}

fn held(transaction: &WriteTransaction, key: &str) -> Result<Option<Held>, StoreError> {
    let table = transaction.open_table(TABLE).map_err(unavailable)?;
    let Some(bytes) = table.get(key).map_err(unavailable)? else { return Ok(None) };
    let leases = transaction.open_table(LEASED).map_err(unavailable)?;
    let lease = leases.get(key).map_err(unavailable)?.map(|id| LeaseId(id.value()));
    Ok(Some(Held { stored: decode(key, bytes.value())?, lease }))
}

fn insert(
    transaction: &WriteTransaction,
    key: &str,
    stored: &Stored,
    lease: Option<LeaseId>,
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(TABLE).map_err(unavailable)?;
    table.insert(key, encode(stored).as_slice()).map_err(unavailable)?;
    let mut leases = transaction.open_table(LEASED).map_err(unavailable)?;
    match lease {
        Some(lease) => leases.insert(key, lease.0).map_err(unavailable)?,
        None => leases.remove(key).map_err(unavailable)?,
    };
    Ok(())
}

fn remove(transaction: &WriteTransaction, key: &str) -> Result<(), StoreError> {
    transaction.open_table(TABLE).map_err(unavailable)?.remove(key).map_err(unavailable)?;
    transaction.open_table(LEASED).map_err(unavailable)?.remove(key).map_err(unavailable)?;
    Ok(())
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

fn encode(stored: &Stored) -> Vec<u8> {
    let mut bytes = stored.version.to_le_bytes().to_vec();
    bytes.extend_from_slice(&stored.value);
    bytes
}

/// Ends a lease when its time is over, so that watchers hear of it though nobody calls.
async fn end_in_time(inner: Weak<Mutex<Inner>>, lease: LeaseId, mut ends: Instant) {
    loop {
        tokio::time::sleep_until(ends).await;
        let Some(inner) = inner.upgrade() else { return };
        let next = (EmbeddedStore { inner }).blocking(move |inner, _| Ok(inner.leases.ends(lease))).await;
        ends = match next {
            Ok(Some(ends)) => ends,
            Ok(None) => return,
            Err(_) => Instant::now() + RETRY_AFTER,
        };
    }
}

impl ClusterStore for EmbeddedStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        let key = key.to_string();
        self.blocking(move |_, database| {
            let table = database.begin_read().map_err(unavailable)?.open_table(TABLE).map_err(unavailable)?;
            let found = table.get(key.as_str()).map_err(unavailable)?;
            found.map(|bytes| decode(&key, bytes.value())).transpose()
        })
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Stored)>, StoreError>> {
        let prefix = prefix.to_string();
        self.blocking(move |_, database| {
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

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Version, StoreError>> {
        self.blocking(move |inner, database| inner.write(database, write))
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>> {
        Box::pin(async move {
            let lease = self.blocking(move |inner, _| Ok(inner.leases.grant(Instant::now(), ttl))).await?;
            tokio::spawn(end_in_time(Arc::downgrade(&self.inner), lease, Instant::now() + ttl));
            Ok(lease)
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.blocking(move |inner, _| inner.leases.keep_alive(Instant::now(), lease))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.blocking(move |inner, database| inner.end(database, lease))
    }

    fn watch(&self, prefix: &str) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let prefix = prefix.to_string();
        self.blocking(move |inner, _| Ok(inner.watchers.watch(&prefix)))
    }
}

#[cfg(test)]
mod tests;
