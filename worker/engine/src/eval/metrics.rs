//! Recall@k and NDCG@k of rankings. Per-user values are f64, added in user order: the result does not depend on who
//! computed the rankings.

use crate::kernels::NONE;
use accord_data::Interactions;

/// Means over the users, one entry a cut-off.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub users: usize,
    pub recall: Vec<(usize, f64)>,
    pub ndcg: Vec<(usize, f64)>,
}

/// `ranked` [users, width] item ids, best first.
/// * Recall@k = hits in the first k / number of held-out items.
/// * NDCG@k = sum of 1 / log2(rank + 1) over the hits, divided by that of the first min(k, held-out) places.
pub fn of_rankings(users: &[u32], ranked: &[u32], width: usize, held_out: &Interactions, ks: &[usize]) -> Metrics {
    let discount: Vec<f64> = (0..width).map(|place| 1.0 / (place as f64 + 2.0).log2()).collect();
    let ideal: Vec<f64> = discount
        .iter()
        .scan(0.0, |sum, d| {
            *sum += d;
            Some(*sum)
        })
        .collect();
    let mut recall = vec![0.0; ks.len()];
    let mut ndcg = vec![0.0; ks.len()];
    for (&user, ranking) in users.iter().zip(ranked.chunks_exact(width)) {
        let relevant = held_out.of(user);
        let hit: Vec<bool> =
            ranking.iter().map(|&item| item != NONE && relevant.binary_search(&item).is_ok()).collect();
        for (place, &k) in ks.iter().enumerate() {
            let hits = hit[..k].iter().filter(|&&h| h).count();
            let gain: f64 = hit[..k].iter().zip(&discount).filter(|(h, _)| **h).map(|(_, d)| d).sum();
            recall[place] += hits as f64 / relevant.len() as f64;
            ndcg[place] += gain / ideal[k.min(relevant.len()) - 1];
        }
    }
    let mean = |sums: Vec<f64>| ks.iter().zip(sums).map(|(&k, sum)| (k, sum / users.len().max(1) as f64)).collect();
    Metrics { users: users.len(), recall: mean(recall), ndcg: mean(ndcg) }
}
