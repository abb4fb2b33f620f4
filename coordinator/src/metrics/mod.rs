//! What a monitoring system scrapes, in Prometheus' text format. Counts what it is told and derives the rest from the
//! jobs' status when it is asked; decides nothing.
//!
//! # Layout
//! * here: what is counted as it happens, behind a cloneable handle.
//! * `series`: the gauges of each job. `http`: the listener.

mod http;
mod series;

pub use http::serve;

use crate::job::JobId;
use accord_proto::job::JobStatus;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tonic::Code;

/// Upper bounds of the buckets, in seconds.
const STALL: [f64; 9] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
const DETECTION: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
const RECOVERY: [f64; 9] = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Counts events. Clones count into the same place.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    requests: IntCounterVec,
    committed: IntCounter,
    failed: IntCounter,
    stall: Histogram,
    detection: Histogram,
    recovery: Histogram,
    jobs: Mutex<series::Remembered>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// # Panics
    /// Never: names and labels are constants of this file, and the tests make one.
    pub fn new() -> Metrics {
        Metrics::build().expect("the metrics' names are well-formed and differ")
    }

    fn build() -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let histogram = |name, help, buckets: &[f64]| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone())).map(|()| histogram)
        };
        let requests = Opts::new("accord_grpc_requests_total", "Calls that ended, by method and gRPC code.");
        let requests = IntCounterVec::new(requests, &["method", "code"])?;
        registry.register(Box::new(requests.clone()))?;
        let started = Gauge::new("process_start_time_seconds", "When this coordinator started, in Unix time.")?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        started.set(now.as_secs_f64());
        registry.register(Box::new(started))?;
        let committed = counter("accord_checkpoint_committed_total", "Checkpoints that were committed.")?;
        let failed = counter("accord_checkpoint_failed_total", "Checkpoints that could not be written or committed.")?;
        let stall = histogram("accord_checkpoint_stall_seconds", "How long a snapshot kept training waiting.", &STALL)?;
        let detection =
            histogram("accord_detection_seconds", "From a worker's failure until it was noticed.", &DETECTION)?;
        let recovery =
            histogram("accord_recovery_seconds", "From a noticed failure until the job trained again.", &RECOVERY)?;
        let jobs = Mutex::default();
        let shared = Shared { registry, requests, committed, failed, stall, detection, recovery, jobs };
        Ok(Metrics { shared: Arc::new(shared) })
    }

    /// A call of the gRPC server ended. `method`: one the server has, or one name for all others.
    pub fn answered(&self, method: &str, code: Code) {
        self.shared.requests.with_label_values(&[method, &format!("{code:?}")]).inc();
    }

    pub fn checkpoint_committed(&self) {
        self.shared.committed.inc();
    }

    pub fn checkpoint_failed(&self) {
        self.shared.failed.inc();
    }

    /// A snapshot kept training waiting for `stall`.
    pub fn checkpoint_stalled(&self, stall: Duration) {
        self.shared.stall.observe(stall.as_secs_f64());
    }

    /// A failure was noticed `after` it happened.
    pub fn detected(&self, after: Duration) {
        self.shared.detection.observe(after.as_secs_f64());
    }

    /// A job trained again `after` its failure was noticed.
    pub fn recovered(&self, after: Duration) {
        self.shared.recovery.observe(after.as_secs_f64());
    }

    /// A job was started again after a failure.
    pub fn restarted(&self, job: &JobId) {
        self.jobs().restarted(job);
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, series::Remembered> {
        // counts are whole whenever the lock is free
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, as a scrape returns it. `jobs`: those of the control loop.
    ///
    /// # Errors
    /// When two metrics have one name.
    pub fn render(&self, jobs: &[JobStatus]) -> prometheus::Result<String> {
        let mut families = self.shared.registry.gather();
        families.extend(self.jobs().series(jobs, Instant::now())?.gather());
        let mut text = String::new();
        TextEncoder::new().encode_utf8(&families, &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered_and_clones_count_together() {
        let metrics = Metrics::new();
        let clone = metrics.clone();
        clone.answered("accord.job.v1.Jobs/List", Code::Ok);
        clone.answered("other", Code::Unauthenticated);
        clone.checkpoint_committed();
        clone.checkpoint_failed();
        clone.checkpoint_stalled(Duration::from_millis(5));
        clone.detected(Duration::from_millis(600));
        clone.recovered(Duration::from_secs(3));
        let text = metrics.render(&[]).unwrap();
        for line in [
            "accord_grpc_requests_total{code=\"Ok\",method=\"accord.job.v1.Jobs/List\"} 1",
            "accord_grpc_requests_total{code=\"Unauthenticated\",method=\"other\"} 1",
            "accord_checkpoint_committed_total 1",
            "accord_checkpoint_failed_total 1",
            "accord_checkpoint_stall_seconds_bucket{le=\"0.01\"} 1",
            "accord_detection_seconds_bucket{le=\"0.5\"} 0",
            "accord_detection_seconds_bucket{le=\"1\"} 1",
            "accord_recovery_seconds_sum 3",
            "accord_jobs{phase=\"running\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
        }
    }
}
