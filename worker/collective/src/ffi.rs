//! The C interface of cpp/shim.cpp and its handles as owned values. A message of a C++ exception becomes a `String`.
#![allow(unsafe_code, reason = "foreign functions")]

use crate::{CollectiveError, Reduce};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::ptr::{NonNull, null_mut};
use std::time::Duration;
use tch::Tensor;

/// A C++ object behind a pointer.
#[repr(C)]
pub(crate) struct Opaque {
    _private: [u8; 0],
}

pub(crate) type Handle = *mut Opaque;
type Message = *mut *mut c_char;

unsafe extern "C" {
    fn accord_check_version(error: Message) -> c_int;
    fn accord_store_serve(
        fd: c_int,
        host: *const c_char,
        port: u16,
        ms: i64,
        out: *mut Handle,
        error: Message,
    ) -> c_int;
    fn accord_store_connect(host: *const c_char, port: u16, ms: i64, out: *mut Handle, error: Message) -> c_int;
    fn accord_store_prefix(store: Handle, prefix: *const c_char, out: *mut Handle, error: Message) -> c_int;
    fn accord_store_free(store: Handle);
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

/// Runs a foreign function that returns a negative number and an owned message when it fails.
fn call(f: impl FnOnce(Message) -> c_int) -> Result<c_int, String> {
    let mut message = null_mut();
    let code = f(&mut message);
    if code >= 0 {
        return Ok(code);
    }
    if message.is_null() {
        return Err("out of memory".into());
    }
    // SAFETY: on failure the shim leaves a C string made by strdup, which is ours to free, once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        libc::free(message.cast());
        text
    };
    Err(text)
}

/// Runs a foreign function that also makes an object.
pub(crate) fn make(f: impl FnOnce(*mut Handle, Message) -> c_int) -> Result<NonNull<Opaque>, String> {
    let mut out = null_mut();
    call(|message| f(&mut out, message))?;
    NonNull::new(out).ok_or_else(|| "no object was made".into())
}

/// Whether libtorch is the version whose headers the shim was compiled with. Must come before any object is made.
pub(crate) fn check_version() -> Result<(), CollectiveError> {
    // SAFETY: a valid out pointer.
    call(|e| unsafe { accord_check_version(e) }).map(drop).map_err(CollectiveError::library)
}

/// Lets this thread, and those it starts, not interrupt others when they are woken. Gloo's thread would often interrupt
/// one that holds the lock it needs, and then spin for the rest of its time slice: with more ranks than cores an
/// operation took 4 ms instead of 0.3 (benches/messages.rs).
pub(crate) fn yield_to_others() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: a valid pointer; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &parameters) } != 0 {
        tracing::debug!("the threads of Gloo keep the usual scheduling");
    }
}

/// Rounded up, so that a time that c10d found to be over is over here too; never 0, its word for "for ever".
pub(crate) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX).max(1)
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{text:?} contains a zero byte"))
}

pub(crate) fn index(rank: usize) -> c_int {
    // ranks are checked against a size that fits
    c_int::try_from(rank).unwrap_or(c_int::MAX)
}

/// A server or a client of c10d's TCP store.
pub(crate) struct Store(NonNull<Opaque>);

// SAFETY: a c10d::Store is reference counted and locks its connection around every request.
unsafe impl Send for Store {}
// SAFETY: as above; it has no method that is not locked.
unsafe impl Sync for Store {}

impl Store {
    /// Serves on a bound socket; `host` is where the server reaches itself.
    pub(crate) fn serve(listener: TcpListener, host: &str, port: u16, timeout: Duration) -> Result<Store, String> {
        let host = c_string(host)?;
        let fd = listener.into_raw_fd();
        // SAFETY: valid strings and out pointers; the server owns the descriptor from here on.
        make(|out, e| unsafe { accord_store_serve(fd, host.as_ptr(), port, milliseconds(timeout), out, e) }).map(Store)
    }

    pub(crate) fn connect(host: &str, port: u16, timeout: Duration) -> Result<Store, String> {
        let host = c_string(host)?;
        // SAFETY: valid strings and out pointers.
        make(|out, e| unsafe { accord_store_connect(host.as_ptr(), port, milliseconds(timeout), out, e) }).map(Store)
    }

    /// The same store, all keys under `prefix`.
    pub(crate) fn prefix(&self, prefix: &str) -> Result<Store, String> {
        let prefix = c_string(prefix)?;
        // SAFETY: a live store, valid strings and out pointers.
        make(|out, e| unsafe { accord_store_prefix(self.0.as_ptr(), prefix.as_ptr(), out, e) }).map(Store)
    }

    pub(crate) fn handle(&self) -> Handle {
        self.0.as_ptr()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by the shim, freed once.
        unsafe { accord_store_free(self.0.as_ptr()) }
    }
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
