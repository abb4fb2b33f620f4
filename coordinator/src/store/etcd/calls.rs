//! One call to one member each: what etcd is asked, and its answers and failures as ours.

use super::super::{LeaseId, StoreError, Stored, Version, Write};
use super::{txn, watch};
use etcd_client::{Client, Error, GetOptions, KvClient};
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// Keys of one answer to a listing: at most 8 MiB of values.
const PAGE: i64 = 128;
/// Bound on one answer: a full page, with its keys.
pub(super) const ANSWER_BYTES: usize = 16 << 20;

pub(super) async fn get(client: Client, key: String) -> Result<Option<Stored>, StoreError> {
    let found = kv(&client).get(key, None).await.map_err(failed)?;
    Ok(found.kvs().first().map(txn::stored))
}

/// Every key under `prefix` and `under`, as of one revision, page by page.
pub(super) async fn list(client: Client, prefix: Arc<str>, under: String) -> Result<Vec<(String, Stored)>, StoreError> {
    let start = format!("{prefix}{under}");
    let end = watch::end_of(&start);
    let (mut from, mut revision) = (start.into_bytes(), 0);
    let mut found = Vec::new();
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
        let page = kv(&client).get(from, Some(options)).await.map_err(failed)?;
        for entry in page.kvs() {
            found.push((watch::own_key(&prefix, entry.key())?, txn::stored(entry)));
        }
        let Some(last) = page.kvs().last().filter(|_| page.more()) else { return Ok(found) };
        // the next possible key
        from = [last.key(), b"\0"].concat();
        if let (0, Some(header)) = (revision, page.header()) {
            revision = header.revision();
        }
    }
}

pub(super) async fn write(client: Client, prefix: Arc<str>, write: Arc<Write>) -> Result<Version, StoreError> {
    let asked = kv(&client).txn(txn::transaction(&prefix, &write)).await;
    let response = asked.map_err(|error| match write.lease {
        Some(lease) if is_not_found(&error) => StoreError::LeaseLost { lease },
        _ => failed(error),
    })?;
    txn::outcome(&write, &response)
}

pub(super) async fn grant(client: Client, ttl: Duration) -> Result<LeaseId, StoreError> {
    // whole seconds, and never less than was asked for
    let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1);
    let granted = client.lease_client().grant(seconds, None).await.map_err(failed)?;
    if granted.ttl() < seconds {
        return Err(StoreError::Refused(format!("a lease of {seconds} s: etcd gives {} s", granted.ttl())));
    }
    Ok(LeaseId(granted.id()))
}

pub(super) async fn keep_alive(client: Client, lease: LeaseId) -> Result<(), StoreError> {
    match client.lease_client().keep_alive(lease.0).await {
        Ok(_) => Ok(()),
        // the client's one word for an answer without time left
        Err(Error::LeaseKeepAliveError(_)) => Err(StoreError::LeaseLost { lease }),
        Err(error) => Err(failed(error)),
    }
}

pub(super) async fn revoke(client: Client, lease: LeaseId) -> Result<(), StoreError> {
    match client.lease_client().revoke(lease.0).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// etcd's failure as ours. What no retry mends is a refusal.
pub(super) fn failed(error: Error) -> StoreError {
    match error {
        Error::GRpcStatus(status) => match status.code() {
            Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition => {
                StoreError::Refused(status.message().into())
            }
            _ => StoreError::Unavailable(status.message().into()),
        },
        // a transport error comes from settings: failing connections arrive as a status
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) | Error::TransportError(_) => {
            StoreError::Refused(error.to_string())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.code() == Code::NotFound)
}

fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(ANSWER_BYTES)
}
