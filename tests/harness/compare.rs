//! Two runs' metrics held against each other.

use serde_json::Value;
use std::collections::BTreeMap;

/// The largest differences between two runs: of each loss term over all epochs, relative, and of the metrics, absolute.
#[derive(Debug, Default)]
pub struct Differences {
    pub losses: BTreeMap<String, f64>,
    pub metrics: f64,
}

impl Differences {
    /// Lines as [`metric_lines`](crate::metric_lines) gives them.
    ///
    /// # Panics
    /// When the runs do not have the same epochs, evaluations and terms, or nothing to compare.
    pub fn between(one: &[String], other: &[String]) -> Differences {
        assert_eq!(one.len(), other.len(), "another number of epochs and evaluations");
        let mut found = Differences::default();
        let mut evaluations = 0;
        for (a, b) in one.iter().zip(other) {
            let [a, b] = [a, b].map(|line| serde_json::from_str::<Value>(line).expect("a JSON line"));
            assert_eq!((&a["kind"], &a["epoch"]), (&b["kind"], &b["epoch"]));
            let number = |values: &Value, name: &str| values[name].as_f64().expect("a number");
            for (term, _) in a["loss"].as_object().into_iter().flatten() {
                let (x, y) = (number(&a["loss"], term), number(&b["loss"], term));
                let worst = found.losses.entry(term.clone()).or_default();
                *worst = worst.max((x - y).abs() / x.abs().max(1e-30));
            }
            // each object of an evaluation's line is a metric by cut-off
            let is_eval = a["kind"] == "eval";
            for (metric, values) in a.as_object().into_iter().flatten().filter(|_| is_eval) {
                for (k, _) in values.as_object().into_iter().flatten() {
                    evaluations += 1;
                    found.metrics = found.metrics.max((number(values, k) - number(&b[metric], k)).abs());
                }
            }
        }
        assert!(!found.losses.is_empty() && evaluations > 0, "nothing to compare in {one:?}");
        found
    }

    /// Of the loss term that differs most.
    pub fn worst_loss(&self) -> f64 {
        self.losses.values().copied().fold(0.0, f64::max)
    }
}
