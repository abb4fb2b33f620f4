//! The one thread that writes a run directory while a generation lives: metrics, checkpoint manifests, the summary,
//! in the order they were told. It decides nothing about the job; it says when an ending is on disk.

use super::metrics::Event;
use super::open::Opened;
use super::summary::{RankUse, Seconds, Summary};
use super::{DATASET_FILE, RunDirError, write_whole};
use crate::election::Term;
use accord_data::checkpoint::{CheckpointError, FileEntry, Manifest, Progress};
use accord_proto::job::{Epoch, Eval, PhaseSeconds};
use accord_proto::worker::{Finished, ShardWritten};
use std::collections::BTreeMap;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Lines and commits waiting for the disk. A run writes a few an epoch: when this fills, the disk is stuck.
const BACKLOG: usize = 1024;

/// What a scribe needs to know about its run.
#[derive(Clone, Debug)]
pub struct Run {
    pub job: String,
    pub model: String,
    pub generation: u64,
    pub world: u32,
    pub config_digest: String,
    /// How many of the newest checkpoints are kept, beside the best.
    pub keep: usize,
    /// Of the coordinator, where others stand by: when it is over, nothing more is written.
    pub term: Option<Term>,
}

/// What it is told.
#[derive(Debug)]
pub enum Entry {
    Dataset { json: String, digest: String },
    Epoch(Epoch),
    Eval(Eval),
    Event(Event),
    Shard { rank: u32, shard: ShardWritten },
    Finished { rank: u32, report: Finished },
    Stopped { rank: u32 },
}

/// What it answers.
#[derive(Debug, PartialEq)]
pub enum Record {
    /// A checkpoint is committed. `notice`: what went wrong after that.
    Committed { step: u64, notice: Option<String> },
    /// A checkpoint could not be committed; training goes on.
    NotCommitted { step: u64, reason: String },
    /// Every rank finished, the summary is on disk.
    Finished { test: Box<Eval> },
    /// Every rank saved its state and stopped.
    Stopped,
    /// Every rank stopped, but the newest state is not on disk.
    NotSaved { reason: String },
    /// The directory cannot be written.
    Broken { reason: String },
}

/// Where answers go; may block for a moment.
pub type RecordSink = Box<dyn Fn(Record) + Send>;

/// The handle of a running scribe. Dropping it lets the thread write what it was told and end.
#[derive(Debug)]
pub struct Scribe {
    entries: mpsc::Sender<Entry>,
}

impl Scribe {
    /// # Errors
    /// When the machine has no thread left.
    pub fn start(run: Run, opened: Opened, answer: RecordSink) -> std::io::Result<(Scribe, JoinHandle<()>)> {
        let (entries, inbox) = mpsc::channel(BACKLOG);
        let mut desk = Desk {
            steps: opened.resume.as_ref().map_or(0, |r| r.step),
            seconds: Seconds { training: opened.kept.seconds, by_phase: BTreeMap::new() },
            epochs: opened.kept.epochs,
            run,
            opened,
            data_digest: String::new(),
            shards: BTreeMap::new(),
            uses: Vec::new(),
            test: None,
            stopped: 0,
            unsaved: None,
        };
        let thread = std::thread::Builder::new().name("scribe".into()).spawn(move || desk.work(inbox, &answer))?;
        Ok((Scribe { entries }, thread))
    }

    /// Hands over one entry without waiting. `false`: the disk is stuck or the directory broken.
    pub fn tell(&self, entry: Entry) -> bool {
        self.entries.try_send(entry).is_ok()
    }
}

struct Desk {
    run: Run,
    opened: Opened,
    data_digest: String,
    epochs: u64,
    steps: u64,
    seconds: Seconds,
    /// Shards of checkpoints that are not whole yet, by step.
    shards: BTreeMap<u64, Vec<(u32, ShardWritten)>>,
    uses: Vec<RankUse>,
    test: Option<(u64, Eval)>,
    stopped: u32,
    /// Why the newest checkpoint is not on disk; none when it is.
    unsaved: Option<String>,
}

impl Desk {
    fn work(&mut self, mut inbox: mpsc::Receiver<Entry>, answer: &RecordSink) {
        while let Some(entry) = inbox.blocking_recv() {
            // another coordinator's scribe is at work
            if self.run.term.as_ref().is_some_and(|term| !term.is_held()) {
                return;
            }
            match self.write(entry) {
                Ok(Some(record)) => answer(record),
                Ok(None) => {}
                Err(error) => {
                    answer(Record::Broken { reason: error.to_string() });
                    return;
                }
            }
        }
    }

