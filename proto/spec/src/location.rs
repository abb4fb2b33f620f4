//! Where `checkpoint.uri` and `data.path` point.

use crate::validate::stays_inside;

/// A place that a job file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location<'a> {
    /// Of checkpoints: inside the run directory. Of data: absolute, or relative to the folder of the job file.
    Folder(&'a str),
    /// An object store that speaks S3. The prefix has no `/` at its ends and may be empty.
    S3 { bucket: &'a str, prefix: &'a str },
}

impl<'a> Location<'a> {
    /// `checkpoint.uri`: `checkpoints`, `file://checkpoints` or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_checkpoints(uri: &'a str) -> Result<Location<'a>, String> {
        match uri.split_once("://") {
            None => folder(uri),
            Some(("file", path)) => folder(path),
            Some(("s3", rest)) => s3(rest).ok_or_else(|| no_bucket(uri)),
            Some((scheme, _)) => Err(format!("`{uri}`: checkpoints in {scheme}:// are not supported")),
        }
    }

    /// `data.path`: a folder, or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_data(path: &'a str) -> Result<Location<'a>, String> {
        match path.split_once("://") {
            None => Ok(Location::Folder(path)),
            Some(("s3", rest)) => s3(rest).ok_or_else(|| no_bucket(path)),
            Some((scheme, _)) => Err(format!("`{path}`: data in {scheme}:// are not read")),
        }
    }

    pub fn is_bucket(&self) -> bool {
        matches!(self, Location::S3 { .. })
    }
}

fn no_bucket(uri: &str) -> String {
    format!("`{uri}` is not s3://bucket/prefix, of a bucket's name and of letters, digits, `.`, `_`, `-` and `=`")
}

fn folder(path: &str) -> Result<Location<'_>, String> {
    match stays_inside(path) {
        true => Ok(Location::Folder(path)),
        false => Err(format!("`{path}` is not a folder inside the run directory")),
    }
}

fn s3(rest: &str) -> Option<Location<'_>> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let in_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let bucket_fits = (3..=63).contains(&bucket.len()) && bucket.chars().all(in_bucket);
    // other characters would be spelled differently in the bucket than here
    let in_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '=');
    let part_fits = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(in_part);
    let prefix_fits = prefix.is_empty() || prefix.split('/').all(part_fits);
    (bucket_fits && prefix_fits).then_some(Location::S3 { bucket, prefix })
}
