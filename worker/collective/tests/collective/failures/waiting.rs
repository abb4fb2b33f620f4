//! Waits that can end in one way only, with ranks as threads.

use super::{AT_ONCE, LONG, SHORT, assert_broken, drops_at_once, exchange, floats, sum, timed};
use crate::worlds::{Child, Meeting};
use accord_collective::{Collective, CollectiveError, Reduce, Work};
use std::time::{Duration, Instant};

#[test]
fn a_rank_that_does_not_come_ends_the_wait_at_the_deadline() {
    let meeting = Meeting::new(SHORT);
    meeting.threads(2, |collective| {
        if collective.rank() == 1 {
            std::thread::sleep(SHORT * 2);
            return;
        }
        let (result, time) = timed(|| sum(collective.as_ref(), 3));
        let error = result.unwrap_err();
        assert_eq!(error, CollectiveError::Timeout { operation: "all_reduce", seconds: 1.5 });
        assert!(time >= SHORT && time < SHORT + AT_ONCE, "{time:?}");
        assert_broken(collective.as_ref(), &error);
        drops_at_once(collective);
    });
}

/// An operation that one rank may wait for while the other does nothing.
type Stuck = fn(&dyn Collective) -> Result<(), CollectiveError>;

#[test]
fn abort_ends_a_wait_at_once() {
    let stuck: [Stuck; 5] = [
        |c| sum(c, 3),
        |c| sum(c, 3_000_000),
        |c| exchange(c, 2_000_000),
        |c| c.receive(&floats(5), 1).and_then(Work::wait),
        |c| c.send(&floats(8_000_000), 1).and_then(Work::wait),
    ];
    for stuck in stuck {
        let meeting = Meeting::new(LONG);
        let (finished, wait_for_end) = std::sync::mpsc::channel::<()>();
        let wait_for_end = std::sync::Mutex::new(wait_for_end);
        let finished = std::sync::Mutex::new(Some(finished));
        meeting.threads(2, |collective| {
            if collective.rank() == 1 {
                // does not take part, and stays connected meanwhile
                let _ = wait_for_end.lock().unwrap().recv();
                return;
            }
            let handle = collective.abort_handle();
            let aborting = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                handle.abort("a test said so");
                Instant::now()
            });
            let error = stuck(collective.as_ref()).unwrap_err();
            let ended = Instant::now();
            assert_eq!(error, CollectiveError::Aborted { why: "a test said so".into() });
            let time = ended.duration_since(aborting.join().unwrap());
            assert!(time < AT_ONCE, "{time:?} after the abort");
            assert_broken(collective.as_ref(), &error);
            drops_at_once(collective);
            drop(finished.lock().unwrap().take());
        });
    }
}

#[test]
fn abort_before_a_wait_and_after_the_end() {
    let meeting = Meeting::new(LONG);
    let both_have_started = std::sync::Barrier::new(2);
    let handles = meeting.threads(2, |collective| {
        let x = floats(4);
        let work = collective.all_reduce(&x, Reduce::Sum).unwrap();
        both_have_started.wait();
        let handle = collective.abort_handle();
        handle.abort("first");
        handle.clone().abort("second");
        let first = CollectiveError::Aborted { why: "first".into() };
        assert_eq!(work.wait(), Err(first.clone()));
        assert_broken(collective.as_ref(), &first);
        handle
    });
    // the communicators are gone
    handles.iter().for_each(|handle| handle.abort("third"));
}

#[test]
fn a_rank_that_gave_up_leaves_no_other_waiting() {
    let meeting = Meeting::new(LONG);
    let (ended, all_have_ended) = std::sync::mpsc::channel::<()>();
    let (ended, all_have_ended) = (std::sync::Mutex::new(vec![ended; 2]), std::sync::Mutex::new(all_have_ended));
    meeting.threads(3, |collective| {
        let _ended = match collective.rank() {
            0 => None,
            _ => ended.lock().unwrap().pop(),
        };
        if collective.rank() == 0 {
            collective.abort_handle().abort("a test said so");
        }
        let (result, time) = timed(|| sum(collective.as_ref(), 3));
        match collective.rank() {
            0 => assert!(matches!(result, Err(CollectiveError::Aborted { .. })), "{result:?}"),
            _ => assert!(matches!(result, Err(CollectiveError::Peer { operation: "all_reduce", .. })), "{result:?}"),
        }
        assert!(time < AT_ONCE, "{time:?}");
        if collective.rank() == 0 {
            // keeps its communicator until the others have ended
            assert!(all_have_ended.lock().unwrap().recv().is_err());
        }
    });
}

