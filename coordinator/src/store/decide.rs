//! What becomes of a write (pure): every back end asks here, etcd once its transaction was refused.

use super::{LeaseId, MAX_VALUE_BYTES, Precondition, StoreError, Stored, Version, Write};

/// A key as a back end holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) stored: Stored,
    pub(super) lease: Option<LeaseId>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Write it, as this version.
    Write(Version),
    /// The very same write has happened.
    Done(Version),
}

/// `found` is the key, `fence` the value of the fence's key.
pub(super) fn decide(write: &Write, found: Option<&Held>, fence: Option<&[u8]>) -> Result<Decision, StoreError> {
    if let Some(wanted) = &write.fence
        && fence != Some(wanted.value.as_slice())
    {
        return Err(StoreError::Fenced { key: write.key.clone(), fence: wanted.key.clone() });
    }
    let version = found.map(|held| held.stored.version);
    let holds = match write.when {
        Precondition::Any => true,
        Precondition::Absent => version.is_none(),
        Precondition::Version(wanted) => version == Some(wanted),
    };
    match found {
        _ if holds => Ok(Decision::Write(version.unwrap_or(0) + 1)),
        Some(held) if is_same(write, held) => Ok(Decision::Done(held.stored.version)),
        _ => Err(StoreError::PreconditionFailed { key: write.key.clone(), wanted: write.when, found: version }),
    }
}

/// Whether `held` is what `write` would have left. The lease counts: a key under an older one vanishes with that.
fn is_same(write: &Write, held: &Held) -> bool {
    let next = match write.when {
        Precondition::Any => return false,
        Precondition::Absent => 1,
        Precondition::Version(wanted) => wanted + 1,
    };
    held.stored.version == next
        && held.lease == write.lease
        && write.value.as_deref() == Some(held.stored.value.as_slice())
}

pub(super) fn check_size(write: &Write) -> Result<(), StoreError> {
    let bytes = write.value.as_ref().map_or(0, Vec::len);
    if bytes <= MAX_VALUE_BYTES {
        return Ok(());
    }
    Err(StoreError::TooLarge { key: write.key.clone(), bytes })
}
