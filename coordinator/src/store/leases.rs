//! The leases of a store that has no server to keep them (pure: `now` is an argument).
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

use super::{LeaseId, StoreError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Which leases live, and until when. Which keys are under them the store knows.
#[derive(Debug, Default)]
pub(super) struct Leases {
    granted: i64,
    live: BTreeMap<LeaseId, Lease>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    ends: Instant,
}

impl Leases {
    pub(super) fn grant(&mut self, now: Instant, ttl: Duration) -> LeaseId {
        self.granted += 1;
        let id = LeaseId(self.granted);
        self.live.insert(id, Lease { ttl, ends: now + ttl });
        id
    }

    /// When the lease ends if nobody speaks up; None once it has.
    pub(super) fn ends(&self, id: LeaseId) -> Option<Instant> {
        self.live.get(&id).map(|lease| lease.ends)
    }

    /// One whose time is over and that nobody has ended yet.
    pub(super) fn overdue(&self, now: Instant) -> Option<LeaseId> {
        self.live.iter().find(|(_, lease)| lease.ends <= now).map(|(id, _)| *id)
    }

    pub(super) fn keep_alive(&mut self, now: Instant, id: LeaseId) -> Result<(), StoreError> {
        let lease = self.live.get_mut(&id).ok_or(StoreError::LeaseLost { lease: id })?;
        lease.ends = now + lease.ttl;
        Ok(())
    }

    pub(super) fn end(&mut self, id: LeaseId) {
        self.live.remove(&id);
    }

    /// Whether a key may be put under it.
    pub(super) fn check(&self, id: Option<LeaseId>) -> Result<(), StoreError> {
        match id {
            Some(lease) if !self.live.contains_key(&lease) => Err(StoreError::LeaseLost { lease }),
            Some(_) | None => Ok(()),
        }
    }
}
