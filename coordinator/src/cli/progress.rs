//! The live view of a training job on stderr: a line that is redrawn on a terminal, plain lines elsewhere, and table rows
//! for each evaluation.

use super::{output, shown};
use accord_proto::job::{Epoch, Eval, Losses, Split, Step};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Off a terminal, a line at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// The step rate follows what happened over about this long.
const RATE_OVER: Duration = Duration::from_secs(5);

/// The live view of one job.
pub(super) struct Progress {
    /// None off a terminal.
    bar: Option<ProgressBar>,
    rate: Rate,
    last_plain: Option<Instant>,
    header: bool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let bar = output::stderr_is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            // a template that cannot be read leaves the plain default
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Progress { bar, rate: Rate::default(), last_plain: None, header: false }
    }

    /// A line that stays.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    /// What is being waited for.
    pub(super) fn wait_for(&self, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(text.to_string());
                bar.tick();
            }
            None => output::note(text),
        }
    }

    pub(super) fn step(&mut self, step: &Step, now: Instant) {
        self.rate.see(step.step, now);
        let text = self.line(step);
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None if self.last_plain.is_none_or(|last| now.duration_since(last) >= PLAIN_EVERY) => {
                self.last_plain = Some(now);
                output::note(text);
            }
            None => {}
        }
    }

    fn line(&self, step: &Step) -> String {
        let mut text = format!(
            "epoch {} ({}/{})  step {}  {}",
            step.epoch,
            step.step_in_epoch,
            step.steps_per_epoch,
            step.step,
            losses(step.losses.unwrap_or_default()),
        );
        if let Some(rate) = self.rate.per_second() {
            text += &format!("  {rate:.1} steps/s");
            let total = step.epochs.saturating_mul(step.steps_per_epoch);
            let left = total.saturating_sub(step.step) as f64 / rate;
            if let Ok(left) = Duration::try_from_secs_f64(left) {
                // early stopping may end it sooner
                text += &format!("  left ≤ {}", shown::duration(left));
            }
        }
        text
    }

    /// A view that joined late sees epochs; only plain output without steps needs a line of its own.
    pub(super) fn epoch(&mut self, epoch: &Epoch) {
        if self.bar.is_none() && self.last_plain.is_none() {
            let Epoch { epoch, step, seconds, .. } = epoch;
            output::note(format!("epoch {epoch} done in {seconds:.1} s, step {step}"));
        }
    }

    pub(super) fn eval(&mut self, eval: &Eval) {
        // the test metrics have their own table at the end
        if eval.split() == Split::Test {
            return;
        }
        for line in evaluation(eval, !std::mem::replace(&mut self.header, true)) {
            self.say(&line);
        }
    }

    /// Takes the live line away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// An evaluation as table rows, one a metric: 80 columns are enough for four cut-offs and any number of metrics.
fn evaluation(eval: &Eval, with_header: bool) -> Vec<String> {
    let (header, rows) = shown::metric_table(&eval.into());
    let cells = |row: &[String]| {
        let (name, values) = row.split_first().map_or(("", row), |(name, values)| (name.as_str(), values));
        let values: String = values.iter().map(|value| format!("{value:>8}")).collect();
        format!("{name:<9}{values}")
    };
    let mut lines = Vec::new();
    if with_header {
        let text = format!("{:>6} {:>9}  {}   best {}", "epoch", "step", cells(&header), eval.select);
        lines.push(text.trim_end().to_string());
    }
    let Eval { epoch, step, best, best_epoch, .. } = eval;
    for (at, row) in rows.iter().enumerate() {
        lines.push(match at {
            0 => format!("{epoch:>6} {step:>9}  {}   {best:.4} (epoch {best_epoch})", cells(row)),
            _ => format!("{:18}{}", "", cells(row)),
        });
    }
    lines
}

/// The total, and the term that ranks.
fn losses(losses: Losses) -> String {
    format!("loss {:.4}  bpr {:.4}", losses.total, losses.bpr)
}

/// Steps a second, smoothed.
#[derive(Default)]
struct Rate {
    last: Option<(u64, Instant)>,
    smooth: Option<f64>,
}

impl Rate {
    fn see(&mut self, step: u64, now: Instant) {
        if let Some((before, then)) = self.last {
            let seconds = now.duration_since(then).as_secs_f64();
            if seconds <= 0.0 || step <= before {
                return;
            }
            let rate = (step - before) as f64 / seconds;
            // the older value fades with time, not with the number of reports
            let fade = (-seconds / RATE_OVER.as_secs_f64()).exp();
            self.smooth = Some(self.smooth.map_or(rate, |old| old * fade + rate * (1.0 - fade)));
        }
        self.last = Some((step, now));
    }

    fn per_second(&self) -> Option<f64> {
        self.smooth.filter(|rate| *rate > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_proto::job::{AtK, MetricValues};

    #[test]
    fn the_line_names_epoch_losses_rate_and_time_left() {
        let start = Instant::now();
        let mut progress = Progress { bar: None, rate: Rate::default(), last_plain: Some(start), header: false };
        let step = |n| Step {
            epoch: 1,
            step: n,
            step_in_epoch: n,
            steps_per_epoch: 100,
            epochs: 10,
            losses: Some(Losses { total: 0.75, bpr: 0.5, ..Losses::default() }),
            seconds: 0.1,
        };
        progress.step(&step(10), start);
        progress.step(&step(20), start + Duration::from_secs(1));
        assert_eq!(
            progress.line(&step(20)),
            "epoch 1 (20/100)  step 20  loss 0.7500  bpr 0.5000  10.0 steps/s  left ≤ 1m38s"
        );
    }

    #[test]
    fn an_evaluation_fits_a_screen_of_80_columns() {
        let metric = |name: &str, scale: f64| {
            let at = [5, 10, 20].map(|k| AtK { k, value: f64::from(k) * scale });
            MetricValues { name: name.into(), at: at.into() }
        };
        let eval = Eval {
            epoch: 2997,
            step: 123_456_789,
            metrics: vec![metric("recall", 0.01), metric("ndcg", 0.005)],
            select: "recall@20".into(),
            best: 0.25,
            best_epoch: 2991,
            ..Eval::default()
        };
        let lines = evaluation(&eval, true);
        assert_eq!(
            lines,
            [
                " epoch      step  metric         @5     @10     @20   best recall@20",
                "  2997 123456789  recall     0.0500  0.1000  0.2000   0.2500 (epoch 2991)",
                "                  ndcg       0.0250  0.0500  0.1000",
            ]
        );
        assert!(lines.iter().all(|line| line.len() <= 80));
        assert_eq!(evaluation(&eval, false), lines[1..]);
    }
}
