//! Loads shared libraries at run time.
#![allow(unsafe_code, reason = "dlopen")]

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;

/// A library that is never unloaded.
#[derive(Clone, Copy)]
pub(crate) struct Library(NonNull<c_void>);

// SAFETY: a handle of dlopen may be used from every thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// `name` is a path, or a name that is looked for on the library path. What it defines is visible to libraries
    /// loaded later.
    ///
    /// # Errors
    /// What the dynamic loader says.
    pub(crate) fn open(name: &str) -> Result<Library, String> {
        let name = CString::new(name).map_err(|e| e.to_string())?;
        // SAFETY: a valid C string; the initialisers are those of libtorch and of our own library.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        NonNull::new(handle).map(Library).ok_or_else(last_error)
    }

    /// The address of a function.
    ///
    /// # Errors
    /// When the library has no such name.
    pub(crate) fn function(self, name: &CStr) -> Result<NonNull<c_void>, String> {
        // SAFETY: a live handle and a valid C string.
        let address = unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) };
        NonNull::new(address).ok_or_else(last_error)
    }
}

fn last_error() -> String {
    // SAFETY: dlerror returns null or a C string that lives until the next dl call of this thread.
    unsafe {
        let message = libc::dlerror();
        if message.is_null() { "unknown error".into() } else { CStr::from_ptr(message).to_string_lossy().into_owned() }
    }
}
