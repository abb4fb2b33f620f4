//! Between the trainer and the agent: reports become messages, orders become directives. Runs on the trainer's thread.

use crate::agent::Uplink;
use crate::snapshots::SnapshotWriter;
use accord_collective::AbortHandle;
use accord_data::checkpoint::Snapshot;
use accord_engine::eval::MetricValues;
use accord_engine::report::{Directive, EpochReport, EvalReport, EvalSplit, Losses, Observer, StepReport};
use accord_proto::job as wire;
use accord_proto::worker::{Heartbeat, SnapshotTaken, worker_message::Message};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const TOLD_TO_END: &str = "the coordinator told this worker to end";

/// Step reports are for eyes: more a second are of no use to them.
const STEP_EVERY: Duration = Duration::from_millis(100);

/// What the coordinator wants of the trainer. Once told to stop, it stays so.
#[derive(Default)]
pub struct Orders {
    checkpoint_and_stop: AtomicBool,
    stop: AtomicBool,
    /// Steps that are done, for heartbeats
    steps: AtomicU64,
    /// Ends a trainer that waits for other workers.
    abort: Mutex<Option<AbortHandle>>,
}

impl Orders {
    pub fn checkpoint_and_stop(&self) {
        self.checkpoint_and_stop.store(true, Ordering::Relaxed);
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(handle) = &*self.handle() {
            handle.abort(TOLD_TO_END);
        }
    }

    /// From now on a stop also ends the waits of this communicator.
    pub fn watch(&self, communicator: AbortHandle) {
        let mut handle = self.handle();
        if self.stop.load(Ordering::Relaxed) {
            communicator.abort(TOLD_TO_END);
        }
        *handle = Some(communicator);
    }

    /// Where the trainer stands.
    pub fn position(&self) -> Heartbeat {
        let exchange = self.handle().as_ref().and_then(AbortHandle::last_exchange);
        let exchange = exchange.map(|exchange| exchange.to_string()).unwrap_or_default();
        Heartbeat { step: self.steps.load(Ordering::Relaxed), exchange }
    }

    fn handle(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        // whoever panicked with it left nothing half done
        self.abort.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next directive.
    pub fn directive(&self) -> Directive {
        if self.stop.load(Ordering::Relaxed) {
            Directive::Stop
        } else if self.checkpoint_and_stop.load(Ordering::Relaxed) {
            Directive::CheckpointAndStop
        } else {
            Directive::Continue
        }
    }
}

/// The observer of a training that reports to a coordinator.
pub struct Reporter {
    uplink: Uplink,
    orders: Arc<Orders>,
    snapshots: SnapshotWriter,
    /// `optim.epochs`.
    epochs: u64,
    last_step: Option<Instant>,
}

impl Reporter {
    pub fn new(uplink: Uplink, orders: Arc<Orders>, snapshots: SnapshotWriter, epochs: u64) -> Reporter {
        Reporter { uplink, orders, snapshots, epochs, last_step: None }
    }

    /// Waits until every snapshot is on disk and reported.
    pub fn finish(self) {
        self.snapshots.finish();
    }

    /// A stream that is gone ends the training: nobody would keep its results.
    fn send(&self, message: Message) {
        if !self.uplink.send_blocking(message) {
            self.orders.stop();
        }
    }
}

impl Observer for Reporter {
    fn step(&mut self, report: &StepReport) -> Directive {
        self.orders.steps.store(report.step, Ordering::Relaxed);
        let now = Instant::now();
        if self.last_step.is_none_or(|last| now.duration_since(last) >= STEP_EVERY) {
            self.last_step = Some(now);
            let StepReport { epoch, step, step_in_epoch, steps_per_epoch, losses, seconds } = *report;
            let epochs = self.epochs;
            let losses = Some(wire_losses(losses));
            let step = wire::Step { epoch, step, step_in_epoch, steps_per_epoch, epochs, losses, seconds };
            self.uplink.send_or_drop(Message::Step(step));
        }
        self.orders.directive()
    }

    fn epoch(&mut self, report: &EpochReport) {
        let EpochReport { epoch, step, losses, seconds, timed_steps, bytes_sent, .. } = *report;
        let phases = report.phases.iter().cloned().map(Into::into).collect();
        let losses = Some(wire_losses(losses));
        self.send(Message::Epoch(wire::Epoch { epoch, step, losses, seconds, phases, timed_steps, bytes_sent }));
    }

