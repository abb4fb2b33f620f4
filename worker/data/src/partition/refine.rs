//! Local search on the finest level: moves nodes so that workers receive fewer rows, those that receive most first.

use super::labels::Orders;
use super::level::Level;

const PASSES: usize = 12;
/// Above this many counters (nodes times parts, 4 bytes each) a partition is left as it is.
const COUNTERS: usize = 1 << 28;

struct Search<'a> {
    level: &'a Level,
    parts: usize,
    part: &'a mut [u32],
    /// [nodes * parts] neighbours of each node in each part
    inside: Vec<u32>,
    /// [parts] rows each part receives: distinct outside neighbours of its nodes
    received: Vec<u64>,
    /// [parts] what one more received row costs
    price: Vec<f64>,
    of_part: Vec<u64>,
}

/// Lowers the sum over parts of (received rows)^5, within `limit` of load a part: a row's price at a part is that
/// sum's slope, so a row less for the worst receiver is worth several elsewhere.
pub(super) fn lower_halo(level: &Level, part: &mut [u32], parts: usize, limit: u64, orders: &mut Orders) {
    if level.nodes().saturating_mul(parts) > COUNTERS {
        return;
    }
    let mut search = Search::new(level, part, parts);
    let mut cost = vec![0.0; parts];
    for _ in 0..PASSES {
        let mut moved = 0;
        for node in orders.next(level.nodes()) {
            if let Some(to) = search.better(node as usize, limit, &mut cost) {
                search.move_node(node as usize, to);
                moved += 1;
            }
        }
        if moved * 1000 < level.nodes() {
            break;
        }
    }
}

impl Search<'_> {
    fn new<'a>(level: &'a Level, part: &'a mut [u32], parts: usize) -> Search<'a> {
        let mut inside = vec![0u32; level.nodes() * parts];
        let mut received = vec![0u64; parts];
        let mut of_part = vec![0u64; parts];
        for node in 0..level.nodes() {
            let row = &mut inside[node * parts..(node + 1) * parts];
            level.neighbours(node).iter().for_each(|&to| row[part[to as usize] as usize] += 1);
            for (q, &count) in row.iter().enumerate() {
                received[q] += u64::from(count > 0 && q != part[node] as usize);
            }
            of_part[part[node] as usize] += level.load[node];
        }
        let mut search = Search { level, parts, part, inside, received, price: vec![0.0; parts], of_part };
        search.set_prices();
        search
    }

    fn set_prices(&mut self) {
        let mean = self.received.iter().sum::<u64>() as f64 / self.parts as f64 + 1.0;
        for (price, &rows) in self.price.iter_mut().zip(&self.received) {
            let square = (rows as f64 / mean) * (rows as f64 / mean);
            *price = square * square;
        }
    }

    /// The part with room where `node` costs least, if that is less than where it is, or if its part is overfull.
    fn better(&self, node: usize, limit: u64, cost: &mut [f64]) -> Option<usize> {
        let (own, load, parts) = (self.part[node] as usize, self.level.load[node], self.parts);
        let here = &self.inside[node * parts..(node + 1) * parts];
        // the node's row, received by every part that holds a neighbour and not the node
        let receivers: f64 = (0..parts).filter(|&q| here[q] > 0).map(|q| self.price[q]).sum();
        for q in 0..parts {
            cost[q] = receivers - if here[q] > 0 { self.price[q] } else { 0.0 };
        }
        // neighbours' rows, received where the node is and because of the node alone
        for &to in self.level.neighbours(node) {
            let (to, at) = (to as usize, self.part[to as usize] as usize);
            let there = &self.inside[to * parts..(to + 1) * parts];
            for q in 0..parts {
                let alone = there[q] == u32::from(q == own) && q != at;
                cost[q] += if alone { self.price[q] } else { 0.0 };
            }
        }
        let overfull = self.of_part[own] > limit;
        let mut best: Option<usize> = None;
        for q in (0..parts).filter(|&q| q != own && (here[q] > 0 || overfull)) {
            let gain = overfull || cost[q] < cost[own] * (1.0 - 1e-9);
            let lower = best.is_none_or(|b| (cost[q], self.of_part[q]) < (cost[b], self.of_part[b]));
            if gain && lower && self.of_part[q] + load <= limit {
                best = Some(q);
            }
        }
        best
    }

    fn move_node(&mut self, node: usize, to: usize) {
        let (from, parts) = (self.part[node] as usize, self.parts);
        let here = &self.inside[node * parts..(node + 1) * parts];
        self.received[from] += u64::from(here[from] > 0);
        self.received[to] -= u64::from(here[to] > 0);
        for &other in self.level.neighbours(node) {
            let (other, at) = (other as usize, self.part[other as usize] as usize);
            let there = &mut self.inside[other * parts..(other + 1) * parts];
            there[from] -= 1;
            self.received[from] -= u64::from(there[from] == 0 && at != from);
            self.received[to] += u64::from(there[to] == 0 && at != to);
            there[to] += 1;
        }
        self.of_part[from] -= self.level.load[node];
        self.of_part[to] += self.level.load[node];
        self.part[node] = to as u32;
        self.set_prices();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Interactions;
    use crate::partition::load::degrees;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counters_follow_the_moves_and_rows_fall(
            pairs in proptest::collection::vec((0u32..60, 0u32..50), 1..400),
            parts in 2usize..5,
            limit in 30u64..80,
        ) {
            let (train, _) = Interactions::from_pairs(60, 50, &pairs).unwrap();
            let level = Level::new(&train, &degrees(&train), vec![1; 110]);
            let mut part: Vec<u32> = (0..110).map(|node| node % parts as u32).collect();
            let power = |received: &[u64]| received.iter().map(|&r| (r as f64).powi(5)).sum::<f64>();
            let before = power(&Search::new(&level, &mut part, parts).received);

            let mut search = Search::new(&level, &mut part, parts);
            let mut cost = vec![0.0; parts];
            for node in 0..110 {
                if let Some(to) = search.better(node, limit, &mut cost) {
                    search.move_node(node, to);
                    prop_assert!(search.of_part[to] <= limit);
                }
            }
            let (inside, received, of_part) = (search.inside, search.received, search.of_part);
            let fresh = Search::new(&level, &mut part, parts);
            prop_assert_eq!((&inside, &received, &of_part), (&fresh.inside, &fresh.received, &fresh.of_part));

            lower_halo(&level, &mut part, parts, 110, &mut Orders::new());
            let after = Search::new(&level, &mut part, parts).received;
            prop_assert!(power(&after) <= before * 1.2, "{before} {after:?}");
        }
    }
}
