//! libtorch's CUDA half, loaded at run time: the same binary runs where there is no GPU.

use std::ffi::{CStr, CString};
use std::sync::OnceLock;

/// In the order they must be loaded.
const LIBRARIES: [&str; 2] = ["libtorch_cuda.so", "libtorch_cuda_linalg.so"];

/// Loads the CUDA libraries of libtorch from the library path, once a process. Must come before libtorch is first asked
/// about CUDA: it remembers a "no" for the life of the process.
///
/// # Errors
/// What the dynamic loader says, when they are not there.
pub fn load() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| LIBRARIES.iter().try_for_each(|library| open(library))).clone()
}

#[allow(unsafe_code, reason = "dlopen")]
fn open(library: &str) -> Result<(), String> {
    let name = CString::new(library).map_err(|e| e.to_string())?;
    // SAFETY: a valid C string; the library's initialisers are libtorch's own. The handle is never closed.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: dlerror returns null or a C string that lives until the next dl call of this thread.
    let why = unsafe {
        let message = libc::dlerror();
        if message.is_null() { "unknown error".into() } else { CStr::from_ptr(message).to_string_lossy().into_owned() }
    };
    Err(format!("{library} cannot be loaded ({why}): put a CUDA libtorch 2.11 on LD_LIBRARY_PATH"))
}
