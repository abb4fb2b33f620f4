//! Where `checkpoint.uri` and `data.path` point.

use crate::validate::stays_inside;

/// A place for checkpoints, as a job file names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointUri<'a> {
    /// Inside the run directory.
    Folder(&'a str),
    /// An object store that speaks S3. The prefix has no `/` at its ends and may be empty.
    S3 { bucket: &'a str, prefix: &'a str },
}

impl<'a> CheckpointUri<'a> {
    /// `checkpoints`, `file://checkpoints` or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(uri: &'a str) -> Result<CheckpointUri<'a>, String> {
        match uri.split_once("://") {
            None => folder(uri),
            Some(("file", path)) => folder(path),
            Some(("s3", rest)) => {
                let (bucket, prefix) = s3(rest).ok_or_else(|| no_bucket(uri))?;
                Ok(CheckpointUri::S3 { bucket, prefix })
            }
            Some((scheme, _)) => Err(format!("`{uri}`: checkpoints in {scheme}:// are not supported")),
        }
    }
}

/// Where `data.path` points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPath<'a> {
    /// Relative to the folder of the job file, or absolute.
    Folder(&'a str),
    /// An object store that speaks S3. The prefix has no `/` at its ends and may be empty.
    S3 { bucket: &'a str, prefix: &'a str },
}

impl<'a> DataPath<'a> {
    /// A folder, or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(path: &'a str) -> Result<DataPath<'a>, String> {
        match path.split_once("://") {
            None => Ok(DataPath::Folder(path)),
            Some(("s3", rest)) => {
                let (bucket, prefix) = s3(rest).ok_or_else(|| no_bucket(path))?;
                Ok(DataPath::S3 { bucket, prefix })
            }
            Some((scheme, _)) => Err(format!("`{path}`: data in {scheme}:// are not read")),
        }
    }
}

fn no_bucket(uri: &str) -> String {
    format!("`{uri}` is not s3://bucket/prefix, of a bucket's name and of letters, digits, `.`, `_`, `-` and `=`")
}

fn folder(path: &str) -> Result<CheckpointUri<'_>, String> {
    match stays_inside(path) {
        true => Ok(CheckpointUri::Folder(path)),
        false => Err(format!("`{path}` is not a folder inside the run directory")),
    }
}

/// Bucket and prefix.
fn s3(rest: &str) -> Option<(&str, &str)> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let in_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let bucket_fits = (3..=63).contains(&bucket.len()) && bucket.chars().all(in_bucket);
    // other characters would be spelled differently in the bucket than here
    let in_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '=');
    let part_fits = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(in_part);
    let prefix_fits = prefix.is_empty() || prefix.split('/').all(part_fits);
    (bucket_fits && prefix_fits).then_some((bucket, prefix))
}
