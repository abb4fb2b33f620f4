//! libaccord_nccl.so, our second library: it refers to libtorch_cuda, so it is loaded where that is.
#![allow(unsafe_code, reason = "a function of a library loaded at run time")]

use crate::loader::Library;
use crate::{CollectiveError, cuda, ffi};
use std::ffi::{c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::time::Duration;

const NAME: &str = "libaccord_nccl.so";
/// A path that is taken instead of looking for the library.
const VARIABLE: &str = "ACCORD_NCCL_LIB";

type Connect = unsafe extern "C" fn(
    store: ffi::Handle,
    device: c_int,
    rank: c_int,
    size: c_int,
    timeout_ms: i64,
    out: *mut ffi::Handle,
    error: *mut *mut c_char,
) -> c_int;

/// Loads libtorch's CUDA half and then the library, once a process.
pub(super) fn load() -> Result<Nccl, CollectiveError> {
    static LOADED: OnceLock<Result<Nccl, String>> = OnceLock::new();
    LOADED.get_or_init(|| cuda::load().and_then(|()| open())).clone().map_err(CollectiveError::library)
}

fn open() -> Result<Nccl, String> {
    let advice = |why| format!("{NAME} cannot be loaded ({why}): build it with `make nccl`, or name it in {VARIABLE}");
    let library = Library::open(&place()).map_err(advice)?;
    library.function(c"accord_nccl_connect").map(|connect| Nccl { connect }).map_err(advice)
}

/// What the variable says, or beside the executable, or where `make nccl` puts it in the checkout the executable lies
/// in, or else a name to look for on LD_LIBRARY_PATH.
fn place() -> String {
    if let Ok(path) = std::env::var(VARIABLE) {
        return path;
    }
    let executable = std::env::current_exe().unwrap_or_default();
    let beside = executable.parent().map(|folder| folder.join(NAME));
    // target/<profile>/deps/<executable> is the deepest
    let checkout = executable.ancestors().skip(1).take(4).map(|folder| folder.join(".deps/nccl").join(NAME));
    let found: Option<PathBuf> = beside.into_iter().chain(checkout).find(|path| path.is_file());
    found.map_or_else(|| NAME.to_owned(), |path| path.display().to_string())
}

#[derive(Clone, Copy)]
pub(super) struct Nccl {
    connect: NonNull<c_void>,
}

// SAFETY: the address of a function.
unsafe impl Send for Nccl {}
// SAFETY: as above.
unsafe impl Sync for Nccl {}

impl Nccl {
    /// Blocks until all ranks of `store` have joined.
    pub(super) fn connect(
        self,
        store: &ffi::Store,
        device: usize,
        rank: usize,
        size: usize,
        timeout: Duration,
    ) -> Result<ffi::Group, String> {
        // SAFETY: cpp/nccl_shim.cpp defines the name with this type.
        let connect = unsafe { std::mem::transmute::<NonNull<c_void>, Connect>(self.connect) };
        let ms = ffi::milliseconds(timeout);
        let (device, rank, size) = (ffi::index(device), ffi::index(rank), ffi::index(size));
        // SAFETY: a live store and valid out pointers.
        ffi::make(|out, e| unsafe { connect(store.handle(), device, rank, size, ms, out, e) })
            .map(ffi::Group::from_made)
    }
}
