//! Label propagation under a load limit: each node takes the label most of its edge weight goes to. With one label a
//! node it makes clusters; with one label a part it improves a partition and empties overfull parts.

use super::level::Level;
use crate::random::{Philox, Stream};

/// Visiting orders, each another one.
pub(super) struct Orders {
    draws: Philox,
    next: u64,
}

impl Orders {
    pub(super) fn new() -> Orders {
        Orders { draws: Philox::new(0, Stream::Partition), next: 0 }
    }

    /// The numbers below `len` in the next order.
    pub(super) fn next(&mut self, len: usize) -> Vec<u32> {
        self.next += 1;
        self.draws.permutation(self.next, len)
    }
}

/// Which of equally good labels a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ties {
    /// The heavier: clusters grow instead of staying pairs.
    Heavier,
    /// The lighter: parts stay even.
    Lighter,
}

/// Runs up to `passes` passes, fewer once less than half a percent of the nodes move. No label grows beyond `limit`;
/// nodes of a label that is beyond it already leave even where that cuts more.
pub(super) fn propagate(
    level: &Level,
    label: &mut [u32],
    labels: usize,
    limit: u64,
    ties: Ties,
    passes: usize,
    orders: &mut Orders,
) {
    let mut of_label = vec![0u64; labels];
    label.iter().zip(&level.load).for_each(|(&l, &load)| of_label[l as usize] += load);
    let mut choice = Choice { limit, ties, of_label, weight: vec![0.0; labels], touched: vec![] };
    for _ in 0..passes {
        let mut moved = 0;
        for node in orders.next(level.nodes()) {
            let node = node as usize;
            let (own, load) = (label[node], level.load[node]);
            if let Some(better) = choice.better(level.edges(node).map(|(to, w)| (label[to], w)), own, load) {
                choice.of_label[own as usize] -= load;
                choice.of_label[better as usize] += load;
                label[node] = better;
                moved += 1;
            }
        }
        if moved * 200 < level.nodes() {
            return;
        }
    }
}

struct Choice {
    limit: u64,
    ties: Ties,
    /// [labels] load of each label
    of_label: Vec<u64>,
    /// [labels] edge weight of the node at hand, above 0 for the labels in `touched`
    weight: Vec<f32>,
    touched: Vec<u32>,
}

impl Choice {
    /// The label that a node with these edges should have in place of `own`.
    fn better(&mut self, edges: impl Iterator<Item = (u32, f32)>, own: u32, load: u64) -> Option<u32> {
        for (label, weight) in edges {
            let sum = &mut self.weight[label as usize];
            if *sum == 0.0 {
                self.touched.push(label);
            }
            *sum += weight;
        }
        let overfull = self.of_label[own as usize] > self.limit && load <= self.limit;
        let mut most = if overfull { -1.0 } else { self.weight[own as usize] };
        let mut best = None;
        for &label in self.touched.iter().filter(|&&label| label != own) {
            let weight = self.weight[label as usize];
            let wins = weight > most || (weight == most && best.is_some_and(|b| self.preferred(label, b)));
            if wins && self.has_room(label, load) {
                (best, most) = (Some(label), weight);
            }
        }
        self.touched.drain(..).for_each(|label| self.weight[label as usize] = 0.0);
        if overfull && best.is_none() {
            let lightest = (0..self.of_label.len() as u32).min_by_key(|&label| self.of_label[label as usize]);
            best = lightest.filter(|&label| label != own && self.has_room(label, load));
        }
        best
    }

    fn has_room(&self, label: u32, load: u64) -> bool {
        self.of_label[label as usize] + load <= self.limit
    }

    fn preferred(&self, label: u32, other: u32) -> bool {
        let (load, other) = (self.of_label[label as usize], self.of_label[other as usize]);
        match self.ties {
            Ties::Heavier => load > other,
            Ties::Lighter => load < other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Interactions;
    use crate::partition::load::degrees;

    /// Three complete blocks of 10 users and 10 items, no edge between them.
    fn blocks() -> Level {
        let pairs: Vec<(u32, u32)> = (0..30).flat_map(|u| (0..10).map(move |i| (u, u / 10 * 10 + i))).collect();
        let (train, _) = Interactions::from_pairs(30, 30, &pairs).unwrap();
        Level::new(&train, &degrees(&train), vec![1; 60])
    }

    #[test]
    fn clusters_grow_to_the_limit_and_no_further() {
        for (limit, sizes) in [(20, 3), (60, 3), (1, 60)] {
            let mut label: Vec<u32> = (0..60).collect();
            propagate(&blocks(), &mut label, 60, limit, Ties::Heavier, 20, &mut Orders::new());
            let mut counts = vec![0; 60];
            label.iter().for_each(|&l| counts[l as usize] += 1);
            assert!(counts.iter().all(|&count| count <= limit));
            assert_eq!(counts.iter().filter(|&&count| count > 0).count(), sizes, "limit {limit}");
        }
    }

    #[test]
    fn overfull_parts_are_emptied_into_the_others() {
        let mut part = vec![0; 60];
        propagate(&blocks(), &mut part, 3, 21, Ties::Lighter, 8, &mut Orders::new());
        for q in 0..3 {
            assert!(part.iter().filter(|&&p| p == q).count() <= 21, "{part:?}");
        }
    }
}
