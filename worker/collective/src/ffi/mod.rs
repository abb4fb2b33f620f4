//! The C interface of cpp/shim.cpp and its handles as owned values. A message of a C++ exception becomes a `String`.
#![allow(unsafe_code, reason = "foreign functions")]

mod group;
mod store;

use crate::CollectiveError;
pub(crate) use group::{Group, Work};
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{NonNull, null_mut};
use std::time::Duration;
pub(crate) use store::Store;

/// A C++ object behind a pointer.
#[repr(C)]
pub(crate) struct Opaque {
    _private: [u8; 0],
}

pub(crate) type Handle = *mut Opaque;
type Message = *mut *mut c_char;

unsafe extern "C" {
    fn accord_check_version(error: Message) -> c_int;
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
    // The check asks libtorch for its build settings, which asks whether CUDA is there, and libtorch remembers the first
    // answer. A machine without CUDA libraries is no error here.
    let _ = crate::cuda::load();
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
