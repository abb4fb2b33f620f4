//! A job file from the command line: read, parsed with its overrides, and where its relative paths start.

use super::Usage;
use accord_spec::{JobSpec, Override};
use std::path::{Path, PathBuf};

/// A job file that was found good.
pub(super) struct JobFile {
    pub(super) text: String,
    pub(super) overrides: Vec<Override>,
    /// Absolute folder of the file.
    pub(super) root: PathBuf,
    pub(super) spec: JobSpec,
}

/// # Errors
/// [`Usage`] with the file's name when it cannot be read or used.
pub(super) fn read(path: &Path, overrides: Vec<Override>) -> Result<JobFile, Usage> {
    let named = |text: String| Usage(format!("{}: {text}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
    let spec = accord_spec::parse(&text, &overrides).map_err(|e| named(e.to_string()))?;
    let absolute = path.canonicalize().map_err(|e| named(e.to_string()))?;
    let root = absolute.parent().map(Path::to_path_buf).unwrap_or_else(|| "/".into());
    Ok(JobFile { text, overrides, root, spec })
}