    fn eval(&mut self, report: &EvalReport) {
        // the test metrics go with the last message
        if report.split == EvalSplit::Validation {
            self.send(Message::Eval(wire_eval(report)));
        }
    }

    fn snapshot(&mut self, snapshot: Snapshot, seconds: f64) {
        let stall_seconds = seconds + self.snapshots.wait_for_room().as_secs_f64();
        // in its place between the other reports: the coordinator marks it in metrics.jsonl
        self.send(Message::SnapshotTaken(SnapshotTaken { step: snapshot.progress.step, stall_seconds }));
        self.snapshots.write(snapshot);
    }

    fn notice(&mut self, text: &str) {
        tracing::info!("{text}");
        self.send(Message::Notice(text.to_string()));
    }
}

pub(crate) fn wire_eval(report: &EvalReport) -> wire::Eval {
    let split = match report.split {
        EvalSplit::Validation => wire::Split::Validation,
        EvalSplit::Test => wire::Split::Test,
    };
    let metric = |values: &MetricValues| wire::MetricValues {
        name: values.metric.name().into(),
        at: values.at.iter().copied().map(Into::into).collect(),
    };
    let metrics = report.metrics.iter().map(metric).collect();
    let EvalReport { epoch, step, users, best, best_epoch, seconds, .. } = *report;
    let select = report.select.to_string();
    wire::Eval { epoch, step, split: split.into(), users, metrics, select, best, best_epoch, seconds }
}

fn wire_losses(losses: Losses) -> wire::Losses {
    let Losses { total, bpr, reg, kd, kd_int, translation, itm } = losses;
    wire::Losses { total, bpr, reg, kd, kd_int, translation, itm }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::SnapshotWriter;
    use accord_data::checkpoint::CheckpointStore;

    fn step(n: u64) -> StepReport {
        let losses = Losses::default();
        StepReport { epoch: 0, step: n, step_in_epoch: n, steps_per_epoch: 9, losses, seconds: 0.0 }
    }

    #[test]
    fn steps_are_throttled_and_orders_obeyed_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let (uplink, mut sent) = Uplink::to_channel();
        let store = CheckpointStore::new(dir.path().into());
        let writer = SnapshotWriter::start(store, 1, 0, uplink.clone()).unwrap();
        let orders = Arc::new(Orders::default());
        let mut reporter = Reporter::new(uplink, Arc::clone(&orders), writer, 3);
        assert_eq!(reporter.step(&step(1)), Directive::Continue);
        orders.checkpoint_and_stop();
        assert_eq!(reporter.step(&step(2)), Directive::CheckpointAndStop);
        assert_eq!(reporter.step(&step(3)), Directive::CheckpointAndStop);
        orders.stop();
        assert_eq!(reporter.step(&step(4)), Directive::Stop);
        assert!(matches!(sent.try_recv().unwrap(), Message::Step(_)));
        assert!(sent.try_recv().is_err(), "four steps at once are one report");
        reporter.finish();
    }

    #[test]
    fn a_snapshot_is_marked_then_written_then_reported() {
        let dir = tempfile::tempdir().unwrap();
        let (uplink, mut sent) = Uplink::to_channel();
        let store = CheckpointStore::new(dir.path().into());
        let writer = SnapshotWriter::start(store, 1, 0, uplink.clone()).unwrap();
        let mut reporter = Reporter::new(uplink, Arc::default(), writer, 3);
        let progress = accord_data::checkpoint::Progress { step: 7, ..Default::default() };
        reporter.snapshot(Snapshot { rows: Vec::new(), dense: Vec::new(), progress }, 0.25);
        reporter.finish();
        let Message::SnapshotTaken(taken) = sent.try_recv().unwrap() else { panic!("not marked") };
        assert_eq!(taken.step, 7);
        assert!(taken.stall_seconds >= 0.25);
        let Message::ShardWritten(shard) = sent.try_recv().unwrap() else { panic!("no shard") };
        assert_eq!(shard.step, 7);
        assert!(!shard.files.is_empty());
    }
}
