//! The store of coordinators that stand by for each other: an etcd (3.4 or newer) beside them.
//!
//! One client per member, and one member until it fails: a client that balances over all of them keeps choosing a dead
//! one, for it has the least to do. A call that fails goes on to the next member if it may be repeated.

mod calls;
mod config;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
mod txn;
mod watch;

pub use config::{EtcdConfig, EtcdIdentity, EtcdTls, EtcdUser};

use super::decide::check_size;
use super::{ClusterStore, LeaseId, Precondition, StoreError, Stored, Version, Watch, Write};
use etcd_client::{Client, ConnectOptions};
use futures::future::{BoxFuture, FutureExt, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// An etcd, or a part of one: all keys under a prefix.
#[derive(Clone)]
pub struct EtcdStore {
    prefix: Arc<str>,
    members: Arc<Members>,
}

impl EtcdStore {
    /// Connects, and makes sure that somebody answers.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the settings cannot work, [`StoreError::Unavailable`] when no member answers.
    pub async fn connect(config: &EtcdConfig) -> Result<EtcdStore, StoreError> {
        if config.prefix.is_empty() {
            return Err(StoreError::Refused("the prefix of the keys is empty".into()));
        }
        let members = Arc::new(Members::new(config)?);
        let store = EtcdStore { prefix: config.prefix.as_str().into(), members };
        // any read asks a majority
        store.get("connected").await?;
        Ok(store)
    }

    fn call<T: Send + 'static>(
        &self,
        may_repeat: bool,
        ask: impl Fn(Client) -> BoxFuture<'static, Result<T, StoreError>> + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let members = Arc::clone(&self.members);
        Box::pin(async move { members.call(may_repeat, ask).await })
    }
}

struct Members {
    members: Vec<Member>,
    options: ConnectOptions,
    /// What one member may take of a call.
    share: Duration,
    /// Index of the member that answered last.
    current: AtomicUsize,
}

struct Member {
    endpoint: String,
    client: OnceCell<Client>,
}

impl Members {
    fn new(config: &EtcdConfig) -> Result<Members, StoreError> {
        let member = |endpoint: &String| Member { endpoint: endpoint.clone(), client: OnceCell::new() };
        let members: Vec<Member> = config.endpoints.iter().map(member).collect();
        let whole = Duration::from_millis(config.timeout_ms);
        let share = u32::try_from(members.len()).ok().and_then(|count| whole.checked_div(count));
        let share = share.ok_or_else(|| StoreError::Refused("no endpoints are given".into()))?;
        Ok(Members { members, options: config.options(share)?, share, current: AtomicUsize::new(0) })
    }

    /// Asks the current member and, if the call may be repeated, the others.
    async fn call<T>(
        &self,
        may_repeat: bool,
        ask: impl Fn(Client) -> BoxFuture<'static, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for turn in 0..if may_repeat { self.members.len() } else { 1 } {
            let index = (first + turn) % self.members.len();
            let member = &self.members[index];
            let asked = async { ask(self.client(member).await?).await };
            let failure = match timeout(self.share, asked).await {
                Ok(Err(StoreError::Unavailable(failure))) => failure,
                Ok(result) => return result,
                Err(_) => format!("no answer within {} ms", self.share.as_millis()),
            };
            failures.push(format!("{}: {failure}", member.endpoint));
            self.current.store((index + 1) % self.members.len(), Ordering::Relaxed);
        }
        Err(StoreError::Unavailable(failures.join("; ")))
    }

    /// With a user this asks for a token, so it may fail, and the next call tries again.
    async fn client(&self, member: &Member) -> Result<Client, StoreError> {
        let connect = || Client::connect([member.endpoint.as_str()], Some(self.options.clone()));
        member.client.get_or_try_init(connect).await.cloned().map_err(calls::failed)
    }
}

impl ClusterStore for EtcdStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        let key = format!("{}{key}", self.prefix);
        self.call(true, move |client| calls::get(client, key.clone()).boxed())
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Stored)>, StoreError>> {
        let (prefix, under) = (Arc::clone(&self.prefix), prefix.to_string());
        self.call(true, move |client| calls::list(client, Arc::clone(&prefix), under.clone()).boxed())
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Version, StoreError>> {
        if let Err(error) = check_size(&write) {
            return ready(Err(error)).boxed();
        }
        let may_repeat = write.when != Precondition::Any;
        let (prefix, write) = (Arc::clone(&self.prefix), Arc::new(write));
        self.call(may_repeat, move |client| calls::write(client, Arc::clone(&prefix), Arc::clone(&write)).boxed())
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>> {
        self.call(true, move |client| calls::grant(client, ttl).boxed())
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.call(true, move |client| calls::keep_alive(client, lease).boxed())
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.call(true, move |client| calls::revoke(client, lease).boxed())
    }

    fn watch(&self, prefix: &str) -> BoxFuture<'_, Result<Watch, StoreError>> {
        let (prefix, under) = (Arc::clone(&self.prefix), prefix.to_string());
        self.call(true, move |client| watch::start(client, Arc::clone(&prefix), under.clone()).boxed())
    }
}
