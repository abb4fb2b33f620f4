//! Recall@k and NDCG@k of rankings. Per-user values are added in fixed point: the sums do not depend on the order of the
//! users, nor on how many workers ranked them.

use crate::kernels::NONE;
use accord_data::Interactions;

/// Fixed point: 2^-38 a user at most is lost, and 2^25 users fit.
const ONE: f64 = (1u64 << 38) as f64;

/// Means over the users, one entry a cut-off.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub users: usize,
    pub recall: Vec<(usize, f64)>,
    pub ndcg: Vec<(usize, f64)>,
}

/// Sums over some users; those of several workers add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    users: i64,
    recall: Vec<i64>,
    ndcg: Vec<i64>,
}

impl Sums {
    /// `ranked` [users, width] item ids, best first.
    /// * Recall@k = hits in the first k / number of held-out items.
    /// * NDCG@k = sum of 1 / log2(rank + 1) over the hits, divided by that of the first min(k, held-out) places.
    pub fn of_rankings(users: &[u32], ranked: &[u32], width: usize, held_out: &Interactions, ks: &[usize]) -> Sums {
        let discount: Vec<f64> = (0..width).map(|place| 1.0 / (place as f64 + 2.0).log2()).collect();
        let ideal: Vec<f64> = discount
            .iter()
            .scan(0.0, |sum, d| {
                *sum += d;
                Some(*sum)
            })
            .collect();
        let mut sums = Sums { users: users.len() as i64, recall: vec![0; ks.len()], ndcg: vec![0; ks.len()] };
        for (&user, ranking) in users.iter().zip(ranked.chunks_exact(width)) {
            let relevant = held_out.of(user);
            let hit: Vec<bool> =
                ranking.iter().map(|&item| item != NONE && relevant.binary_search(&item).is_ok()).collect();
            for (place, &k) in ks.iter().enumerate() {
                let hits = hit[..k].iter().filter(|&&h| h).count();
                let gain: f64 = hit[..k].iter().zip(&discount).filter(|(h, _)| **h).map(|(_, d)| d).sum();
                sums.recall[place] += fixed(hits as f64 / relevant.len() as f64);
                sums.ndcg[place] += fixed(gain / ideal[k.min(relevant.len()) - 1]);
            }
        }
        sums
    }

    /// As one vector of whole numbers.
    pub fn into_counts(self) -> Vec<i64> {
        [vec![self.users], self.recall, self.ndcg].concat()
    }

    /// The inverse of [`Sums::into_counts`], or the sum of several such.
    pub fn from_counts(counts: Vec<i64>) -> Sums {
        let (users, values) = counts.split_first().unwrap_or((&0, &[]));
        let (recall, ndcg) = values.split_at(values.len() / 2);
        Sums { users: *users, recall: recall.to_vec(), ndcg: ndcg.to_vec() }
    }

    pub fn metrics(&self, ks: &[usize]) -> Metrics {
        let users = self.users.max(1) as f64;
        let mean = |sums: &[i64]| ks.iter().zip(sums).map(|(&k, &sum)| (k, sum as f64 / ONE / users)).collect();
        Metrics { users: self.users as usize, recall: mean(&self.recall), ndcg: mean(&self.ndcg) }
    }
}

fn fixed(value: f64) -> i64 {
    (value * ONE).round() as i64
}
