//! Every metric held to its textbook definition, computed by plain loops from a full sort of all scores.

use super::*;
use crate::device;
use accord_spec::Metric;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

#[test]
fn merging_keeps_the_best_and_breaks_ties_by_id() {
    let ranking = |entries: &[(f64, u32)]| Ranking {
        scores: entries.iter().map(|e| e.0).collect(),
        items: entries.iter().map(|e| e.1).collect(),
    };
    let none = (f64::NEG_INFINITY, NONE);
    let a = ranking(&[(3.0, 5), (1.0, 7), none, (2.0, 0), none, none]);
    let b = ranking(&[(3.0, 4), (2.0, 1), (0.5, 2), none, none, none]);
    let merged = merge(&a, &b, 3);
    assert_eq!(merged.items, [4, 5, 1, 0, NONE, NONE]);
    assert_eq!(merged.scores[..4], [3.0, 3.0, 2.0, 2.0]);
}

/// A catalog with a vector for each user and item, and the items that each user trained on and holds out.
#[derive(Clone, Debug)]
struct Catalog {
    /// [users][d], [items][d]; small whole numbers, so that scores are exact and often equal
    users: Vec<[i32; 2]>,
    items: Vec<[i32; 2]>,
    train: Vec<BTreeSet<u32>>,
    held_out: Vec<BTreeSet<u32>>,
}

impl Catalog {
    fn any() -> impl Strategy<Value = Catalog> {
        (1usize..7, 1usize..13).prop_flat_map(|(users, items)| {
            let vectors = |count| proptest::collection::vec([-2i32..3, -2i32..3], count);
            let item = 0..items as u32;
            let sets = || proptest::collection::vec(proptest::collection::btree_set(item.clone(), 0..=items), users);
            (vectors(users), vectors(items), sets(), sets()).prop_map(|(users, items, train, held_out)| Catalog {
                users,
                items,
                train,
                held_out,
            })
        })
    }

    fn interactions(&self, sets: &[BTreeSet<u32>]) -> Interactions {
        let pairs: Vec<(u32, u32)> =
            sets.iter().zip(0u32..).flat_map(|(set, user)| set.iter().map(move |&item| (user, item))).collect();
        Interactions::from_pairs(self.users.len(), self.items.len(), &pairs).unwrap().0
    }

    /// All items but the training items, best first; equal scores in the order of ids.
    fn ranking(&self, user: usize) -> Vec<u32> {
        let score = |item: u32| {
            let (x, y) = (self.users[user], self.items[item as usize]);
            x[0] * y[0] + x[1] * y[1]
        };
        let mut items: Vec<u32> =
            (0..self.items.len() as u32).filter(|item| !self.train[user].contains(item)).collect();
        items.sort_by(|&a, &b| score(b).cmp(&score(a)).then(a.cmp(&b)));
        items
    }

    /// Users with held-out items.
    fn evaluated(&self) -> Vec<usize> {
        (0..self.users.len()).filter(|&user| !self.held_out[user].is_empty()).collect()
    }

    /// The definitions of docs/metrics.md, word by word.
    fn naive(&self, metric: Metric, k: usize) -> f64 {
        let users = self.evaluated();
        if metric == Metric::Coverage {
            let mut seen = BTreeSet::new();
            for &user in &users {
                seen.extend(self.ranking(user).into_iter().take(k));
            }
            return seen.len() as f64 / self.items.len() as f64;
        }
        let mut sum = 0.0;
        for &user in &users {
            let relevant = &self.held_out[user];
            let ranking = self.ranking(user);
            let (mut hits, mut dcg, mut ideal, mut reciprocal, mut precisions) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for rank in 1..=k {
                if rank <= relevant.len() {
                    ideal += 2f64.ln() / (rank as f64 + 1.0).ln();
                }
                if rank <= ranking.len() && relevant.contains(&ranking[rank - 1]) {
                    hits += 1.0;
                    dcg += 2f64.ln() / (rank as f64 + 1.0).ln();
                    precisions += hits / rank as f64;
                    if reciprocal == 0.0 {
                        reciprocal = 1.0 / rank as f64;
                    }
                }
            }
            sum += match metric {
                Metric::Recall => hits / relevant.len() as f64,
                Metric::Ndcg => dcg / ideal,
                Metric::Precision => hits / k as f64,
                Metric::Hit => f64::from(hits > 0.0),
                Metric::Mrr => reciprocal,
                Metric::Map => precisions / relevant.len().min(k) as f64,
                Metric::Coverage => unreachable!("has no value of a user"),
            };
        }
        sum / users.len().max(1) as f64
    }
}

fn all(ks: Vec<usize>) -> Measures {
    Measures { metrics: Metric::ALL.to_vec(), ks }
}

