//! How few rows workers exchange on real graphs, where the folder `shared` lies beside the repository. Run with
//! `--nocapture` for the table.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::partition::report::{RankReport, Report};
use accord_data::partition::{Cost, Method, Partition, Scheme, Shard};
use accord_data::{Dataset, Interactions};
use accord_spec::Format;
use std::path::Path;
use std::time::Instant;

/// All training interactions of a graph; none, said aloud, where it is not on this machine.
fn graph(train: &str, test: &str) -> Option<Interactions> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let target = files::Folder::new();
    for (name, file) in [(train, "trn.npz"), (test, "tst.npz")] {
        let Ok(bytes) = std::fs::read(folder.join(name)) else {
            eprintln!("SKIPPED: {name} is not in ../shared/data");
            return None;
        };
        target.put(file, &bytes);
    }
    let data = files::data(target.path().to_str().unwrap(), Format::Npz, "");
    let set = Dataset::load(&data, Path::new(""), 2023, accord_data::TextNeed::None).unwrap();
    // loading takes the missing validation part from training
    let pairs: Vec<(u32, u32)> = set.train.pairs().chain(set.validation.pairs()).collect();
    Some(Interactions::from_pairs(set.users(), set.items(), &pairs).unwrap().0)
}

/// Half of the load is edges, half is nodes.
fn cost(train: &Interactions) -> Cost {
    Cost { edge: 1.0, node: 2.0 * train.len() as f64 / (train.users() + train.items()) as f64 }
}

/// Rows received by the worst worker as shares of all nodes: plain halo, and the lesser of rows and sums.
fn measure(name: &str, train: &Interactions, parts: usize) -> [f64; 2] {
    let cost = cost(train);
    let worst = |partition: &Partition, scheme| {
        let report = Report::new(train, partition, scheme, cost);
        assert!(report.balance <= 1.1, "{name}, {parts} parts: balance {}", report.balance);
        (report.rows_worst() as f64 / partition.owner().len() as f64, report)
    };
    let (hash, _) = worst(&Partition::new(train, parts, Method::Hash, cost), Scheme::Halo);
    let started = Instant::now();
    let partition = Partition::new(train, parts, Method::Fennel, cost);
    let seconds = started.elapsed().as_secs_f64();
    let (halo, _) = worst(&partition, Scheme::Halo);
    let (aggregate, report) = worst(&partition, Scheme::Aggregate);
    let most = |of: &dyn Fn(&RankReport) -> usize| {
        let sum: usize = report.ranks.iter().map(of).sum();
        report.ranks.iter().map(of).max().unwrap_or(0) as f64 * parts as f64 / sum as f64
    };
    eprintln!(
        "{name:<8} P={parts}: hash halo {hash:.3}, fennel halo {halo:.3}, fennel aggregate {aggregate:.3}, balance {:.3} \
         (nodes {:.3}, users {:.3}, entries {:.3}), {seconds:.2} s",
        report.balance,
        most(&|r| r.nodes),
        most(&|r| r.users),
        most(&|r| r.entries as usize),
    );
    [halo, aggregate]
}

#[test]
fn gowalla_workers_receive_few_rows() {
    let Some(train) = graph("graphs/gowalla.npz", "graphs/gowalla_test.npz") else { return };
    assert_eq!(train.len(), 810_128);
    for (parts, halo_limit, limit) in [(2, 0.16, 0.085), (4, 0.19, 0.11), (8, 0.20, 0.115)] {
        let [halo, aggregate] = measure("gowalla", &train, parts);
        assert!(halo <= halo_limit && aggregate <= limit, "{parts} parts: {halo} {aggregate}");
    }
    let started = Instant::now();
    let partition = Partition::new(&train, 4, Method::Hash, cost(&train));
    let shard = Shard::new(&train, &partition, 0, Scheme::Aggregate);
    eprintln!("gowalla shard of 4, hashed: {} slots, {:?} with partition", shard.slots.len(), started.elapsed());
}

#[test]
fn amazon_workers_receive_few_rows() {
    let Some(train) = graph("amazon/trn.npz", "amazon/tst.npz") else { return };
    for (parts, halo_limit, limit) in [(2, 0.20, 0.145), (4, 0.28, 0.215), (8, 0.23, 0.185)] {
        let [halo, aggregate] = measure("amazon", &train, parts);
        assert!(halo <= halo_limit && aggregate <= limit, "{parts} parts: {halo} {aggregate}");
    }
}

#[test]
fn yelp_workers_receive_few_rows() {
    let Some(train) = graph("yelp/trn.npz", "yelp/tst.npz") else { return };
    for (parts, halo_limit, limit) in [(2, 0.13, 0.095), (4, 0.20, 0.12), (8, 0.19, 0.155)] {
        let [halo, aggregate] = measure("yelp", &train, parts);
        assert!(halo <= halo_limit && aggregate <= limit, "{parts} parts: {halo} {aggregate}");
    }
}
