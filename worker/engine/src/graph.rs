//! One worker's rows of the symmetric user-item graph, and its edge dropout. Columns are the worker's own nodes, users
//! first, then the slots that other workers' rows arrive in; with one worker there are no slots.
//!
//! A row's columns come in the order of their global ids, whoever owns them, so a row sums up to the same bits on every
//! number of workers. Rows that need a slot wait for it; the others do not. Only where partial sums travel are a row's own
//! columns summed up first.

use accord_data::Interactions;
use accord_data::partition::Shard;
use std::ops::Range;

/// Where the columns of a product come from, and whose rows it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What needs no slot: rows without slot columns; with partial sums, every row's own columns.
    Own,
    /// The rest, when the slots are filled.
    Halo,
    /// Partial sums of other workers' rows from own columns.
    Outgoing,
}

/// A = [[0, R], [R^T, 0]] in CSR form, the rows of one worker; A_hat = D^-1/2 A D^-1/2 is kept as its two factors.
pub struct Graph {
    /// Own users: the first rows.
    pub users: usize,
    /// [columns] global node ids: own nodes ascending, then slots
    pub(crate) ids: Vec<u32>,
    /// [columns] degree in the whole graph, which dropout does not change
    pub(crate) degree: Vec<u32>,
    /// [columns] degree^-1/2, 0 for an isolated node
    pub(crate) inverse_sqrt_degree: Vec<f32>,
    /// [rows + 1], [rows]: where a row begins, and where its part that waits for slots begins
    start: Vec<u32>,
    split: Vec<u32>,
    pub(crate) neighbours: Vec<u32>,
    outgoing: Outgoing,
    /// Runs of columns on one side: 0 users, 1 items.
    pub(crate) sides: Vec<(usize, Range<usize>)>,
}

struct Outgoing {
    start: Vec<u32>,
    neighbours: Vec<u32>,
    ids: Vec<u32>,
    degree: Vec<u32>,
    inverse_sqrt_degree: Vec<f32>,
}

/// The rows of one [`Part`]: row r has the columns neighbours[begin[r]..end[r]].
#[derive(Clone, Copy)]
pub(crate) struct Lists<'a> {
    pub(crate) begin: &'a [u32],
    pub(crate) end: &'a [u32],
    pub(crate) neighbours: &'a [u32],
    /// [rows] global node ids, degree, degree^-1/2
    pub(crate) ids: &'a [u32],
    pub(crate) degree: &'a [u32],
    pub(crate) inverse_sqrt_degree: &'a [f32],
}

impl<'a> Lists<'a> {
    #[inline(always)]
    pub(crate) fn of(&self, row: usize) -> &'a [u32] {
        &self.neighbours[self.begin[row] as usize..self.end[row] as usize]
    }

    pub(crate) fn rows(&self) -> usize {
        self.begin.len()
    }

    /// Rows of thread `t`: contiguous, with equal shares of entries (plus a constant a row).
    pub(crate) fn part(&self, t: usize, threads: usize) -> Range<usize> {
        let first = self.begin.first().map_or(0, |&b| b as usize);
        let work = |row: usize| {
            let entries = if row == self.rows() { self.end.last() } else { self.begin.get(row) };
            entries.map_or(0, |&e| e as usize - first) + 4 * row
        };
        let cut = |t: usize| {
            let target = work(self.rows()) * t / threads;
            let (mut low, mut high) = (0, self.rows());
            while low < high {
                let middle = usize::midpoint(low, high);
                if work(middle) < target { low = middle + 1 } else { high = middle }
            }
            low
        };
        cut(t)..cut(t + 1)
    }
}

impl Graph {
    /// The whole graph of the training interactions: one worker.
    pub fn whole(train: &Interactions) -> Graph {
        Graph::new(Shard::whole(train), train.users())
    }

    /// One worker's part; `users`: of the whole catalog.
    pub fn new(shard: Shard, users: usize) -> Graph {
        let roots = |degree: &[u32]| -> Vec<f32> {
            degree.iter().map(|&d| if d > 0 { (1.0 / f64::from(d).sqrt()) as f32 } else { 0.0 }).collect()
        };
        let mut degree = shard.degree;
        degree.extend_from_slice(&shard.slots.degree);
        let mut ids = shard.nodes;
        ids.extend_from_slice(&shard.slots.node);
        let side = |&id: &u32| usize::from(id as usize >= users);
        let mut sides: Vec<(usize, Range<usize>)> = Vec::new();
        for (column, side) in ids.iter().map(side).enumerate() {
            // a run does not go from the own nodes into the slots
            match sides.last_mut() {
                Some((last, run)) if *last == side && column != shard.split.len() => run.end = column + 1,
                _ => sides.push((side, column..column + 1)),
            }
        }
        let outgoing = Outgoing {
            inverse_sqrt_degree: roots(&shard.outgoing.degree),
            degree: shard.outgoing.degree,
            start: shard.outgoing.start,
            neighbours: shard.outgoing.neighbours,
            ids: shard.outgoing.node,
        };
        let Shard { users, start, split, neighbours, .. } = shard;
        let inverse_sqrt_degree = roots(&degree);
        let mut graph = Graph { users, ids, degree, inverse_sqrt_degree, start, split, neighbours, outgoing, sides };
        if graph.outgoing.ids.is_empty() {
            graph.order_by_id();
        }
        graph
    }

    /// Puts every row's columns in the order of their global ids; a row with slots waits as a whole.
    fn order_by_id(&mut self) {
        for row in 0..self.rows() {
            let places = self.start[row] as usize..self.start[row + 1] as usize;
            if self.split[row] as usize != places.end {
                self.neighbours[places].sort_unstable_by_key(|&column| self.ids[column as usize]);
                self.split[row] = self.start[row];
            }
        }
    }

    /// Own nodes: users, then items.
    pub fn rows(&self) -> usize {
        self.split.len()
    }

    /// Own nodes and slots.
    pub fn columns(&self) -> usize {
        self.ids.len()
    }

    /// Global ids of the own nodes, ascending.
    pub fn own(&self) -> &[u32] {
        &self.ids[..self.rows()]
    }

    /// Columns of row `v`.
    pub(crate) fn of(&self, v: usize) -> &[u32] {
        &self.neighbours[self.start[v] as usize..self.start[v + 1] as usize]
    }

    pub(crate) fn lists(&self, part: Part) -> Lists<'_> {
        match part {
            Part::Own => Lists { end: &self.split, ..self.all_lists() },
            Part::Halo => Lists { begin: &self.split, ..self.all_lists() },
            Part::Outgoing => {
                let Outgoing { start, neighbours, ids, degree, inverse_sqrt_degree } = &self.outgoing;
                Lists { begin: &start[..ids.len()], end: &start[1..], neighbours, ids, degree, inverse_sqrt_degree }
            }
        }
    }

    /// Own rows over all columns.
    pub(crate) fn all_lists(&self) -> Lists<'_> {
        let rows = self.rows();
        Lists {
            begin: &self.start[..rows],
            end: &self.start[1..],
            neighbours: &self.neighbours,
            ids: &self.ids[..rows],
            degree: &self.degree[..rows],
            inverse_sqrt_degree: &self.inverse_sqrt_degree[..rows],
        }
    }

    /// Rows of thread `t` for work over all columns of a row.
    pub(crate) fn part(&self, t: usize, threads: usize) -> Range<usize> {
        self.all_lists().part(t, threads)
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

    /// Whether the entry (row, column) of the matrix stays; global node ids.
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
