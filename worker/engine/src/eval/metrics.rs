//! The ranking metrics: one definition each. Values of users are added in fixed point and places of items are kept as
//! whole numbers, so that nothing depends on the order of the users, nor on how many workers ranked them. This file ranks
//! nothing and speaks to no other worker.
//!
//! A metric is added here, in [`definition`], and in the list of names, `accord_spec::Metric`; docs/metrics.md explains it.

use super::measures::Measures;
use crate::kernels::NONE;
use accord_data::Interactions;
use accord_spec::{Metric, MetricAtK};

/// What 1 is in fixed point: 2^38, by which at most 2^-39 a user is lost, or less where so many users would not fit.
fn one(users: usize) -> f64 {
    let bits_of_users = usize::BITS - users.leading_zeros();
    (1u64 << 62u32.saturating_sub(bits_of_users).min(38)) as f64
}

/// The place of an item that is in no user's ranking.
const NOWHERE: i64 = i64::MAX;

/// How a metric is computed from the rankings of the users with held-out items.
enum Definition {
    /// The mean over the users of a value in [0, 1]: the function of one user's ranking and the cut-off k.
    MeanOverUsers(fn(&Ranked, usize) -> f64),
    /// Distinct items among the first k of all users / items of the catalog.
    ShareOfItems,
}

fn definition(metric: Metric) -> Definition {
    match metric {
        Metric::Recall => Definition::MeanOverUsers(recall),
        Metric::Ndcg => Definition::MeanOverUsers(ndcg),
        Metric::Precision => Definition::MeanOverUsers(precision),
        Metric::Hit => Definition::MeanOverUsers(hit),
        Metric::Mrr => Definition::MeanOverUsers(mrr),
        Metric::Map => Definition::MeanOverUsers(map),
        Metric::Coverage => Definition::ShareOfItems,
    }
}

/// One user's ranking, as the definitions see it.
struct Ranked<'a> {
    /// [width] whether the item at each place (from 0) is held out; false where the ranking has no more items
    hit: &'a [bool],
    /// The user's held-out items, at least 1
    held_out: usize,
    discounts: &'a Discounts,
}

impl Ranked<'_> {
    fn hits(&self, k: usize) -> usize {
        self.hit[..k].iter().filter(|&&hit| hit).count()
    }
}

/// What a hit is worth to NDCG by its place (from 0), 1 / log2(place + 2), and the sums of the first 1, 2, .. of these.
struct Discounts {
    of_place: Vec<f64>,
    ideal: Vec<f64>,
}

impl Discounts {
    fn new(width: usize) -> Discounts {
        let of_place: Vec<f64> = (0..width).map(|place| 1.0 / (place as f64 + 2.0).log2()).collect();
        let sums = of_place.iter().scan(0.0, |sum, discount| {
            *sum += discount;
            Some(*sum)
        });
        let ideal = sums.collect();
        Discounts { of_place, ideal }
    }
}

/// Recall@k = hits in the first k / held-out items.
fn recall(user: &Ranked, k: usize) -> f64 {
    user.hits(k) as f64 / user.held_out as f64
}

/// NDCG@k = (sum of 1 / log2(rank + 1) over the hits in the first k) / (the same sum over the first min(k, held-out) ranks).
fn ndcg(user: &Ranked, k: usize) -> f64 {
    let gain: f64 = user.hit[..k].iter().zip(&user.discounts.of_place).filter(|(h, _)| **h).map(|(_, d)| d).sum();
    gain / user.discounts.ideal[k.min(user.held_out) - 1]
}

/// Precision@k = hits in the first k / k, also where fewer than k items could be ranked.
fn precision(user: &Ranked, k: usize) -> f64 {
    user.hits(k) as f64 / k as f64
}

/// Hit@k (hit rate) = 1 if there is a hit in the first k, else 0.
fn hit(user: &Ranked, k: usize) -> f64 {
    if user.hit[..k].contains(&true) { 1.0 } else { 0.0 }
}

/// MRR@k = 1 / rank of the first hit, if that rank is at most k, else 0.
fn mrr(user: &Ranked, k: usize) -> f64 {
    user.hit[..k].iter().position(|&hit| hit).map_or(0.0, |place| 1.0 / (place as f64 + 1.0))
}

/// MAP@k = (sum over the hits at rank r <= k of: hits up to r / r) / min(k, held-out items).
fn map(user: &Ranked, k: usize) -> f64 {
    let places = (0..k).filter(|&place| user.hit[place]);
    let sum: f64 = places.zip(1u32..).map(|(place, hits)| f64::from(hits) / (place as f64 + 1.0)).sum();
    sum / k.min(user.held_out) as f64
}

