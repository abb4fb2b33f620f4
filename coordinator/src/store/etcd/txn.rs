//! A write as etcd's transaction, and its answer as ours. etcd's version of a key is our version.

use super::super::decide::{Decision, Held, decide};
use super::super::{LeaseId, Precondition, StoreError, Stored, Version, Write};
use etcd_client::{Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

pub(super) fn transaction(prefix: &str, write: &Write) -> Txn {
    let key = format!("{prefix}{}", write.key);
    let mut holds = match write.when {
        Precondition::Any => Vec::new(),
        Precondition::Absent => vec![Compare::version(key.as_str(), CompareOp::Equal, 0)],
        Precondition::Version(version) => {
            vec![Compare::version(key.as_str(), CompareOp::Equal, i64::try_from(version).unwrap_or(i64::MAX))]
        }
    };
    let mut why_not = vec![TxnOp::get(key.as_str(), None)];
    if let Some(fence) = &write.fence {
        let guard = format!("{prefix}{}", fence.key);
        holds.push(Compare::value(guard.as_str(), CompareOp::Equal, fence.value.clone()));
        why_not.push(TxnOp::get(guard, None));
    }
    let then = match &write.value {
        None => vec![TxnOp::delete(key, None)],
        Some(value) => {
            let options = PutOptions::new().with_lease(write.lease.map_or(0, |lease| lease.0));
            let version = TxnOp::get(key.as_str(), Some(GetOptions::new().with_keys_only()));
            vec![TxnOp::put(key, value.clone(), Some(options)), version]
        }
    };
    Txn::new().when(holds).and_then(then).or_else(why_not)
}

pub(super) fn outcome(write: &Write, response: &TxnResponse) -> Result<Version, StoreError> {
    let found: Vec<Option<KeyValue>> = response.op_responses().into_iter().filter_map(read).collect();
    let key = found.first().and_then(Option::as_ref);
    if response.succeeded() {
        return Ok(key.map_or(0, version));
    }
    let guard = found.get(1).and_then(Option::as_ref).map(KeyValue::value);
    match decide(write, key.map(held).as_ref(), guard)? {
        Decision::Done(version) => Ok(version),
        Decision::Write(_) => {
            Err(StoreError::Unavailable(format!("key {}: etcd refused what its own answer allows", write.key)))
        }
    }
}

/// What a read within the transaction found; None of the other operations.
fn read(response: TxnOpResponse) -> Option<Option<KeyValue>> {
    match response {
        TxnOpResponse::Get(mut found) => Some(found.take_kvs().pop()),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    }
}

fn held(found: &KeyValue) -> Held {
    let lease = (found.lease() != 0).then(|| LeaseId(found.lease()));
    Held { stored: stored(found), lease }
}

pub(super) fn stored(found: &KeyValue) -> Stored {
    Stored { value: found.value().to_vec(), version: version(found) }
}

fn version(found: &KeyValue) -> Version {
    // etcd counts from 1
    found.version().unsigned_abs()
}
