//! What every [`ClusterStore`] must do: run by each back end's tests.

use super::watch::WAITING;
use super::{Change, ClusterStore, Fence, LeaseId, MAX_VALUE_BYTES, Precondition, StoreError, Watch, Write};
use std::time::Duration;
use tokio::time::timeout;

/// Etcd gives no lease shorter than some two seconds.
const TTL: Duration = Duration::from_secs(2);
/// Nothing here takes longer.
const WITHIN: Duration = Duration::from_secs(30);

/// Runs the whole suite against an empty store.
pub(super) async fn run(store: &dyn ClusterStore) {
    writes_return_growing_versions(store).await;
    absent_creates_once(store).await;
    a_version_is_taken_once(store).await;
    a_repeated_put_is_one_put(store).await;
    deletion_keeps_its_precondition(store).await;
    a_listing_is_ordered_and_bounded_by_its_prefix(store).await;
    a_long_listing_is_whole(store).await;
    a_value_too_large_is_refused(store).await;
    a_broken_fence_refuses_every_write(store).await;
    a_revoked_lease_takes_its_keys_along(store).await;
    a_lease_ends_unless_it_is_kept_alive(store).await;
    a_value_put_without_the_lease_outlives_it(store).await;
    a_repeated_put_under_another_lease_is_refused(store).await;
    a_watch_tells_every_change_under_its_prefix(store).await;
    a_watcher_that_falls_behind_is_told_so(store).await;
}

async fn writes_return_growing_versions(store: &dyn ClusterStore) {
    assert_eq!(store.get("a").await.unwrap(), None);
    assert_eq!(store.put("a", b"1".to_vec(), Precondition::Any).await.unwrap(), 1);
    assert_eq!(store.put("a", b"2".to_vec(), Precondition::Any).await.unwrap(), 2);
    let stored = store.get("a").await.unwrap().unwrap();
    assert_eq!((stored.value.as_slice(), stored.version), (b"2".as_slice(), 2));
    store.delete("a", Precondition::Any).await.unwrap();
    assert_eq!(store.put("a", b"3".to_vec(), Precondition::Absent).await.unwrap(), 1, "a key made again");
}

async fn absent_creates_once(store: &dyn ClusterStore) {
    store.put("b", b"first".to_vec(), Precondition::Absent).await.unwrap();
    let second = store.put("b", b"second".to_vec(), Precondition::Absent).await;
    assert!(matches!(second, Err(StoreError::PreconditionFailed { found: Some(1), .. })), "{second:?}");
    assert_eq!(store.get("b").await.unwrap().unwrap().value, b"first");
}

async fn a_version_is_taken_once(store: &dyn ClusterStore) {
    let version = store.put("c", b"0".to_vec(), Precondition::Any).await.unwrap();
    let (one, two) = futures::join!(
        store.put("c", b"one".to_vec(), Precondition::Version(version)),
        store.put("c", b"two".to_vec(), Precondition::Version(version)),
    );
    assert!(one.is_ok() != two.is_ok(), "exactly one of two writers wins: {one:?} {two:?}");
    let missing = store.put("c-missing", b"x".to_vec(), Precondition::Version(1)).await;
    assert!(matches!(missing, Err(StoreError::PreconditionFailed { found: None, .. })), "{missing:?}");
}

async fn a_repeated_put_is_one_put(store: &dyn ClusterStore) {
    for _ in 0..2 {
        assert_eq!(store.put("twice", b"1".to_vec(), Precondition::Absent).await.unwrap(), 1);
    }
    for _ in 0..2 {
        assert_eq!(store.put("twice", b"2".to_vec(), Precondition::Version(1)).await.unwrap(), 2);
    }
    store.put("twice", b"3".to_vec(), Precondition::Version(2)).await.unwrap();
    let late = store.put("twice", b"2".to_vec(), Precondition::Version(1)).await;
    assert!(matches!(late, Err(StoreError::PreconditionFailed { found: Some(3), .. })), "{late:?}");
}

async fn deletion_keeps_its_precondition(store: &dyn ClusterStore) {
    let version = store.put("d", b"x".to_vec(), Precondition::Any).await.unwrap();
    assert!(store.delete("d", Precondition::Version(version + 1)).await.is_err());
    assert!(store.get("d").await.unwrap().is_some());
    store.delete("d", Precondition::Version(version)).await.unwrap();
    assert_eq!(store.get("d").await.unwrap(), None);
    store.delete("d", Precondition::Any).await.unwrap();
}

