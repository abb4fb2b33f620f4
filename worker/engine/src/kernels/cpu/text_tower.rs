//! z = W2 leaky(W1 x + b1) + b2 over all rows, and the gradients of the weights (texts are not trained).
//!
//! Rows are taken in blocks small enough that block, hidden block and one weight panel stay in L2; bias and LeakyReLU are
//! applied while the block is there. The gradients are [`super::exact`] sums.

use super::exact::{self, ONE, Packed, add_outer_products};
use super::gemm::{View, add_product};
use super::simd::{Level, Simd, Vectorised};
use super::team::{Shared, Team};
use crate::kernels::{Bound, LEAKY_SLOPE, TowerBounds};

const SLOPE: f32 = LEAKY_SLOPE as f32;
/// Columns of a weight panel.
const PANEL: usize = 32;
/// Rows per block: multiples of the 12 rows of a register tile.
const FORWARD_ROWS: usize = 96;
const BACKWARD_ROWS: usize = 192;

/// Weights in the layout of torch.nn.Linear, hidden and d padded to multiples of 16.
pub(crate) struct Weights<'a> {
    /// [hidden, text]
    pub(crate) w1: &'a [f32],
    /// [hidden]
    pub(crate) b1: &'a [f32],
    /// [d, hidden]
    pub(crate) w2: &'a [f32],
    /// [d]
    pub(crate) b2: &'a [f32],
}

pub(crate) struct TextTower<'a> {
    level: Level,
    team: &'a Team,
    text: usize,
    hidden: usize,
    d: usize,
    weights: Weights<'a>,
}

/// Gradients, in the layouts the products leave them in.
pub(crate) struct Gradients {
    /// [text, hidden]
    pub(crate) w1_transposed: Vec<f64>,
    /// [hidden]
    pub(crate) b1: Vec<f64>,
    /// [hidden, d]
    pub(crate) w2_transposed: Vec<f64>,
    /// [d]
    pub(crate) b2: Vec<f64>,
}

/// [rows, columns] -> [columns, rows]
fn transpose(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for i in 0..rows {
        for j in 0..columns {
            out[j * rows + i] = x[i * columns + j];
        }
    }
    out
}

impl<'a> TextTower<'a> {
    pub(crate) fn new(level: Level, team: &'a Team, weights: Weights<'a>) -> Self {
        let (hidden, d) = (weights.b1.len(), weights.b2.len());
        assert!(hidden.is_multiple_of(16) && d.is_multiple_of(16), "hidden {hidden} and d {d} are not padded");
        TextTower { level, team, text: weights.w1.len() / hidden, hidden, d, weights }
    }

    /// x [rows, text] -> z [rows, d] and h [rows, hidden], the activations after LeakyReLU.
    pub(crate) fn forward(&self, x: &[f32], z: &mut [f32], h: &mut [f32]) {
        let (text, hidden, d) = (self.text, self.hidden, self.d);
        // W1 transposed, in panels of 32 columns: [hidden / 32][text][32], the last panel narrower
        let w1: Vec<f32> =
            self.weights.w1.chunks(PANEL * text).flat_map(|panel| transpose(panel, panel.len() / text, text)).collect();
        let w2 = transpose(self.weights.w2, d, hidden);
        let rows = z.len() / d;
        let (zs, hs) = (Shared::new(z), Shared::new(h));
        self.team.run(|thread| {
            let part = self.team.part(rows, FORWARD_ROWS, thread);
            // SAFETY: parts of different threads are disjoint.
            let (z, h) =
                unsafe { (zs.slice(part.start * d..part.end * d), hs.slice(part.start * hidden..part.end * hidden)) };
            let x = &x[part.start * text..part.end * text];
            self.level.run(Forward { tower: self, w1_panels: &w1, w2_transposed: &w2, x, z, h });
        });
    }

    /// dz [rows, d] -> gradients of the four parameters, exact sums over the rows.
    pub(crate) fn backward(&self, x: &[f32], h: &[f32], dz: &[f32], bounds: &TowerBounds) -> Gradients {
        let (text, hidden, d) = (self.text, self.hidden, self.d);
        let rows = dz.len() / d;
        // W1^T [text, hidden], W2^T [hidden, d], b1, b2
        let parts: [(usize, Bound); 4] =
            [(text * hidden, bounds.w1), (hidden * d, bounds.w2), (hidden, bounds.b1), (d, bounds.b2)];
        let mut grads: Vec<Vec<f64>> = vec![Vec::new(); self.team.size];
        let shared = Shared::new(&mut grads);
        self.team.run(|thread| {
            let part = self.team.part(rows, BACKWARD_ROWS, thread);
            let (first, last) = (part.start, part.end);
            let (x, h, dz) =
                (&x[first * text..last * text], &h[first * hidden..last * hidden], &dz[first * d..last * d]);
            // SAFETY: one element of `grads` a thread.
            let grads = unsafe { &mut shared.slice(thread..thread + 1)[0] };
            *grads = exact::biased(&parts);
            self.level.run(Backward { tower: self, x, h, dz, grads });
        });
        let mut w1_transposed = exact::collect(self.team, grads, &parts);
        let mut w2_transposed = w1_transposed.split_off(text * hidden);
        let mut b1 = w2_transposed.split_off(hidden * d);
        let b2 = b1.split_off(hidden);
        Gradients { w1_transposed, b1, w2_transposed, b2 }
    }
}

