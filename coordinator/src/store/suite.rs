//! What every [`ClusterStore`] must do: run by each back end's tests.

use super::{ClusterStore, MAX_VALUE_BYTES, Precondition, StoreError};

/// Runs the whole suite against an empty store.
pub(super) async fn run(store: &dyn ClusterStore) {
    writes_return_growing_versions(store).await;
    absent_creates_once(store).await;
    a_version_is_taken_once(store).await;
    deletion_keeps_its_precondition(store).await;
    a_listing_is_ordered_and_bounded_by_its_prefix(store).await;
    a_value_too_large_is_refused(store).await;
}

async fn writes_return_growing_versions(store: &dyn ClusterStore) {
    assert_eq!(store.get("a").await.unwrap(), None);
    assert_eq!(store.put("a", b"1".to_vec(), Precondition::Any).await.unwrap(), 1);
    assert_eq!(store.put("a", b"2".to_vec(), Precondition::Any).await.unwrap(), 2);
    let stored = store.get("a").await.unwrap().unwrap();
    assert_eq!((stored.value.as_slice(), stored.version), (b"2".as_slice(), 2));
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

async fn a_value_too_large_is_refused(store: &dyn ClusterStore) {
    let result = store.put("e", vec![0; MAX_VALUE_BYTES + 1], Precondition::Any).await;
    assert!(matches!(&result, Err(e @ StoreError::TooLarge { .. }) if !e.is_retryable()), "{result:?}");
}
