//! What the tests of this crate share; those of the command line take the server.
#![allow(dead_code, reason = "each test binary takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

pub(crate) mod seaweedfs;

use accord_objects::Options;
use std::time::Duration;

/// Variables for a server that speaks S3 at `endpoint`.
pub(crate) fn options(endpoint: &str, deadline: Duration) -> Options {
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "accord"),
        ("AWS_SECRET_ACCESS_KEY", "accord-secret"),
        ("AWS_REGION", "us-east-1"),
    ];
    Options { variables: variables.map(|(k, v)| (k.into(), v.into())).into(), deadline }
}
