//! The symmetric user-item graph and its edge dropout. Nodes are users, then items: item i is node `users + i`.

use accord_data::Interactions;
use std::ops::Range;

/// A = [[0, R], [R^T, 0]] in CSR form; A_hat = D^-1/2 A D^-1/2 is kept as its two factors.
pub struct Graph {
    pub users: usize,
    /// [nodes + 1] start of each node's neighbours
    pub(crate) start: Vec<u32>,
    /// [2 * interactions] neighbours, ascending per node
    pub(crate) neighbours: Vec<u32>,
    /// [nodes] degree^-1/2, 0 for an isolated node; of the whole graph, dropout does not change it
    pub(crate) inverse_sqrt_degree: Vec<f32>,
}

impl Graph {
    /// The graph of the training interactions.
    pub fn new(train: &Interactions) -> Graph {
        let users = train.users();
        let nodes = users + train.items();
        let mut start = vec![0u32; nodes + 1];
        for u in 0..users {
            start[u + 1] = train.of(u as u32).len() as u32;
        }
        train.item().iter().for_each(|&i| start[users + i as usize + 1] += 1);
        for v in 0..nodes {
            start[v + 1] += start[v];
        }
        let mut next = start.clone();
        let mut neighbours = vec![0u32; 2 * train.len()];
        for u in 0..users {
            for &i in train.of(u as u32) {
                let v = users + i as usize;
                for (from, to) in [(u, v), (v, u)] {
                    neighbours[next[from] as usize] = to as u32;
                    next[from] += 1;
                }
            }
        }
        let inverse_sqrt_degree = start
            .windows(2)
            .map(|w| if w[1] > w[0] { (1.0 / f64::from(w[1] - w[0]).sqrt()) as f32 } else { 0.0 })
            .collect();
        Graph { users, start, neighbours, inverse_sqrt_degree }
    }

    /// N = users + items.
    pub fn nodes(&self) -> usize {
        self.inverse_sqrt_degree.len()
    }

    /// Neighbours of node `v`, ascending.
    pub(crate) fn of(&self, v: usize) -> &[u32] {
        &self.neighbours[self.start[v] as usize..self.start[v + 1] as usize]
    }

    /// Nodes of thread `t`: contiguous, with equal shares of edges (plus a constant per node).
    pub(crate) fn part(&self, t: usize, threads: usize) -> Range<usize> {
        let work = |v: usize| self.start[v] as usize + 4 * v;
        let cut = |t: usize| {
            let target = work(self.nodes()) * t / threads;
            let (mut low, mut high) = (0, self.nodes());
            while low < high {
                let middle = usize::midpoint(low, high);
                if work(middle) < target { low = middle + 1 } else { high = middle }
            }
            low
        };
        cut(t)..cut(t + 1)
    }
}

/// Edge dropout of one step: a directed edge (head, tail) is kept or not by a hash of (seed, step, head, tail), so every
/// worker, thread and pass sees the same mask without storing or sending it. Kept values are not rescaled and the two
/// directions drop apart, so the dropped matrix is not symmetric (spec/IRLLREC.md section 2).
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    key: u64,
    /// Kept when the hash's low 32 bits are below this.
    threshold: u64,
    transposed: bool,
}

impl Dropout {
    /// None when every edge is kept.
    pub fn new(seed: u64, step: u64, keep: f64) -> Option<Dropout> {
        let threshold = (keep * (1u64 << 32) as f64) as u64;
        (keep < 1.0).then(|| Dropout { key: mix(seed ^ mix(step)), threshold, transposed: false })
    }

    /// The mask of the transposed matrix, for the backward pass.
    #[must_use]
    pub fn transposed(self) -> Dropout {
        Dropout { transposed: !self.transposed, ..self }
    }

    /// Whether the entry (row, column) of the matrix stays.
    #[inline(always)]
    pub fn keeps(self, row: u32, column: u32) -> bool {
        let (head, tail) = if self.transposed { (column, row) } else { (row, column) };
        mix(self.key ^ ((u64::from(head) << 32) | u64::from(tail))) & 0xffff_ffff < self.threshold
    }
}

/// The finaliser of splitmix64 (Steele et al. 2014): one multiply-xor chain an edge, where Philox would cost ten.
#[inline(always)]
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
