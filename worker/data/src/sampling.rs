//! One epoch's global batch order and negatives. Depends on the training pairs, the seed and the epoch, and on
//! nothing else: not on workers, ranks, batch size or earlier epochs.

use crate::Interactions;
use crate::random::{Philox, Stream, below_wide};

/// The training pairs of one epoch in the order they are visited, each with its negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochPlan {
    users: Vec<u32>,
    positives: Vec<u32>,
    negatives: Vec<u32>,
}

/// Consecutive entries of a plan; the three slices are equally long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    pub users: &'a [u32],
    pub positives: &'a [u32],
    pub negatives: &'a [u32],
}

impl EpochPlan {
    /// Permutation keyed by (seed, epoch); one negative a training pair keyed by (seed, epoch, pair), where pairs are
    /// numbered as they lie in `train`. Negatives are uniform over the items the user has no training pair with, as
    /// drawing until one is found gives, but with one draw: the n-th free item is found by binary search. A user
    /// who has every item (refused when a dataset is loaded) gets the positive itself, which teaches nothing.
    pub fn new(train: &Interactions, seed: u64, epoch: u64) -> EpochPlan {
        let order = Philox::new(seed, Stream::Permutation).permutation(epoch, train.len());
        let negative_of_pair = negatives(train, seed, epoch);
        let mut user_of_pair = Vec::with_capacity(train.len());
        for user in 0..train.users() as u32 {
            user_of_pair.resize(user_of_pair.len() + train.of(user).len(), user);
        }
        EpochPlan {
            users: order.iter().map(|&p| user_of_pair[p as usize]).collect(),
            positives: order.iter().map(|&p| train.item()[p as usize]).collect(),
            negatives: order.iter().map(|&p| negative_of_pair[p as usize]).collect(),
        }
    }

    /// Training pairs of the epoch.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Batches of the epoch, the last partial one included (a batch size of 0 counts as 1).
    pub fn steps(&self, batch_size: usize) -> u64 {
        self.len().div_ceil(batch_size.max(1)) as u64
    }

    /// Batch `index`, from 0; empty at and beyond [`steps`](Self::steps).
    pub fn batch(&self, index: u64, batch_size: usize) -> Batch<'_> {
        let size = batch_size.max(1);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let from = index.saturating_mul(size).min(self.len());
        let to = from.saturating_add(size).min(self.len());
        Batch {
            users: &self.users[from..to],
            positives: &self.positives[from..to],
            negatives: &self.negatives[from..to],
        }
    }
}

/// One negative a pair; pair `p` uses half of block `p / 2`.
fn negatives(train: &Interactions, seed: u64, epoch: u64) -> Vec<u32> {
    let draws = Philox::new(seed, Stream::Negative);
    let mut words = [0; 2];
    let mut out = Vec::with_capacity(train.len());
    for user in 0..train.users() as u32 {
        let row = train.of(user);
        let free = train.items() - row.len();
        for &positive in row {
            let pair = out.len();
            if pair % 2 == 0 {
                words = draws.block_wide(epoch, pair as u64 / 2);
            }
            out.push(if free == 0 {
                positive
            } else {
                free_item(row, below_wide(words[pair % 2], free as u64) as u32)
            });
        }
    }
    out
}

