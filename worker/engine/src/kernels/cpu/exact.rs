//! Sums over rows that do not depend, in a single bit, on the order or grouping of the rows: the gradients of what every
//! worker has a copy of. Workers and threads sum what rows they have, and their f64 sums add up exactly.
//!
//! An accumulator starts at M = 1.5 * 2^k ([`Bound::bias`]) and stays inside [2^k, 2^(k+1)), where the numbers are
//! multiples of g = 2^(k-52). Adding a product then adds its nearest multiple of g whatever the accumulator holds, unless
//! the product lies exactly halfway between two. It never does: the factors are moved by a quarter of their last f32 bit
//! ([`odd`]), which makes a product an odd multiple of something smaller than g / 2.

use super::simd::Simd;
use super::team::Team;
use crate::kernels::Bound;

/// Columns of b that are packed at once: with 192 rows 400 kB, which stay in L2.
const COLUMNS: usize = 256;

/// `x` as an f64 of 25 fraction bits of which the last is set: x + or - 2^-25 of its power of two, the sign from its last
/// bit so that sums do not drift; 0 stays 0, what is not finite becomes NaN. A product of two such numbers fits an f64.
#[inline(always)]
fn odd(x: f32) -> f64 {
    let bits = f64::from(x).to_bits();
    let last = (bits >> 29) & 1;
    let moved = f64::from_bits(bits.wrapping_add(1 << 27).wrapping_sub(last << 28));
    if x == 0.0 { 0.0 } else { moved }
}

/// Packed blocks of both factors; one for each thread, to use again.
#[derive(Default)]
pub(crate) struct Packed {
    a: Vec<f64>,
    b: Vec<f64>,
}

/// The 1 of plain sums of rows: `a` of [`add_outer_products`] with m = 1 and row length 0.
pub(crate) const ONE: [f32; 1] = [1.0];

/// c [m, n] (row length n, biased) += sum over `rows` of a_r^T b_r: a [rows, m] and b [rows, n], row lengths `lda` and n,
/// n a multiple of 16.
///
/// # Safety
/// The pointers cover those shapes; called from a function with `S`'s instruction set enabled.
#[inline(always)]
pub(crate) unsafe fn add_outer_products<S: Simd>(
    packed: &mut Packed,
    rows: usize,
    (m, a, lda): (usize, *const f32, usize),
    (n, b): (usize, *const f32),
    c: *mut f64,
) {
    // 16 registers hold 6 x 2 accumulators, 32 registers 12 x 2
    let group = if S::LANES == 16 { 12 } else { 6 };
    let panel = S::LANES;
    packed.a.resize(rows * group, 0.0);
    unsafe {
        for first in (0..n).step_by(COLUMNS) {
            let columns = COLUMNS.min(n - first);
            packed.b.resize(rows * columns, 0.0);
            for j in (0..columns).step_by(panel) {
                let b = b.add(first + j);
                if S::LANES == 16 {
                    pack::<16>(rows, b, n, packed.b.as_mut_ptr().add(j * rows));
                } else {
                    pack::<8>(rows, b, n, packed.b.as_mut_ptr().add(j * rows));
                }
            }
            let mut i = 0;
            while i < m {
                let (a, c) = (a.add(i), c.add(i * n + first));
                let job = Tiles { rows, columns, a, lda, b: packed.b.as_ptr(), c, n };
                let left = m - i;
                i += match (left, S::LANES) {
                    (12.., 16) => job.run::<S, 12>(&mut packed.a),
                    (6.., 8) => job.run::<S, 6>(&mut packed.a),
                    (4.., _) => job.run::<S, 4>(&mut packed.a),
                    _ => job.run::<S, 1>(&mut packed.a),
                };
            }
        }
    }
}

/// out [rows, W] = `W` columns of x, odd.
#[inline(always)]
unsafe fn pack<const W: usize>(rows: usize, x: *const f32, ldx: usize, out: *mut f64) {
    unsafe {
        for r in 0..rows {
            let x = x.add(r * ldx).cast::<[f32; W]>().read_unaligned();
            let mut o = [0.0; W];
            for j in 0..W {
                o[j] = odd(x[j]);
            }
            out.add(r * W).cast::<[f64; W]>().write_unaligned(o);
        }
    }
}

/// Some rows of c in one block of columns.
struct Tiles {
    rows: usize,
    columns: usize,
    a: *const f32,
    lda: usize,
    /// [panels][rows][panel]
    b: *const f64,
    c: *mut f64,
    n: usize,
}

impl Tiles {
    /// `MR` rows of c; returns how many those are.
    #[inline(always)]
    unsafe fn run<S: Simd, const MR: usize>(self, packed: &mut [f64]) -> usize {
        let half = S::LANES / 2;
        unsafe {
            pack::<MR>(self.rows, self.a, self.lda, packed.as_mut_ptr());
            for j in (0..self.columns).step_by(S::LANES) {
                let (mut a, mut b) = (packed.as_ptr(), self.b.add(j * self.rows));
                let mut acc = [[S::splat_wide(0.0); 2]; MR];
                for r in 0..MR {
                    let c = self.c.add(r * self.n + j);
                    acc[r] = [S::load_wide(c), S::load_wide(c.add(half))];
                }
                for _ in 0..self.rows {
                    let bv = [S::load_wide(b), S::load_wide(b.add(half))];
                    for r in 0..MR {
                        let x = S::splat_wide(*a.add(r));
                        acc[r] = [S::fma_wide(x, bv[0], acc[r][0]), S::fma_wide(x, bv[1], acc[r][1])];
                    }
                    a = a.add(MR);
                    b = b.add(S::LANES);
                }
                for r in 0..MR {
                    let c = self.c.add(r * self.n + j);
                    S::store_wide(c, acc[r][0]);
                    S::store_wide(c.add(half), acc[r][1]);
                }
            }
        }
        MR
    }
}

/// The sum of `values`, as [`add_outer_products`] would add them up.
pub(crate) fn sum(values: &[f32], bound: Bound) -> f64 {
    let one = odd(1.0);
    let biased = values.iter().fold(bound.bias(), |sum, x| sum + odd(*x) * one);
    bound.without_bias(biased)
}

/// The threads' accumulators, which started at the biases of their parts: `bounds` (length, bound) in order.
pub(crate) fn collect(team: &Team, mut accumulators: Vec<Vec<f64>>, bounds: &[(usize, Bound)]) -> Vec<f64> {
    let (first, rest) = accumulators.split_at_mut(1);
    let mut at = 0;
    for &(length, bound) in bounds {
        let part = at..at + length;
        team.rows(&mut first[0][part.clone()], 1, 64, |range, out| {
            out.iter_mut().for_each(|sum| *sum = bound.without_bias(*sum));
            for other in rest.iter() {
                let other = &other[part.clone()][range.clone()];
                out.iter_mut().zip(other).for_each(|(sum, x)| *sum += bound.without_bias(*x));
            }
        });
        at += length;
    }
    accumulators.swap_remove(0)
}

/// One thread's accumulators at their biases.
pub(crate) fn biased(bounds: &[(usize, Bound)]) -> Vec<f64> {
    bounds.iter().flat_map(|&(length, bound)| std::iter::repeat_n(bound.bias(), length)).collect()
}
