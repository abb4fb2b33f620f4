//! Process groups of c10d and the operations they have in flight.

use super::{Handle, Message, Opaque, Store, c_string, call, index, make, milliseconds};
use crate::Reduce;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::NonNull;
use std::time::Duration;
use tch::Tensor;

unsafe extern "C" {
    fn accord_gloo_connect(
        store: Handle,
        host: *const c_char,
        rank: c_int,
        size: c_int,
        ms: i64,
        out: *mut Handle,
        error: Message,
    ) -> c_int;
    fn accord_gloo_close(group: Handle, error: Message) -> c_int;
    fn accord_group_send(group: Handle, x: Raw, to: c_int, tag: c_int, out: *mut Handle, error: Message) -> c_int;
    fn accord_group_receive(group: Handle, x: Raw, from: c_int, tag: c_int, out: *mut Handle, error: Message) -> c_int;
    fn accord_group_all_reduce(group: Handle, x: Raw, op: c_int, out: *mut Handle, error: Message) -> c_int;
    fn accord_group_all_gather(group: Handle, into: Raw, x: Raw, out: *mut Handle, error: Message) -> c_int;
    fn accord_group_reduce_scatter(
        group: Handle,
        into: Raw,
        x: Raw,
        op: c_int,
        out: *mut Handle,
        error: Message,
    ) -> c_int;
    fn accord_group_all_to_all(
        group: Handle,
        into: Raw,
        received: *const i64,
        x: Raw,
        sent: *const i64,
        out: *mut Handle,
        error: Message,
    ) -> c_int;
    fn accord_group_broadcast(group: Handle, x: Raw, root: c_int, out: *mut Handle, error: Message) -> c_int;
    fn accord_group_abort(group: Handle, error: Message) -> c_int;
    fn accord_group_shutdown(group: Handle, error: Message) -> c_int;
    fn accord_group_free(group: Handle);
    fn accord_work_wait(work: Handle, ms: i64, error: Message) -> c_int;
    fn accord_work_is_complete(work: Handle, error: Message) -> c_int;
    fn accord_work_interrupt(work: Handle, error: Message) -> c_int;
    fn accord_work_free(work: Handle);
}

/// An `at::Tensor*`; the callee takes a reference of its own to the tensor.
type Raw = *mut c_void;

fn raw(x: &Tensor) -> Raw {
    x.as_ptr().cast_mut().cast()
}

/// A process group of c10d.
pub(crate) struct Group(NonNull<Opaque>);

// SAFETY: reference counted; c10d wants one thread at a time to start operations, which the callers see to.
unsafe impl Send for Group {}
// SAFETY: as above.
unsafe impl Sync for Group {}

impl Group {
    /// Takes a group that another library of ours made.
    pub(crate) fn from_made(group: NonNull<Opaque>) -> Group {
        Group(group)
    }

    /// Blocks until all `size` ranks of `store` are connected to each other.
    pub(crate) fn gloo(
        store: &Store,
        host: &str,
        rank: usize,
        size: usize,
        timeout: Duration,
    ) -> Result<Group, String> {
        let (host, ms) = (c_string(host)?, milliseconds(timeout));
        // SAFETY: a live store, valid strings and out pointers.
        make(|out, e| unsafe {
            accord_gloo_connect(store.handle(), host.as_ptr(), index(rank), index(size), ms, out, e)
        })
        .map(Group)
    }

    /// Closes all connections of a group made by [`gloo`](Self::gloo).
    pub(crate) fn close(&self) -> Result<(), String> {
        // SAFETY: a live group of Gloo.
        call(|e| unsafe { accord_gloo_close(self.0.as_ptr(), e) }).map(drop)
    }

    pub(crate) fn send(&self, x: &Tensor, to: usize, tag: i32) -> Result<Work, String> {
        self.start(|g, out, e| {
            // SAFETY: live group and tensor, valid out pointers.
            unsafe { accord_group_send(g, raw(x), index(to), tag, out, e) }
        })
    }

    pub(crate) fn receive(&self, x: &Tensor, from: usize, tag: i32) -> Result<Work, String> {
        self.start(|g, out, e| {
            // SAFETY: live group and tensor, valid out pointers.
            unsafe { accord_group_receive(g, raw(x), index(from), tag, out, e) }
        })
    }

