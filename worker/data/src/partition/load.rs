//! Degrees of the graph's nodes and the share of a worker's load each node is. Loads are whole numbers, so that sums
//! of them do not depend on the order of adding and every worker derives the same partition.

use super::Cost;
use crate::Interactions;

/// [N] edges at each node: users, then items.
pub(super) fn degrees(train: &Interactions) -> Vec<u32> {
    let users = train.users();
    let mut degree: Vec<u32> = train.start().windows(2).map(|w| w[1] - w[0]).collect();
    degree.resize(users + train.items(), 0);
    for &item in train.item() {
        degree[users + item as usize] += 1;
    }
    degree
}

/// [N] load of each node in units of about 2^-44 of the whole, at least 1. A cost that is no number, negative or zero
/// everywhere counts all nodes alike.
pub(super) fn loads(degree: &[u32], cost: Cost) -> Vec<u64> {
    const WHOLE: f64 = (1u64 << 44) as f64;
    let usable = |c: f64| if c.is_finite() && c > 0.0 { c } else { 0.0 };
    let (edge, node) = (usable(cost.edge), usable(cost.node));
    let ends = degree.iter().map(|&d| u64::from(d)).sum::<u64>() as f64;
    let total = edge * ends + node * degree.len() as f64;
    if !total.is_finite() || total <= 0.0 {
        return vec![1; degree.len()];
    }
    degree.iter().map(|&d| (((edge * f64::from(d) + node) / total * WHOLE) as u64).max(1)).collect()
}

/// Load of the most loaded part as a multiple of the mean; 1 where there is no load.
pub(super) fn balance(owner: &[u16], load: &[u64], parts: usize) -> f64 {
    let mut of_part = vec![0u64; parts];
    owner.iter().zip(load).for_each(|(&part, &l)| of_part[usize::from(part)] += l);
    let total: u64 = of_part.iter().sum();
    let most = of_part.into_iter().max().unwrap_or(0);
    if total == 0 { 1.0 } else { most as f64 * parts as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_follow_the_cost_and_survive_useless_ones() {
        let (train, _) = Interactions::from_pairs(2, 3, &[(0, 0), (0, 1), (1, 1)]).unwrap();
        let degree = degrees(&train);
        assert_eq!(degree, [2, 1, 1, 2, 0]);
        let load = loads(&degree, Cost { edge: 1.0, node: 2.0 });
        // 4 : 3 : 3 : 4 : 2
        let sixteenth = (1u64 << 44) / 16;
        assert_eq!(load, [4, 3, 3, 4, 2].map(|share| share * sixteenth));
        for cost in [Cost { edge: f64::NAN, node: 0.0 }, Cost { edge: -1.0, node: f64::INFINITY }] {
            assert_eq!(loads(&degree, cost), [1; 5]);
        }
    }

    #[test]
    fn balance_is_the_worst_part_over_the_mean() {
        assert_eq!(balance(&[0, 1, 1], &[1, 1, 1], 2), 4.0 / 3.0);
        assert_eq!(balance(&[0, 0], &[1, 3], 4), 4.0);
        assert_eq!(balance(&[], &[], 3), 1.0);
    }
}
