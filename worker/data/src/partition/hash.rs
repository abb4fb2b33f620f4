//! Partition by hash: knows nothing of edges, spreads the load evenly.

use crate::random::{Philox, Stream};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Deals nodes out, heaviest first and equals by the hash of their id, each to the part with the least load so far.
pub(super) fn partition(load: &[u64], parts: usize) -> Vec<u16> {
    let draws = Philox::new(0, Stream::Partition);
    let mut order: Vec<u32> = (0..load.len() as u32).collect();
    order.sort_by_cached_key(|&node| (Reverse(load[node as usize]), draws.block_wide(u64::MAX, u64::from(node))[0]));
    let mut lightest: BinaryHeap<Reverse<(u64, u16)>> = (0..parts).map(|part| Reverse((0, part as u16))).collect();
    let mut owner = vec![0; load.len()];
    for node in order {
        if let Some(mut top) = lightest.peek_mut() {
            let Reverse((of_part, part)) = *top;
            owner[node as usize] = part;
            *top = Reverse((of_part + load[node as usize], part));
        }
    }
    owner
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::load::balance;

    #[test]
    fn unequal_nodes_are_spread_evenly_and_equal_ones_without_a_pattern() {
        let load: Vec<u64> = (0..1000).map(|k| 1 + 5000 / (k + 1)).collect();
        assert!(balance(&partition(&load, 4), &load, 4) < 1.01);
        let owner = partition(&[7; 1000], 2);
        assert_eq!(owner.iter().filter(|&&part| part == 0).count(), 500);
        let runs = owner.windows(2).filter(|w| w[0] != w[1]).count();
        // 999 neighbours, half of them apart: standard deviation 16
        assert!(runs.abs_diff(500) < 80, "{runs}");
    }

    #[test]
    fn more_parts_than_nodes_leaves_parts_empty() {
        let mut owner = partition(&[3, 3, 9], 8);
        owner.sort_unstable();
        owner.dedup();
        assert_eq!(owner.len(), 3);
        assert!(partition(&[], 5).is_empty());
    }
}
