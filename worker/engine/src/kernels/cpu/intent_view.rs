//! Intent view of one layer: V = softmax(E C) C^T, a_ht = (n(V_h) . n(V_t) + 1) / 2, w_ht = a_ht / sum_t a_ht,
//! G_h = sum_t w_ht E_t for the heads that are asked for; and the backward of all of it.
//!
//! Backward needs nothing per edge. With g = dL/dG and q_h = g_h . G_h (the row-normalisation term in closed form)
//!   da_ht = (g_h . E_t - q_h) / s_h,   dE_t += w_ht g_h,   dn(V)_h += da_ht n(V_t) / 2,   dn(V)_t += da_ht n(V_h) / 2.
//! The edge set is symmetric and a_ht = a_th, so node v gathers both directions from its own neighbours: three dot
//! products an edge, no scatter. The softmax is recomputed rather than kept ([nodes, K] a layer).
//!
//! Rows are the worker's own nodes, columns also the slots of remote ones: their V is made here, out of their E.

use super::exact::{self, Packed, add_outer_products};
use super::gemm::{View, add_product};
use super::simd::{Level, Simd, Vectorised, add_scaled, dot, exp2};
use super::team::{Shared, Team};
use crate::graph::Graph;
use crate::kernels::Bound;
use std::ops::Range;

/// Rows per block of the prototype products, and of their backward.
const ROWS: usize = 48;
const BACKWARD_ROWS: usize = 96;

/// Intent prototypes of one side: [d, padded] and the transpose [padded, d]; columns beyond `k` are zero.
pub(crate) struct Prototypes {
    k: usize,
    padded: usize,
    c: Vec<f32>,
    ct: Vec<f32>,
}

impl Prototypes {
    /// `c` [d, padded], of which the first `k` columns are prototypes; `padded` is a multiple of 16.
    pub(crate) fn new(d: usize, k: usize, c: &[f32]) -> Prototypes {
        let padded = c.len() / d;
        assert!(padded.is_multiple_of(16) && k <= padded, "prototypes are not padded");
        let ct = (0..padded * d).map(|i| c[(i % d) * padded + i / d]).collect();
        Prototypes { k, padded, c: c.to_vec(), ct }
    }
}

/// What backward needs of one layer, and G: slices of its tensors, `&mut` while forward fills them.
pub(crate) struct Layer<S> {
    /// [columns, d] n(V)
    pub(crate) unit: S,
    /// [columns] 1 / |V|
    pub(crate) inverse_norm: S,
    /// [rows] 1 / s_h, heads only
    pub(crate) inverse_sum: S,
    /// [rows, d] heads only, zero elsewhere
    pub(crate) g: S,
}

/// What backward is given of the heads among the columns; zero for the others.
pub(crate) struct Heads<'a> {
    /// [columns, d] dL/dG
    pub(crate) d_g: &'a [f32],
    /// [columns] g . G
    pub(crate) q: &'a [f32],
    /// [columns] 1 / s_h
    pub(crate) inverse_sum: &'a [f32],
}

pub(crate) struct IntentView<'a> {
    pub(crate) level: Level,
    pub(crate) team: &'a Team,
    pub(crate) graph: &'a Graph,
    pub(crate) d: usize,
    /// user side, item side
    pub(crate) prototypes: &'a [Prototypes; 2],
    /// [columns] whether the node is a head
    pub(crate) heads: &'a [bool],
}

