//! Ranks that do not come, stop answering, die, leave, disagree or are aborted, over Gloo.

mod dying;
mod forming;
mod waiting;

use crate::worlds::Meeting;
use accord_collective::{Collective, CollectiveError, Reduce, Work};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// No wait may come near it where something else ends it.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1500);
/// What "at once" may take on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

fn floats(length: i64) -> Tensor {
    Tensor::ones([length], (Kind::Float, Device::Cpu))
}

fn sum(collective: &dyn Collective, length: i64) -> Result<(), CollectiveError> {
    collective.all_reduce(&floats(length), Reduce::Sum).and_then(Work::wait)
}

/// All the tensors of one even all_to_all.
fn exchange(collective: &dyn Collective, rows: i64) -> Result<(), CollectiveError> {
    let each = vec![rows; collective.size()];
    let (out, x) = (floats(rows * collective.size() as i64), floats(rows * collective.size() as i64));
    collective.all_to_all(&out, &each, &x, &each).and_then(Work::wait)
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let result = run();
    (result, started.elapsed())
}

#[track_caller]
fn assert_broken(collective: &dyn Collective, first: &CollectiveError) {
    let x = floats(2);
    assert_eq!(sum(collective, 2).as_ref(), Err(first));
    assert_eq!(exchange(collective, 1).as_ref(), Err(first));
    assert_eq!(collective.barrier().as_ref(), Err(first));
    assert_eq!(collective.send(&x, 1 - collective.rank()).err().as_ref(), Some(first));
    assert_eq!(collective.broadcast(&x, 0).err().as_ref(), Some(first));
}

#[track_caller]
fn drops_at_once(collective: Box<dyn Collective>) {
    let ((), time) = timed(|| drop(collective));
    assert!(time < Duration::from_secs(1), "dropping took {time:?}");
}

/// A new generation in the same process takes less than a second. The best of a few: other tests run at the same time.
fn re_forms(meeting: &Meeting) {
    let again = |_| {
        meeting.next_generation();
        timed(|| meeting.threads(2, |collective| sum(collective.as_ref(), 3).unwrap())).1
    };
    let time = (0..3).map(again).min().unwrap();
    assert!(time < Duration::from_secs(1), "forming again took {time:?}");
}
