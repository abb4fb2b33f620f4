//! Connections to every other rank, the messages on them, and a watcher a peer that notices when it goes away.

use crate::health::Health;
use crate::{CollectiveError, Options, ffi};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Never sent: a receive with it ends only with its connection. Tags of messages are below.
const WATCH_TAG: i32 = 1 << 30;
/// c10d has no wait without an end.
const ALWAYS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Enough to see whether a message had arrived before its connection closed.
const AT_ONCE: Duration = Duration::from_millis(1);

pub(super) struct Mesh {
    pub(super) rank: usize,
    pub(super) size: usize,
    pub(super) deadline: Duration,
    pub(super) health: Arc<Health>,
    /// [size] why the connection to a rank closed
    lost: Arc<Vec<OnceLock<String>>>,
    group: ffi::Group,
    /// c10d wants one thread at a time to start messages
    starting: Mutex<()>,
    closed: AtomicBool,
}

/// On its way from or to `peer`.
pub(super) struct Message {
    peer: usize,
    work: Arc<ffi::Work>,
}

/// What makes messages of one operation meet, and no others: equal on both sides when they agree on what they do.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    /// for errors
    operation: &'static str,
    identity: u64,
}

impl Tag {
    /// Of the `number`-th collective.
    pub(super) fn collective(operation: &'static str, number: u64) -> Tag {
        Tag { operation, identity: name(operation) }.with(number)
    }

    /// Of the `number`-th message from one rank to another: of "send" there and "receive" here.
    pub(super) fn pair(operation: &'static str, number: u64) -> Tag {
        Tag { operation, identity: name("pair") }.with(number)
    }

    /// Tells apart what differs in `detail` too.
    pub(super) fn with(self, detail: u64) -> Tag {
        Tag { identity: mix(self.identity ^ detail), ..self }
    }

    /// 30 bits over everything. The length is in it because Gloo ends the process when a message does not fit.
    fn of_length(self, length: usize) -> i32 {
        (self.with(length as u64).identity >> 34) as i32
    }
}

