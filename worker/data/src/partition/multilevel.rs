//! Multilevel partition: clusters of nodes are contracted until few are left, Fennel divides those, and the division
//! is improved on the way back. The method of Meyerhenke, Sanders and Schulz ("Partitioning complex networks via
//! size-constrained clustering", SEA 2014), ended by a search that lowers the rows workers receive.

use super::fennel;
use super::labels::{Orders, Ties, propagate};
use super::level::Level;
use super::refine;
use super::report::Report;
use super::{Cost, Partition, Scheme};
use crate::Interactions;

/// A part may hold this much more than the mean load.
const SLACK: f64 = 0.05;
/// No cluster is a larger share of a part, by start: which is best differs from graph to graph.
const CLUSTERS_PER_PART: [u64; 2] = [4, 16];
/// How much the tries together may cost, in visits of an edge for one part: seconds.
const WORK: usize = 100_000_000;
/// Contraction ends at this many clusters a part.
const COARSEST_PER_PART: usize = 40;

/// The best of a few partitions; small graphs get more tries. `level` is the whole graph.
pub(super) fn partition(train: &Interactions, level: &Level, parts: usize) -> Partition {
    let limit = (level.total_load() as f64 / parts as f64 * (1.0 + SLACK)) as u64;
    let starts = (WORK / ((level.entries() + 8 * level.nodes()) * parts).max(1)).clamp(1, 8);
    let mut orders = Orders::new();
    let mut best: Option<(u64, Partition)> = None;
    for start in 0..starts {
        let mut part = cycle(level, parts, limit, CLUSTERS_PER_PART[start % 2], &mut orders);
        refine::lower_halo(level, &mut part, parts, limit, &mut orders);
        let found = Partition { parts, owner: part.into_iter().map(|q| q as u16).collect() };
        if starts == 1 {
            return found;
        }
        let score = rows(train, &found);
        if best.as_ref().is_none_or(|(least, _)| score < *least) {
            best = Some((score, found));
        }
    }
    best.map_or_else(|| Partition { parts, owner: vec![0; level.nodes()] }, |(_, found)| found)
}

/// What the worst worker receives: linear layers send the lesser scheme's rows, others whole halos.
fn rows(train: &Interactions, partition: &Partition) -> u64 {
    let worst = |scheme| Report::new(train, partition, scheme, Cost { edge: 1.0, node: 1.0 }).rows_worst() as u64;
    2 * worst(Scheme::Aggregate) + worst(Scheme::Halo)
}

/// Contracts, divides, and improves level by level.
fn cycle(finest: &Level, parts: usize, limit: u64, clusters_per_part: u64, orders: &mut Orders) -> Vec<u32> {
    let cluster_limit = finest.total_load() / (parts as u64 * clusters_per_part);
    // coarser[k] is made of clusters[k] of the level below it
    let mut coarser: Vec<Level> = vec![];
    let mut clusters: Vec<Vec<u32>> = vec![];
    loop {
        let level = coarser.last().unwrap_or(finest);
        if level.nodes() <= COARSEST_PER_PART * parts {
            break;
        }
        let mut label: Vec<u32> = (0..level.nodes() as u32).collect();
        propagate(level, &mut label, level.nodes(), cluster_limit, Ties::Heavier, 4, orders);
        let next = level.contract(&mut label);
        if next.nodes() * 20 > level.nodes() * 19 {
            break;
        }
        coarser.push(next);
        clusters.push(label);
    }
    let mut part = divide(coarser.last().unwrap_or(finest), parts, limit, orders);
    while let Some(label) = clusters.pop() {
        coarser.pop();
        part = label.iter().map(|&cluster| part[cluster as usize]).collect();
        propagate(coarser.last().unwrap_or(finest), &mut part, parts, limit, Ties::Lighter, 8, orders);
    }
    part
}

/// The best of several Fennel partitions of the coarsest level: balanced before unbalanced, then by the cut.
fn divide(level: &Level, parts: usize, limit: u64, orders: &mut Orders) -> Vec<u32> {
    let tries = ((1 << 22) / level.entries().max(1)).clamp(1, 10);
    let mut best: Option<((bool, f64), Vec<u32>)> = None;
    for _ in 0..tries {
        let mut part = fennel::stream(level, parts, limit, orders);
        propagate(level, &mut part, parts, limit, Ties::Lighter, 6, orders);
        let mut of_part = vec![0u64; parts];
        part.iter().zip(&level.load).for_each(|(&q, &load)| of_part[q as usize] += load);
        let score = (of_part.iter().any(|&load| load > limit), level.cut(&part));
        if best.as_ref().is_none_or(|(least, _)| score < *least) {
            best = Some((score, part));
        }
    }
    best.map_or_else(|| vec![0; level.nodes()], |(_, part)| part)
}
