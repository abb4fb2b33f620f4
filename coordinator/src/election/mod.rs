//! LEADER ELECTION among coordinators that share a store: one key under a lease. Over [`ClusterStore`] alone, so that the
//! memory store in paused time tests it.
//!
//! Two things keep a deposed leader quiet. Its own clock: [`Leadership::lost`] fires before the lease can have ended, so
//! that it stops before another may start. And the fence, for what was already on its way, or a machine that slept: a
//! write under [`Leadership::fence`] is refused once the key is another's, however late it arrives.

#[cfg(test)]
mod tests;

use crate::store::{ClusterStore, Fence, LeaseId, Precondition, StoreError, Watch, Write};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The key that the leader holds.
pub const LEADER_KEY: &str = "leader";

/// Who stands for election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// No two processes share one.
    pub id: String,
    /// Where clients and workers reach it.
    pub address: String,
}

/// The value of [`LEADER_KEY`], as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    pub id: String,
    pub address: String,
    /// The lease: no two terms of one candidate have the same value, so neither do their fences.
    pub term: String,
}

/// Who leads now.
///
/// # Errors
/// The store's; [`StoreError::Refused`] when the key holds something else.
pub async fn leader(store: &dyn ClusterStore) -> Result<Option<Leader>, StoreError> {
    let Some(stored) = store.get(LEADER_KEY).await? else { return Ok(None) };
    let unknown = |e| StoreError::Refused(format!("key {LEADER_KEY}: not a leader: {e}"));
    serde_json::from_slice(&stored.value).map(Some).map_err(unknown)
}

