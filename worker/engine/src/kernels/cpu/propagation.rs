//! out = A_hat x (+ plus), A_hat = D^-1/2 A D^-1/2, without stored edge values; gather only, so no atomics.

use super::simd::{Level, Simd, Vectorised};
use super::team::{Shared, Team};
use crate::graph::{Dropout, Graph, Lists, Part};
use crate::kernels::{Adjacency, KeptLists};
use std::ops::Range;

/// Columns taken at once: at most 4 vectors of 8 lanes.
const COLUMNS: usize = 32;

/// The neighbours that a dropout keeps, worked out once and used by every layer of a pass.
pub(crate) fn kept(team: &Team, graph: &Graph, dropout: Dropout) -> Adjacency {
    let mut neighbours = vec![0; graph.neighbours.len()];
    let own = keep(team, graph, Part::Own, dropout, &mut neighbours);
    let halo = keep(team, graph, Part::Halo, dropout, &mut neighbours);
    let mut outgoing = vec![0; graph.lists(Part::Outgoing).neighbours.len()];
    let outgoing_end = keep(team, graph, Part::Outgoing, dropout, &mut outgoing);
    Adjacency::Lists(KeptLists { neighbours: [neighbours, outgoing], ends: [own, halo, outgoing_end] })
}

/// Moves what is kept of each row to the front of the row's place in `kept`; returns where each row now ends.
fn keep(team: &Team, graph: &Graph, part: Part, dropout: Dropout, kept: &mut [u32]) -> Vec<u32> {
    let lists = graph.lists(part);
    let mut ends = vec![0u32; lists.rows()];
    let (kept, shared_ends) = (Shared::new(kept), Shared::new(&mut ends));
    team.run(|thread| {
        let rows = lists.part(thread, team.size);
        // SAFETY: parts of different threads are disjoint.
        let ends = unsafe { shared_ends.slice(rows.clone()) };
        for (v, end) in rows.zip(ends) {
            let all = lists.of(v);
            let begin = lists.begin[v] as usize;
            // SAFETY: rows have disjoint places.
            let place = unsafe { kept.slice(begin..begin + all.len()) };
            // without a branch: one edge in five goes, at random
            let mut n = 0;
            for &t in all {
                place[n] = t;
                n += usize::from(dropout.keeps(lists.ids[v], graph.ids[t as usize]));
            }
            *end = (begin + n) as u32;
        }
    });
    ends
}

impl KeptLists {
    fn of<'a>(&'a self, graph: &'a Graph, part: Part) -> Lists<'a> {
        let whole = graph.lists(part);
        match part {
            Part::Own => Lists { end: &self.ends[0], neighbours: &self.neighbours[0], ..whole },
            Part::Halo => Lists { end: &self.ends[1], neighbours: &self.neighbours[0], ..whole },
            Part::Outgoing => Lists { end: &self.ends[2], neighbours: &self.neighbours[1], ..whole },
        }
    }
}

/// The rows of one part, whole or what dropout leaves of them.
pub(crate) fn lists<'a>(graph: &'a Graph, adjacency: &'a Adjacency, part: Part) -> Lists<'a> {
    match adjacency {
        Adjacency::Whole => graph.lists(part),
        Adjacency::Lists(kept) => kept.of(graph, part),
        Adjacency::Values(_) => panic!("this adjacency belongs to libtorch's kernels"),
    }
}

pub(crate) struct Product<'a> {
    pub(crate) lists: Lists<'a>,
    /// [columns] degree^-1/2
    pub(crate) scale: &'a [f32],
    /// A multiple of 32.
    pub(crate) d: usize,
    /// Columns that the lists may name.
    pub(crate) reads: usize,
    /// [reads or more, d]
    pub(crate) x: &'a [f32],
    /// [rows, d]
    pub(crate) plus: Option<&'a [f32]>,
    /// Add to what `out` holds.
    pub(crate) adds: bool,
}

impl Product<'_> {
    /// out [rows, d]; `sum` [rows, d] += out
    pub(crate) fn run(&self, level: Level, team: &Team, out: &mut [f32], sum: Option<&mut [f32]>) {
        assert!(self.x.len() >= self.reads * self.d, "rows of x are missing");
        let size = self.lists.rows() * self.d;
        let sizes = [out.len(), self.plus.map_or(size, <[f32]>::len), sum.as_ref().map_or(size, |s| s.len())];
        assert!(self.d.is_multiple_of(COLUMNS) && sizes == [size; 3], "wrong shapes {sizes:?}");
        let (out, sum) = (Shared::new(out), sum.map(Shared::new));
        team.run(|thread| {
            let rows = self.lists.part(thread, team.size);
            let floats = rows.start * self.d..rows.end * self.d;
            // SAFETY: parts of different threads are disjoint.
            let (out, sum) = unsafe { (out.slice(floats.clone()), sum.as_ref().map(|s| s.slice(floats))) };
            level.run(Rows { job: self, rows, out, sum });
        });
    }
}

struct Rows<'a> {
    job: &'a Product<'a>,
    rows: Range<usize>,
    out: &'a mut [f32],
    sum: Option<&'a mut [f32]>,
}

impl Vectorised for Rows<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Rows { job, rows, out, mut sum } = self;
        let d = job.d;
        let vectors = COLUMNS / S::LANES;
        let first = rows.start;
        for (v, out) in rows.zip(out.chunks_exact_mut(d)) {
            let neighbours = job.lists.of(v);
            if job.adds && neighbours.is_empty() {
                continue;
            }
            // SAFETY: the caller enabled S.
            let scale = unsafe { S::splat(job.lists.inverse_sqrt_degree[v]) };
            for column in (0..d).step_by(COLUMNS) {
                // SAFETY: the graph's lists name no column beyond `reads`, and `run` asserted that x has those; there is a
                // scale for every column; plus and sum have the shapes asserted.
                unsafe {
                    let mut acc = [S::splat(0.0); 4];
                    for &t in neighbours {
                        let w = S::splat(*job.scale.get_unchecked(t as usize));
                        let row = job.x.as_ptr().add(t as usize * d + column);
                        for i in 0..vectors {
                            acc[i] = S::fma(w, S::load(row.add(i * S::LANES)), acc[i]);
                        }
                    }
                    for i in 0..vectors {
                        let at = column + i * S::LANES;
                        let mut y = S::mul(acc[i], scale);
                        if job.adds {
                            y = S::add(y, S::load(out.as_ptr().add(at)));
                        }
                        if let Some(plus) = job.plus {
                            y = S::add(y, S::load(plus.as_ptr().add(v * d + at)));
                        }
                        S::store(out.as_mut_ptr().add(at), y);
                        if let Some(sum) = &mut sum {
                            let sum = sum.as_mut_ptr().add((v - first) * d + at);
                            S::store(sum, S::add(S::load(sum), y));
                        }
                    }
                }
            }
        }
    }
}