async fn a_listing_is_ordered_and_bounded_by_its_prefix(store: &dyn ClusterStore) {
    for key in ["jobs/b", "jobs/a", "jobs0", "job"] {
        store.put(key, key.as_bytes().to_vec(), Precondition::Any).await.unwrap();
    }
    let keys: Vec<String> = store.list("jobs/").await.unwrap().into_iter().map(|(k, _)| k).collect();
    assert_eq!(keys, ["jobs/a", "jobs/b"]);
    assert!(store.list("none/").await.unwrap().is_empty());
}

/// More than one page of etcd's, of values so large that one answer could not hold them all.
async fn a_long_listing_is_whole(store: &dyn ClusterStore) {
    let value = |i: usize| vec![i as u8; if i.is_multiple_of(2) { MAX_VALUE_BYTES } else { 1 }];
    for i in 0..300 {
        store.put(&format!("long/{i:03}"), value(i), Precondition::Absent).await.unwrap();
    }
    let found = store.list("long/").await.unwrap();
    assert_eq!(found.len(), 300);
    for (i, (key, stored)) in found.into_iter().enumerate() {
        assert_eq!(key, format!("long/{i:03}"));
        assert!(stored.value == value(i) && stored.version == 1, "{key}");
    }
}

async fn a_value_too_large_is_refused(store: &dyn ClusterStore) {
    let result = store.put("e", vec![0; MAX_VALUE_BYTES + 1], Precondition::Any).await;
    assert!(matches!(&result, Err(e @ StoreError::TooLarge { .. }) if !e.is_retryable()), "{result:?}");
}

async fn a_broken_fence_refuses_every_write(store: &dyn ClusterStore) {
    let fence = Fence { key: "f/leader".into(), value: b"me".to_vec() };
    let put = |value: &[u8], when| store.write(Write::put("f/job", value.to_vec(), when).fenced(fence.clone()));
    let early = put(b"0", Precondition::Any).await;
    assert!(matches!(early, Err(StoreError::Fenced { .. })), "nobody leads yet: {early:?}");

    store.put("f/leader", b"me".to_vec(), Precondition::Absent).await.unwrap();
    assert_eq!(put(b"1", Precondition::Absent).await.unwrap(), 1);
    assert_eq!(put(b"1", Precondition::Absent).await.unwrap(), 1, "a repeated put keeps its fence");
    let taken = put(b"2", Precondition::Absent).await;
    assert!(matches!(taken, Err(StoreError::PreconditionFailed { found: Some(1), .. })), "{taken:?}");

    // the same version, another value
    store.delete("f/leader", Precondition::Any).await.unwrap();
    store.put("f/leader", b"you".to_vec(), Precondition::Absent).await.unwrap();
    for when in [Precondition::Any, Precondition::Version(1), Precondition::Version(7)] {
        let put = put(b"3", when).await;
        assert!(
            matches!(&put, Err(StoreError::Fenced { key, fence }) if key == "f/job" && fence == "f/leader"),
            "{put:?}"
        );
        let delete = store.write(Write::delete("f/job", when).fenced(fence.clone())).await;
        assert!(matches!(delete, Err(StoreError::Fenced { .. })), "{delete:?}");
    }
    assert_eq!(store.get("f/job").await.unwrap().unwrap().value, b"1");
    let delete = Write::delete("f/job", Precondition::Version(1));
    store.write(delete.fenced(Fence { value: b"you".to_vec(), ..fence })).await.unwrap();
    assert_eq!(store.get("f/job").await.unwrap(), None);
}

async fn put_leased(store: &dyn ClusterStore, key: &str, lease: LeaseId) -> Result<u64, StoreError> {
    store.write(Write::put(key, b"leased".to_vec(), Precondition::Absent).leased(lease)).await
}

async fn a_revoked_lease_takes_its_keys_along(store: &dyn ClusterStore) {
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let other = store.grant(Duration::from_secs(60)).await.unwrap();
    put_leased(store, "g/1", lease).await.unwrap();
    put_leased(store, "g/2", lease).await.unwrap();
    put_leased(store, "g/3", other).await.unwrap();
    store.revoke(lease).await.unwrap();
    let keys: Vec<String> = store.list("g/").await.unwrap().into_iter().map(|(k, _)| k).collect();
    assert_eq!(keys, ["g/3"]);
    store.revoke(lease).await.expect("revoking again is fine");

    let gone = store.keep_alive(lease).await;
    assert!(matches!(gone, Err(StoreError::LeaseLost { lease: l }) if l == lease), "{gone:?}");
    let gone = put_leased(store, "g/4", lease).await;
    assert!(matches!(gone, Err(StoreError::LeaseLost { lease: l }) if l == lease), "{gone:?}");
    assert_eq!(store.get("g/4").await.unwrap(), None);
    store.revoke(other).await.unwrap();
}

