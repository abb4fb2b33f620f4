//! out = A_hat x (+ plus), A_hat = D^-1/2 A D^-1/2, without stored edge values; gather only, so no atomics.

use super::simd::{Level, Simd, Vectorised};
use super::team::Team;
use crate::graph::{Dropout, Graph};
use std::ops::Range;

/// Columns taken at once: at most 4 vectors of 8 lanes.
const COLUMNS: usize = 32;

/// x, plus, out [nodes, d], d a multiple of 32.
pub(crate) fn propagate(
    level: Level,
    team: &Team,
    graph: &Graph,
    dropout: Option<Dropout>,
    d: usize,
    x: &[f32],
    plus: Option<&[f32]>,
    out: &mut [f32],
) {
    assert!(d.is_multiple_of(COLUMNS) && x.len() == graph.nodes() * d && out.len() == x.len(), "wrong shapes");
    let shared = super::team::Shared::new(out);
    team.run(|thread| {
        let nodes = graph.part(thread, team.size);
        // SAFETY: the graph's parts are disjoint.
        let out = unsafe { shared.slice(nodes.start * d..nodes.end * d) };
        level.run(Rows { graph, dropout, d, x, plus, nodes, out });
    });
}

struct Rows<'a> {
    graph: &'a Graph,
    dropout: Option<Dropout>,
    d: usize,
    x: &'a [f32],
    plus: Option<&'a [f32]>,
    nodes: Range<usize>,
    out: &'a mut [f32],
}

impl Vectorised for Rows<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Rows { graph, dropout, d, x, plus, nodes, out } = self;
        let scale = &graph.inverse_sqrt_degree;
        let vectors = COLUMNS / S::LANES;
        let mut kept: Vec<u32> = Vec::new();
        for (v, out) in nodes.zip(out.chunks_exact_mut(d)) {
            let neighbours = match dropout {
                None => graph.of(v),
                Some(dropout) => {
                    // compacted without a branch: one in five edges goes, at random
                    let all = graph.of(v);
                    kept.resize(kept.len().max(all.len()), 0);
                    let mut n = 0;
                    for &t in all {
                        kept[n] = t;
                        n += usize::from(dropout.keeps(v as u32, t));
                    }
                    &kept[..n]
                }
            };
            for column in (0..d).step_by(COLUMNS) {
                // SAFETY: neighbours are nodes, x and plus have `nodes * d` floats (asserted by the caller).
                unsafe {
                    let mut acc = [S::splat(0.0); 4];
                    for &t in neighbours {
                        let w = S::splat(*scale.get_unchecked(t as usize));
                        let row = x.as_ptr().add(t as usize * d + column);
                        for i in 0..vectors {
                            acc[i] = S::fma(w, S::load(row.add(i * S::LANES)), acc[i]);
                        }
                    }
                    for i in 0..vectors {
                        let mut y = S::mul(acc[i], S::splat(scale[v]));
                        if let Some(plus) = plus {
                            y = S::add(y, S::load(plus.as_ptr().add(v * d + column + i * S::LANES)));
                        }
                        S::store(out.as_mut_ptr().add(column + i * S::LANES), y);
                    }
                }
            }
        }
    }
}