/// Waits until `candidate` leads. A leader that falls silent is followed after `ttl`, or a little more. Whoever stops
/// waiting at the wrong moment may leave a key behind that nobody holds; it vanishes after `ttl`.
///
/// # Errors
/// Only those that no retry mends.
pub async fn campaign(
    store: Arc<dyn ClusterStore>,
    candidate: &Candidate,
    ttl: Duration,
) -> Result<Leadership, StoreError> {
    loop {
        match stand(&store, candidate, ttl).await {
            Ok(Some(leadership)) => return Ok(leadership),
            Ok(None) => {}
            Err(error @ (StoreError::Unavailable(_) | StoreError::LeaseLost { .. })) => {
                tracing::warn!(candidate = candidate.id, %error, "cannot stand for election now");
                sleep(retry_after(ttl)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Between two tries of anything.
fn retry_after(ttl: Duration) -> Duration {
    ttl / 10
}

/// How long a lease is trusted, counted from before it was asked for. The rest is for clocks that run unlike, and for
/// what was begun before and still has to end.
fn trusted(ttl: Duration) -> Duration {
    ttl - ttl / 10
}

/// Takes the key if it is free, else waits until it may be.
async fn stand(
    store: &Arc<dyn ClusterStore>,
    candidate: &Candidate,
    ttl: Duration,
) -> Result<Option<Leadership>, StoreError> {
    let watch = store.watch(LEADER_KEY).await?;
    if store.get(LEADER_KEY).await?.is_some() {
        vacancy(watch, ttl).await;
        return Ok(None);
    }
    let until = Instant::now() + trusted(ttl);
    let lease = store.grant(ttl).await?;
    let Candidate { id, address } = candidate.clone();
    let leader = Leader { id, address, term: lease.to_string() };
    let value = serde_json::to_vec(&leader).map_err(|e| StoreError::Refused(e.to_string()))?;
    let won = store.write(Write::put(LEADER_KEY, value.clone(), Precondition::Absent).leased(lease)).await;
    if won.is_ok() && Instant::now() < until {
        tracing::info!(id = leader.id, term = leader.term, "leads");
        let fence = Fence { key: LEADER_KEY.into(), value };
        return Ok(Some(Leadership::begin(store, lease, fence, ttl, until)));
    }
    // the key too, if an answer was lost or came too late
    let _ = timeout(ttl, store.revoke(lease)).await;
    match won {
        Ok(_) | Err(StoreError::PreconditionFailed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Until the leader's key goes. It is worth a look now and then though nobody says so: a watch may end.
async fn vacancy(mut watch: Watch, ttl: Duration) {
    let gone = async {
        while let Some(change) = watch.next().await {
            if change.key == LEADER_KEY && change.stored.is_none() {
                return;
            }
        }
        sleep(retry_after(ttl)).await;
    };
    let _ = timeout(ttl, gone).await;
}

/// A term as leader. Dropped without [`Leadership::resign`], it ends when the lease does.
pub struct Leadership {
    store: Arc<dyn ClusterStore>,
    lease: LeaseId,
    fence: Fence,
    held_until: watch::Receiver<Instant>,
    /// Dropped with the leadership: the lease is kept alive no more.
    _keeper: oneshot::Sender<()>,
}

impl Leadership {
    fn begin(store: &Arc<dyn ClusterStore>, lease: LeaseId, fence: Fence, ttl: Duration, until: Instant) -> Leadership {
        let (sender, held_until) = watch::channel(until);
        let (keeper, stopped) = oneshot::channel();
        let keep = Keeper { store: Arc::clone(store), lease, ttl, held_until: sender };
        tokio::spawn(keep.run(stopped));
        Leadership { store: Arc::clone(store), lease, fence, held_until, _keeper: keeper }
    }

    /// For whoever writes what only the leader may write.
    pub fn term(&self) -> Term {
        Term { fence: self.fence.clone(), held_until: self.held_until.clone() }
    }

    /// For every write that only the leader may make.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// By our own clock, whether the keeper has run or not.
    pub fn is_held(&self) -> bool {
        self.term().is_held()
    }

    /// Ends when the term does: before the lease can have ended, as far as clocks tell. It stays over.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut held_until = self.held_until.clone();
        async move {
            loop {
                let until = *held_until.borrow_and_update();
                if until <= Instant::now() {
                    return;
                }
                tokio::select! {
                    () = sleep_until(until) => {}
                    changed = held_until.changed() => if changed.is_err() { return },
                }
            }
        }
    }

    /// Ends the term, so that another need not wait for the lease to end.
    ///
    /// # Errors
    /// The store's: then the lease ends by itself.
    pub async fn resign(self) -> Result<(), StoreError> {
        let Leadership { store, lease, .. } = self;
        store.revoke(lease).await
    }
}

/// What a leader's parts know of its term.
#[derive(Clone, Debug)]
pub struct Term {
    /// For the cluster store.
    pub fence: Fence,
    held_until: watch::Receiver<Instant>,
}

impl Term {
    /// By our own clock, whether the keeper has run or not: for what no fence protects, such as files.
    pub fn is_held(&self) -> bool {
        Instant::now() < *self.held_until.borrow()
    }
}

/// Keeps the lease alive, and says how long it is good for.
struct Keeper {
    store: Arc<dyn ClusterStore>,
    lease: LeaseId,
    ttl: Duration,
    held_until: watch::Sender<Instant>,
}

impl Keeper {
    async fn run(self, stopped: oneshot::Receiver<()>) {
        tokio::select! {
            // nothing is ever sent: the leadership was dropped
            _ = stopped => {}
            reason = self.keep() => tracing::warn!(term = %self.lease, reason, "leads no more"),
        }
        self.held_until.send_replace(Instant::now());
    }

    /// Until the term is over; returns why.
    async fn keep(&self) -> String {
        let mut next = Instant::now() + self.ttl / 3;
        let mut reason = "the store does not answer".to_string();
        loop {
            let until = *self.held_until.borrow();
            sleep_until(next.min(until)).await;
            let sent = Instant::now();
            // a try that hangs leaves time for others
            let within = (self.ttl / 6).min(until.saturating_duration_since(sent));
            let kept = timeout(within, self.store.keep_alive(self.lease)).await;
            // over is over: somebody may have been told
            if Instant::now() >= until {
                return reason;
            }
            match kept {
                Ok(Ok(())) => {
                    self.held_until.send_replace(sent + trusted(self.ttl));
                    next = sent + self.ttl / 3;
                }
                Ok(Err(error)) if error.is_retryable() => {
                    reason = error.to_string();
                    next = Instant::now() + retry_after(self.ttl);
                }
                Ok(Err(error)) => return error.to_string(),
                // it has waited already
                Err(_) => next = Instant::now(),
            }
        }
    }
}
