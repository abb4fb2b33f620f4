//! `metrics.jsonl`: one JSON object a line. Numbers are printed in the shortest form that reads back the same `f64`.
//! Nothing in its epochs and evaluations but `seconds`, `generation` and `world` depends on when or where a run happened.

use super::{RunDirError, io_error, write_whole};
use accord_proto::job::{Epoch, Eval, Losses, Split};
use accord_spec::MetricTable;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line<'a> {
    Epoch {
        epoch: u64,
        step: u64,
        loss: Loss,
        seconds: f64,
        generation: u64,
        world: u32,
    },
    Eval {
        epoch: u64,
        split: &'static str,
        #[serde(flatten)]
        metrics: MetricTable,
    },
    Event {
        at_unix_ms: u64,
        #[serde(flatten)]
        event: &'a Event,
    },
}

#[derive(Debug, Serialize)]
struct Loss {
    total: f64,
    bpr: f64,
    reg: f64,
    kd: f64,
    kd_int: f64,
    translation: f64,
    itm: f64,
}

impl From<Losses> for Loss {
    fn from(losses: Losses) -> Loss {
        let Losses { total, bpr, reg, kd, kd_int, translation, itm } = losses;
        Loss { total, bpr, reg, kd, kd_int, translation, itm }
    }
}

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Training went on from this checkpoint.
    Resumed {
        step: u64,
        generation: u64,
    },
    /// A snapshot left the trainer here: a run resumed from it has said every line above, and none below.
    Checkpoint {
        step: u64,
        generation: u64,
        /// How long training stood still for it.
        stall_seconds: f64,
    },
    /// It is committed. `write_seconds`: what the slowest rank needed to write its files, beside the training.
    Committed {
        step: u64,
        generation: u64,
        write_seconds: f64,
    },
    CheckpointFailed {
        step: u64,
        generation: u64,
        reason: String,
    },
    /// Workers were started for the run.
    Started {
        generation: u64,
        world: u32,
    },
    /// A new coordinator took over the workers that train. `step`: of the newest checkpoint.
    Adopted {
        generation: u64,
        step: u64,
    },
    /// A generation cannot go on; the next one takes over. `step`: the newest that it reported.
    Lost {
        generation: u64,
        step: u64,
        reason: String,
    },
    /// The generation that took over trains, `seconds` after the failure was noticed.
    Recovered {
        generation: u64,
        seconds: f64,
    },
    Suspended {
        generation: u64,
    },
    Cancelled {
        generation: u64,
    },
    Failed {
        generation: u64,
        reason: String,
    },
}

/// The open file. Lines are whole in the kernel's hands after each call, on disk after [`MetricsFile::sync`].
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn append_to(path: &Path) -> Result<MetricsFile, RunDirError> {
        let file = File::options().create(true).append(true).open(path).map_err(io_error(path))?;
        Ok(MetricsFile { path: path.into(), file })
    }

    /// # Errors
    /// When the disk does not take the line.
    pub fn epoch(&mut self, report: &Epoch, generation: u64, world: u32) -> Result<(), RunDirError> {
        let loss = report.losses.unwrap_or_default().into();
        let Epoch { epoch, step, seconds, .. } = *report;
        self.line(&Line::Epoch { epoch, step, loss, seconds, generation, world })
    }

    /// # Errors
    /// When the disk does not take the line.
    pub fn eval(&mut self, report: &Eval) -> Result<(), RunDirError> {
        let split = if report.split() == Split::Test { "test" } else { "val" };
        self.line(&Line::Eval { epoch: report.epoch, split, metrics: report.into() })
    }

    /// # Errors
    /// When the disk does not take the line.
    pub fn event(&mut self, event: &Event) -> Result<(), RunDirError> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.line(&Line::Event { at_unix_ms: now.as_millis() as u64, event })
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), RunDirError> {
        let unwritable =
            |e: serde_json::Error| RunDirError::Unreadable { path: self.path.clone(), message: e.to_string() };
        let mut text = serde_json::to_string(line).map_err(unwritable)?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(io_error(&self.path))
    }

    /// Waits until every line is on disk: before a checkpoint commits that stands for them.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&mut self) -> Result<(), RunDirError> {
        self.file.sync_data().map_err(io_error(&self.path))
    }
}

/// Where a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    pub step: u64,
    pub step_in_epoch: u64,
}

/// The fields cutting looks at.
#[derive(Debug, Deserialize)]
struct Seen {
    kind: String,
    #[serde(default)]
    event: String,
    #[serde(default)]
    split: String,
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    step: u64,
    #[serde(default)]
    seconds: f64,
}

/// What is left of earlier sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Kept {
    pub epochs: u64,
    /// Training seconds of those epochs.
    pub seconds: f64,
}

/// Cuts epoch, evaluation and checkpoint lines that lie beyond the resume point, which the resumed run will say again.
/// Other events are history and stay.
///
/// # Errors
/// When the file cannot be read or written.
pub fn rewind(path: &Path, to: Option<ResumePoint>) -> Result<Kept, RunDirError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(io_error(path)(error)),
    };
    // a last line torn by a crash does not parse, and is beyond every checkpoint
    let lines: Vec<(&str, Seen)> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok().map(|seen| (line, seen))).collect();
    let end = to.map_or(0, |point| lines_of(&lines, point));
    let mut left = String::with_capacity(text.len());
    let mut kept = Kept::default();
    for (at, (line, seen)) in lines.iter().enumerate() {
        let history = seen.kind == "event" && seen.event != "checkpoint";
        if at >= end && !history {
            continue;
        }
        if seen.kind == "epoch" {
            kept.epochs += 1;
            kept.seconds += seen.seconds;
        }
        left.push_str(line);
        left.push('\n');
    }
    if left != text {
        write_whole(path, left.as_bytes())?;
    }
    Ok(kept)
}

/// How many lines had been said when the snapshot was taken.
fn lines_of(lines: &[(&str, Seen)], point: ResumePoint) -> usize {
    let marker = |s: &Seen| s.kind == "event" && s.event == "checkpoint" && s.step == point.step;
    if let Some(at) = lines.iter().rposition(|(_, seen)| marker(seen)) {
        return at + 1;
    }
    // no marker (the file was cut by hand): by the lines' own steps. An epoch is over at a snapshot of its last step
    // only when the next one has begun.
    let over = |s: &Seen| s.step < point.step || (s.step == point.step && point.step_in_epoch == 0);
    let last = lines.iter().filter(|(_, s)| s.kind == "epoch" && over(s)).map(|(_, s)| s.epoch).max();
    // the test line comes last of all and carries the epoch of the best
    let part = |s: &Seen| matches!(s.kind.as_str(), "epoch" | "eval") && s.split != "test";
    lines.iter().rposition(|(_, s)| part(s) && last.is_some_and(|epoch| s.epoch <= epoch)).map_or(0, |at| at + 1)
}
