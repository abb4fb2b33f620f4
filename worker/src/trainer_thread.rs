//! The one thread that owns the trainer: loads the data, trains, exports, and says how it ended. Panics are caught here,
//! once: libtorch's errors (out of memory on a device) arrive that way.

use crate::agent::Uplink;
use crate::export;
use crate::observer::{Orders, Reporter, wire_eval};
use crate::snapshots::SnapshotWriter;
use accord_data::Dataset;
use accord_data::checkpoint::CheckpointStore;
use accord_engine::report::Outcome;
use accord_engine::{EngineError, Runtime, Trainer};
use accord_proto::job::FailureKind;
use accord_proto::worker::{Failed, Finished, Form, Ready, Stopped, worker_message::Message};
use accord_spec::{JobSpec, ModelKind};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the thread is given.
pub struct Assignment {
    pub form: Form,
    pub generation: u64,
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
        let message = match catch_unwind(AssertUnwindSafe(|| train(&assignment))) {
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
            EngineError::NonFinite { .. } | EngineError::Torch(_) => FailureKind::Training,
            EngineError::Snapshot(_) => FailureKind::Internal,
        };
        Failure { kind, reason: error.to_string() }
    }
}

fn train(assignment: &Assignment) -> Result<Message, Failure> {
    let Assignment { form, generation, uplink, orders } = assignment;
    let spec = accord_spec::parse(&form.job_toml, &[]).map_err(Failure::bad_input)?;
    let run_dir = Path::new(&form.run_dir);
    let dataset = load(&spec, form, uplink)?;
    let threads = form.threads as usize;
    tracing::info!(rank = form.rank, world = form.world, threads, model = spec.model.kind.name(), "training");
    let runtime = Runtime { threads, device: spec.cluster.device };
    let ready = Ready {
        dataset_json: serde_json::to_string_pretty(&dataset.manifest).map_err(Failure::internal)? + "\n",
        data_digest: dataset.manifest.digest.clone(),
    };
    let mut trainer = Trainer::new(&spec, Arc::new(dataset), runtime)?;
    let store = CheckpointStore::new(run_dir.join(&spec.checkpoint.uri));
    if let Some(resume) = &form.resume {
        let snapshot = store.read(resume.step, None).map_err(Failure::internal)?;
        trainer.restore(&snapshot)?;
    }
    uplink.send_blocking(Message::Ready(ready));

    let snapshots = SnapshotWriter::start(store, *generation, form.rank, uplink.clone()).map_err(Failure::internal)?;
    let mut reporter = Reporter::new(uplink.clone(), Arc::clone(orders), snapshots, spec.optim.epochs);
    let outcome = trainer.run(&mut reporter);
    // also after a failure: what was handed over is whole
    reporter.finish();
    match outcome? {
        Outcome::Stopped => Ok(Message::Stopped(Stopped {})),
        Outcome::Finished { best_epoch, test } => {
            let (user, item) = trainer.final_embeddings();
            let path = export::write_embeddings(run_dir, spec.model.dim, &user, &item).map_err(Failure::internal)?;
            tracing::info!(best_epoch, embeddings = %path.display(), "training is over");
            Ok(Message::Finished(Finished {
                best_epoch,
                test: Some(wire_eval(&test)),
                peak_memory_bytes: peak_memory_bytes(),
                // a world of one sends nothing
                bytes_sent: 0,
            }))
        }
    }
}

fn load(spec: &JobSpec, form: &Form, uplink: &Uplink) -> Result<Dataset, Failure> {
    let needs_text = match spec.model.kind {
        ModelKind::Lightgcn => false,
        ModelKind::RlmrecCon | ModelKind::Irllrec => true,
    };
    let dataset = Dataset::load(&spec.data, Path::new(&form.job_root), spec.job.seed, needs_text);
    let dataset = dataset.map_err(Failure::bad_input)?;
    let m = &dataset.manifest;
    tracing::info!(users = m.users, items = m.items, train = m.train, validation = m.validation, test = m.test, "data");
    for repair in &m.repairs {
        let notice = format!("data: {} ({})", repair.what, repair.count);
        tracing::warn!("{notice}");
        uplink.send_blocking(Message::Notice(notice));
    }
    if let Some(resume) = form.resume.as_ref().filter(|r| r.data_digest != dataset.manifest.digest) {
        return Err(Failure::bad_input(format!(
            "data.path: {} holds other data than the checkpoint of step {} was trained on\n  hint: put the data back, or \
             start over in another run directory",
            spec.data.path, resume.step
        )));
    }
    Ok(dataset)
}

/// Of this process since its start; 0 where the system does not say.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|l| l.trim().strip_suffix("kB")).and_then(|n| n.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending_of(job_toml: &str) -> Message {
        let (uplink, _sent) = Uplink::to_channel(1);
        let form = Form { world: 1, threads: 1, job_toml: job_toml.into(), job_root: "/".into(), ..Form::default() };
        start(Assignment { form, generation: 1, uplink, orders: Arc::default() }).unwrap().blocking_recv().unwrap()
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
    fn this_process_has_a_peak() {
        assert!(peak_memory_bytes() > 0);
    }
}
