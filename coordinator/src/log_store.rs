//! Job logs that outlive their workers: one file a rank in the run directory, and the last lines at hand for a
//! failure's reason. Losing a log line never stops a job.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longer lines are cut.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// What a failure's reason quotes at most.
const LAST_WORDS: usize = 8;
/// How much of the log's end is looked at for them.
const LAST_WORDS_BYTES: u64 = 16 * 1024;
/// What one read of a log returns at most.
const READ_BYTES: u64 = 256 * 1024;

/// Where the log of a rank lies.
pub fn log_path(run_dir: &Path, rank: u32) -> PathBuf {
    run_dir.join("logs").join(format!("rank-{rank}.log"))
}

/// The open log of one rank.
#[derive(Clone)]
pub struct RankLog {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    file: File,
    /// Where this session's lines begin.
    start: u64,
    /// A full disk is told once, not for each line.
    failed: bool,
}

impl RankLog {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// When the folder or file cannot be made.
    pub fn open(run_dir: &Path, rank: u32) -> io::Result<RankLog> {
        let path = log_path(run_dir, rank);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).read(true).open(path)?;
        let start = file.metadata()?.len();
        Ok(RankLog { inner: Arc::new(Mutex::new(Inner { file, start, failed: false })) })
    }

    /// Adds one line.
    pub fn append(&self, line: &str) {
        let line = cut(line);
        let mut inner = self.lock();
        // one write a line: two writers' lines never mix
        match inner.file.write_all(format!("{line}\n").as_bytes()) {
            Ok(()) => inner.failed = false,
            Err(error) if !inner.failed => {
                inner.failed = true;
                tracing::warn!(%error, "log lines are lost");
            }
            Err(_) => {}
        }
    }

    /// Another handle to append by, for a process that prints.
    ///
    /// # Errors
    /// When there is no file descriptor left.
    pub fn file(&self) -> io::Result<File> {
        self.lock().file.try_clone()
    }

    /// The newest lines of this session, oldest first: of whoever wrote them.
    pub fn last_words(&self) -> Vec<String> {
        let inner = self.lock();
        let text = tail(&inner.file, inner.start).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].iter().map(ToString::to_string).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a file, from `start` on at the earliest.
fn tail(file: &File, start: u64) -> io::Result<String> {
    let end = file.metadata()?.len();
    let from = start.max(end.saturating_sub(LAST_WORDS_BYTES));
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(from)).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, from)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cut(line: &str) -> &str {
    if line.len() <= MAX_LINE_BYTES {
        return line;
    }
    let mut end = MAX_LINE_BYTES;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// Reads a log piece by piece while it grows.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    offset: u64,
}

impl LogReader {
    pub fn new(run_dir: &Path, rank: u32) -> LogReader {
        LogReader { path: log_path(run_dir, rank), offset: 0 }
    }

    /// The next whole lines; empty at the end of what is there, or before the log exists.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn next_lines(&mut self) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(READ_BYTES).read_to_end(&mut bytes)?;
        // a line without its end is still being written
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        self.offset += whole as u64;
        Ok(String::from_utf8_lossy(&bytes[..whole]).lines().map(String::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_while_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = LogReader::new(dir.path(), 0);
        assert!(reader.next_lines().unwrap().is_empty());
        let log = RankLog::open(dir.path(), 0).unwrap();
        log.append("one");
        log.append("two");
        assert_eq!(reader.next_lines().unwrap(), ["one", "two"]);
        log.append("three");
        assert_eq!(reader.next_lines().unwrap(), ["three"]);
        assert!(reader.next_lines().unwrap().is_empty());
    }

    #[test]
    fn the_last_words_are_the_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = RankLog::open(dir.path(), 3).unwrap();
        for n in 0..20 {
            log.append(&format!("line {n}"));
        }
        assert_eq!(log.last_words().first().map(String::as_str), Some("line 12"));
        assert_eq!(log.last_words().len(), LAST_WORDS);
    }

    #[test]
    fn an_endless_line_is_cut_between_characters() {
        let dir = tempfile::tempdir().unwrap();
        let log = RankLog::open(dir.path(), 0).unwrap();
        log.append(&"ä".repeat(MAX_LINE_BYTES));
        assert_eq!(log.last_words()[0].len(), MAX_LINE_BYTES);
    }
}
