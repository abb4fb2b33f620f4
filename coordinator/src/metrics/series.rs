//! The gauges of jobs, made afresh from their status at each scrape, so that a job that is gone leaves no line behind. A
//! job that is over keeps its own lines for a while, and only so many jobs have any: the number of series is bounded.

use crate::job::JobId;
use crate::server::is_over;
use accord_proto::job::{JobStatus, Losses, Phase};
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a job that is over keeps its lines: some scrapes more, so that its last values are seen.
const KEEP_OVER: Duration = Duration::from_secs(15 * 60);
/// Jobs with lines of their own; those that are not over come first, then the newest.
const MAX_JOBS: usize = 100;

/// What outlives a scrape.
#[derive(Default)]
pub(super) struct Remembered {
    restarts: BTreeMap<String, u64>,
    /// When a job was first seen to be over.
    over_since: BTreeMap<String, Instant>,
}

impl Remembered {
    pub(super) fn restarted(&mut self, job: &JobId) {
        *self.restarts.entry(job.0.clone()).or_default() += 1;
    }

    pub(super) fn series(&mut self, jobs: &[JobStatus], now: Instant) -> prometheus::Result<Registry> {
        self.forget(jobs);
        let registry = Registry::new();
        count_phases(&registry, jobs)?;
        let gauges = Gauges::register(&registry)?;
        for job in self.shown(jobs, now) {
            gauges.set(job, self.restarts.get(&job.job_id).copied().unwrap_or_default());
        }
        Ok(registry)
    }

    /// Drops what is known of jobs that are no more.
    fn forget(&mut self, jobs: &[JobStatus]) {
        let known: std::collections::BTreeSet<&str> = jobs.iter().map(|j| j.job_id.as_str()).collect();
        self.restarts.retain(|job, _| known.contains(job.as_str()));
        self.over_since.retain(|job, _| known.contains(job.as_str()));
    }

    /// The jobs with lines of their own.
    fn shown<'a>(&mut self, jobs: &'a [JobStatus], now: Instant) -> Vec<&'a JobStatus> {
        let mut shown: Vec<(bool, &JobStatus)> = Vec::new();
        for job in jobs {
            let over = is_over(job.phase());
            if !over {
                // a job that was suspended may go on
                self.over_since.remove(&job.job_id);
            } else {
                let since = *self.over_since.entry(job.job_id.clone()).or_insert(now);
                if now.duration_since(since) > KEEP_OVER {
                    continue;
                }
            }
            shown.push((over, job));
        }
        shown.sort_by_key(|(over, job)| (*over, std::cmp::Reverse(job.submitted_at_unix_ms)));
        shown.into_iter().take(MAX_JOBS).map(|(_, job)| job).collect()
    }
}

fn phases() -> impl Iterator<Item = Phase> {
    (1..).map_while(|n| Phase::try_from(n).ok())
}

fn count_phases(registry: &Registry, jobs: &[JobStatus]) -> prometheus::Result<()> {
    let count = IntGaugeVec::new(Opts::new("accord_jobs", "Jobs by phase."), &["phase"])?;
    registry.register(Box::new(count.clone()))?;
    for phase in phases() {
        let name = phase.as_str_name().trim_start_matches("PHASE_").to_ascii_lowercase();
        let there = jobs.iter().filter(|job| job.phase() == phase).count();
        count.with_label_values(&[name]).set(i64::try_from(there).unwrap_or(i64::MAX));
    }
    Ok(())
}

/// All labelled by job.
struct Gauges {
    epoch: GaugeVec,
    step: GaugeVec,
    step_seconds: GaugeVec,
    phase_seconds: GaugeVec,
    step_bytes: GaugeVec,
    loss: GaugeVec,
    metric: GaugeVec,
    generation: GaugeVec,
    workers: GaugeVec,
    restarts: IntCounterVec,
}