/// A metric's value at each cut-off (k, value), ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricValues {
    pub metric: Metric,
    pub at: Vec<(usize, f64)>,
}

/// The metrics of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Users with held-out items.
    pub users: usize,
    /// In the order of the measures.
    pub values: Vec<MetricValues>,
}

impl Metrics {
    /// The value of one metric at one cut-off; none where it was not measured.
    pub fn value(&self, wanted: MetricAtK) -> Option<f64> {
        let of_metric = self.values.iter().find(|values| values.metric == wanted.metric)?;
        of_metric.at.iter().find(|(k, _)| *k == wanted.k).map(|(_, value)| *value)
    }
}

/// What the rankings of some users come to. Those of several workers are combined by [`Sums::totals`] and
/// [`Sums::first_places`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    /// What 1 is in `totals`; the same on every worker.
    pub(super) one: f64,
    /// [1 + metrics * ks] to be added up: the number of users, then each metric's values in fixed point (0 for a share of
    /// items)
    pub(super) totals: Vec<i64>,
    /// [items] to be reduced to the smallest: the first place (from 0) that any user's ranking gives the item. Empty where
    /// no metric needs it.
    pub(super) first_places: Vec<i64>,
}

impl Sums {
    /// `ranked` [users, width] item ids, best first, [`NONE`] where there are no more; width is at least the largest k.
    pub fn of_rankings(
        users: &[u32],
        ranked: &[u32],
        width: usize,
        held_out: &Interactions,
        measures: &Measures,
    ) -> Sums {
        let Measures { metrics, ks } = measures;
        let definitions: Vec<Definition> = metrics.iter().copied().map(definition).collect();
        let discounts = Discounts::new(width);
        let mut totals = vec![0; 1 + metrics.len() * ks.len()];
        totals[0] = users.len() as i64;
        let one = one(held_out.users());
        let fixed = |value: f64| (value * one).round() as i64;
        for (&user, ranking) in users.iter().zip(ranked.chunks_exact(width)) {
            let relevant = held_out.of(user);
            let hit: Vec<bool> =
                ranking.iter().map(|&item| item != NONE && relevant.binary_search(&item).is_ok()).collect();
            let user = Ranked { hit: &hit, held_out: relevant.len(), discounts: &discounts };
            for (definition, totals) in definitions.iter().zip(totals[1..].chunks_exact_mut(ks.len())) {
                if let Definition::MeanOverUsers(value) = definition {
                    ks.iter().zip(totals).for_each(|(&k, total)| *total += fixed(value(&user, k)));
                }
            }
        }
        let shares = definitions.iter().any(|definition| matches!(definition, Definition::ShareOfItems));
        let first_places = if shares { first_places(ranked, width, held_out.items()) } else { Vec::new() };
        Sums { one, totals, first_places }
    }

    /// The metrics of all users, once the sums of all workers are combined.
    pub fn metrics(&self, measures: &Measures) -> Metrics {
        let Measures { metrics, ks } = measures;
        let users = self.totals.first().copied().unwrap_or(0);
        let mean = |total: i64| total as f64 / self.one / users.max(1) as f64;
        let shown = |k: usize| self.first_places.iter().filter(|&&place| place < k as i64).count();
        let share = |k: usize| shown(k) as f64 / self.first_places.len().max(1) as f64;
        let values = metrics.iter().zip(self.totals[1..].chunks_exact(ks.len())).map(|(&metric, totals)| {
            let at = ks.iter().zip(totals).map(|(&k, &total)| match definition(metric) {
                Definition::MeanOverUsers(_) => (k, mean(total)),
                Definition::ShareOfItems => (k, share(k)),
            });
            MetricValues { metric, at: at.collect() }
        });
        Metrics { users: users as usize, values: values.collect() }
    }
}

fn first_places(ranked: &[u32], width: usize, items: usize) -> Vec<i64> {
    let mut first = vec![NOWHERE; items];
    for ranking in ranked.chunks_exact(width) {
        for (&item, place) in ranking.iter().zip(0i64..) {
            if item != NONE {
                let first = &mut first[item as usize];
                *first = place.min(*first);
            }
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::one;

    #[test]
    fn as_many_users_as_ids_fit_into_the_sums() {
        for users in [0, 1, (1 << 24) - 1, 1 << 24, 1 << 25, u32::MAX as usize] {
            assert!(users as f64 * one(users) < i64::MAX as f64, "{users}");
            assert!(one(users) >= (1u64 << 30) as f64, "{users}");
        }
        assert_eq!(one((1 << 24) - 1), (1u64 << 38) as f64);
    }
}
