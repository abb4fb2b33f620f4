//! Everything that crosses a process boundary: generated messages, their conversions, and the closed list of errors.
//!
//! # Layout
//! * [`job`]: generated from `job.proto`, the user API.
//! * [`worker`]: generated from `worker.proto`, the stream between a worker and its coordinator.
//! * [`status`]: error codes <-> gRPC codes, in this one place.
//! * [`tls`]: how a connection to a coordinator is checked, for its clients and its workers alike.
//! * `convert`: wire <-> domain.
//!
//! Holds no behaviour: who may say what, and when, is the coordinator's business.

/// The user API (`job.proto`).
pub mod job {
    pub use v1::*;
    // the generated code of the worker API refers to this module by its package's path
    #[allow(missing_docs, unreachable_pub, clippy::all)] // generated
    pub mod v1 {
        tonic::include_proto!("accord.job.v1");
    }
}

/// The worker API (`worker.proto`).
pub mod worker {
    pub use v1::*;
    #[allow(missing_docs, unreachable_pub, clippy::all)] // generated
    pub mod v1 {
        tonic::include_proto!("accord.worker.v1");
    }
}

mod convert;
pub mod status;
pub mod tls;

/// Both APIs as `protoc` describes them (an encoded `FileDescriptorSet`): for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptors");

/// Bound on one message, both ways: a job file or a batch of log lines is far smaller.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
