//! Values of ranking metrics by name and cut-off, as JSON objects hold them: `"recall":{"5":0.1,"20":0.2},"ndcg":{..}`. Knows
//! no metric by name: what the engine measures passes through in its order.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What an evaluation of the test part found: means over the users with held-out items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestMetrics {
    pub users: u64,
    #[serde(flatten)]
    pub values: MetricTable,
}

/// One entry a metric: its name, and its value at each cut-off.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricTable(pub Vec<(String, BTreeMap<u32, f64>)>);

impl MetricTable {
    /// Every cut-off of any metric, ascending.
    pub fn cutoffs(&self) -> Vec<u32> {
        let cutoffs: std::collections::BTreeSet<u32> = self.0.iter().flat_map(|(_, at)| at.keys().copied()).collect();
        cutoffs.into_iter().collect()
    }
}

impl Serialize for MetricTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, at)| (name, at)))
    }
}

impl<'de> Deserialize<'de> for MetricTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MetricTable, D::Error> {
        deserializer.deserialize_map(Rows)
    }
}

struct Rows;

impl<'de> Visitor<'de> for Rows {
    type Value = MetricTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metrics by name, each with its values by cut-off")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MetricTable, A::Error> {
        let mut rows = Vec::new();
        // inside a flattened field serde keeps keys as strings
        while let Some((name, at)) = map.next_entry::<String, BTreeMap<String, f64>>()? {
            let cutoff = |(k, value): (String, f64)| match k.parse() {
                Ok(k) => Ok((k, value)),
                Err(_) => Err(serde::de::Error::custom(format!("`{k}` is not a cut-off of {name}"))),
            };
            let at = at.into_iter().map(cutoff).collect::<Result<_, A::Error>>()?;
            rows.push((name, at));
        }
        Ok(MetricTable(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_names_order_and_bits() {
        let at = |values: [f64; 2]| BTreeMap::from([(5, values[0]), (20, values[1])]);
        let values =
            MetricTable(vec![("recall".into(), at([0.1, 0.1 + 0.2])), ("a metric".into(), at([1.0 / 3.0, 0.0]))]);
        let before = TestMetrics { users: 3, values };
        let text = serde_json::to_string(&before).unwrap();
        let wanted =
            r#"{"users":3,"recall":{"5":0.1,"20":0.30000000000000004},"a metric":{"5":0.3333333333333333,"20":0.0}}"#;
        assert_eq!(text, wanted);
        assert_eq!(serde_json::from_str::<TestMetrics>(&text).unwrap(), before);
        assert_eq!(before.values.cutoffs(), [5, 20]);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        for text in [r#"{"users":3,"recall":0.5}"#, r#"{"users":3,"recall":{"five":0.5}}"#] {
            assert!(serde_json::from_str::<TestMetrics>(text).is_err(), "{text}");
        }
    }
}