/// The `n`-th item (from 0) that is not in the ascending `row`.
fn free_item(row: &[u32], n: u32) -> u32 {
    // row[k] - k free items lie before row[k]: the entries with at most n before them come before the answer.
    // Halving without a branch on the data: the comparison is as good as random, a branch would be mispredicted.
    let (mut low, mut size) = (0, row.len());
    while size > 0 {
        let half = size - size / 2;
        let before = row[low + half - 1] - (low + half - 1) as u32 <= n;
        low += if before { half } else { 0 };
        size /= 2;
    }
    n + low as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn free_items_are_counted_past_the_row() {
        let row = [0, 1, 4, 6];
        assert_eq!((0..4).map(|n| free_item(&row, n)).collect::<Vec<_>>(), [2, 3, 5, 7]);
        assert_eq!(free_item(&[], 3), 3);
    }

    /// Changing the plan of an epoch changes every result of the project. The expected numbers come from a twin of this
    /// file in Python, which draws negatives from the list of free items.
    #[test]
    fn plan_of_a_small_set_is_pinned() {
        let pairs: Vec<(u32, u32)> = (0..4).flat_map(|u| [(u, u), (u, u + 1)]).collect();
        let (train, _) = Interactions::from_pairs(4, 8, &pairs).unwrap();
        let plan = EpochPlan::new(&train, 2023, 0);
        assert_eq!(plan.users, PINNED[0]);
        assert_eq!(plan.positives, PINNED[1]);
        assert_eq!(plan.negatives, PINNED[2]);
    }
    const PINNED: [[u32; 8]; 3] = [[3, 3, 1, 0, 1, 0, 2, 2], [3, 4, 1, 0, 2, 1, 2, 3], [6, 6, 3, 7, 0, 6, 6, 6]];

    #[test]
    fn negatives_are_even_over_the_free_items() {
        let pairs: Vec<(u32, u32)> = (0..20).map(|i| (0, i * 2)).collect();
        let (train, _) = Interactions::from_pairs(1, 40, &pairs).unwrap();
        let mut counts = [0u32; 40];
        for epoch in 0..1000 {
            EpochPlan::new(&train, 7, epoch).negatives.iter().for_each(|&n| counts[n as usize] += 1);
        }
        // 20 000 draws over 20 free items: 1000 each, standard deviation 31
        for (item, &count) in counts.iter().enumerate() {
            assert!(if item % 2 == 0 { count == 0 } else { count.abs_diff(1000) < 160 }, "{item}: {count}");
        }
    }

    #[test]
    fn batches_beyond_the_end_are_empty() {
        let (train, _) = Interactions::from_pairs(1, 9, &[(0, 1), (0, 2), (0, 3)]).unwrap();
        let plan = EpochPlan::new(&train, 0, 0);
        assert_eq!((plan.steps(2), plan.steps(3), plan.steps(100)), (2, 1, 1));
        assert_eq!(plan.batch(1, 2).users.len(), 1);
        assert!(plan.batch(2, 2).users.is_empty() && plan.batch(u64::MAX, 2).users.is_empty());
    }

    proptest! {
        #[test]
        fn an_epoch_visits_each_pair_once_with_a_free_negative(
            pairs in proptest::collection::vec((0u32..12, 0u32..15), 1..120),
            seed in any::<u64>(),
            epoch in any::<u64>(),
            batch_size in 1usize..50,
        ) {
            // item 15 is nobody's, so every user has a free item
            let (train, _) = Interactions::from_pairs(12, 16, &pairs).unwrap();
            let plan = EpochPlan::new(&train, seed, epoch);
            let mut visited: Vec<_> = plan.users.iter().copied().zip(plan.positives.iter().copied()).collect();
            visited.sort_unstable();
            prop_assert_eq!(visited, train.pairs().collect::<Vec<_>>());
            for (&user, &negative) in plan.users.iter().zip(&plan.negatives) {
                prop_assert!((negative as usize) < train.items() && !train.contains(user, negative));
            }
            let mut joined = EpochPlan { users: vec![], positives: vec![], negatives: vec![] };
            for index in 0..plan.steps(batch_size) {
                let batch = plan.batch(index, batch_size);
                prop_assert!(!batch.users.is_empty());
                joined.users.extend(batch.users);
                joined.positives.extend(batch.positives);
                joined.negatives.extend(batch.negatives);
            }
            prop_assert_eq!(&joined, &plan);
            prop_assert_eq!(&EpochPlan::new(&train, seed, epoch), &plan);
        }
    }
}