async fn a_lease_ends_unless_it_is_kept_alive(store: &dyn ClusterStore) {
    let kept = store.grant(TTL).await.unwrap();
    let left = store.grant(TTL).await.unwrap();
    put_leased(store, "h/kept", kept).await.unwrap();
    put_leased(store, "h/left", left).await.unwrap();
    let mut watch = store.watch("h/").await.unwrap();
    let first = timeout(WITHIN, async {
        loop {
            tokio::select! {
                change = watch.next() => return change.expect("the watch goes on"),
                () = tokio::time::sleep(TTL / 4) => store.keep_alive(kept).await.unwrap(),
            }
        }
    });
    assert_eq!(first.await.unwrap(), Change { key: "h/left".into(), stored: None });
    assert_eq!(store.get("h/left").await.unwrap(), None);
    assert!(store.get("h/kept").await.unwrap().is_some());
    assert!(matches!(store.keep_alive(left).await, Err(StoreError::LeaseLost { .. })));
    assert_eq!(next(&mut watch).await, Change { key: "h/kept".into(), stored: None }, "silence ends it too");
}

async fn a_value_put_without_the_lease_outlives_it(store: &dyn ClusterStore) {
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let version = put_leased(store, "i", lease).await.unwrap();
    store.put("i", b"stays".to_vec(), Precondition::Version(version)).await.unwrap();
    store.revoke(lease).await.unwrap();
    assert_eq!(store.get("i").await.unwrap().unwrap().value, b"stays");
}

/// Else a writer would trust a key that vanishes with a lease it no longer keeps alive.
async fn a_repeated_put_under_another_lease_is_refused(store: &dyn ClusterStore) {
    let old = store.grant(Duration::from_secs(60)).await.unwrap();
    let new = store.grant(Duration::from_secs(60)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(put_leased(store, "j", old).await.unwrap(), 1);
    }
    let other = put_leased(store, "j", new).await;
    assert!(matches!(other, Err(StoreError::PreconditionFailed { found: Some(1), .. })), "{other:?}");
    store.revoke(old).await.unwrap();
    store.revoke(new).await.unwrap();
}

async fn next(watch: &mut Watch) -> Change {
    timeout(WITHIN, watch.next()).await.expect("a change in time").expect("the watch goes on")
}

async fn a_watch_tells_every_change_under_its_prefix(store: &dyn ClusterStore) {
    store.put("k/a", b"before".to_vec(), Precondition::Any).await.unwrap();
    let mut watch = store.watch("k/").await.unwrap();
    store.put("k/a", b"2".to_vec(), Precondition::Any).await.unwrap();
    store.put("k0", b"beside".to_vec(), Precondition::Any).await.unwrap();
    let refused = store.put("k/a", b"never".to_vec(), Precondition::Absent).await;
    assert!(refused.is_err());
    store.delete("k/none", Precondition::Any).await.unwrap();
    store.put("k/b", b"1".to_vec(), Precondition::Any).await.unwrap();
    store.delete("k/a", Precondition::Any).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        let Change { key, stored } = next(&mut watch).await;
        told.push((key, stored.map(|s| (s.value, s.version))));
    }
    let put = |key: &str, value: &[u8], version| (key.to_string(), Some((value.to_vec(), version)));
    assert_eq!(told, [put("k/a", b"2", 2), put("k/b", b"1", 1), ("k/a".into(), None)]);
}

async fn a_watcher_that_falls_behind_is_told_so(store: &dyn ClusterStore) {
    let mut slow = store.watch("l/").await.unwrap();
    let mut fast = store.watch("l/").await.unwrap();
    let many = WAITING + 20;
    for i in 0..many {
        store.put("l/many", i.to_le_bytes().to_vec(), Precondition::Any).await.unwrap();
        assert!(next(&mut fast).await.stored.is_some());
    }
    let mut told = 0_usize;
    while timeout(WITHIN, slow.next()).await.expect("an end in time").is_some() {
        told += 1;
    }
    assert!(told < many, "a bounded queue does not hold {told} changes");
}
