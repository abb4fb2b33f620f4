//! The best items of a user by inner product. Pure: no file, nothing printed.

use crate::{Embeddings, Interactions};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// An item and its score x_u . x_i.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    pub item: u32,
    pub score: f32,
}

impl Eq for Scored {}

impl Ord for Scored {
    /// Better is greater: a higher score, among equal scores the lower item id.
    fn cmp(&self, other: &Scored) -> Ordering {
        self.score.total_cmp(&other.score).then(other.item.cmp(&self.item))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Scored) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// For each of `users`: its `k` best items outside `train`, best first; fewer when fewer are left.
///
/// `user` `[U, d]`, `item` `[I, d]`. Threads share the users; none holds more than its users' lists.
pub fn top_k(user: &Embeddings, item: &Embeddings, train: &Interactions, users: &[u32], k: usize) -> Vec<Vec<Scored>> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = users.len().div_ceil(threads).max(1);
    let mut lists = vec![Vec::new(); users.len()];
    std::thread::scope(|scope| {
        for (lists, users) in lists.chunks_mut(share).zip(users.chunks(share)) {
            scope.spawn(move || {
                for (list, &u) in lists.iter_mut().zip(users) {
                    *list = best(user.row(u as usize), item, train.of(u), k);
                }
            });
        }
    });
    lists
}

/// The `k` best items of a user whose embedding is `x` `[d]`, best first. `known`: ascending items to leave out.
pub fn best(x: &[f32], item: &Embeddings, known: &[u32], k: usize) -> Vec<Scored> {
    // the worst of the kept is on top
    let mut kept: BinaryHeap<Reverse<Scored>> = BinaryHeap::with_capacity(k.min(item.rows) + 1);
    let mut known = known.iter().peekable();
    for i in 0..item.rows as u32 {
        if known.next_if_eq(&&i).is_some() {
            continue;
        }
        let scored = Scored { item: i, score: dot(x, item.row(i as usize)) };
        if kept.len() < k {
            kept.push(Reverse(scored));
        } else if kept.peek().is_some_and(|worst| scored > worst.0) {
            kept.pop();
            kept.push(Reverse(scored));
        }
    }
    // `Reverse` ascending is best first
    kept.into_sorted_vec().into_iter().map(|Reverse(scored)| scored).collect()
}

/// Eight sums side by side, so that the compiler can use vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0f32; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(width: usize, values: &[f32]) -> Embeddings {
        Embeddings { rows: values.len() / width, width, values: values.to_vec() }
    }

    #[test]
    fn best_come_first_without_training_items_and_ties_go_to_the_lower_id() {
        let user = matrix(1, &[1.0, -1.0]);
        let item = matrix(1, &[2.0, 5.0, 2.0, 3.0, 2.0]);
        let (train, _) = Interactions::from_pairs(2, 5, &[(0, 1), (1, 0), (1, 4)]).unwrap();
        let lists = top_k(&user, &item, &train, &[0, 1], 3);
        let items: Vec<Vec<u32>> = lists.iter().map(|l| l.iter().map(|s| s.item).collect()).collect();
        assert_eq!(items, [vec![3, 0, 2], vec![2, 3, 1]]);
        assert_eq!(lists[0][0], Scored { item: 3, score: 3.0 });
    }

    #[test]
    fn short_catalog_gives_short_lists() {
        let (train, _) = Interactions::from_pairs(1, 2, &[(0, 0)]).unwrap();
        let lists = top_k(&matrix(1, &[1.0]), &matrix(1, &[1.0, 2.0]), &train, &[0], 20);
        assert_eq!(lists, [vec![Scored { item: 1, score: 2.0 }]]);
    }

    #[test]
    fn every_user_of_many_gets_the_list_a_full_sort_gives() {
        // numbers with ties, from a small multiplicative sequence; width 11 exercises the rest beyond eight lanes
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 61) as f32 - 3.0
        };
        let user = matrix(11, &(0..37 * 11).map(|_| next()).collect::<Vec<_>>());
        let item = matrix(11, &(0..90 * 11).map(|_| next()).collect::<Vec<_>>());
        let pairs: Vec<(u32, u32)> = (0..400).map(|n| (n % 37, (n * 7) % 90)).collect();
        let (train, _) = Interactions::from_pairs(37, 90, &pairs).unwrap();
        let users: Vec<u32> = (0..37).collect();
        for (&u, list) in users.iter().zip(top_k(&user, &item, &train, &users, 10)) {
            let mut wanted: Vec<Scored> = (0..90)
                .filter(|&i| !train.contains(u, i))
                .map(|i| Scored {
                    item: i,
                    score: user.row(u as usize).iter().zip(item.row(i as usize)).map(|(a, b)| a * b).sum(),
                })
                .collect();
            wanted.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
            wanted.truncate(10);
            assert_eq!(list, wanted);
        }
    }
}
