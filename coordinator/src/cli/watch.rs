//! Follows a job until it is over, or until the user has seen enough. What Ctrl-C means is the caller's business.

use super::client::Client;
use super::progress::Progress;
use super::{Usage, output, shown};
use accord_proto::job::{FailureKind, JobRequest, JobStatus, Phase, WatchEvent, watch_event};
use accord_proto::status::ApiError;
use accord_spec::TestMetrics;
use std::path::Path;
use std::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::Streaming;

/// A job being followed.
pub(super) struct Watch {
    events: Streaming<WatchEvent>,
    progress: Progress,
    last: Option<JobStatus>,
}

/// What ended one stretch of following.
pub(super) enum Seen {
    /// The job is over.
    Over(Box<JobStatus>),
    /// Ctrl-C, or SIGTERM.
    Interrupt,
}

impl Watch {
    pub(super) async fn start(client: &mut Client, job: &str) -> Result<Watch, ApiError> {
        let events = client.watch(JobRequest { job_id: job.into() }).await?.into_inner();
        Ok(Watch { events, progress: Progress::new(), last: None })
    }

    /// Shows what happens until the job is over or the user interrupts; may be called again after an interrupt.
    pub(super) async fn follow(&mut self, interrupts: &mut Interrupts) -> Result<Seen, ApiError> {
        loop {
            let event = tokio::select! {
                event = self.events.message() => event?,
                () = interrupts.next() => return Ok(Seen::Interrupt),
            };
            let Some(event) = event.and_then(|e| e.event) else {
                self.progress.finish();
                return match self.last.take() {
                    Some(status) if is_over(&status) => Ok(Seen::Over(Box::new(status))),
                    _ => Err(tonic::Status::unavailable("the coordinator ended the watch").into()),
                };
            };
            self.show(event);
        }
    }

    pub(super) fn say(&self, text: &str) {
        self.progress.say(text);
    }

    fn show(&mut self, event: watch_event::Event) {
        match event {
            watch_event::Event::Status(status) => {
                let changed = self.last.as_ref().is_none_or(|l| (l.phase, &l.reason) != (status.phase, &status.reason));
                let named = matches!(status.phase(), Phase::Queued | Phase::Starting | Phase::Recovering)
                    || status.progress.is_none();
                if changed && named && !is_over(&status) {
                    self.progress.wait_for(&format!("{}: {}", shown::phase_name(status.phase()), status.reason));
                }
                self.last = Some(status);
            }
            watch_event::Event::Step(step) => self.progress.step(&step, Instant::now()),
            watch_event::Event::Epoch(epoch) => self.progress.epoch(&epoch),
            watch_event::Event::Eval(eval) => self.progress.eval(&eval),
            watch_event::Event::Notice(text) => self.progress.say(&text),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.progress.finish();
    }
}

fn is_over(status: &JobStatus) -> bool {
    match status.phase() {
        Phase::Unspecified | Phase::Queued | Phase::Starting | Phase::Running | Phase::Recovering => false,
        Phase::Succeeded | Phase::Failed | Phase::Cancelled | Phase::Suspended => true,
    }
}

/// Ctrl-C and SIGTERM, one at a time.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(super) fn listen() -> std::io::Result<Interrupts> {
        Ok(Interrupts { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The result of a job, as the end of `run` and `submit --watch` shows it.
///
/// # Errors
/// When the job failed: the reason, with the exit code that belongs to it.
pub(super) fn conclude(status: &JobStatus) -> anyhow::Result<()> {
    match status.phase() {
        Phase::Succeeded => {
            if let Some(test) = &status.test {
                let best = shown::selected(&test.select, test.best);
                result(&test.into(), test.best_epoch, &best, Path::new(&status.run_dir));
            }
            Ok(())
        }
        Phase::Failed if status.failure() == FailureKind::BadInput => Err(Usage(status.reason.clone()).into()),
        Phase::Failed => Err(anyhow::anyhow!("the job failed: {}", status.reason)),
        phase => Err(super::Interrupted(format!("the job is {}: {}", shown::phase_name(phase), status.reason)).into()),
    }
}

/// Test metrics, where they lie, and what to do with them. `best`: the selecting metric and its value on validation.
pub(super) fn result(test: &TestMetrics, best_epoch: u64, best: &str, run_dir: &Path) {
    output::line(format!("test metrics of {} users at epoch {best_epoch} (best validation {best})", test.users));
    let (header, rows) = shown::metric_table(&test.values);
    output::table(&header, rows);
    output::line(format!("run directory: {}", run_dir.display()));
    let dir = output::shell_quote(run_dir);
    output::note(format!(
        "next:\n  coordinator recommend {dir} --user USER --k 5\n  coordinator export {dir} --what embeddings"
    ));
}
