//! The metrics of real runs: recomputed from the exported embeddings and the raw files, and what decides which epoch is kept.

use super::{text, workspace};
use accord_harness::{Finished, catalog, coordinator, finish, metric_lines};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

const METRICS: [&str; 7] = ["recall", "ndcg", "precision", "hit", "mrr", "map", "coverage"];

fn run(job: &Path, run_dir: &Path) -> Finished {
    let done = finish(&mut coordinator(&["run", text(job), "--run-dir", text(run_dir)]));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    done
}

fn append(job: &Path, toml: &str) {
    let before = std::fs::read_to_string(job).unwrap();
    std::fs::write(job, format!("{before}\n{toml}\n")).unwrap();
}

fn summary(run_dir: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(run_dir.join("summary.json")).unwrap()).unwrap()
}

/// The validation lines of metrics.jsonl, oldest first.
fn validations(run_dir: &Path) -> Vec<Value> {
    let lines = metric_lines(run_dir).into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
    lines.filter(|line| line["split"] == "val").collect()
}

/// The epoch that a rule of strictly better values keeps, and its value.
fn best(validations: &[Value], metric: &str, k: &str) -> (u64, f64) {
    let mut best: Option<(u64, f64)> = None;
    for line in validations {
        let value = line[metric][k].as_f64().unwrap();
        if best.is_none_or(|(_, highest)| value > highest) {
            best = Some((line["epoch"].as_u64().unwrap(), value));
        }
    }
    best.unwrap()
}