    fn write(&mut self, entry: Entry) -> Result<Option<Record>, RunDirError> {
        match entry {
            Entry::Dataset { json, digest } => {
                self.data_digest = digest;
                write_whole(&self.opened.dir.join(DATASET_FILE), json.as_bytes())?;
            }
            Entry::Epoch(report) => {
                self.seconds.training += report.seconds;
                for PhaseSeconds { phase, seconds } in &report.phases {
                    *self.seconds.by_phase.entry(phase.clone()).or_default() += seconds;
                }
                self.epochs += 1;
                self.steps = report.step;
                self.opened.metrics.epoch(&report, self.run.generation, self.run.world)?;
            }
            Entry::Eval(report) => self.opened.metrics.eval(&report)?,
            Entry::Event(event) => {
                if let Event::CheckpointFailed { reason, .. } = &event {
                    self.unsaved = Some(reason.clone());
                }
                self.opened.metrics.event(&event)?;
            }
            Entry::Shard { rank, shard } => return self.shard(rank, shard),
            Entry::Finished { rank, report } => return self.finished(rank, report),
            Entry::Stopped { rank: _ } => {
                self.stopped += 1;
                if self.stopped == self.run.world {
                    if let Some(reason) = self.unsaved.take() {
                        return Ok(Some(Record::NotSaved { reason }));
                    }
                    self.opened.metrics.event(&Event::Suspended { generation: self.run.generation })?;
                    self.opened.metrics.sync()?;
                    return Ok(Some(Record::Stopped));
                }
            }
        }
        Ok(None)
    }

    /// Commits the checkpoint when its last shard is here.
    fn shard(&mut self, rank: u32, shard: ShardWritten) -> Result<Option<Record>, RunDirError> {
        let step = shard.step;
        let shards = self.shards.entry(step).or_default();
        shards.retain(|(r, _)| *r != rank);
        shards.push((rank, shard));
        if shards.len() < self.run.world as usize {
            return Ok(None);
        }
        let mut shards = self.shards.remove(&step).unwrap_or_default();
        shards.sort_by_key(|(rank, _)| *rank);
        // the manifest stands for the lines said before the snapshot
        self.opened.metrics.sync()?;
        let write_seconds = shards.iter().map(|(_, shard)| shard.seconds).fold(0.0, f64::max);
        let generation = self.run.generation;
        match self.commit(step, shards) {
            Ok(()) => {
                self.unsaved = None;
                self.opened.metrics.event(&Event::Committed { step, generation, write_seconds })?;
                let notice = self.retain().err().map(|e| format!("older checkpoints could not be removed: {e}"));
                Ok(Some(Record::Committed { step, notice }))
            }
            Err(reason) => {
                self.unsaved = Some(reason.clone());
                self.opened.metrics.event(&Event::CheckpointFailed { step, generation, reason: reason.clone() })?;
                Ok(Some(Record::NotCommitted { step, reason }))
            }
        }
    }

