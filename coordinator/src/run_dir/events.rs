//! The events of a run, out of `metrics.jsonl`, for whoever wants its history.

use super::METRICS_FILE;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Reads the events of a run while it grows, each once, though a recovery cuts the file back.
#[derive(Debug)]
pub struct EventReader {
    path: PathBuf,
    /// Of the file as it was last read
    length_and_time: Option<(u64, SystemTime)>,
    told: HashSet<String>,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

impl EventReader {
    pub fn new(run_dir: &Path) -> EventReader {
        EventReader { path: run_dir.join(METRICS_FILE), length_and_time: None, told: HashSet::new() }
    }

    /// Event lines that were not told yet, oldest first; empty before there is a file.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn next_lines(&mut self) -> io::Result<Vec<String>> {
        let (text, state) = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
            Ok(metadata) => {
                let state = (metadata.len(), metadata.modified()?);
                if self.length_and_time == Some(state) {
                    return Ok(Vec::new());
                }
                (std::fs::read_to_string(&self.path)?, state)
            }
        };
        self.length_and_time = Some(state);
        // a line that is still being written does not parse; the next look finds it whole
        let is_event = |line: &&str| serde_json::from_str::<Kind>(line).is_ok_and(|line| line.kind == "event");
        let lines: Vec<String> = text.lines().filter(is_event).map(String::from).collect();
        Ok(lines.into_iter().filter(|line| self.told.insert(line.clone())).collect())
    }
}

#[derive(Deserialize)]
struct Committed {
    at_unix_ms: u64,
    event: String,
    step: u64,
}

/// When each step's checkpoint was committed, by step; one that was committed again has the later time. Empty before
/// there is a file.
///
/// # Errors
/// When the file is there but cannot be read.
pub fn commit_times(run_dir: &Path) -> io::Result<BTreeMap<u64, u64>> {
    let lines = EventReader::new(run_dir).next_lines()?;
    let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Committed>(line).ok());
    Ok(parsed.filter(|c| c.event == "committed").map(|c| (c.step, c.at_unix_ms)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::metrics::{Event, MetricsFile, rewind};
    use accord_proto::job::Epoch;

    #[test]
    fn each_event_is_told_once_though_the_file_is_cut_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(METRICS_FILE);
        let mut reader = EventReader::new(dir.path());
        assert!(reader.next_lines().unwrap().is_empty());
        let mut file = MetricsFile::append_to(&path).unwrap();
        file.event(&Event::Started { generation: 1, world: 2 }).unwrap();
        file.epoch(&Epoch::default(), 1, 2).unwrap();
        file.event(&Event::Checkpoint { step: 7, generation: 1, stall_seconds: 0.5 }).unwrap();
        assert_eq!(reader.next_lines().unwrap().len(), 2);
        rewind(&path, None).unwrap();
        let mut file = MetricsFile::append_to(&path).unwrap();
        file.event(&Event::Started { generation: 2, world: 2 }).unwrap();
        let told = reader.next_lines().unwrap();
        assert!(told.len() == 1 && told[0].contains("\"generation\":2"), "{told:?}");
    }

    #[test]
    fn commits_have_their_time_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        assert!(commit_times(dir.path()).unwrap().is_empty());
        let line = |event: &str, step: u64, at: u64| {
            format!("{{\"kind\":\"event\",\"at_unix_ms\":{at},\"event\":\"{event}\",\"step\":{step}}}\n")
        };
        let text = line("checkpoint", 7, 1) + &line("committed", 7, 2) + &line("lost", 9, 3) + &line("committed", 7, 4);
        std::fs::write(dir.path().join(METRICS_FILE), text + "{\"kind\":\"event\",\"at_un").unwrap();
        assert_eq!(commit_times(dir.path()).unwrap(), BTreeMap::from([(7, 4)]));
    }
}
