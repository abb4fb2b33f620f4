//! A watch on etcd: its stream of answers becomes our bounded queue.

use super::super::{Change, StoreError, Watch};
use super::calls::{ANSWER_BYTES, failed};
use super::txn;
use etcd_client::{Client, Event, EventType, WatchOptions, WatchResponse, WatchStream};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Waits until etcd says that it watches: from then on nothing is missed.
pub(super) async fn start(client: Client, prefix: Arc<str>, under: String) -> Result<Watch, StoreError> {
    let start = format!("{prefix}{under}");
    let options = WatchOptions::new().with_range(end_of(&start)).with_fragment();
    let mut client = client.watch_client().max_decoding_message_size(ANSWER_BYTES);
    let mut stream = client.watch(start, Some(options)).await.map_err(failed)?;
    match stream.message().await.map_err(failed)? {
        Some(first) if first.created() && !first.canceled() => {}
        Some(first) => return Err(StoreError::Unavailable(format!("no watch: {}", first.cancel_reason()))),
        None => return Err(StoreError::Unavailable("the watch ended before it began".into())),
    }
    let (sender, watch) = Watch::new();
    tokio::spawn(forward(stream, sender, prefix));
    Ok(watch)
}

/// Until the watcher goes, falls behind, or the stream ends; then the queue ends too.
async fn forward(mut stream: WatchStream, watcher: mpsc::Sender<Change>, prefix: Arc<str>) {
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = watcher.closed() => return,
        };
        let passed = match message {
            Ok(Some(response)) => pass(&response, &watcher, &prefix),
            Ok(None) => Err("etcd ended the stream".to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = passed {
            tracing::debug!(reason, "a watch has ended");
            return;
        }
    }
}

fn pass(response: &WatchResponse, watcher: &mpsc::Sender<Change>, prefix: &str) -> Result<(), String> {
    if response.canceled() {
        return Err(format!("etcd cancelled it: {}", response.cancel_reason()));
    }
    for event in response.events() {
        let change = change(event, prefix).map_err(|e| e.to_string())?;
        watcher.try_send(change).map_err(|_| "the watcher fell behind".to_string())?;
    }
    Ok(())
}

fn change(event: &Event, prefix: &str) -> Result<Change, StoreError> {
    let found = event.kv().ok_or_else(|| StoreError::Unavailable("an event without its key".into()))?;
    let stored = match event.event_type() {
        EventType::Put => Some(txn::stored(found)),
        EventType::Delete => None,
    };
    Ok(Change { key: own_key(prefix, found.key())?, stored })
}

/// A key of etcd without the store's prefix.
pub(super) fn own_key(prefix: &str, key: &[u8]) -> Result<String, StoreError> {
    let own = key.strip_prefix(prefix.as_bytes()).and_then(|own| std::str::from_utf8(own).ok());
    let unknown = || StoreError::Refused(format!("key {}: not one of ours", String::from_utf8_lossy(key)));
    own.map(str::to_string).ok_or_else(unknown)
}

/// The first key after all that start with `prefix`, which is never empty. Text has no byte 0xff: the last one can grow.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
