//! Wire <-> domain: the small types both sides hold. Loses nothing; what may fail says so.

use crate::job::{AtK, Eval, MetricValues, Override, PhaseSeconds};
use accord_spec::{MetricTable, TestMetrics};

impl From<(usize, f64)> for AtK {
    fn from((k, value): (usize, f64)) -> AtK {
        AtK { k: u32::try_from(k).unwrap_or(u32::MAX), value }
    }
}

impl From<&Eval> for MetricTable {
    fn from(eval: &Eval) -> MetricTable {
        let row = |m: &MetricValues| (m.name.clone(), m.at.iter().map(|at| (at.k, at.value)).collect());
        MetricTable(eval.metrics.iter().map(row).collect())
    }
}

impl From<&Eval> for TestMetrics {
    fn from(eval: &Eval) -> TestMetrics {
        TestMetrics { users: eval.users, values: eval.into() }
    }
}

impl MetricValues {
    /// The values of a table, a metric each.
    pub fn of(table: MetricTable) -> Vec<MetricValues> {
        let at = |(k, value)| AtK { k, value };
        table.0.into_iter().map(|(name, row)| MetricValues { name, at: row.into_iter().map(at).collect() }).collect()
    }
}

impl From<(String, f64)> for PhaseSeconds {
    fn from((phase, seconds): (String, f64)) -> PhaseSeconds {
        PhaseSeconds { phase, seconds }
    }
}

impl From<accord_spec::Override> for Override {
    fn from(set: accord_spec::Override) -> Override {
        Override { key: set.key, value: set.value }
    }
}

impl From<Override> for accord_spec::Override {
    fn from(set: Override) -> accord_spec::Override {
        accord_spec::Override { key: set.key, value: set.value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_survive_the_wire() {
        let at = [(5, 0.1 + 0.2), (20, 0.5)].into();
        let test = TestMetrics { users: 3, values: MetricTable(vec![("recall".into(), at)]) };
        let eval = Eval { users: 3, metrics: MetricValues::of(test.values.clone()), ..Eval::default() };
        assert_eq!(TestMetrics::from(&eval), test);
    }

    #[test]
    fn an_override_survives_the_wire() {
        let set = accord_spec::Override { key: "loss.kd_weight".into(), value: "0.02".into() };
        assert_eq!(accord_spec::Override::from(Override::from(set.clone())), set);
    }
}
