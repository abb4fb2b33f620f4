//! libtorch's CUDA half, loaded at run time: the same binary runs where there is no GPU.

use crate::loader::Library;
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

fn open(library: &str) -> Result<(), String> {
    let advice = |why| format!("{library} cannot be loaded ({why}): put a CUDA libtorch 2.11 on LD_LIBRARY_PATH");
    Library::open(library).map(drop).map_err(advice)
}