impl IntentView<'_> {
    /// `e` [columns, d]; `layer` is zero on entry.
    pub(crate) fn forward(&self, e: &[f32], layer: Layer<&mut [f32]>) {
        let (rows, columns, d) = (self.graph.rows(), self.graph.columns(), self.d);
        assert!([e.len(), layer.unit.len()] == [columns * d; 2] && layer.g.len() == rows * d);
        assert!(self.heads.len() == columns && layer.inverse_sum.len() == rows);
        let (unit, norm) = (Shared::new(layer.unit), Shared::new(layer.inverse_norm));
        self.team.run(|thread| {
            for (side, nodes) in sides(self.graph, self.team.part(columns, ROWS, thread)) {
                let floats = nodes.start * d..nodes.end * d;
                // SAFETY: parts of different threads, and the runs of one part, are disjoint.
                let (unit, inverse_norm) = unsafe { (unit.slice(floats.clone()), norm.slice(nodes)) };
                self.level.run(UnitIntents {
                    prototypes: &self.prototypes[side],
                    d,
                    e: &e[floats],
                    unit,
                    inverse_norm,
                });
            }
        });
        let (g, sum) = (Shared::new(layer.g), Shared::new(layer.inverse_sum));
        let unit = &*layer.unit;
        self.team.run(|thread| {
            let nodes = self.graph.part(thread, self.team.size);
            // SAFETY: the graph's parts are disjoint.
            let (g, inverse_sum) = unsafe { (g.slice(nodes.start * d..nodes.end * d), sum.slice(nodes.clone())) };
            self.level.run(Aggregate { view: self, unit, e, nodes, g, inverse_sum });
        });
    }

    /// `e` [columns, d]; `unit` [columns, d] and `inverse_norm` [columns] of the layer. Gives dE of the edges and dV, both
    /// [rows, d].
    pub(crate) fn backward(
        &self,
        e: &[f32],
        unit: &[f32],
        inverse_norm: &[f32],
        given: &Heads,
    ) -> (Vec<f32>, Vec<f32>) {
        let (rows, columns, d) = (self.graph.rows(), self.graph.columns(), self.d);
        assert!([e.len(), unit.len(), given.d_g.len()] == [columns * d; 3]);
        assert!([self.heads.len(), given.q.len(), given.inverse_sum.len(), inverse_norm.len()] == [columns; 4]);
        let mut d_e = vec![0.0; rows * d];
        let mut d_intents = vec![0.0; rows * d];
        let (de, dv) = (Shared::new(&mut d_e), Shared::new(&mut d_intents));
        self.team.run(|thread| {
            let nodes = self.graph.part(thread, self.team.size);
            let floats = nodes.start * d..nodes.end * d;
            // SAFETY: the graph's parts are disjoint.
            let (de, dv) = unsafe { (de.slice(floats.clone()), dv.slice(floats)) };
            self.level.run(EdgesBackward { view: self, unit, inverse_norm, given, e, nodes, de, dv });
        });
        (d_e, d_intents)
    }
}

/// Backward of V = softmax(E C) C^T.
pub(crate) struct IntentsBackward<'a> {
    pub(crate) level: Level,
    pub(crate) team: &'a Team,
    pub(crate) graph: &'a Graph,
    pub(crate) d: usize,
    /// user side, item side
    pub(crate) prototypes: &'a [Prototypes; 2],
    /// [columns, d]
    pub(crate) e: &'a [f32],
    /// [rows, d] dV
    pub(crate) d_intents: &'a [f32],
    /// Of the prototypes' gradients
    pub(crate) bound: Bound,
}

impl IntentsBackward<'_> {
    /// Adds to `d_e` [rows, d]; gives the prototypes' gradients [d, padded], exact sums over the rows.
    pub(crate) fn run(&self, d_e: &mut [f32]) -> [Vec<f64>; 2] {
        let (rows, d) = (self.graph.rows(), self.d);
        assert!([self.d_intents.len(), d_e.len()] == [rows * d; 2] && self.e.len() >= rows * d);
        let sizes = [0, 1].map(|side| d * self.prototypes[side].padded);
        let parts = sizes.map(|size| (size, self.bound));
        let mut d_c: Vec<Vec<f64>> = vec![Vec::new(); self.team.size];
        let (de, dc) = (Shared::new(d_e), Shared::new(&mut d_c));
        self.team.run(|thread| {
            // SAFETY: one element of `d_c` a thread.
            let dc = unsafe { &mut dc.slice(thread..thread + 1)[0] };
            *dc = exact::biased(&parts);
            for (side, nodes) in sides(self.graph, self.team.part(rows, BACKWARD_ROWS, thread)) {
                let floats = nodes.start * d..nodes.end * d;
                let job = SideBackward {
                    prototypes: &self.prototypes[side],
                    d,
                    e: &self.e[floats.clone()],
                    d_intents: &self.d_intents[floats.clone()],
                    // SAFETY: parts of different threads, and the runs of one part, are disjoint.
                    de: unsafe { de.slice(floats) },
                    dc: if side == 0 { &mut dc[..sizes[0]] } else { &mut dc[sizes[0]..] },
                };
                self.level.run(job);
            }
        });
        let mut user = exact::collect(self.team, d_c, &parts);
        let item = user.split_off(sizes[0]);
        [user, item]
    }
}

/// The runs of `columns` on one side.
fn sides(graph: &Graph, columns: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let runs = graph.sides.iter().map(move |(side, run)| {
        let start = run.start.max(columns.start);
        (*side, start..run.end.min(columns.end).max(start))
    });
    runs.filter(|(_, run)| !run.is_empty())
}

