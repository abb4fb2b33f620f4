//! out = A_hat x (+ plus), A_hat = D^-1/2 A D^-1/2, without stored edge values; gather only, so no atomics.

use super::simd::{Level, Simd, Vectorised};
use super::team::{Shared, Team};
use crate::graph::{Dropout, Graph};
use crate::kernels::{Adjacency, KeptLists};
use std::ops::Range;

/// Columns taken at once: at most 4 vectors of 8 lanes.
const COLUMNS: usize = 32;

/// The neighbours that a dropout keeps, worked out once and used by every layer of a pass.
pub(crate) fn kept(team: &Team, graph: &Graph, dropout: Dropout) -> Adjacency {
    let mut neighbours = vec![0u32; graph.neighbours.len()];
    let mut kept = vec![0u32; graph.nodes()];
    let (lists, counts) = (Shared::new(&mut neighbours), Shared::new(&mut kept));
    team.run(|thread| {
        let nodes = graph.part(thread, team.size);
        let edges = graph.start[nodes.start] as usize..graph.start[nodes.end] as usize;
        // SAFETY: the graph's parts are disjoint.
        let (mut list, counts) = unsafe { (lists.slice(edges), counts.slice(nodes.clone())) };
        for (v, count) in nodes.zip(counts) {
            let all = graph.of(v);
            let (place, rest) = list.split_at_mut(all.len());
            list = rest;
            // without a branch: one edge in five goes, at random
            let mut n = 0;
            for &t in all {
                place[n] = t;
                n += usize::from(dropout.keeps(v as u32, t));
            }
            *count = n as u32;
        }
    });
    Adjacency::Lists(KeptLists { neighbours, kept })
}

pub(crate) struct Propagation<'a> {
    pub(crate) graph: &'a Graph,
    /// Kept neighbours and their counts, where edges are dropped.
    pub(crate) kept: Option<(&'a [u32], &'a [u32])>,
    /// A multiple of 32.
    pub(crate) d: usize,
    /// [nodes, d]
    pub(crate) x: &'a [f32],
    pub(crate) plus: Option<&'a [f32]>,
}

impl Propagation<'_> {
    /// out [nodes, d]; `sum` [nodes, d] += out
    pub(crate) fn run(&self, level: Level, team: &Team, out: &mut [f32], sum: Option<&mut [f32]>) {
        let size = self.graph.nodes() * self.d;
        let sizes =
            [self.x.len(), out.len(), self.plus.map_or(size, <[f32]>::len), sum.as_ref().map_or(size, |s| s.len())];
        assert!(self.d.is_multiple_of(COLUMNS) && sizes == [size; 4], "wrong shapes {sizes:?}");
        let (out, sum) = (Shared::new(out), sum.map(Shared::new));
        team.run(|thread| {
            let nodes = self.graph.part(thread, team.size);
            let floats = nodes.start * self.d..nodes.end * self.d;
            // SAFETY: the graph's parts are disjoint.
            let (out, sum) = unsafe { (out.slice(floats.clone()), sum.as_ref().map(|s| s.slice(floats))) };
            level.run(Rows { job: self, nodes, out, sum });
        });
    }

    #[inline(always)]
    fn neighbours(&self, v: usize) -> &[u32] {
        match self.kept {
            None => self.graph.of(v),
            Some((neighbours, kept)) => &neighbours[self.graph.start[v] as usize..][..kept[v] as usize],
        }
    }
}

struct Rows<'a> {
    job: &'a Propagation<'a>,
    nodes: Range<usize>,
    out: &'a mut [f32],
    sum: Option<&'a mut [f32]>,
}

impl Vectorised for Rows<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Rows { job, nodes, out, mut sum } = self;
        let (d, scale) = (job.d, &job.graph.inverse_sqrt_degree);
        let vectors = COLUMNS / S::LANES;
        let first = nodes.start;
        for (v, out) in nodes.zip(out.chunks_exact_mut(d)) {
            let neighbours = job.neighbours(v);
            for column in (0..d).step_by(COLUMNS) {
                // SAFETY: neighbours are nodes; x, plus and sum have the shapes that `run` asserted.
                unsafe {
                    let mut acc = [S::splat(0.0); 4];
                    for &t in neighbours {
                        let w = S::splat(*scale.get_unchecked(t as usize));
                        let row = job.x.as_ptr().add(t as usize * d + column);
                        for i in 0..vectors {
                            acc[i] = S::fma(w, S::load(row.add(i * S::LANES)), acc[i]);
                        }
                    }
                    for i in 0..vectors {
                        let at = column + i * S::LANES;
                        let mut y = S::mul(acc[i], S::splat(scale[v]));
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
