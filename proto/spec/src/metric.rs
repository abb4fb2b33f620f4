//! The names of the ranking metrics, and a metric at one cut-off (`recall@20`). What each metric computes stands in the
//! engine's `eval/metrics.rs` and in docs/metrics.md; this file must not compute anything.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A ranking metric. Job files, metrics.jsonl, Prometheus and every screen use [`Metric::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    Recall,
    Ndcg,
    Precision,
    Hit,
    Mrr,
    Map,
    Coverage,
}

impl Metric {
    pub const ALL: [Metric; 7] =
        [Metric::Recall, Metric::Ndcg, Metric::Precision, Metric::Hit, Metric::Mrr, Metric::Map, Metric::Coverage];

    pub fn name(self) -> &'static str {
        match self {
            Metric::Recall => "recall",
            Metric::Ndcg => "ndcg",
            Metric::Precision => "precision",
            Metric::Hit => "hit",
            Metric::Mrr => "mrr",
            Metric::Map => "map",
            Metric::Coverage => "coverage",
        }
    }

    /// Whether the order of the first k matters. The other metrics see only which items are among the first k: where k
    /// reaches every item that can be ranked, they are the same for every model and cannot select an epoch.
    pub fn depends_on_order(self) -> bool {
        match self {
            Metric::Ndcg | Metric::Mrr | Metric::Map => true,
            Metric::Recall | Metric::Precision | Metric::Hit | Metric::Coverage => false,
        }
    }
}

/// A metric of the first k items, written `recall@20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricAtK {
    pub metric: Metric,
    pub k: usize,
}

impl fmt::Display for MetricAtK {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.metric.name(), self.k)
    }
}

impl FromStr for MetricAtK {
    type Err = String;

    fn from_str(text: &str) -> Result<MetricAtK, String> {
        let (name, k) =
            text.split_once('@').ok_or_else(|| format!("`{text}` is not a metric at a cut-off such as recall@20"))?;
        let metric = Metric::ALL.into_iter().find(|metric| metric.name() == name).ok_or_else(|| {
            let names = Metric::ALL.map(Metric::name).join(", ");
            format!("`{text}`: there is no metric `{name}`, only {names}")
        })?;
        // `+20` and `020` would parse as numbers, and the same cut-off would have two names
        let k = k.parse().ok().filter(|parsed: &usize| parsed.to_string() == k);
        let k = k.ok_or_else(|| format!("`{text}`: what follows the @ is not a cut-off such as 20"))?;
        Ok(MetricAtK { metric, k })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_one_name_everywhere() {
        for metric in Metric::ALL {
            assert_eq!(toml::Value::try_from(metric).unwrap().as_str(), Some(metric.name()));
            let at = MetricAtK { metric, k: 20 };
            assert_eq!(at.to_string().parse(), Ok(at));
        }
    }

    #[test]
    fn what_is_no_metric_at_a_cutoff_is_refused() {
        for wrong in
            ["recall", "recall@", "recall@x", "recall@-1", "recall@+5", "recall@05", "Recall@5", "@5", "", "f1@5"]
        {
            let error = wrong.parse::<MetricAtK>().unwrap_err();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