/// Rows of one table of a run's embeddings, in f64.
fn table(run_dir: &Path, name: &str) -> Vec<Vec<f64>> {
    let bytes = std::fs::read(run_dir.join("export/embeddings.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let values: Vec<f64> =
        tensor.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
    values.chunks_exact(tensor.shape()[1]).map(<[f64]>::to_vec).collect()
}

/// The catalog's pairs by user; its ids are the rows of the embeddings.
fn pairs(file: &Path) -> Vec<BTreeSet<usize>> {
    let mut items = vec![BTreeSet::new(); catalog::USERS];
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let ids: Vec<usize> = line.split(' ').map(|id| id.parse().unwrap()).collect();
        items[ids[0]].insert(ids[1]);
    }
    items
}

/// Best first, without the training items. Scores so close that f32 may swap them fail the test where the order of a hit and
/// another item, or what is among the first k, hangs on it: other data must then be chosen.
fn ranking(
    user: &[f64],
    items: &[Vec<f64>],
    train: &BTreeSet<usize>,
    held_out: &BTreeSet<usize>,
    ks: &[usize],
) -> Vec<usize> {
    let scores: Vec<f64> = items.iter().map(|item| item.iter().zip(user).map(|(a, b)| a * b).sum()).collect();
    let mut order: Vec<usize> = (0..items.len()).filter(|item| !train.contains(item)).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let largest = scores.iter().fold(0.0, |largest: f64, score| largest.max(score.abs()));
    for (place, pair) in order.windows(2).enumerate() {
        let matters = held_out.contains(&pair[0]) != held_out.contains(&pair[1]) || ks.contains(&(place + 1));
        let gap = scores[pair[0]] - scores[pair[1]];
        assert!(!matters || gap > 1e-6 * largest, "items {pair:?} have nearly the same score: choose other data");
    }
    order
}

/// The value of a metric for one user, by the formulas of docs/metrics.md.
fn value(metric: &str, ranking: &[usize], held_out: &BTreeSet<usize>, k: usize) -> f64 {
    let first: Vec<usize> = ranking.iter().copied().take(k).collect();
    let ranks: Vec<f64> =
        first.iter().zip(1u32..).filter(|(item, _)| held_out.contains(item)).map(|(_, rank)| f64::from(rank)).collect();
    let (hits, held, k) = (ranks.len() as f64, held_out.len() as f64, k as f64);
    let gain = |ranks: &mut dyn Iterator<Item = f64>| ranks.map(|rank| 1.0 / (rank + 1.0).log2()).sum::<f64>();
    match metric {
        "recall" => hits / held,
        "ndcg" => gain(&mut ranks.iter().copied()) / gain(&mut (1..=held.min(k) as u32).map(f64::from)),
        "precision" => hits / k,
        "hit" => f64::from(hits > 0.0),
        "mrr" => ranks.first().map_or(0.0, |rank| 1.0 / rank),
        "map" => ranks.iter().zip(1u32..).map(|(rank, hits)| f64::from(hits) / rank).sum::<f64>() / held.min(k),
        _ => panic!("{metric} has no value of a user"),
    }
}

/// Holds an object of metrics by name and cut-off to a full ranking of every user.
fn check(reported: &Value, run_dir: &Path, train: &[BTreeSet<usize>], held_out: &[BTreeSet<usize>], ks: &[usize]) {
    let (user, item) = (table(run_dir, "user"), table(run_dir, "item"));
    let users: Vec<usize> = (0..user.len()).filter(|&u| !held_out[u].is_empty()).collect();
    let rankings: Vec<Vec<usize>> =
        users.iter().map(|&u| ranking(&user[u], &item, &train[u], &held_out[u], ks)).collect();
    for metric in METRICS {
        for &k in ks {
            let wanted = if metric == "coverage" {
                let shown: BTreeSet<usize> = rankings.iter().flat_map(|r| r.iter().copied().take(k)).collect();
                shown.len() as f64 / item.len() as f64
            } else {
                let values = users.iter().zip(&rankings).map(|(&u, r)| value(metric, r, &held_out[u], k));
                values.sum::<f64>() / users.len() as f64
            };
            let found = reported[metric][k.to_string()].as_f64().unwrap();
            assert!((found - wanted).abs() < 1e-6, "{metric}@{k}: {found}, recomputed {wanted}");
        }
    }
}

#[test]
fn every_metric_is_that_of_a_naive_ranking_of_the_exported_embeddings() {
    let (folder, job) = workspace("lightgcn", 12);
    let names = METRICS.map(|name| format!("{name:?}")).join(", ");
    append(&job, &format!("[eval]\nevery_epochs = 2\nmetrics = [{names}]\nks = [1, 5, 20]\nselect = \"map@5\""));
    let run_dir = folder.path().join("run");
    run(&job, &run_dir);

    let summary = summary(&run_dir);
    let (epoch, highest) = best(&validations(&run_dir), "map", "5");
    assert_eq!((summary["select"].as_str(), summary["best_epoch"].as_u64()), (Some("map@5"), Some(epoch)));
    assert_eq!(summary["best_validation"].as_f64(), Some(highest));

    let [train, validation, test] =
        ["train.txt", "val.txt", "test.txt"].map(|name| pairs(&folder.path().join("data").join(name)));
    let evaluated = test.iter().filter(|items| !items.is_empty()).count();
    assert_eq!(summary["test"]["users"].as_u64(), Some(evaluated as u64));
    check(&summary["test"], &run_dir, &train, &test, &[1, 5, 20]);
    // the exported embeddings are those of the best epoch
    let best = validations(&run_dir).into_iter().find(|line| line["epoch"] == epoch).unwrap();
    check(&best, &run_dir, &train, &validation, &[1, 5, 20]);
}

#[test]
fn the_last_epoch_is_evaluated_though_none_is_due_and_the_better_one_is_kept() {
    let (folder, job) = workspace("lightgcn", 10);
    append(&job, "[eval]\nevery_epochs = 10");
    let run_dir = folder.path().join("run");
    let done = run(&job, &run_dir);
    let validations = validations(&run_dir);
    let epochs: Vec<&Value> = validations.iter().map(|line| &line["epoch"]).collect();
    assert_eq!(epochs, [0, 9]);
    let (epoch, _) = best(&validations, "recall", "20");
    assert_eq!(epoch, 9, "ten epochs are better than one on this catalog");
    assert_eq!(summary(&run_dir)["best_epoch"], 9);
    let shown = done.stdout + &done.stderr;
    let table: Vec<&str> = shown.lines().filter(|line| line.contains("recall") || line.contains("ndcg")).collect();
    assert!(table.len() >= 6 && table.iter().all(|line| line.len() <= 80), "wider than 80 columns: {table:#?}");
}

/// 40 users of a catalog of `items`: each trains on three items of its half, and holds out two more.
fn small_catalog(folder: &Path, items: usize) {
    let mut parts = [String::new(), String::new(), String::new()];
    for user in 0..40 {
        for place in 0..5 {
            let item = user % 2 + 2 * ((user / 2 + place) % (items / 2));
            let part = place.saturating_sub(2);
            writeln!(parts[part], "{user} {item}").unwrap();
        }
    }
    for (name, pairs) in ["train.txt", "val.txt", "test.txt"].iter().zip(&parts) {
        std::fs::write(folder.join(name), pairs).unwrap();
    }
}

#[test]
fn a_catalog_below_the_default_cutoffs_is_measured_by_what_can_differ() {
    for (items, ks, select) in [(16, vec!["10", "5"], "recall@10"), (12, vec!["10", "5"], "ndcg@10")] {
        let (folder, job) = workspace("lightgcn", 12);
        small_catalog(&folder.path().join("data"), items);
        let run_dir = folder.path().join("run");
        let done = run(&job, &run_dir);
        let notice = format!("the data have {items} items, so the default cut-off 20 is left out");
        assert!(done.stderr.contains(&notice), "no `{notice}` in\n{}", done.stderr);
        assert_eq!(done.stderr.contains("is the same for every model"), select == "ndcg@10", "{}", done.stderr);

        let (summary, validations) = (summary(&run_dir), validations(&run_dir));
        assert_eq!(summary["select"], select);
        let reported: Vec<&String> = summary["test"]["recall"].as_object().unwrap().keys().collect();
        assert_eq!(reported, ks);
        let (metric, k) = select.split_once('@').unwrap();
        assert_eq!(summary["best_epoch"].as_u64(), Some(best(&validations, metric, k).0));
        let values: BTreeSet<String> = validations.iter().map(|line| line[metric][k].to_string()).collect();
        assert!(values.len() > 1, "{select} never differs: {values:?}");
    }
}