/// p [rows, padded] = softmax over the first k columns of e C, rows of e [rows, d]; zero beyond k.
#[inline(always)]
unsafe fn softmax<S: Simd>(prototypes: &Prototypes, d: usize, e: &[f32], p: &mut [f32]) {
    let (rows, padded) = (e.len() / d, prototypes.padded);
    p.fill(0.0);
    unsafe {
        add_product::<S>(rows, d, padded, View::rows(e, d), prototypes.c.as_ptr(), padded, p.as_mut_ptr(), padded);
        for row in p[..rows * padded].chunks_exact_mut(padded) {
            row[prototypes.k..].fill(f32::NEG_INFINITY);
            let largest = row.iter().fold(f32::MIN, |a, b| if *b > a { *b } else { a });
            let shift = S::splat(-largest * std::f32::consts::LOG2_E);
            let p = row.as_mut_ptr();
            let mut sum = S::splat(0.0);
            for j in (0..padded).step_by(S::LANES) {
                let z = S::fma(S::load(p.add(j)), S::splat(std::f32::consts::LOG2_E), shift);
                S::store(p.add(j), exp2::<S>(S::max(z, S::splat(-126.0))));
            }
            row[prototypes.k..].fill(0.0);
            let p = row.as_mut_ptr();
            for j in (0..padded).step_by(S::LANES) {
                sum = S::add(sum, S::load(p.add(j)));
            }
            let inverse = S::splat(1.0 / S::sum(sum));
            for j in (0..padded).step_by(S::LANES) {
                S::store(p.add(j), S::mul(S::load(p.add(j)), inverse));
            }
        }
    }
}

/// unit = n(softmax(e C) C^T), inverse_norm = 1 / |.|
struct UnitIntents<'a> {
    prototypes: &'a Prototypes,
    d: usize,
    e: &'a [f32],
    unit: &'a mut [f32],
    inverse_norm: &'a mut [f32],
}

impl Vectorised for UnitIntents<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let UnitIntents { prototypes, d, e, unit, inverse_norm } = self;
        let padded = prototypes.padded;
        let mut p = vec![0.0f32; ROWS * padded];
        for ((e, unit), norm) in e.chunks(ROWS * d).zip(unit.chunks_mut(ROWS * d)).zip(inverse_norm.chunks_mut(ROWS)) {
            // SAFETY: the blocks have the shapes named; the caller enabled S.
            unsafe {
                softmax::<S>(prototypes, d, e, &mut p);
                let ct = prototypes.ct.as_ptr();
                add_product::<S>(norm.len(), padded, d, View::rows(&p, padded), ct, d, unit.as_mut_ptr(), d);
                for (v, norm) in unit.chunks_exact_mut(d).zip(norm) {
                    *norm = 1.0 / dot::<S>(d, v.as_ptr(), v.as_ptr()).sqrt().max(1e-12);
                    v.iter_mut().for_each(|x| *x *= *norm);
                }
            }
        }
    }
}

/// The width when it is known at compile time (`D`), else the one given.
#[inline(always)]
fn width<const D: usize>(d: usize) -> usize {
    if D == 0 { d } else { D }
}

struct Aggregate<'a> {
    view: &'a IntentView<'a>,
    unit: &'a [f32],
    e: &'a [f32],
    nodes: Range<usize>,
    g: &'a mut [f32],
    inverse_sum: &'a mut [f32],
}

impl Vectorised for Aggregate<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on from the caller.
        unsafe {
            match self.view.d {
                32 => self.heads::<S, 32>(),
                64 => self.heads::<S, 64>(),
                _ => self.heads::<S, 0>(),
            }
        }
    }
}

impl Aggregate<'_> {
    #[inline(always)]
    unsafe fn heads<S: Simd, const D: usize>(self) {
        let Aggregate { view, unit, e, nodes, g, inverse_sum } = self;
        let d = width::<D>(view.d);
        for ((h, g), inverse_sum) in nodes.zip(g.chunks_exact_mut(d)).zip(inverse_sum) {
            if !view.heads[h] {
                continue;
            }
            // SAFETY: neighbours are nodes; unit and e are [nodes, d].
            unsafe {
                let own = unit.as_ptr().add(h * d);
                let mut total = 0.0;
                for &t in view.graph.of(h) {
                    let t = t as usize * d;
                    let a = dot::<S>(d, own, unit.as_ptr().add(t)).mul_add(0.5, 0.5);
                    total += a;
                    add_scaled::<S>(d, g.as_mut_ptr(), a, e.as_ptr().add(t));
                }
                *inverse_sum = if total > 0.0 { 1.0 / total } else { 0.0 };
                g.iter_mut().for_each(|x| *x *= *inverse_sum);
            }
        }
    }
}

