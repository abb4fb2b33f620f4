//! Row gathers and scatters, and the passes over whole parameter tables.

use super::simd::{Level, Simd, Vectorised};
use super::team::{Shared, Team};
use crate::kernels::{AdamStep, Norm};

/// Elements a thread takes at once; also the fixed block of a sum, so that it does not depend on the team.
const BLOCK: usize = 4096;

/// out [m, d] = rows `ids` of table [n, d]
pub(crate) fn gather(team: &Team, d: usize, table: &[f32], ids: &[i64], out: &mut [f32]) {
    team.rows(out, d, 64, |range, out| {
        for (row, &id) in out.chunks_exact_mut(d).zip(&ids[range]) {
            row.copy_from_slice(&table[id as usize * d..][..d]);
        }
    });
}

/// table[ids] += rows, in the order of `ids`.
pub(crate) fn scatter_add(d: usize, table: &mut [f32], ids: &[i64], rows: &[f32]) {
    for (&id, row) in ids.iter().zip(rows.chunks_exact(d)) {
        table[id as usize * d..][..d].iter_mut().zip(row).for_each(|(t, r)| *t += r);
    }
}

/// out [n, d] = unit rows of x, inverse [n] = 1 / |row|.
pub(crate) fn unit_rows(team: &Team, d: usize, x: &[f32], norm: Norm, out: &mut [f32], inverse: &mut [f32]) {
    let shared = Shared::new(inverse);
    team.rows(out, d, 64, |range, out| {
        // SAFETY: the ranges of different threads are disjoint.
        let inverse = unsafe { shared.slice(range.clone()) };
        let rows = out.chunks_exact_mut(d).zip(x[range.start * d..range.end * d].chunks_exact(d)).zip(inverse);
        for ((out, x), inverse) in rows {
            let square: f32 = x.iter().map(|v| v * v).sum();
            *inverse = match norm {
                Norm::Root => 1.0 / (1e-8 + square).sqrt(),
                Norm::Max => 1.0 / square.sqrt().max(1e-12),
            };
            out.iter_mut().zip(x).for_each(|(out, x)| *out = x * *inverse);
        }
    });
}

/// out = (g - u (u . g)) inverse, row by row.
pub(crate) fn unit_rows_backward(team: &Team, d: usize, unit: &[f32], inverse: &[f32], grad: &[f32], out: &mut [f32]) {
    team.rows(out, d, 64, |range, out| {
        let floats = range.start * d..range.end * d;
        let rows = unit[floats.clone()].chunks_exact(d).zip(grad[floats].chunks_exact(d)).zip(&inverse[range]);
        for (out, ((unit, grad), inverse)) in out.chunks_exact_mut(d).zip(rows) {
            let along: f32 = unit.iter().zip(grad).map(|(u, g)| u * g).sum();
            out.iter_mut().zip(unit).zip(grad).for_each(|((out, u), g)| *out = (g - u * along) * inverse);
        }
    });
}

pub(crate) fn adam(
    level: Level,
    team: &Team,
    w: &mut [f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    step: AdamStep,
) {
    assert!(w.len() == grad.len() && w.len() == m.len() && w.len() == v.len(), "wrong shapes");
    let n = w.len();
    let (w, m, v) = (Shared::new(w), Shared::new(m), Shared::new(v));
    team.run(|thread| {
        let part = team.part(n, BLOCK, thread);
        // SAFETY: parts of different threads are disjoint.
        let (w, m, v) = unsafe { (w.slice(part.clone()), m.slice(part.clone()), v.slice(part.clone())) };
        level.run(Adam { w, grad: &grad[part], m, v, step });
    });
}

struct Adam<'a> {
    w: &'a mut [f32],
    grad: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    step: AdamStep,
}

impl Vectorised for Adam<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Adam { w, grad, m, v, step } = self;
        let (rate, root_correction) = step.corrections();
        let [b1, b2] = AdamStep::BETAS.map(|b| b as f32);
        let (c1, c2) = ((1.0 - AdamStep::BETAS[0]) as f32, (1.0 - AdamStep::BETAS[1]) as f32);
        let (decay, rate) = ((2.0 * step.reg) as f32, rate as f32);
        let (inverse_root, epsilon) = ((1.0 / root_correction) as f32, AdamStep::EPSILON as f32);
        let whole = w.len() / S::LANES * S::LANES;
        // SAFETY: all four slices have the same length (asserted by the caller).
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                let at = |p: *const f32| S::load(p.add(i));
                let weight = at(w.as_ptr());
                let g = S::fma(S::splat(decay), weight, at(grad.as_ptr()));
                let first = S::fma(S::splat(b1), at(m.as_ptr()), S::mul(S::splat(c1), g));
                let second = S::fma(S::splat(b2), at(v.as_ptr()), S::mul(S::splat(c2), S::mul(g, g)));
                let root = S::fma(S::sqrt(second), S::splat(inverse_root), S::splat(epsilon));
                let update = S::div(S::mul(S::splat(rate), first), root);
                S::store(m.as_mut_ptr().add(i), first);
                S::store(v.as_mut_ptr().add(i), second);
                S::store(w.as_mut_ptr().add(i), S::sub(weight, update));
            }
        }
        for i in whole..w.len() {
            let g = decay.mul_add(w[i], grad[i]);
            m[i] = b1.mul_add(m[i], c1 * g);
            v[i] = b2.mul_add(v[i], c2 * (g * g));
            w[i] -= rate * m[i] / v[i].sqrt().mul_add(inverse_root, epsilon);
        }
    }
}

/// Blocks are summed in f32 lanes, then added up in f64 in their order: the same for every team.
pub(crate) fn sum_of_squares(level: Level, team: &Team, x: &[f32]) -> f64 {
    let mut sums = vec![0.0f32; x.len().div_ceil(BLOCK)];
    team.rows(&mut sums, 1, 1, |range, sums| {
        for (block, sum) in range.zip(sums) {
            *sum = level.run(SumOfSquares(&x[block * BLOCK..x.len().min((block + 1) * BLOCK)]));
        }
    });
    sums.into_iter().map(f64::from).sum()
}

struct SumOfSquares<'a>(&'a [f32]);

impl Vectorised for SumOfSquares<'_> {
    type Output = f32;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let whole = self.0.len() / S::LANES * S::LANES;
        let rest: f32 = self.0[whole..].iter().map(|x| x * x).sum();
        // SAFETY: `whole` elements are there; the caller enabled S.
        unsafe { super::simd::dot::<S>(whole, self.0.as_ptr(), self.0.as_ptr()) + rest }
    }
}
