//! What of a job file affects training: two runs may share a directory only where this is equal. Names, paths, places
//! and how often to save are left out; what data is trained on is compared by its digest instead of its path. Where
//! checkpoints lie affects no training, but a run that looks for them elsewhere would not go on.

use accord_spec::{Eval, JobSpec, Metric};
use serde_json::Value;
use std::collections::BTreeMap;

/// Dotted key -> value of everything that affects training.
fn training_keys(spec: &JobSpec) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let whole = serde_json::to_value(spec).unwrap_or(Value::Null);
    for section in ["job", "data", "model", "loss", "optim", "eval"] {
        flatten(section, &whole[section], &mut keys);
    }
    // how rows travel changes nothing, unless something of them is given up
    for key in ["halo_precision", "halo_stale"] {
        flatten(&format!("partition.{key}"), &whole["partition"][key], &mut keys);
    }
    evaluation(&spec.eval, &mut keys);
    keys.retain(|key, _| !matches!(key.as_str(), "job.name" | "job.priority" | "data.path"));
    keys
}

/// What evaluation does, whether the job file says it or leaves it to the defaults. `eval.metrics` and `eval.select` are
/// left out where they say what the defaults do.
fn evaluation(eval: &Eval, keys: &mut BTreeMap<String, String>) {
    let ks = eval.cutoffs();
    keys.insert("eval.ks".into(), Value::from(ks.clone()).to_string());
    if eval.metrics == Eval::DEFAULT_METRICS {
        keys.remove("eval.metrics");
    }
    let select = eval.selecting().ok();
    let is_as_always = select.is_some_and(|s| s.metric == Metric::Recall && Some(&s.k) == ks.last());
    match select.filter(|_| !is_as_always) {
        Some(select) => keys.insert("eval.select".into(), Value::from(select.to_string()).to_string()),
        None => keys.remove("eval.select"),
    };
}

/// [`training_keys`] and where a run's checkpoints are looked for.
fn resuming_keys(spec: &JobSpec) -> BTreeMap<String, String> {
    let mut keys = training_keys(spec);
    keys.insert("checkpoint.uri".into(), Value::from(spec.checkpoint.uri.as_str()).to_string());
    keys
}

fn flatten(prefix: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                flatten(&format!("{prefix}.{name}"), inner, keys);
            }
        }
        Value::Null => {}
        leaf => {
            keys.insert(prefix.into(), leaf.to_string());
        }
    }
}

/// `optim.lr 0.001 -> 0.01` for each key that differs and keeps a run from going on.
pub fn differences(old: &JobSpec, new: &JobSpec) -> Vec<String> {
    let (old, new) = (resuming_keys(old), resuming_keys(new));
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let shown = |value: Option<&String>| value.map_or("unset", String::as_str).to_string();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| format!("{name} {} -> {}", shown(old.get(name)), shown(new.get(name))))
        .collect()
}

/// BLAKE3 (hex) of everything that affects training.
pub fn digest(spec: &JobSpec) -> String {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in training_keys(spec) {
        hasher.update(format!("{key} = {value}\n").as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(sets: &[&str]) -> JobSpec {
        let text = "[job]\nname = \"a\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\n";
        let sets: Vec<_> = sets.iter().map(|s| s.parse().unwrap()).collect();
        accord_spec::parse(text, &sets).unwrap()
    }

    #[test]
    fn what_affects_training_is_named() {
        let differs = differences(&spec(&[]), &spec(&["optim.lr=0.01", "job.seed=7"]));
        assert_eq!(differs, ["job.seed 2023 -> 7", "optim.lr 0.001 -> 0.01"]);
        assert_ne!(digest(&spec(&[])), digest(&spec(&["optim.lr=0.01"])));
    }

    #[test]
    fn halos_that_give_something_up_affect_training() {
        let differs = differences(&spec(&[]), &spec(&["partition.halo_stale=true", "partition.strategy=hash"]));
        assert_eq!(differs, ["partition.halo_stale false -> true"]);
    }

    #[test]
    fn what_is_measured_and_selected_affects_training_unless_it_is_what_was_always_done() {
        let same = spec(&["eval.ks=[5, 10, 20]", "eval.metrics=[\"recall\", \"ndcg\"]", "eval.select=recall@20"]);
        assert!(differences(&spec(&[]), &same).is_empty());
        assert_eq!(digest(&spec(&[])), digest(&same));
        let other = spec(&["eval.ks=[5, 20, 50]", "eval.metrics=[\"recall\"]"]);
        assert_eq!(
            differences(&spec(&[]), &other),
            [
                "eval.ks [5,10,20] -> [5,20,50]",
                r#"eval.metrics unset -> ["recall"]"#,
                r#"eval.select unset -> "recall@20""#,
            ]
        );
    }

    #[test]
    fn names_places_and_saving_may_change() {
        let moved = spec(&["job.name=b", "data.path=elsewhere", "checkpoint.every_steps=7", "cluster.workers=3"]);
        assert!(differences(&spec(&[]), &moved).is_empty());
        assert_eq!(digest(&spec(&[])), digest(&moved));
    }

    #[test]
    fn checkpoints_elsewhere_are_a_difference_but_not_in_the_digest() {
        let moved = spec(&["checkpoint.uri=saved"]);
        assert_eq!(differences(&spec(&[]), &moved), [r#"checkpoint.uri "checkpoints" -> "saved""#]);
        assert_eq!(digest(&spec(&[])), digest(&moved));
    }

    #[test]
    fn a_resolved_job_file_parses_to_the_same_job() {
        let before = spec(&["data.text={ user_profile = \"u.npy\" }", "data.min_rating=3.5", "loss.reg_weight=1e-8"]);
        let text = toml::to_string(&before).unwrap();
        assert_eq!(accord_spec::parse(&text, &[]).unwrap(), before);
    }
}