struct EdgesBackward<'a> {
    view: &'a IntentView<'a>,
    unit: &'a [f32],
    inverse_norm: &'a [f32],
    given: &'a Heads<'a>,
    e: &'a [f32],
    nodes: Range<usize>,
    de: &'a mut [f32],
    dv: &'a mut [f32],
}

impl Vectorised for EdgesBackward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on from the caller.
        unsafe {
            match self.view.d {
                32 => self.gather::<S, 32>(),
                64 => self.gather::<S, 64>(),
                _ => self.gather::<S, 0>(),
            }
        }
    }
}

impl EdgesBackward<'_> {
    #[inline(always)]
    unsafe fn gather<S: Simd, const D: usize>(self) {
        let EdgesBackward { view, unit, inverse_norm, given, e, nodes, de, dv } = self;
        let Heads { d_g, q, inverse_sum } = *given;
        let d = width::<D>(view.d);
        for ((v, de), dv) in nodes.zip(de.chunks_exact_mut(d)).zip(dv.chunks_exact_mut(d)) {
            // SAFETY: neighbours are columns; every table is [columns, d].
            unsafe {
                let (own_unit, own_e, own_g) =
                    (unit.as_ptr().add(v * d), e.as_ptr().add(v * d), d_g.as_ptr().add(v * d));
                for &t in view.graph.of(v) {
                    let t = t as usize;
                    let mut da = 0.0;
                    if view.heads[v] {
                        da += (dot::<S>(d, own_g, e.as_ptr().add(t * d)) - q[v]) * inverse_sum[v];
                    }
                    let unit = unit.as_ptr().add(t * d);
                    if view.heads[t] {
                        let g = d_g.as_ptr().add(t * d);
                        da += (dot::<S>(d, g, own_e) - q[t]) * inverse_sum[t];
                        let a = dot::<S>(d, own_unit, unit).mul_add(0.5, 0.5);
                        add_scaled::<S>(d, de.as_mut_ptr(), a * inverse_sum[t], g);
                    }
                    add_scaled::<S>(d, dv.as_mut_ptr(), 0.5 * da, unit);
                }
                // through the normalisation
                let along = dot::<S>(d, dv.as_ptr(), own_unit);
                for (j, dv) in dv.iter_mut().enumerate() {
                    *dv = (*dv - *own_unit.add(j) * along) * inverse_norm[v];
                }
            }
        }
    }
}

/// V = P C^T and P = softmax(E C) of rows of one side: adds to `de` [rows, d], and to `dc` [d, padded].
struct SideBackward<'a> {
    prototypes: &'a Prototypes,
    d: usize,
    e: &'a [f32],
    d_intents: &'a [f32],
    de: &'a mut [f32],
    dc: &'a mut [f64],
}

impl Vectorised for SideBackward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let SideBackward { prototypes, d, e, d_intents, de, dc } = self;
        let k = prototypes.padded;
        let (mut p, mut dp) = (vec![0.0f32; BACKWARD_ROWS * k], vec![0.0f32; BACKWARD_ROWS * k]);
        let mut packed = Packed::default();
        let block = BACKWARD_ROWS * d;
        for ((e, dv), de) in e.chunks(block).zip(d_intents.chunks(block)).zip(de.chunks_mut(block)) {
            let rows = de.len() / d;
            // SAFETY: the blocks have the shapes named; the caller enabled S.
            unsafe {
                softmax::<S>(prototypes, d, e, &mut p);
                dp.fill(0.0);
                add_product::<S>(rows, d, k, View::rows(dv, d), prototypes.c.as_ptr(), k, dp.as_mut_ptr(), k);
                let d_v = (d, dv.as_ptr(), d);
                add_outer_products::<S>(&mut packed, rows, d_v, (k, p.as_ptr()), dc.as_mut_ptr());
                for (p, dp) in p.chunks_exact(k).zip(dp.chunks_exact_mut(k)).take(rows) {
                    let along = S::splat(dot::<S>(k, p.as_ptr(), dp.as_ptr()));
                    for j in (0..k).step_by(S::LANES) {
                        let d = dp.as_mut_ptr().add(j);
                        S::store(d, S::mul(S::load(p.as_ptr().add(j)), S::sub(S::load(d), along)));
                    }
                }
                add_product::<S>(rows, k, d, View::rows(&dp, k), prototypes.ct.as_ptr(), d, de.as_mut_ptr(), d);
                let e = (d, e.as_ptr(), d);
                add_outer_products::<S>(&mut packed, rows, e, (k, dp.as_ptr()), dc.as_mut_ptr());
            }
        }
    }
}