fn name(text: &str) -> u64 {
    text.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// The finaliser of splitmix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl Mesh {
    pub(super) fn new(group: ffi::Group, options: &Options) -> Mesh {
        Mesh {
            rank: options.rank,
            size: options.size,
            deadline: options.deadline,
            health: Arc::default(),
            lost: Arc::new((0..options.size).map(|_| OnceLock::new()).collect()),
            group,
            starting: Mutex::new(()),
            closed: AtomicBool::new(false),
        }
    }

    /// Starts to receive into `bytes` [length].
    pub(super) fn receive(&self, tag: Tag, bytes: &Tensor, from: usize) -> Result<Message, CollectiveError> {
        self.start(tag, from, |number| self.group.receive(bytes, from, number), bytes)
    }

    /// Starts to send `bytes` [length].
    pub(super) fn send(&self, tag: Tag, bytes: &Tensor, to: usize) -> Result<Message, CollectiveError> {
        self.start(tag, to, |number| self.group.send(bytes, to, number), bytes)
    }

    fn start(
        &self,
        tag: Tag,
        peer: usize,
        start: impl FnOnce(i32) -> Result<ffi::Work, String>,
        bytes: &Tensor,
    ) -> Result<Message, CollectiveError> {
        let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        match start(tag.of_length(bytes.numel())) {
            Ok(work) => Ok(Message { peer, work: Arc::new(work) }),
            Err(reason) => Err(self.gone(tag.operation, peer, &reason)),
        }
    }

    /// Starts a message from and one to every other rank. Both functions give the bytes [length] for a rank; an empty
    /// one is neither sent nor expected.
    pub(super) fn exchange(
        &self,
        tag: Tag,
        coming: impl Fn(usize) -> Result<Tensor, CollectiveError>,
        going: impl Fn(usize) -> Result<Tensor, CollectiveError>,
    ) -> Result<Vec<Message>, CollectiveError> {
        let mut messages = Vec::with_capacity(2 * self.size);
        // receives first, so that a peer's message finds its place; and not all ranks to the same peer at once
        for distance in 1..self.size {
            let from = (self.rank + self.size - distance) % self.size;
            let bytes = coming(from)?;
            if bytes.numel() > 0 {
                messages.push(self.receive(tag, &bytes, from)?);
            }
        }
        for distance in 1..self.size {
            let to = (self.rank + distance) % self.size;
            let bytes = going(to)?;
            if bytes.numel() > 0 {
                messages.push(self.send(tag, &bytes, to)?);
            }
        }
        Ok(messages)
    }

    /// Returns when the message has arrived, or has left this process.
    pub(super) fn wait(
        &self,
        operation: &'static str,
        message: &Message,
        until: Instant,
    ) -> Result<(), CollectiveError> {
        let Message { peer, work } = message;
        let asleep = self.health.about_to_sleep(*peer, work);
        self.health.check()?;
        let gone = self.lost[*peer].get().is_some();
        let allowed = if gone { AT_ONCE } else { until.saturating_duration_since(Instant::now()) };
        let outcome = work.wait(allowed);
        drop(asleep);
        let reason = match outcome {
            Ok(true) => return Ok(()),
            Ok(false) => {
                self.health.check()?;
                // the peer may have left after it had sent everything
                match work.wait(AT_ONCE) {
                    Ok(true) => return Ok(()),
                    Ok(false) => String::new(),
                    Err(reason) => reason,
                }
            }
            Err(reason) => reason,
        };
        // a time-out closes all connections, so by now the peer may count as lost
        if !gone && Instant::now() >= until {
            tracing::warn!(operation, peer, reason, "no answer");
            return Err(CollectiveError::timeout(operation, self.deadline));
        }
        Err(self.gone(operation, *peer, &reason))
    }

    /// Records a failure, closes all connections so that the others need not wait for their deadline, and returns the
    /// first failure.
    pub(super) fn fail(&self, error: CollectiveError) -> CollectiveError {
        let first = self.health.fail(error);
        if !self.closed.swap(true, Ordering::Relaxed) {
            let _one_at_a_time = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(reason) = self.group.close() {
                tracing::warn!(reason, "connections could not be closed");
            }
        }
        first
    }

    fn gone(&self, operation: &'static str, peer: usize, reason: &str) -> CollectiveError {
        let reason = self.lost[peer].get().map_or(reason, String::as_str);
        let reason = without_place(reason);
        let reason = format!("rank {peer} closed its connection ({reason}): it died or gave up, and its log says why");
        CollectiveError::Peer { operation, reason }
    }

    /// Starts the watchers. Gloo itself tells a wait of a closed connection, except when the message it waits for was
    /// already partly there.
    pub(super) fn watch(&self) -> Result<Watchers, CollectiveError> {
        let mut watchers = Watchers { leaving: Arc::default(), watches: Vec::new(), threads: Vec::new() };
        for peer in (0..self.size).filter(|&peer| peer != self.rank) {
            let never = Tensor::f_zeros([1], (Kind::Uint8, Device::Cpu))?;
            let watch = self.group.receive(&never, peer, WATCH_TAG);
            let watch = Arc::new(watch.map_err(|reason| self.gone("connect", peer, &reason))?);
            watchers.watches.push(Arc::clone(&watch));
            let (leaving, lost, health) =
                (Arc::clone(&watchers.leaving), Arc::clone(&self.lost), Arc::clone(&self.health));
            let thread = std::thread::Builder::new().name(format!("watch-rank-{peer}"));
            let watching = thread.spawn(move || {
                let Err(reason) = watch.wait(ALWAYS) else { return };
                if !leaving.load(Ordering::Relaxed) {
                    tracing::debug!(peer, reason, "connection closed");
                    drop(lost[peer].set(reason));
                    health.wake(peer);
                }
            });
            watchers
                .threads
                .push(watching.map_err(|e| CollectiveError::library(format!("cannot start a thread: {e}")))?);
        }
        Ok(watchers)
    }
}

/// "Connection closed" of "[/pytorch/third_party/gloo/x.cc:547] Connection closed".
fn without_place(reason: &str) -> &str {
    match reason.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((_, reason)) => reason,
        None => reason,
    }
}

/// One thread for each other rank, ended on drop.
pub(super) struct Watchers {
    leaving: Arc<AtomicBool>,
    watches: Vec<Arc<ffi::Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.watches.iter().for_each(|watch| watch.interrupt());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::warn!("a watcher panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_tells_operations_numbers_details_and_lengths_apart() {
        let tag = |operation, number, detail, length| Tag::collective(operation, number).with(detail).of_length(length);
        let of = tag("all_reduce", 3, 0, 64);
        assert_eq!(of, tag("all_reduce", 3, 0, 64));
        assert_ne!(of, tag("broadcast", 3, 0, 64));
        assert_ne!(of, tag("all_reduce", 4, 0, 64));
        assert_ne!(of, tag("all_reduce", 3, 1, 64));
        assert_ne!(of, tag("all_reduce", 3, 0, 65));
        assert_eq!(Tag::pair("send", 1).of_length(8), Tag::pair("receive", 1).of_length(8));
    }

    #[test]
    fn no_tag_is_that_of_the_watchers() {
        assert!((0..1000).all(|number| (0..WATCH_TAG).contains(&Tag::pair("send", number).of_length(1))));
    }

    #[test]
    fn the_place_in_gloos_source_is_left_out() {
        assert_eq!(
            without_place("[/a/b.cc:1] Connection closed by peer [127.0.0.1]:1"),
            "Connection closed by peer [127.0.0.1]:1"
        );
        assert_eq!(without_place("Socket closed [::1]:2"), "Socket closed [::1]:2");
    }
}
