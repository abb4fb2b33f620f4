//! The one thread that owns the trainer: loads the data, trains, exports, and says how it ended. Panics are caught here,
//! once: libtorch's errors (out of memory on a device) arrive that way.

use crate::agent::Uplink;
use crate::export::{Destination, ExportError, PATIENCE, Results};
use crate::observer::{Orders, Reporter, wire_eval};
use crate::rendezvous::MeetingPoint;
use crate::snapshots::SnapshotWriter;
use crate::{export, layout};
use accord_collective::CollectiveError;
use accord_data::export::Catalog;
use accord_data::{Dataset, Repair, TextNeed, TextReading};
use accord_engine::report::Outcome;
use accord_engine::trainer::{Sent, Trainer};
use accord_engine::{EngineError, device, guard};
use accord_objects::dataset::FetchError;
use accord_proto::job::FailureKind;
use accord_proto::worker::{Failed, Finished, Form, Ready, Stopped, worker_message::Message};
use accord_spec::{Data, JobSpec};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What the thread is given.
pub struct Assignment {
    pub form: Form,
    pub generation: u64,
    pub meeting: MeetingPoint,
    pub uplink: Uplink,
    pub orders: Arc<Orders>,
}

/// Starts the thread; the receiver gets the worker's last message.
///
/// # Errors
/// When the machine has no thread left.
pub fn start(assignment: Assignment) -> std::io::Result<oneshot::Receiver<Message>> {
    let (ended, ending) = oneshot::channel();
    let work = move || {
        let message = match catch_unwind(AssertUnwindSafe(|| train(assignment))) {
            Ok(Ok(message)) => message,
            Ok(Err(failure)) => failed(failure.kind, failure.reason),
            Err(panic) => failed(FailureKind::Training, format!("the trainer panicked: {}", text_of(panic.as_ref()))),
        };
        // an agent that is gone has nobody to tell
        let _ = ended.send(message);
    };
    std::thread::Builder::new().name("trainer".into()).spawn(work)?;
    Ok(ending)
}

/// The last message when the thread left none.
pub fn vanished() -> Message {
    failed(FailureKind::Internal, "the trainer's thread ended without a word".into())
}

fn failed(kind: FailureKind, reason: String) -> Message {
    tracing::error!("{reason}");
    Message::Failed(Failed { kind: kind.into(), reason })
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    text.unwrap_or_else(|| "(no text)".into())
}

struct Failure {
    kind: FailureKind,
    reason: String,
}

impl Failure {
    fn bad_input(reason: impl ToString) -> Failure {
        Failure { kind: FailureKind::BadInput, reason: reason.to_string() }
    }

