//! A store of c10d that asks ours.

use super::{Handle, Message, Opaque, c_string, make, milliseconds};
use crate::store::{Client, Request, VERBS};
use std::ffi::{c_char, c_int, c_void};
use std::ptr::NonNull;
use std::time::Duration;

/// Borrowed from the caller, except in answers.
#[repr(C)]
#[derive(Clone, Copy)]
struct Bytes {
    data: *const u8,
    length: usize,
}

type Ask = unsafe extern "C" fn(*const c_void, c_int, i64, *const Bytes, usize, Bytes, *mut Bytes) -> c_int;
type Release = unsafe extern "C" fn(*mut c_void);

unsafe extern "C" {
    fn accord_store_new(
        client: *mut c_void,
        ask: Ask,
        release: Release,
        prefix: *const c_char,
        ms: i64,
        out: *mut Handle,
        error: Message,
    ) -> c_int;
    fn accord_store_free(store: Handle);
}

pub(crate) struct Store(NonNull<Opaque>);

impl Store {
    /// What `client` reaches, all keys under `prefix`.
    pub(crate) fn new(client: Client, prefix: &str) -> Result<Store, String> {
        let (prefix, ms) = (c_string(prefix)?, milliseconds(client.deadline()));
        let client = Box::into_raw(Box::new(client)).cast();
        // SAFETY: valid strings and out pointers; the C++ object owns the client and releases it with `release`.
        make(|out, e| unsafe { accord_store_new(client, ask, release, prefix.as_ptr(), ms, out, e) }).map(Store)
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

/// Called by c10d from any thread. 1 answered, 0 not there in time, -1 failed.
unsafe extern "C" fn ask(
    client: *const c_void,
    verb: c_int,
    wait_ms: i64,
    keys: *const Bytes,
    count: usize,
    value: Bytes,
    out: *mut Bytes,
) -> c_int {
    // SAFETY: the client of `Store::new`, which is only shared and lives until `release`; the other arguments are
    // borrowed for this call by cpp/callback_store.h.
    let (client, keys, value) = unsafe {
        let keys = (0..count).map(|n| owned(*keys.add(n))).collect();
        (&*client.cast::<Client>(), keys, owned(value))
    };
    let verb = usize::try_from(verb).ok().and_then(|place| VERBS.get(place));
    let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
    let outcome = match verb {
        Some(&verb) => client.ask(&Request { verb, wait, keys, value }),
        None => Err("the store has no such request".into()),
    };
    let (code, answer) = match outcome {
        Ok(Some(answer)) => (1, answer),
        Ok(None) => (0, Vec::new()),
        Err(reason) => (-1, reason.into_bytes()),
    };
    // SAFETY: `out` is a valid place for the answer.
    unsafe { *out = handed_over(&answer) };
    code
}

/// # Safety
/// `client` is that of `Store::new` and is not used any more.
unsafe extern "C" fn release(client: *mut c_void) {
    // SAFETY: made by Box::into_raw there.
    drop(unsafe { Box::from_raw(client.cast::<Client>()) });
}

/// # Safety
/// `bytes` can be read, or has no length.
unsafe fn owned(bytes: Bytes) -> Vec<u8> {
    if bytes.length == 0 {
        return Vec::new();
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(bytes.data, bytes.length) }.to_vec()
}

/// A copy that C++ frees.
fn handed_over(bytes: &[u8]) -> Bytes {
    // SAFETY: malloc takes any size, and what it gives has room for the bytes.
    unsafe {
        let data: *mut u8 = libc::malloc(bytes.len().max(1)).cast();
        if data.is_null() {
            return Bytes { data, length: 0 };
        }
        data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        Bytes { data, length: bytes.len() }
    }
}
