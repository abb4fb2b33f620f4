//! [`super::all_pairs`] through moments: e^c is replaced by a quadratic in c where gradients need it and by its
//! integral, a cubic, in the row sums, so that sums over keys collapse into tensors of the keys: O(n d^3), not O(n^2 d).
//! Moments add up: those of several workers' keys are the sum of each worker's.
//!
//! An approximation (0.5 % of e^c for |c| <= 1/2, 7 % at c = 1, 27 % at c = -1), consistent in itself (the gradient is
//! that of the value): only for a loss whose weight hides it, such as the shipped 1e-7 of the translation loss.

use super::exact::{self, ONE, Packed, add_outer_products};
use super::gemm::{View, add_product};
use super::simd::{Level, Simd, Vectorised};
use super::team::{Shared, Team};
use crate::kernels::Bound;

const SLOPE: f32 = crate::kernels::MOMENT_SLOPE as f32;
/// Rows per block.
const ROWS: usize = 96;

/// Moments of rows x_j [n, d] with weights w_j, in one piece:
/// [pairs, d] sum w (x_a x_b) x for a <= b, off-diagonal pairs twice; [d, d] sum w x x^T; [d] sum w x; sum w.
#[derive(Clone, Copy)]
pub(crate) struct Moments<'a> {
    third: &'a [f32],
    second: &'a [f32],
    first: &'a [f32],
    weight: f32,
}

fn pair_count(d: usize) -> usize {
    d * (d + 1) / 2
}

/// Numbers that the moments of rows of width d take.
pub(crate) fn moments_len(d: usize) -> usize {
    (pair_count(d) + d + 1) * d + 1
}

/// out [rows, pairs] = x_a x_b for a <= b.
#[inline(always)]
fn products(d: usize, x: &[f32], out: &mut [f32]) {
    for (x, mut out) in x.chunks_exact(d).zip(out.chunks_exact_mut(pair_count(d))) {
        for a in 0..d {
            let (now, later) = out.split_at_mut(d - a);
            now.iter_mut().zip(&x[a..]).for_each(|(o, b)| *o = x[a] * b);
            out = later;
        }
    }
}

/// Moments of x [n, d], exact sums; weight [n], or 1.
pub(crate) fn moments(
    level: Level,
    team: &Team,
    d: usize,
    x: &[f32],
    weight: Option<&[f32]>,
    bound: Bound,
) -> Vec<f64> {
    let n = x.len() / d;
    let parts = [(moments_len(d) - 1, bound)];
    let mut sums: Vec<Vec<f64>> = vec![Vec::new(); team.size];
    let shared = Shared::new(&mut sums);
    team.run(|thread| {
        let part = team.part(n, ROWS, thread);
        let weight = weight.map(|w| &w[part.clone()]);
        // SAFETY: one element of `sums` a thread.
        let out = unsafe { &mut shared.slice(thread..thread + 1)[0] };
        *out = exact::biased(&parts);
        level.run(Collect { d, x: &x[part.start * d..part.end * d], weight, out });
    });
    let mut all = exact::collect(team, sums, &parts);
    let mut row = 0;
    for a in 0..d {
        all[(row + 1) * d..(row + d - a) * d].iter_mut().for_each(|v| *v *= 2.0);
        row += d - a;
    }
    debug_assert_eq!(row, pair_count(d));
    all.push(weight.map_or(n as f64, |w| exact::sum(w, bound)));
    all
}

