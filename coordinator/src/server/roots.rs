//! Path confinement: the folders and buckets that the data of a submitted job must lie in. Checked once, when the job is
//! submitted: whoever may write inside a root is trusted not to swap a folder for a link afterwards.

use accord_proto::job::SubmitRequest;
use accord_proto::status::{ApiError, ErrorCode};
use accord_spec::Location;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// A dataset's folder holds a few files; what holds more is not looked through.
const MAX_ENTRIES: usize = 10_000;
/// As a root: every bucket that the workers' credentials open.
const ANY_BUCKET: &str = "s3://";

/// Where the data of jobs may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DataRoots {
    /// Anywhere this process can read, and any bucket.
    #[default]
    Anywhere,
    Under {
        /// Data lie in or under one of these, whose links are resolved;
        folders: Vec<PathBuf>,
        /// or in one of these: `s3://bucket/prefix/`, or `s3://` for every bucket.
        buckets: Vec<String>,
    },
}

impl DataRoots {
    /// Folders with their links resolved, and buckets.
    ///
    /// # Errors
    /// A folder that is not there, or a bucket that cannot be one, by name.
    pub fn under(roots: &[PathBuf]) -> io::Result<DataRoots> {
        let remote = |root: &PathBuf| root.to_str().filter(|root| root.contains("://")).map(str::to_string);
        let (buckets, folders): (Vec<_>, Vec<_>) = roots.iter().partition(|root| remote(root).is_some());
        let check = |root: String| match Location::of_data(&root) {
            _ if root == ANY_BUCKET => Ok(root),
            Ok(_) => Ok(folder_of(&root)),
            Err(reason) => Err(io::Error::new(io::ErrorKind::InvalidInput, reason)),
        };
        let resolve = |folder: &PathBuf| {
            folder.canonicalize().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", folder.display())))
        };
        Ok(DataRoots::Under {
            folders: folders.into_iter().map(resolve).collect::<io::Result<_>>()?,
            buckets: buckets.into_iter().filter_map(remote).map(check).collect::<io::Result<_>>()?,
        })
    }

    /// Whether the data of a submission stays inside. Reads the file system: not for an async thread.
    ///
    /// # Errors
    /// [`ErrorCode::BadInput`], for a job file that cannot be parsed too.
    pub(super) fn check(&self, request: &SubmitRequest) -> Result<(), ApiError> {
        let DataRoots::Under { folders: roots, buckets } = self else { return Ok(()) };
        let bad = |text: String| ApiError::new(ErrorCode::BadInput, text);
        let overrides: Vec<_> = request.overrides.iter().cloned().map(Into::into).collect();
        let data = accord_spec::parse(&request.job_toml, &overrides).map_err(|e| bad(e.to_string()))?.data;
        if data.synthetic.is_some() {
            return Ok(());
        }
        if Location::of_data(&data.path).is_ok_and(|location| location.is_bucket()) {
            let path = folder_of(&data.path);
            let inside = buckets.iter().any(|root| path.starts_with(root));
            return if inside { Ok(()) } else { Err(bad(outside_buckets(&data.path))) };
        }
        let outside = |path: &Path| {
            let path = path.display();
            bad(format!(
                "data.path: {path} is not inside a folder this coordinator reads data from\n  hint: give a folder \
                 under one of its data_roots, without `..`; links are followed before it is compared"
            ))
        };
        let path = Path::new(&request.job_root).join(&data.path);
        let folder = resolve(&path).filter(|folder| is_inside(roots, folder)).ok_or_else(|| outside(&path))?;
        match escaping_link(roots, &folder) {
            Ok(None) => Ok(()),
            Ok(Some(link)) => Err(outside(&link)),
            Err(error) => Err(bad(format!("data.path: {} cannot be looked through: {error}", folder.display()))),
        }
    }
}

/// With one `/` at its end, so that `s3://lake/sets` does not begin `s3://lake/sets-of-others`.
fn folder_of(address: &str) -> String {
    format!("{}/", address.trim_end_matches('/'))
}

fn outside_buckets(path: &str) -> String {
    format!(
        "data.path: {path} is not inside a bucket this coordinator reads data from\n  hint: data_roots of the \
         coordinator names the buckets that jobs may read, such as \"s3://bucket/datasets\", or \"s3://\" for all"
    )
}

fn is_inside(roots: &[PathBuf], path: &Path) -> bool {
    roots.iter().any(|root| path.starts_with(root))
}

/// The path without links, as far as it exists; none when it has a `..` or a link to nowhere. What does not exist is for
/// the workers to miss, who may run elsewhere.
fn resolve(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        return None;
    }
    let there = path.ancestors().find(|p| fs::symlink_metadata(p).is_ok())?;
    let rest = path.strip_prefix(there).ok()?;
    let there = there.canonicalize().ok()?;
    Some(if rest.as_os_str().is_empty() { there } else { there.join(rest) })
}

