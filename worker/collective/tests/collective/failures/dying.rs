//! Another process is killed or frozen.

use super::{AT_ONCE, LONG, SHORT, assert_broken, drops_at_once, exchange, floats, re_forms, sum, timed};
use crate::worlds::{Child, Meeting, Running, signal};
use accord_collective::{Collective, CollectiveError, Work, gloo};
use std::time::{Duration, Instant};
use tch::Tensor;

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

fn stop_this_process() {
    signal(std::process::id(), "STOP");
}

#[test]
fn a_killed_peer_ends_the_wait_at_once() {
    let other = |collective: &dyn Collective| {
        sum(collective, 4).unwrap();
        stop_this_process();
    };
    with_a_process(
        "failures::dying::a_killed_peer_ends_the_wait_at_once",
        LONG,
        other,
        |collective, meeting, child| {
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
        },
    );
}

/// An all_to_all of 96 MiB each way, with a process that has been stopped in the middle of it.
struct HalfWay {
    collective: Box<dyn Collective>,
    meeting: Meeting,
    child: Running,
    work: Work,
    _tensors: [Tensor; 2],
}

impl HalfWay {
    const ROWS: i64 = 24 << 20;

    fn start(collective: &dyn Collective) -> (Work, [Tensor; 2]) {
        let mut counts = [Self::ROWS; 2];
        counts[collective.rank()] = 0;
        let (out, x) = (floats(Self::ROWS).zero_(), floats(Self::ROWS));
        (collective.all_to_all(&out, &counts, &x, &counts).unwrap(), [out, x])
    }

    /// None in the child.
    fn reached(test: &str) -> Option<HalfWay> {
        if let Some(child) = Child::this() {
            let collective = child.join(LONG);
            let _started = HalfWay::start(collective.as_ref());
            std::thread::sleep(LONG);
            return None;
        }
        // the transfer may be over before the other process has stopped
        let half_way = (0..20).find_map(|_| HalfWay::attempt(test));
        assert!(half_way.is_some(), "every transfer was over too soon");
        half_way
    }

    fn attempt(test: &str) -> Option<HalfWay> {
        let meeting = Meeting::new(LONG);
        let child = meeting.child(test, 1, 2);
        let collective = gloo::connect(&meeting.store(), &meeting.options(0, 2)).unwrap();
        let (work, tensors) = HalfWay::start(collective.as_ref());
        let limit = Instant::now() + LONG;
        while tensors[0].double_value(&[0]) == 0.0 {
            assert!(Instant::now() < limit, "nothing arrives");
        }
        child.signal("STOP");
        child.stopped();
        let whole = tensors[0].double_value(&[-1]) != 0.0;
        (!whole).then_some(HalfWay { collective, meeting, child, work, _tensors: tensors })
    }
}

#[test]
fn a_peer_killed_in_the_middle_of_a_message_ends_the_wait_at_once() {
    let test = "failures::dying::a_peer_killed_in_the_middle_of_a_message_ends_the_wait_at_once";
    let Some(HalfWay { collective, meeting, child, work, _tensors }) = HalfWay::reached(test) else { return };
    child.signal("KILL");
    let (result, time) = timed(|| work.wait());
    assert!(matches!(result, Err(CollectiveError::Peer { operation: "all_to_all", .. })), "{result:?}");
    assert!(time < AT_ONCE, "{time:?}");
    drops_at_once(collective);
    re_forms(&meeting);
}

#[test]
fn abort_ends_a_wait_in_the_middle_of_a_message() {
    let test = "failures::dying::abort_ends_a_wait_in_the_middle_of_a_message";
    let Some(HalfWay { collective, meeting, child, work, _tensors }) = HalfWay::reached(test) else { return };
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
    re_forms(&meeting);
    drop(child);
}

#[test]
fn a_frozen_peer_ends_the_wait_at_the_deadline() {
    let other = |collective: &dyn Collective| {
        sum(collective, 4).unwrap();
        stop_this_process();
    };
    let test = "failures::dying::a_frozen_peer_ends_the_wait_at_the_deadline";
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