struct Forward<'a> {
    tower: &'a TextTower<'a>,
    w1_panels: &'a [f32],
    w2_transposed: &'a [f32],
    x: &'a [f32],
    z: &'a mut [f32],
    h: &'a mut [f32],
}

impl Vectorised for Forward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Forward { tower, w1_panels, w2_transposed, x, z, h } = self;
        let TextTower { text, hidden, d, weights, .. } = tower;
        let (text, hidden, d) = (*text, *hidden, *d);
        let blocks =
            x.chunks(FORWARD_ROWS * text).zip(z.chunks_mut(FORWARD_ROWS * d)).zip(h.chunks_mut(FORWARD_ROWS * hidden));
        for ((x, z), h) in blocks {
            let rows = x.len() / text;
            h.chunks_exact_mut(hidden).for_each(|h| h.copy_from_slice(weights.b1));
            z.chunks_exact_mut(d).for_each(|z| z.copy_from_slice(weights.b2));
            // SAFETY: the blocks and weights have the shapes named; the caller enabled S.
            unsafe {
                for j in (0..hidden).step_by(PANEL) {
                    let width = PANEL.min(hidden - j);
                    let panel = w1_panels.as_ptr().add(j * text);
                    add_product::<S>(
                        rows,
                        text,
                        width,
                        View::rows(x, text),
                        panel,
                        width,
                        h.as_mut_ptr().add(j),
                        hidden,
                    );
                }
                h.iter_mut().for_each(|v| *v = if *v > 0.0 { *v } else { SLOPE * *v });
                add_product::<S>(rows, hidden, d, View::rows(h, hidden), w2_transposed.as_ptr(), d, z.as_mut_ptr(), d);
            }
        }
    }
}

struct Backward<'a> {
    tower: &'a TextTower<'a>,
    x: &'a [f32],
    h: &'a [f32],
    dz: &'a [f32],
    grads: &'a mut [f64],
}

impl Vectorised for Backward<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Backward { tower, x, h, dz, grads } = self;
        let TextTower { text, hidden, d, weights, .. } = tower;
        let (text, hidden, d) = (*text, *hidden, *d);
        let (dw1, rest) = grads.split_at_mut(text * hidden);
        let (dw2, rest) = rest.split_at_mut(hidden * d);
        let (db1, db2) = rest.split_at_mut(hidden);
        let mut packed = Packed::default();
        let mut dh = vec![0.0f32; BACKWARD_ROWS * hidden];
        let blocks =
            x.chunks(BACKWARD_ROWS * text).zip(h.chunks(BACKWARD_ROWS * hidden)).zip(dz.chunks(BACKWARD_ROWS * d));
        for ((x, h), dz) in blocks {
            let rows = x.len() / text;
            let dh = &mut dh[..rows * hidden];
            dh.fill(0.0);
            // SAFETY: the blocks and weights have the shapes named; the caller enabled S.
            unsafe {
                add_product::<S>(
                    rows,
                    d,
                    hidden,
                    View::rows(dz, d),
                    weights.w2.as_ptr(),
                    hidden,
                    dh.as_mut_ptr(),
                    hidden,
                );
                // LeakyReLU keeps the sign, so h also holds its slope
                dh.iter_mut().zip(h).for_each(|(dh, h)| *dh *= if *h > 0.0 { 1.0 } else { SLOPE });
                let (x, h, dh, dz) = (x.as_ptr(), h.as_ptr(), dh.as_ptr(), dz.as_ptr());
                add_outer_products::<S>(&mut packed, rows, (text, x, text), (hidden, dh), dw1.as_mut_ptr());
                add_outer_products::<S>(&mut packed, rows, (hidden, h, hidden), (d, dz), dw2.as_mut_ptr());
                let one = (1, ONE.as_ptr(), 0);
                add_outer_products::<S>(&mut packed, rows, one, (hidden, dh), db1.as_mut_ptr());
                add_outer_products::<S>(&mut packed, rows, one, (d, dz), db2.as_mut_ptr());
            }
        }
    }
}