    pub(crate) fn all_reduce(&self, x: &Tensor, op: Reduce) -> Result<Work, String> {
        self.start(|g, out, e| {
            // SAFETY: live group and tensor, valid out pointers.
            unsafe { accord_group_all_reduce(g, raw(x), number(op), out, e) }
        })
    }

    pub(crate) fn all_gather(&self, into: &Tensor, x: &Tensor) -> Result<Work, String> {
        self.start(|g, out, e| {
            // SAFETY: live group and tensors, valid out pointers.
            unsafe { accord_group_all_gather(g, raw(into), raw(x), out, e) }
        })
    }

    pub(crate) fn reduce_scatter(&self, into: &Tensor, x: &Tensor, op: Reduce) -> Result<Work, String> {
        self.start(|g, out, e| {
            // SAFETY: live group and tensors, valid out pointers.
            unsafe { accord_group_reduce_scatter(g, raw(into), raw(x), number(op), out, e) }
        })
    }

    /// Both slices hold one number of rows for each rank of the group.
    pub(crate) fn all_to_all(&self, into: &Tensor, received: &[i64], x: &Tensor, sent: &[i64]) -> Result<Work, String> {
        self.start(|g, out, e| {
            // SAFETY: live group and tensors, valid out pointers; the slices are read up to the group's size.
            unsafe { accord_group_all_to_all(g, raw(into), received.as_ptr(), raw(x), sent.as_ptr(), out, e) }
        })
    }

    pub(crate) fn broadcast(&self, x: &Tensor, root: usize) -> Result<Work, String> {
        self.start(|g, out, e| {
            // SAFETY: live group and tensor, valid out pointers.
            unsafe { accord_group_broadcast(g, raw(x), index(root), out, e) }
        })
    }

    /// Of NCCL: ends what is running on the device.
    pub(crate) fn abort(&self) -> Result<(), String> {
        // SAFETY: a live group; NCCL's may be aborted from any thread.
        call(|e| unsafe { accord_group_abort(self.0.as_ptr(), e) }).map(drop)
    }

    /// Of NCCL: ends a group that is in order.
    pub(crate) fn shutdown(&self) -> Result<(), String> {
        // SAFETY: a live group.
        call(|e| unsafe { accord_group_shutdown(self.0.as_ptr(), e) }).map(drop)
    }

    fn start(&self, f: impl FnOnce(Handle, *mut Handle, Message) -> c_int) -> Result<Work, String> {
        make(|out, e| f(self.0.as_ptr(), out, e)).map(Work)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by the shim, freed once.
        unsafe { accord_group_free(self.0.as_ptr()) }
    }
}

fn number(op: Reduce) -> c_int {
    match op {
        Reduce::Sum => 0,
        Reduce::Max => 1,
        Reduce::Min => 2,
    }
}

/// One operation or message of a group. Its tensors live and are used by libtorch until it is dropped.
pub(crate) struct Work(NonNull<Opaque>);

// SAFETY: a c10d::Work locks what its methods share.
unsafe impl Send for Work {}
// SAFETY: as above; waiting in one thread and interrupting from another is what it is made for.
unsafe impl Sync for Work {}

impl Work {
    /// True when complete, false when interrupted.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<bool, String> {
        // SAFETY: a live work.
        call(|e| unsafe { accord_work_wait(self.0.as_ptr(), milliseconds(timeout), e) }).map(|code| code == 1)
    }

    pub(crate) fn is_complete(&self) -> Result<bool, String> {
        // SAFETY: a live work.
        call(|e| unsafe { accord_work_is_complete(self.0.as_ptr(), e) }).map(|code| code == 1)
    }

    /// Of a message of Gloo: ends the present or else the next wait.
    pub(crate) fn interrupt(&self) {
        // SAFETY: a live work.
        if let Err(reason) = call(|e| unsafe { accord_work_interrupt(self.0.as_ptr(), e) }) {
            tracing::warn!(reason, "a wait could not be interrupted");
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: made by the shim, freed once.
        unsafe { accord_work_free(self.0.as_ptr()) }
    }
}