impl<'a> Moments<'a> {
    /// `all`: what [`moments`] gave, or a sum of such, as f32.
    pub(crate) fn of(d: usize, all: &'a [f32]) -> Moments<'a> {
        assert_eq!(all.len(), moments_len(d), "moments of another width");
        let (third, rest) = all.split_at(pair_count(d) * d);
        let (second, rest) = rest.split_at(d * d);
        Moments { third, second, first: &rest[..d], weight: rest[d] }
    }

    /// For each row y [n, d]: sum_j w_j p(y . x_j) [n], and sum_j w_j p'(y . x_j) x_j [n, d].
    pub(crate) fn apply(self, level: Level, team: &Team, d: usize, y: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let n = y.len() / d;
        let (mut sums, mut grad) = (vec![0.0; n], vec![0.0; n * d]);
        let (shared_sums, shared_grad) = (Shared::new(&mut sums), Shared::new(&mut grad));
        team.run(|thread| {
            let part = team.part(n, ROWS, thread);
            let floats = part.start * d..part.end * d;
            // SAFETY: parts of different threads are disjoint.
            let (sums, grad) = unsafe { (shared_sums.slice(part), shared_grad.slice(floats.clone())) };
            level.run(Evaluate { d, moments: self, y: &y[floats], sums, grad });
        });
        (sums, grad)
    }
}

/// out = third [pairs, d], second [d, d], first [d] of rows x, all added to.
struct Collect<'a> {
    d: usize,
    x: &'a [f32],
    weight: Option<&'a [f32]>,
    out: &'a mut [f64],
}

impl Vectorised for Collect<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Collect { d, x, weight, out } = self;
        let pairs = pair_count(d);
        let (third, rest) = out.split_at_mut(pairs * d);
        let (second, first) = rest.split_at_mut(d * d);
        let mut packed = Packed::default();
        let mut z = vec![0.0f32; ROWS * pairs];
        let mut weighted = vec![0.0f32; ROWS * d];
        for (block, x) in x.chunks(ROWS * d).enumerate() {
            let rows = x.len() / d;
            products(d, x, &mut z);
            for r in 0..rows {
                let w = weight.map_or(1.0, |w| w[block * ROWS + r]);
                for k in r * d..(r + 1) * d {
                    weighted[k] = w * x[k];
                }
            }
            let weighted = (d, weighted.as_ptr());
            // SAFETY: the buffers have the shapes named; the caller enabled S.
            unsafe {
                let z = (pairs, z.as_ptr(), pairs);
                add_outer_products::<S>(&mut packed, rows, z, weighted, third.as_mut_ptr());
                let x = (d, x.as_ptr(), d);
                add_outer_products::<S>(&mut packed, rows, x, weighted, second.as_mut_ptr());
                add_outer_products::<S>(&mut packed, rows, (1, ONE.as_ptr(), 0), weighted, first.as_mut_ptr());
            }
        }
    }
}

struct Evaluate<'a> {
    d: usize,
    moments: Moments<'a>,
    y: &'a [f32],
    sums: &'a mut [f32],
    grad: &'a mut [f32],
}

impl Vectorised for Evaluate<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Evaluate { d, moments: m, y, sums, grad } = self;
        let pairs = pair_count(d);
        let mut z = vec![0.0f32; ROWS * pairs];
        let (mut second, mut third) = (vec![0.0f32; ROWS * d], vec![0.0f32; ROWS * d]);
        for ((y, sums), grad) in y.chunks(ROWS * d).zip(sums.chunks_mut(ROWS)).zip(grad.chunks_mut(ROWS * d)) {
            let rows = sums.len();
            products(d, y, &mut z);
            second.fill(0.0);
            third.fill(0.0);
            // SAFETY: the buffers have the shapes named; the caller enabled S.
            unsafe {
                add_product::<S>(rows, d, d, View::rows(y, d), m.second.as_ptr(), d, second.as_mut_ptr(), d);
                add_product::<S>(rows, pairs, d, View::rows(&z, pairs), m.third.as_ptr(), d, third.as_mut_ptr(), d);
            }
            for r in 0..rows {
                let mut sum = m.weight;
                for k in 0..d {
                    let (one, two, three) = (m.first[k], second[r * d + k] * SLOPE, third[r * d + k] * 0.5);
                    grad[r * d + k] = one + two + three;
                    sum += y[r * d + k] * (one + two / 2.0 + three / 3.0);
                }
                sums[r] = sum;
            }
        }
    }
}