impl Gauges {
    fn register(registry: &Registry) -> prometheus::Result<Gauges> {
        let gauge = |name, help, labels: &[&str]| {
            let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let restarts = Opts::new("accord_job_restarts_total", "Times the job was started again after a failure.");
        let restarts = IntCounterVec::new(restarts, &["job"])?;
        registry.register(Box::new(restarts.clone()))?;
        Ok(Gauges {
            epoch: gauge("accord_job_epoch", "Epoch the job is in, from 0.", &["job"])?,
            step: gauge("accord_job_step", "Optimiser updates so far.", &["job"])?,
            step_seconds: gauge("accord_job_step_seconds", "Seconds the newest step took.", &["job"])?,
            phase_seconds: gauge(
                "accord_job_step_phase_seconds",
                "Seconds of a step by phase, mean of the newest epoch, as rank 0 saw it.",
                &["job", "phase"],
            )?,
            step_bytes: gauge(
                "accord_job_step_sent_bytes",
                "Bytes that rank 0 sent to other workers in a step, mean of the newest epoch.",
                &["job"],
            )?,
            loss: gauge(
                "accord_job_loss",
                "Loss of the newest step, weighted as it enters the total.",
                &["job", "term"],
            )?,
            metric: gauge(
                "accord_job_metric",
                "Ranking metrics at k of the newest validation, by the names of eval.metrics.",
                &["job", "metric", "k"],
            )?,
            generation: gauge("accord_job_generation", "Version of the job's membership.", &["job"])?,
            workers: gauge("accord_job_workers", "Workers that are registered.", &["job"])?,
            restarts,
        })
    }

    fn set(&self, status: &JobStatus, restarts: u64) {
        let job = status.job_id.as_str();
        let set = |gauge: &GaugeVec, value: f64| gauge.with_label_values(&[job]).set(value);
        set(&self.generation, status.generation as f64);
        set(&self.workers, status.workers.len() as f64);
        self.restarts.with_label_values(&[job]).inc_by(restarts);
        if let Some(step) = &status.progress {
            set(&self.epoch, step.epoch as f64);
            set(&self.step, step.step as f64);
            set(&self.step_seconds, step.seconds);
            for (term, value) in step.losses.iter().flat_map(terms) {
                self.loss.with_label_values(&[job, term]).set(value);
            }
        }
        if let Some(epoch) = status.last_epoch.as_ref().filter(|epoch| epoch.timed_steps > 0) {
            let steps = epoch.timed_steps as f64;
            set(&self.step_bytes, epoch.bytes_sent as f64 / steps);
            for phase in &epoch.phases {
                self.phase_seconds.with_label_values(&[job, &phase.phase]).set(phase.seconds / steps);
            }
        }
        for metric in status.validation.iter().flat_map(|eval| &eval.metrics) {
            for at in &metric.at {
                self.metric.with_label_values(&[job, &metric.name, &at.k.to_string()]).set(at.value);
            }
        }
    }
}

fn terms(losses: &Losses) -> [(&'static str, f64); 7] {
    let Losses { total, bpr, reg, kd, kd_int, translation, itm } = *losses;
    [
        ("total", total),
        ("bpr", bpr),
        ("reg", reg),
        ("kd", kd),
        ("kd_int", kd_int),
        ("translation", translation),
        ("itm", itm),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_proto::job::{AtK, Epoch, Eval, MetricValues, PhaseSeconds, Step, WorkerStatus};
    use prometheus::TextEncoder;

    fn job(id: &str, phase: Phase, submitted_at_unix_ms: u64) -> JobStatus {
        JobStatus { job_id: id.into(), phase: phase.into(), submitted_at_unix_ms, ..JobStatus::default() }
    }

    fn text(remembered: &mut Remembered, jobs: &[JobStatus], now: Instant) -> String {
        TextEncoder::new().encode_to_string(&remembered.series(jobs, now).unwrap().gather()).unwrap()
    }

    #[test]
    fn a_job_that_trains_has_its_progress_losses_and_metrics() {
        let losses = Losses { total: 0.75, bpr: 0.5, ..Losses::default() };
        let step = Step { epoch: 2, step: 41, seconds: 0.125, losses: Some(losses), ..Step::default() };
        let metrics = vec![MetricValues { name: "recall".into(), at: vec![AtK { k: 20, value: 0.25 }] }];
        let status = JobStatus {
            generation: 3,
            progress: Some(step),
            last_epoch: Some(Epoch {
                timed_steps: 4,
                bytes_sent: 4096,
                phases: vec![PhaseSeconds { phase: "adam".into(), seconds: 1.0 }],
                ..Epoch::default()
            }),
            validation: Some(Eval { metrics, ..Eval::default() }),
            workers: vec![WorkerStatus::default(); 2],
            ..job("a-1", Phase::Running, 0)
        };
        let mut remembered = Remembered::default();
        remembered.restarted(&JobId("a-1".into()));
        remembered.restarted(&JobId("gone".into()));
        let text = text(&mut remembered, &[status, job("b", Phase::Queued, 1)], Instant::now());
        for line in [
            "accord_jobs{phase=\"running\"} 1",
            "accord_jobs{phase=\"failed\"} 0",
            "accord_job_epoch{job=\"a-1\"} 2",
            "accord_job_step{job=\"a-1\"} 41",
            "accord_job_step_seconds{job=\"a-1\"} 0.125",
            "accord_job_step_phase_seconds{job=\"a-1\",phase=\"adam\"} 0.25",
            "accord_job_step_sent_bytes{job=\"a-1\"} 1024",
            "accord_job_loss{job=\"a-1\",term=\"bpr\"} 0.5",
            "accord_job_metric{job=\"a-1\",k=\"20\",metric=\"recall\"} 0.25",
            "accord_job_generation{job=\"a-1\"} 3",
            "accord_job_workers{job=\"a-1\"} 2",
            "accord_job_restarts_total{job=\"a-1\"} 1",
            "accord_job_restarts_total{job=\"b\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
        }
        assert!(!text.contains("gone") && !text.contains("accord_job_step{job=\"b\"}"), "{text}");
    }

    #[test]
    fn a_job_that_is_over_keeps_its_lines_for_a_while_and_gets_them_back_when_it_goes_on() {
        let mut remembered = Remembered::default();
        let start = Instant::now();
        let over = [job("a", Phase::Suspended, 0)];
        assert!(text(&mut remembered, &over, start).contains("\"a\""));
        assert!(text(&mut remembered, &over, start + KEEP_OVER).contains("\"a\""));
        let late = start + KEEP_OVER + Duration::from_secs(1);
        let gone = text(&mut remembered, &over, late);
        assert!(!gone.contains("\"a\"") && gone.contains("accord_jobs{phase=\"suspended\"} 1"), "{gone}");
        assert!(text(&mut remembered, &[job("a", Phase::Running, 0)], late).contains("\"a\""));
        assert!(text(&mut remembered, &over, late).contains("\"a\""));
    }

    #[test]
    fn only_so_many_jobs_have_lines_and_those_that_train_come_first() {
        let mut jobs: Vec<JobStatus> = (0..500).map(|n| job(&format!("old-{n}"), Phase::Succeeded, n)).collect();
        jobs.insert(0, job("trains", Phase::Running, 0));
        let text = text(&mut Remembered::default(), &jobs, Instant::now());
        assert_eq!(text.matches("accord_job_generation{").count(), MAX_JOBS);
        assert!(text.contains("\"trains\"") && text.contains("\"old-499\"") && !text.contains("\"old-0\""));
    }
}