#[test]
fn ranks_in_different_operations_end_at_the_deadline() {
    let disagreements: [[Stuck; 2]; 6] = [
        [|c| sum(c, 3), |c| exchange(c, 3)],
        // Gloo's own collectives end the process on this one and the next
        [|c| sum(c, 3), |c| sum(c, 3000)],
        [|c| exchange(c, 2), |c| exchange(c, 9)],
        [|c| sum(c, 3), |c| c.all_reduce(&floats(3), Reduce::Max).and_then(Work::wait)],
        [|c| c.barrier(), |c| c.broadcast(&floats(1), 0).and_then(Work::wait)],
        [|c| c.send(&floats(3), 1).and_then(Work::wait), |c| c.receive(&floats(2), 0).and_then(Work::wait)],
    ];
    for disagreement in disagreements {
        let meeting = Meeting::new(SHORT);
        meeting.threads(2, |collective| {
            let (result, time) = timed(|| disagreement[collective.rank()](collective.as_ref()));
            // a broadcast is over for its root when everything has left; then the root is the one who leaves
            assert!(
                matches!(result, Err(CollectiveError::Timeout { .. } | CollectiveError::Peer { .. })),
                "{result:?}"
            );
            assert!(time < SHORT + AT_ONCE, "{time:?}");
            drops_at_once(collective);
        });
    }
}

#[test]
fn a_rank_may_leave_after_its_last_operation() {
    let meeting = Meeting::new(LONG);
    meeting.threads(3, |collective| {
        if collective.rank() == 2 {
            // its messages to 0 and 1 are complete, theirs to each other are not yet
            let (out, x) = (floats(3), floats(3));
            collective.all_to_all(&out, &[1, 1, 1], &x, &[1, 1, 1]).unwrap().wait().unwrap();
            return;
        }
        let (out, x) = (floats(3), floats(3));
        let work = collective.all_to_all(&out, &[1, 1, 1], &x, &[1, 1, 1]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        work.wait().unwrap();
        // the two that are left can still talk
        let peer = 1 - collective.rank();
        let y = floats(3);
        let (send, receive) = (collective.send(&x, peer).unwrap(), collective.receive(&y, peer).unwrap());
        send.wait().unwrap();
        receive.wait().unwrap();
        let error = sum(collective.as_ref(), 1).unwrap_err();
        assert!(matches!(error, CollectiveError::Peer { operation: "all_reduce", .. }), "{error}");
    });
}

#[test]
fn dropping_with_operations_in_flight_returns_at_once() {
    let meeting = Meeting::new(LONG);
    let both_have_started = std::sync::Barrier::new(2);
    meeting.threads(2, |collective| {
        let (a, b) = (floats(1_000_000), floats(5));
        let kept = collective.all_reduce(&a, Reduce::Sum).unwrap();
        both_have_started.wait();
        if collective.rank() == 0 {
            let also_kept = collective.receive(&b, 1).unwrap();
            drops_at_once(collective);
            assert!(matches!(also_kept.wait(), Err(CollectiveError::Aborted { .. })));
            assert!(matches!(kept.wait(), Err(CollectiveError::Aborted { .. })));
            return;
        }
        // rank 0 has left, so whether the sum was complete before is open, but not that this ends
        let (_, time) = timed(|| kept.wait());
        assert!(time < AT_ONCE, "{time:?}");
    });
}

/// In a process of its own, where no other test opens sockets or starts threads.
#[test]
fn neither_a_good_nor_a_broken_communicator_leaves_threads_or_sockets_behind() {
    let test = "failures::waiting::neither_a_good_nor_a_broken_communicator_leaves_threads_or_sockets_behind";
    let Some(_) = Child::this() else {
        Meeting::new(LONG).child(test, 0, 1).succeed(LONG);
        return;
    };
    let meeting = Meeting::new(LONG);
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let generation = || {
        meeting.next_generation();
        meeting.threads(3, |collective| sum(collective.as_ref(), 100_000).unwrap());
        meeting.next_generation();
        meeting.threads(3, |collective| {
            let x = floats(1000);
            let _never = collective.all_to_all(&x, &[0, 1000, 0], &floats(0), &[0, 0, 0]);
            collective.abort_handle().abort("a test said so");
            sum(collective.as_ref(), 5).unwrap_err();
        });
    };
    generation();
    // threads that have been joined may be listed a moment longer
    let settled = || {
        std::thread::sleep(Duration::from_millis(300));
        (count("task"), count("fd"))
    };
    let before = settled();
    (0..10).for_each(|_| generation());
    assert_eq!(settled(), before, "threads and descriptors");
}
