//! A weighted graph whose nodes are nodes of the user-item graph or clusters of them.

use crate::Interactions;

/// One step of a multilevel partition: the graph itself, or clusters of the level below.
pub(super) struct Level {
    /// [nodes + 1] start of each node's edges
    start: Vec<u32>,
    /// [entries] the other end of each edge, and what it costs to cut it (above 0)
    neighbours: Vec<u32>,
    weight: Vec<f32>,
    /// [nodes] share of the load
    pub(super) load: Vec<u64>,
}

impl Level {
    /// The user-item graph. An edge weighs (degree * degree)^-1/2: cutting one of a hub's thousand edges costs little
    /// more than cutting the first, because its row travels once.
    pub(super) fn new(train: &Interactions, degree: &[u32], load: Vec<u64>) -> Level {
        let (users, nodes) = (train.users(), degree.len());
        let mut start = vec![0u32; nodes + 1];
        for (node, &d) in degree.iter().enumerate() {
            start[node + 1] = start[node] + d;
        }
        let scale: Vec<f32> = degree.iter().map(|&d| 1.0 / (d.max(1) as f32).sqrt()).collect();
        let mut neighbours = vec![0u32; 2 * train.len()];
        let mut weight = vec![0f32; 2 * train.len()];
        let mut next = start.clone();
        for (user, item) in train.pairs() {
            let item = users as u32 + item;
            for (from, to) in [(user, item), (item, user)] {
                let entry = next[from as usize] as usize;
                neighbours[entry] = to;
                weight[entry] = scale[from as usize] * scale[to as usize];
                next[from as usize] += 1;
            }
        }
        Level { start, neighbours, weight, load }
    }

    pub(super) fn nodes(&self) -> usize {
        self.load.len()
    }

    pub(super) fn entries(&self) -> usize {
        self.neighbours.len()
    }

    pub(super) fn total_load(&self) -> u64 {
        self.load.iter().sum()
    }

    /// Weight of all edges, each counted at both ends.
    pub(super) fn total_weight(&self) -> f64 {
        self.weight.iter().map(|&w| f64::from(w)).sum()
    }

    /// Neighbours of a node and the weights of its edges.
    pub(super) fn edges(&self, node: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let row = self.start[node] as usize..self.start[node + 1] as usize;
        self.neighbours[row.clone()].iter().map(|&n| n as usize).zip(self.weight[row].iter().copied())
    }

    /// Neighbours of a node.
    pub(super) fn neighbours(&self, node: usize) -> &[u32] {
        &self.neighbours[self.start[node] as usize..self.start[node + 1] as usize]
    }

    /// Weight of the edges between parts, each counted at both ends.
    pub(super) fn cut(&self, part: &[u32]) -> f64 {
        let outside = |node: usize| self.edges(node).filter(move |&(to, _)| part[to] != part[node]);
        (0..self.nodes()).map(|node| outside(node).map(|(_, w)| f64::from(w)).sum::<f64>()).sum()
    }

    /// The graph of the clusters. `label` names each node's cluster by a number below `nodes`, and is renumbered to
    /// the clusters' numbers in the new graph.
    pub(super) fn contract(&self, label: &mut [u32]) -> Level {
        let (first, members) = clusters(label);
        let count = first.len() - 1;
        let mut level = Level { start: vec![0], neighbours: vec![], weight: vec![], load: Vec::with_capacity(count) };
        let mut sum = vec![0f32; count];
        let mut touched: Vec<u32> = vec![];
        for cluster in 0..count {
            let nodes = &members[first[cluster] as usize..first[cluster + 1] as usize];
            level.load.push(nodes.iter().map(|&node| self.load[node as usize]).sum());
            for &node in nodes {
                for (to, weight) in self.edges(node as usize) {
                    let other = label[to];
                    if other as usize == cluster {
                        continue;
                    }
                    if sum[other as usize] == 0.0 {
                        touched.push(other);
                    }
                    sum[other as usize] += weight;
                }
            }
            for other in touched.drain(..) {
                level.neighbours.push(other);
                level.weight.push(std::mem::take(&mut sum[other as usize]));
            }
            level.start.push(level.neighbours.len() as u32);
        }
        level
    }
}

/// Renumbers labels by first appearance; gives the members of each cluster, ascending, as starts and nodes.
fn clusters(label: &mut [u32]) -> (Vec<u32>, Vec<u32>) {
    let mut number = vec![u32::MAX; label.len()];
    let mut first = vec![0u32];
    for l in label.iter_mut() {
        let n = &mut number[*l as usize];
        if *n == u32::MAX {
            *n = first.len() as u32 - 1;
            first.push(0);
        }
        *l = *n;
        first[*l as usize + 1] += 1;
    }
    for cluster in 1..first.len() {
        first[cluster] += first[cluster - 1];
    }
    let mut next = first.clone();
    let mut members = vec![0u32; label.len()];
    for (node, &l) in label.iter().enumerate() {
        members[next[l as usize] as usize] = node as u32;
        next[l as usize] += 1;
    }
    (first, members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::load::degrees;

    #[test]
    fn contraction_keeps_loads_and_the_weight_between_clusters() {
        // users 0, 1 and items 2, 3, 4; all degrees but item 4's are 2
        let (train, _) = Interactions::from_pairs(2, 3, &[(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]).unwrap();
        let level = Level::new(&train, &degrees(&train), vec![1, 2, 3, 4, 5]);
        let mut label = vec![4, 1, 4, 1, 1];
        let before = level.cut(&label);
        let coarse = level.contract(&mut label);
        assert_eq!(label, [0, 1, 0, 1, 1]);
        assert_eq!(coarse.load, [4, 11]);
        assert_eq!((coarse.neighbours(0), coarse.neighbours(1)), (&[1][..], &[0][..]));
        // user 0 - item 1 weighs 1/2, user 1 - item 0 weighs 1/sqrt(6)
        let expected = 2.0 * (0.5 + 1.0 / 6f64.sqrt());
        assert!((before - expected).abs() < 1e-6 && (coarse.total_weight() - expected).abs() < 1e-6);
        assert_eq!(coarse.cut(&[0, 0]), 0.0);
    }
}
