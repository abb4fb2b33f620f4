//! Forming that cannot succeed.

use super::{AT_ONCE, LONG, SHORT, re_forms, timed};
use crate::worlds::{Meeting, options};
use accord_collective::{CollectiveError, Store, gloo};
use std::time::Duration;

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
    elsewhere.host = "192.0.2.1".into();
    let error = gloo::connect(&store, &elsewhere).err().unwrap().to_string();
    assert!(error.contains("192.0.2.1"), "{error}");
}

#[test]
fn the_store_listens_on_its_own_address_only() {
    let (_store, port) = Store::serve("127.0.0.1", SHORT).unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(std::net::TcpStream::connect(("127.0.0.2", port)).is_err());
}
