//! Ranks that stop answering, die, leave, disagree or are aborted, over Gloo.

use crate::worlds::{Child, Meeting, Running, options, signal};
use accord_collective::{Collective, CollectiveError, Reduce, Store, Work, gloo};
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
    let handles = meeting.threads(2, |collective| {
        let x = floats(4);
        let work = collective.all_reduce(&x, Reduce::Sum).unwrap();
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
    meeting.threads(2, |collective| {
        let (a, b) = (floats(1_000_000), floats(5));
        let kept = collective.all_reduce(&a, Reduce::Sum).unwrap();
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

/// As rank 0 of two, the other being a process of its own that runs `other`.
fn with_a_process(
    test: &str,
    deadline: Duration,
    other: impl Fn(&dyn Collective),
    body: impl Fn(Box<dyn Collective>, &Meeting, Running),
) {
    if let Some(child) = Child::this() {
        other(child.join(LONG).as_ref());
        return;
    }
    let meeting = Meeting::new(deadline);
    let child = meeting.child(test, 1, 2);
    let options = meeting.options(0, 2);
    body(gloo::connect(&meeting.store(), &options).unwrap(), &meeting, child);
}

/// A transfer so large that it cannot be over before the other side acts.
const HUGE: i64 = 48 << 20;

fn stop_this_process() {
    signal(std::process::id(), "STOP");
}

#[test]
fn a_killed_peer_ends_the_wait_at_once() {
    let other = |collective: &dyn Collective| {
        sum(collective, 4).unwrap();
        stop_this_process();
    };
    with_a_process("failures::a_killed_peer_ends_the_wait_at_once", LONG, other, |collective, meeting, child| {
        sum(collective.as_ref(), 4).unwrap();
        child.stopped();
        let killing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            child.signal("KILL");
            (Instant::now(), child)
        });
        let error = exchange(collective.as_ref(), 7).unwrap_err();
        let ended = Instant::now();
        let (killed, child) = killing.join().unwrap();
        assert!(ended.duration_since(killed) < AT_ONCE);
        assert!(
            matches!(&error, CollectiveError::Peer { operation: "all_to_all", reason } if reason.contains("rank 1")),
            "{error}"
        );
        assert_broken(collective.as_ref(), &error);
        drops_at_once(collective);
        drop(child);
        re_forms(meeting);
    });
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

#[test]
fn a_peer_killed_in_the_middle_of_a_message_ends_the_wait_at_once() {
    let other = |collective: &dyn Collective| {
        let (out, x) = (floats(2 * HUGE), floats(2 * HUGE));
        let _started = collective.all_to_all(&out, &[HUGE, HUGE], &x, &[HUGE, HUGE]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        stop_this_process();
    };
    let test = "failures::a_peer_killed_in_the_middle_of_a_message_ends_the_wait_at_once";
    with_a_process(test, LONG, other, |collective, meeting, child| {
        let (out, x) = (floats(2 * HUGE), floats(2 * HUGE));
        let work = collective.all_to_all(&out, &[HUGE, HUGE], &x, &[HUGE, HUGE]).unwrap();
        child.stopped();
        child.signal("KILL");
        let (result, time) = timed(|| work.wait());
        assert!(matches!(result, Err(CollectiveError::Peer { operation: "all_to_all", .. })), "{result:?}");
        assert!(time < AT_ONCE, "{time:?}");
        drops_at_once(collective);
        re_forms(meeting);
    });
}

#[test]
fn a_frozen_peer_ends_the_wait_at_the_deadline() {
    let other = |collective: &dyn Collective| {
        sum(collective, 4).unwrap();
        stop_this_process();
    };
    let test = "failures::a_frozen_peer_ends_the_wait_at_the_deadline";
    with_a_process(test, SHORT, other, |collective, meeting, child| {
        sum(collective.as_ref(), 4).unwrap();
        child.stopped();
        let (result, time) = timed(|| exchange(collective.as_ref(), 7));
        let error = result.unwrap_err();
        assert_eq!(error, CollectiveError::Timeout { operation: "all_to_all", seconds: 1.5 });
        assert!(time >= SHORT && time < SHORT + AT_ONCE, "{time:?}");
        assert_broken(collective.as_ref(), &error);
        drops_at_once(collective);
        re_forms(meeting);
    });
}

#[test]
fn abort_ends_a_wait_in_the_middle_of_a_message() {
    let other = |collective: &dyn Collective| {
        let x = floats(HUGE);
        let _started = collective.send(&x, 0).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        stop_this_process();
    };
    let test = "failures::abort_ends_a_wait_in_the_middle_of_a_message";
    with_a_process(test, LONG, other, |collective, meeting, child| {
        let x = floats(HUGE);
        let work = collective.receive(&x, 1).unwrap();
        child.stopped();
        let handle = collective.abort_handle();
        let aborting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            handle.abort("enough");
        });
        let (result, time) = timed(|| work.wait());
        assert_eq!(result, Err(CollectiveError::Aborted { why: "enough".into() }));
        assert!(time < AT_ONCE, "{time:?}");
        aborting.join().unwrap();
        drops_at_once(collective);
        re_forms(meeting);
    });
}

#[test]
fn forming_ends_at_the_deadline_when_a_rank_is_missing() {
    let meeting = Meeting::new(SHORT);
    let store = meeting.store();
    let (result, time) = timed(|| gloo::connect(&store, &meeting.options(0, 2)));
    assert_eq!(result.err(), Some(CollectiveError::Timeout { operation: "connect", seconds: 1.5 }));
    assert!(time < SHORT + AT_ONCE, "{time:?}");
    re_forms(&Meeting::new(LONG));
}

#[test]
fn a_store_that_is_not_there_is_an_error_that_names_it() {
    let (result, time) = timed(|| Store::connect("127.0.0.1", 9, SHORT));
    let error = result.err().unwrap().to_string();
    assert!(error.contains("127.0.0.1:9"), "{error}");
    assert!(time < SHORT + AT_ONCE, "{time:?}");
    assert!(Store::serve("192.0.2.1", SHORT).err().unwrap().to_string().contains("192.0.2.1"));
}

#[test]
fn wrong_options_are_errors() {
    let meeting = Meeting::new(SHORT);
    let store = meeting.store();
    for (rank, size) in [(2, 2), (0, 0)] {
        assert!(matches!(gloo::connect(&store, &options(rank, size, 9, SHORT)), Err(CollectiveError::Library { .. })));
    }
    assert!(matches!(gloo::connect(&store, &options(0, 1, 9, Duration::ZERO)), Err(CollectiveError::Library { .. })));
    assert!(matches!(gloo::connect(&store, &options(0, 1, 9, Duration::MAX)), Err(CollectiveError::Library { .. })));
    let mut elsewhere = options(0, 1, 10, SHORT);
    elsewhere.host = "no-such-host.invalid".into();
    let error = gloo::connect(&store, &elsewhere).err().unwrap().to_string();
    assert!(error.contains("no-such-host.invalid"), "{error}");
}

#[test]
fn the_store_listens_on_its_own_address_only() {
    let (_store, port) = Store::serve("127.0.0.1", SHORT).unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(std::net::TcpStream::connect(("127.0.0.2", port)).is_err());
}