    fn internal(reason: impl ToString) -> Failure {
        Failure { kind: FailureKind::Internal, reason: reason.to_string() }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let kind = match &error {
            EngineError::Data(_) | EngineError::Device(_) => FailureKind::BadInput,
            EngineError::NonFinite { .. } | EngineError::Torch(_) | EngineError::Diverged(_) => FailureKind::Training,
            EngineError::Collective(CollectiveError::Library { .. }) => FailureKind::BadInput,
            EngineError::Snapshot(_) | EngineError::Collective(CollectiveError::Shape { .. }) => FailureKind::Internal,
            // says who was waited for; the process that is gone says more
            EngineError::Collective(_) => FailureKind::WorkerLost,
        };
        Failure { kind, reason: error.to_string() }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Failure {
        match error {
            ExportError::Engine(error) => error.into(),
            ExportError::Write(_) | ExportError::NoRunDir(_) => Failure::internal(error),
            // another generation may find the store in better shape
            ExportError::Send { .. } => Failure { kind: FailureKind::WorkerLost, reason: error.to_string() },
        }
    }
}

impl From<CollectiveError> for Failure {
    fn from(error: CollectiveError) -> Failure {
        EngineError::from(error).into()
    }
}

fn train(assignment: Assignment) -> Result<Message, Failure> {
    let Assignment { form, generation, meeting, uplink, orders } = assignment;
    let spec = accord_spec::parse(&form.job_toml, &[]).map_err(Failure::bad_input)?;
    // pods may share no disk: then only what another generation of this one may use again lies here
    let run_dir = if form.run_dir.is_empty() { std::env::temp_dir() } else { form.run_dir.clone().into() };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if form.threads == 0 { cores } else { form.threads as usize };
    let (rank, world) = (form.rank as usize, form.world as usize);
    tracing::info!(rank, world, threads, model = spec.model.kind.name(), "training");
    let device = device::pick(spec.cluster.device, rank)?;
    let cuda = if let tch::Device::Cuda(device) = device { Some(device) } else { None };
    let collective = meeting.join(rank, world, generation, &form.store, cuda)?;
    orders.watch(collective.abort_handle());
    let own_before = memory("RssAnon");

    tracing::info!(path = spec.data.path, "reading the dataset");
    // nothing is lost yet where a job begins: what is wrong is said at once
    let patience = if form.resume.is_some() { PATIENCE } else { Duration::ZERO };
    let data = accord_objects::dataset::local(&spec.data, patience).map_err(|error| unfetched(&error, &form))?;
    let mut dataset = load(&data, &spec, &form, &uplink)?;
    let world = layout::world(&spec, &dataset, collective, &run_dir, device)?;
    let need = TextNeed::of(spec.model.kind);
    if need != TextNeed::None {
        let (root, own) = (Path::new(&form.job_root), Some(world.graph.own()));
        let told = dataset.manifest.repairs.len();
        dataset.load_text(&data, root, need, own).map_err(Failure::bad_input)?;
        tell_reading(dataset.manifest.reading.texts.iter().map(TextReading::to_string), &uplink);
        tell_repairs(dataset.manifest.repairs.get(told..).unwrap_or_default(), &uplink);
    }
    same_data(&spec, &form, &dataset)?;
    guard::same_input(&world, &format!("{} {} {}", form.job_toml, dataset.manifest.digest, world.digest()))?;
    let ready = Ready {
        dataset_json: serde_json::to_string_pretty(&dataset.manifest).map_err(Failure::internal)? + "\n",
        data_digest: dataset.manifest.digest.clone(),
    };
    // every rank checks the ids, so that all say the same of them; the writer of the export keeps them
    let catalog = Catalog::of(&dataset, Path::new(&spec.data.path)).map_err(Failure::bad_input)?;
    let catalog = (rank == 0).then_some(catalog);
    let data_digest = ready.data_digest.clone();
    let mut trainer = Trainer::new(&spec, dataset, world, device, threads)?;
    let store = accord_objects::open(&spec.checkpoint.uri, &run_dir).map_err(Failure::internal)?;
    if let Some(resume) = &form.resume {
        let snapshot = store.read(resume.step, Some(trainer.world().graph.own())).map_err(Failure::internal)?;
        trainer.restore(&snapshot)?;
    }
    uplink.send_blocking(Message::Ready(ready));

    let snapshots = SnapshotWriter::start(store, generation, form.rank, uplink.clone()).map_err(Failure::internal)?;
    let mut reporter = Reporter::new(uplink, orders, snapshots, spec.optim.epochs);
    let outcome = trainer.run(&mut reporter);
    // also after a failure: what was handed over is whole
    reporter.finish();
    match outcome? {
        Outcome::Stopped => Ok(Message::Stopped(Stopped {})),
        Outcome::Finished { best_epoch, test } => {
            // files are the libraries, which processes share, and whose pages come in as they are used
            let (resident_bytes, baseline_bytes) = (memory("VmRSS"), own_before + memory("RssFile"));
            let Sent { steps, halo, all } = trainer.sent();
            let to = match form.run_dir.is_empty() {
                true => Destination::Bucket(&spec.checkpoint.uri),
                false => Destination::RunDir(&run_dir),
            };
            let results = catalog.as_ref().map(|catalog| Results {
                spec: &spec,
                data_digest: &data_digest,
                config_digest: &form.config_digest,
                catalog,
                best_epoch,
                test: &test,
            });
            export::write_results(&trainer, results, to)?;
            tracing::info!(best_epoch, "training is over");
            Ok(Message::Finished(Finished {
                best_epoch,
                test: Some(wire_eval(&test)),
                peak_memory_bytes: memory("VmHWM"),
                resident_bytes,
                baseline_bytes,
                bytes_sent: trainer.world().traffic().total().bytes_sent,
                step_bytes_sent: all / steps.max(1),
                step_halo_bytes_sent: halo / steps.max(1),
            }))
        }
    }
}

/// Interactions and ids; the text comes when the own nodes are known.
fn load(data: &Data, spec: &JobSpec, form: &Form, uplink: &Uplink) -> Result<Dataset, Failure> {
    let dataset = Dataset::load(data, Path::new(&form.job_root), spec.job.seed, TextNeed::None);
    let dataset = dataset.map_err(Failure::bad_input)?;
    let m = &dataset.manifest;
    tracing::info!(users = m.users, items = m.items, train = m.train, validation = m.validation, test = m.test, "data");
    tell_reading(m.reading.lines().into_iter(), uplink);
    tell_repairs(&m.repairs, uplink);
    Ok(dataset)
}

fn tell_reading(lines: impl Iterator<Item = String>, uplink: &Uplink) {
    for line in lines {
        tracing::info!("read {line}");
        uplink.send_blocking(Message::Notice(format!("read {line}")));
    }
}

fn tell_repairs(repairs: &[Repair], uplink: &Uplink) {
    for repair in repairs {
        let notice = format!("data: {} ({})", repair.what, repair.count);
        tracing::warn!("{notice}");
        uplink.send_blocking(Message::Notice(notice));
    }
}

/// A store that refused what it gave before may give it again: its keys were changed, or its files are being replaced.
fn unfetched(error: &FetchError, form: &Form) -> Failure {
    let is_final = !error.is_retryable() && form.resume.is_none();
    let kind = if is_final { FailureKind::BadInput } else { FailureKind::WorkerLost };
    Failure { kind, reason: error.to_string() }
}

/// A checkpoint goes on with the data it was trained on.
fn same_data(spec: &JobSpec, form: &Form, dataset: &Dataset) -> Result<(), Failure> {
    match form.resume.as_ref().filter(|r| r.data_digest != dataset.manifest.digest) {
        None => Ok(()),
        Some(resume) => Err(Failure::bad_input(format!(
            "data.path: {} holds other data than the checkpoint of step {} was trained on\n  hint: put the data back, or \
             start over in another run directory",
            spec.data.path, resume.step
        ))),
    }
}

/// Bytes of this process that the kernel counts as `field`: VmHWM since its start; VmRSS now, RssAnon and RssFile of it; 0
/// where it does not say.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kilobytes = line.and_then(|l| l.trim().strip_suffix("kB")).and_then(|n| n.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending_of(job_toml: &str) -> Message {
        let (uplink, _sent) = Uplink::to_channel();
        let form = Form { world: 1, threads: 1, job_toml: job_toml.into(), job_root: "/".into(), ..Form::default() };
        let meeting = MeetingPoint::open(None, "http://127.0.0.1:1").unwrap();
        let assignment = Assignment { form, generation: 1, meeting, uplink, orders: Arc::default() };
        start(assignment).unwrap().blocking_recv().unwrap()
    }

    #[test]
    fn data_that_is_not_there_is_bad_input() {
        let job = "[job]\nname = \"a\"\n[data]\npath = \"no/such/folder\"\n[model]\nkind = \"lightgcn\"\n";
        let Message::Failed(failed) = ending_of(job) else { panic!("it should fail") };
        assert_eq!(failed.kind(), FailureKind::BadInput);
        assert!(failed.reason.contains("no/such/folder"), "{}", failed.reason);
    }

    #[test]
    fn a_panic_leaves_its_text() {
        assert_eq!(text_of(Box::new(format!("out of {}", "memory")).as_ref()), "out of memory");
        assert_eq!(text_of(Box::new("plain").as_ref()), "plain");
    }

    #[test]
    fn this_process_has_memory() {
        assert!(["VmHWM", "VmRSS", "RssAnon", "RssFile"].iter().all(|field| memory(field) > 0));
        assert_eq!(memory("VmNothing"), 0);
    }
}