fn assert_close(metrics: &Metrics, catalog: &Catalog) -> Result<(), TestCaseError> {
    prop_assert_eq!(metrics.users, catalog.evaluated().len());
    for values in &metrics.values {
        for &(k, value) in &values.at {
            let wanted = catalog.naive(values.metric, k);
            prop_assert!((value - wanted).abs() < 1e-9, "{}@{k}: {value}, wanted {wanted}", values.metric.name());
        }
    }
    Ok(())
}

/// Rankings of `users`, [users, width], without any kernel.
fn ranked(catalog: &Catalog, users: &[u32], width: usize) -> Vec<u32> {
    let row = |&user: &u32| {
        let ranking = catalog.ranking(user as usize);
        ranking.into_iter().chain(std::iter::repeat(NONE)).take(width).collect::<Vec<_>>()
    };
    users.iter().flat_map(row).collect()
}

proptest! {
    #[test]
    fn an_evaluation_is_that_of_a_full_sort(catalog in Catalog::any(), ks in proptest::collection::btree_set(1usize..13, 1..5)) {
        let measures = all(ks.into_iter().filter(|&k| k <= catalog.items.len()).chain([catalog.items.len()]).collect::<BTreeSet<_>>().into_iter().collect());
        let (train, held_out) = (catalog.interactions(&catalog.train), catalog.interactions(&catalog.held_out));
        let world = World::alone(&train, tch::Device::Cpu);
        let kernels = device::kernels(tch::Device::Cpu, Arc::clone(&world.graph), 1).unwrap();
        let values: Vec<f32> = catalog.users.iter().chain(&catalog.items).flatten().map(|&v| v as f32).collect();
        let x = Tensor::from_slice(&values).view([-1, 2]);
        let metrics = evaluate(&world, kernels.as_ref(), &x, &train, &held_out, &measures).unwrap();
        assert_close(&metrics, &catalog)?;
    }

    #[test]
    fn sums_of_workers_combine_to_the_same_bits(catalog in Catalog::any(), owner in proptest::collection::vec(0usize..3, 6)) {
        let measures = all((1..=catalog.items.len()).collect());
        let (held_out, width) = (catalog.interactions(&catalog.held_out), measures.width());
        let users: Vec<u32> = catalog.evaluated().into_iter().map(|user| user as u32).collect();
        let sums = |users: &[u32]| Sums::of_rankings(users, &ranked(&catalog, users, width), width, &held_out, &measures);
        let whole = sums(&users);
        let workers = (0..3).map(|rank| {
            let own: Vec<u32> = users.iter().copied().filter(|&user| owner[user as usize] == rank).collect();
            sums(&own)
        });
        let combined = workers.reduce(|a, b| Sums {
            one: a.one,
            totals: a.totals.iter().zip(&b.totals).map(|(x, y)| x + y).collect(),
            first_places: a.first_places.iter().zip(&b.first_places).map(|(x, y)| *x.min(y)).collect(),
        });
        prop_assert_eq!(combined.as_ref(), Some(&whole));
        assert_close(&whole.metrics(&measures), &catalog)?;
    }
}

/// Users 0 and 1 of a catalog of six items; user 2 has nothing held out and does not count.
#[test]
fn known_rankings_have_their_known_values() {
    let held_out = [(0, 4), (0, 1), (0, 5), (1, 2)];
    let held_out = Interactions::from_pairs(3, 6, &held_out).unwrap().0;
    // hits at ranks 1 and 3; no hit, and only two items left to rank
    let rankings = [4, 0, 1, 3, 0, NONE];
    let measures = all(vec![1, 3]);
    let metrics = Sums::of_rankings(&[0, 1], &[&rankings[..3], &rankings[3..]].concat(), 3, &held_out, &measures)
        .metrics(&measures);
    let at = |metric, k| metrics.value(accord_spec::MetricAtK { metric, k }).unwrap();
    let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5;
    for (metric, k, wanted) in [
        (Metric::Recall, 1, 1.0 / 3.0 / 2.0),
        (Metric::Recall, 3, 2.0 / 3.0 / 2.0),
        (Metric::Ndcg, 3, 1.5 / ideal / 2.0),
        (Metric::Precision, 1, 0.5),
        (Metric::Precision, 3, 2.0 / 3.0 / 2.0),
        (Metric::Hit, 3, 0.5),
        (Metric::Mrr, 3, 0.5),
        (Metric::Map, 1, 0.5),
        (Metric::Map, 3, (1.0 + 2.0 / 3.0) / 3.0 / 2.0),
        (Metric::Coverage, 1, 2.0 / 6.0),
        (Metric::Coverage, 3, 4.0 / 6.0),
    ] {
        let value = at(metric, k);
        assert!((value - wanted).abs() < 1e-10, "{}@{k}: {value}, wanted {wanted}", metric.name());
    }
    assert_eq!(metrics.users, 2);
}
