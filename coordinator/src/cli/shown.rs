//! A job as it is shown: the fields `--json` prints (stable), and words for people.

use accord_proto::job::{FailureKind, JobStatus, Phase};
use accord_spec::{MetricTable, TestMetrics};
use serde::Serialize;
use std::time::Duration;

/// What `ps --json` and `status --json` print of a job.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Shown {
    pub(super) job_id: String,
    pub(super) name: String,
    pub(super) phase: &'static str,
    /// Why it is in this phase.
    pub(super) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<&'static str>,
    pub(super) generation: u64,
    pub(super) submitted_at_unix_ms: u64,
    pub(super) run_dir: String,
    pub(super) epoch: Option<u64>,
    pub(super) step: Option<u64>,
    pub(super) loss: Option<f64>,
    /// The validation metric that selects the best epoch, such as `recall@20` (none for a run of an earlier version), and
    /// its best value.
    pub(super) select: Option<String>,
    pub(super) best: Option<f64>,
    pub(super) best_epoch: Option<u64>,
    pub(super) test: Option<TestMetrics>,
    /// Generations that took over from a failed one within the last hour.
    pub(super) restarts: u32,
    pub(super) workers_wanted: u32,
    pub(super) workers: Vec<ShownWorker>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ShownWorker {
    pub(super) rank: u32,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) step: u64,
    /// What it last asked of the other workers.
    pub(super) exchange: String,
}

impl From<&JobStatus> for Shown {
    fn from(status: &JobStatus) -> Shown {
        let scored = status.test.as_ref().or(status.validation.as_ref());
        let workers = status.workers.iter();
        Shown {
            job_id: status.job_id.clone(),
            name: status.name.clone(),
            phase: phase_name(status.phase()),
            reason: status.reason.clone(),
            failure: failure_name(status.failure()),
            generation: status.generation,
            submitted_at_unix_ms: status.submitted_at_unix_ms,
            run_dir: status.run_dir.clone(),
            epoch: status.progress.as_ref().map(|p| p.epoch),
            step: status.progress.as_ref().map(|p| p.step),
            loss: status.progress.as_ref().and_then(|p| p.losses).map(|l| l.total),
            select: scored.map(|e| e.select.clone()).filter(|select| !select.is_empty()),
            best: scored.map(|e| e.best),
            best_epoch: scored.map(|e| e.best_epoch),
            test: status.test.as_ref().map(TestMetrics::from),
            restarts: status.restarts,
            workers_wanted: status.workers_wanted,
            workers: workers
                .map(|w| ShownWorker {
                    rank: w.rank,
                    name: w.name.clone(),
                    host: w.host.clone(),
                    pid: w.pid,
                    step: w.step,
                    exchange: w.exchange.clone(),
                })
                .collect(),
        }
    }
}

pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Unspecified => "unknown",
        Phase::Queued => "queued",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Succeeded => "succeeded",
        Phase::Failed => "failed",
        Phase::Cancelled => "cancelled",
        Phase::Suspended => "suspended",
        Phase::Recovering => "recovering",
    }
}

fn failure_name(kind: FailureKind) -> Option<&'static str> {
    match kind {
        FailureKind::Unspecified => None,
        FailureKind::BadInput => Some("bad_input"),
        FailureKind::Training => Some("training"),
        FailureKind::WorkerLost => Some("worker_lost"),
        FailureKind::Internal => Some("internal"),
    }
}

/// A table with a row for each metric and a column for each cut-off: header (`metric`, `@5`, `@20`) and rows.
pub(super) fn metric_table(metrics: &MetricTable) -> (Vec<String>, Vec<Vec<String>>) {
    let cutoffs = metrics.cutoffs();
    let header = std::iter::once("metric".to_string()).chain(cutoffs.iter().map(|k| format!("@{k}"))).collect();
    let rows = metrics.0.iter().map(|(name, at)| {
        let value = |k: &u32| at.get(k).map_or("-".into(), |value| format!("{value:.4}"));
        std::iter::once(name.clone()).chain(cutoffs.iter().map(value)).collect()
    });
    (header, rows.collect())
}

/// `recall@20 0.1434`; the value alone where its metric is not known (a run of an earlier version).
pub(super) fn selected(select: &str, value: f64) -> String {
    format!("{select} {value:.4}").trim_start().to_string()
}

/// `42s`, `3m05s`, `2h10m`, `3d04h`.
pub(super) fn duration(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// How long ago, by this machine's clock.
pub(super) fn age(unix_ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    duration(now.saturating_sub(Duration::from_millis(unix_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_a_row_and_a_cutoff_a_column() {
        let values = |pairs: &[(u32, f64)]| pairs.iter().copied().collect();
        let rows =
            vec![("recall".to_string(), values(&[(5, 0.25), (20, 0.5)])), ("mrr".into(), values(&[(20, 0.125)]))];
        let (header, rows) = metric_table(&MetricTable(rows));
        assert_eq!(header, ["metric", "@5", "@20"]);
        assert_eq!(rows, [["recall", "0.2500", "0.5000"], ["mrr", "-", "0.1250"]]);
        assert_eq!([selected("recall@20", 0.5), selected("", 0.5)], ["recall@20 0.5000", "0.5000"]);
    }

    #[test]
    fn durations_read_well_at_every_size() {
        let shown = |s| duration(Duration::from_secs(s));
        assert_eq!([shown(42), shown(185), shown(7800), shown(273_600)], ["42s", "3m05s", "2h10m", "3d04h"]);
    }
}