/// A link in the folder, at any depth and behind other links, that leads out of the roots or nowhere.
fn escaping_link(roots: &[PathBuf], folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut folders = vec![folder.to_path_buf()];
    let mut walked = BTreeSet::new();
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        // links may go round in circles
        if !walked.insert(folder.clone()) {
            continue;
        }
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(io::Error::other(format!("it holds more than {MAX_ENTRIES} files")));
            }
            let (kind, path) = (entry.file_type()?, entry.path());
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                match path.canonicalize() {
                    Ok(target) if !is_inside(roots, &target) => return Ok(Some(path)),
                    Ok(target) if target.is_dir() => folders.push(target),
                    Ok(_) => {}
                    Err(_) => return Ok(Some(path)),
                }
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn submission(job_root: &Path, data_path: &str) -> SubmitRequest {
        let job_toml = format!("[job]\nname = \"a\"\n[data]\npath = \"{data_path}\"\n[model]\nkind = \"lightgcn\"\n");
        SubmitRequest { job_toml, job_root: job_root.display().to_string(), ..SubmitRequest::default() }
    }

    /// `open/{data,jobs}` and `closed/secret`.
    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf, DataRoots) {
        let dir = tempfile::tempdir().unwrap();
        let (open, closed) = (dir.path().join("open"), dir.path().join("closed"));
        for folder in [open.join("data/deep"), open.join("jobs"), closed.join("secret")] {
            fs::create_dir_all(folder).unwrap();
        }
        let roots = DataRoots::under(std::slice::from_ref(&open)).unwrap();
        (dir, open, closed, roots)
    }

    #[test]
    fn data_inside_a_root_is_taken_and_data_elsewhere_is_not() {
        let (_dir, open, closed, roots) = folders();
        for (root, path) in [
            (&open, "data"),
            (&closed, open.join("data").to_str().unwrap()),
            (&open, "."),
            (&open.join("not-there-yet"), "data"),
        ] {
            assert!(roots.check(&submission(root, path)).is_ok(), "{} {path}", root.display());
        }
        for (root, path) in [
            (&open.join("jobs"), "../data"),
            (&open, "../closed/secret"),
            (&open.join("not-there/../../closed"), "secret"),
            (&open, closed.join("secret").to_str().unwrap()),
            (&open, "/etc"),
            (&closed, "secret"),
            (&closed, "not-there"),
            (&PathBuf::from("relative"), "data"),
        ] {
            let error = roots.check(&submission(root, path)).expect_err(path);
            assert_eq!(error.code, ErrorCode::BadInput, "{path}");
            assert!(error.message.contains("data_roots"), "{error}");
            assert!(DataRoots::Anywhere.check(&submission(root, path)).is_ok());
        }
    }

    #[test]
    fn a_link_that_leaves_the_roots_is_found_at_any_depth() {
        let (_dir, open, closed, roots) = folders();
        let check = |path: &str| roots.check(&submission(&open, path));
        symlink(open.join("data"), open.join("inside")).unwrap();
        assert!(check("inside").is_ok());
        symlink(closed.join("secret"), open.join("outside")).unwrap();
        symlink(closed.join("to-be-made"), open.join("dangling")).unwrap();
        for path in ["outside", "outside/deeper", "dangling", "dangling/x"] {
            assert!(check(path).is_err(), "{path}");
        }
        symlink("/etc/passwd", open.join("data/deep/train.txt")).unwrap();
        let error = check("data").unwrap_err();
        assert!(error.message.contains("deep/train.txt"), "{error}");
        // by way of a folder that is inside, and in a circle
        fs::create_dir(open.join("next")).unwrap();
        symlink(open.join("next"), open.join("next/round")).unwrap();
        assert!(check("next").is_ok());
        symlink(open.join("data"), open.join("next/trn.npz")).unwrap();
        assert!(check("next").is_err());
    }

    #[test]
    fn data_in_a_bucket_are_taken_where_a_root_names_it() {
        let (_dir, open, _, folders_alone) = folders();
        let takes = |roots: &DataRoots, path: &str| roots.check(&submission(&open, path)).is_ok();
        let some = DataRoots::under(&[open.clone(), "s3://lake/sets/".into()]).unwrap();
        for path in ["s3://lake/sets", "s3://lake/sets/", "s3://lake/sets/amazon/v2", "data"] {
            assert!(takes(&some, path), "{path}");
        }
        for path in ["s3://lake/sets-of-others", "s3://lake", "s3://lakes/sets", "s3://lake/sets/../x"] {
            assert!(!takes(&some, path), "{path}");
        }
        assert!(takes(&DataRoots::under(&["s3://".into()]).unwrap(), "s3://any/thing"));
        assert!(takes(&DataRoots::Anywhere, "s3://any/thing"));
        let error = folders_alone.check(&submission(&open, "s3://lake/sets")).unwrap_err();
        assert!(error.message.contains("data_roots"), "{error}");
        assert!(DataRoots::under(&["s3://Not A Bucket".into()]).is_err());
    }

    #[test]
    fn a_root_that_is_not_there_is_named() {
        let error = DataRoots::under(&["/no/such/folder".into()]).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/folder: "), "{error}");
    }
}