    fn commit(&self, step: u64, shards: Vec<(u32, ShardWritten)>) -> Result<(), String> {
        let mut progress = None;
        let mut files = Vec::new();
        for (rank, shard) in shards {
            if rank == 0 {
                let parsed: Progress = serde_json::from_str(&shard.progress_json).map_err(|e| e.to_string())?;
                progress = Some(parsed);
            }
            let entry =
                |f: accord_proto::worker::CheckpointFile| FileEntry { name: f.name, bytes: f.bytes, blake3: f.blake3 };
            files.extend(shard.files.into_iter().map(entry));
        }
        let manifest = Manifest {
            version: Manifest::VERSION,
            generation: self.run.generation,
            world: self.run.world,
            progress: progress.ok_or("rank 0 sent no progress")?,
            config_digest: self.run.config_digest.clone(),
            data_digest: self.data_digest.clone(),
            files,
        };
        match self.opened.checkpoints.commit(step, &manifest) {
            // the same step was saved before, by a suspension or an earlier session: the same state
            Ok(()) | Err(CheckpointError::AlreadyCommitted { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn retain(&self) -> Result<(), CheckpointError> {
        let list = self.opened.checkpoints.list()?;
        let kept = list.iter().map(|(step, manifest)| (*step, manifest.progress.best_epoch));
        self.opened.checkpoints.retain(self.run.keep, best_step(kept))?;
        Ok(())
    }

    fn finished(&mut self, rank: u32, report: Finished) -> Result<Option<Record>, RunDirError> {
        self.uses.push(RankUse {
            rank,
            peak_memory_bytes: report.peak_memory_bytes,
            resident_bytes: report.resident_bytes,
            baseline_bytes: report.baseline_bytes,
            bytes_sent: report.bytes_sent,
            step_bytes_sent: report.step_bytes_sent,
            step_halo_bytes_sent: report.step_halo_bytes_sent,
        });
        let Finished { best_epoch, test, .. } = report;
        // every rank evaluates to the same numbers
        if rank == 0 {
            self.test = Some((best_epoch, test.unwrap_or_default()));
        }
        if self.uses.len() < self.run.world as usize {
            return Ok(None);
        }
        let Some((best_epoch, test)) = self.test.take() else { return Ok(None) };
        self.opened.metrics.eval(&test)?;
        self.opened.metrics.sync()?;
        self.uses.sort_by_key(|u| u.rank);
        let summary = Summary {
            job: self.run.job.clone(),
            model: self.run.model.clone(),
            best_epoch,
            select: test.select.clone(),
            best_validation: test.best,
            epochs: self.epochs,
            steps: self.steps,
            test: (&test).into(),
            seconds: self.seconds.clone(),
            ranks: std::mem::take(&mut self.uses),
            data_digest: self.data_digest.clone(),
            config_digest: self.run.config_digest.clone(),
            generation: self.run.generation,
            world: self.run.world,
        };
        summary.write(&self.opened.dir)?;
        Ok(Some(Record::Finished { test: Box::new(test) }))
    }
}

/// The first checkpoint that holds the best state so far: the oldest with the newest's best epoch.
/// `newest_first`: (step, best epoch) of each.
pub(crate) fn best_step(newest_first: impl Iterator<Item = (u64, u64)>) -> Option<u64> {
    let mut best = None;
    for (step, best_epoch) in newest_first {
        match best {
            None => best = Some((step, best_epoch)),
            Some((_, epoch)) if epoch == best_epoch => best = Some((step, epoch)),
            Some(_) => break,
        }
    }
    best.map(|(step, _)| step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::open::{OpenRequest, open};
    use accord_data::checkpoint::{CheckpointStore, Snapshot};
    use accord_proto::worker::CheckpointFile;
    use std::path::Path;

    /// What a scribe of one worker answers to these entries.
    fn answers(dir: &Path, entries: impl FnOnce() -> Vec<Entry>) -> Vec<Record> {
        let job_toml = "[job]\nname = \"a\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\n".to_string();
        let spec = accord_spec::parse(&job_toml, &[]).unwrap();
        let job_root = "/data".into();
        let request = OpenRequest {
            dir: dir.into(),
            spec,
            job_toml,
            job_root,
            generation: 1,
            is_adopted: false,
            take_lock: false,
        };
        let (job, model, config_digest) = ("a".into(), "lightgcn".into(), "digest".into());
        let run = Run { job, model, generation: 1, world: 1, config_digest, keep: 3, term: None };
        let (sender, answered) = std::sync::mpsc::channel();
        let answer = Box::new(move |record| sender.send(record).unwrap());
        let (scribe, thread) = Scribe::start(run, open(request).unwrap(), answer).unwrap();
        entries().into_iter().for_each(|entry| assert!(scribe.tell(entry)));
        drop(scribe);
        thread.join().unwrap();
        answered.into_iter().collect()
    }

    fn failed(step: u64) -> Entry {
        Entry::Event(Event::CheckpointFailed { step, generation: 1, reason: "disk full".into() })
    }

    fn shard(dir: &Path, step: u64) -> Entry {
        let progress = Progress { step, ..Progress::default() };
        let progress_json = serde_json::to_string(&progress).unwrap();
        let snapshot = Snapshot { rows: Vec::new(), dense: Vec::new(), progress };
        let files = CheckpointStore::new(dir.join("checkpoints")).write_shard(step, 1, 0, &snapshot).unwrap();
        let files =
            files.into_iter().map(|f| CheckpointFile { name: f.name, bytes: f.bytes, blake3: f.blake3 }).collect();
        Entry::Shard { rank: 0, shard: ShardWritten { step, progress_json, files, seconds: 0.0 } }
    }

    #[test]
    fn a_stop_whose_state_is_not_on_disk_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let told = answers(dir.path(), || vec![failed(5), Entry::Stopped { rank: 0 }]);
        assert_eq!(told, [Record::NotSaved { reason: "disk full".into() }]);
    }

    #[test]
    fn a_later_checkpoint_makes_up_for_one_that_failed() {
        let dir = tempfile::tempdir().unwrap();
        let entries = || vec![failed(5), shard(dir.path(), 6), Entry::Stopped { rank: 0 }];
        assert_eq!(answers(dir.path(), entries), [Record::Committed { step: 6, notice: None }, Record::Stopped]);
    }

    #[test]
    fn the_best_checkpoint_is_the_first_that_holds_the_best_state() {
        assert_eq!(best_step([(500, 4), (400, 4), (300, 2)].into_iter()), Some(400));
        assert_eq!(best_step([].into_iter()), None);
    }
}
