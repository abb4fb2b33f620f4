//! [`super::all_pairs`] with bf16 products and f32 sums (AVX-512 BF16), for losses of tiny weight with |logit| <= 1.
//!
//! `vdpbf16ps` does two multiply-adds per lane, so operands are pairs of bf16 in one u32, paired along the summed
//! dimension: (k, k+1) for logits, (key j, j+1) for anchor gradients, (anchor r, r+1) for key gradients.

use super::all_pairs::{AllPairs, Coefficient};
use super::simd::Level;
use super::team::Team;

/// True when [`all_pairs_bf16`] may be called.
pub(crate) fn available(level: Level) -> bool {
    #[cfg(target_arch = "x86_64")]
    return level == Level::Avx512 && is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// anchors [m, d], keys [n, d], temperature 1, rows of length <= 1. Panics unless [`available`].
pub(crate) fn all_pairs_bf16(
    team: &Team,
    d: usize,
    anchors: &[f32],
    keys: &[f32],
    coefficient: Coefficient,
) -> AllPairs {
    #[cfg(target_arch = "x86_64")]
    return bf16::all_pairs(team, d, anchors, keys, coefficient);
    #[cfg(not(target_arch = "x86_64"))]
    panic!("bf16 products need AVX-512 BF16");
}

#[cfg(target_arch = "x86_64")]
mod bf16 {
    use super::{AllPairs, Coefficient, Level, Team, available};
    use crate::kernels::cpu::all_pairs::{PANEL, ROWS, sum_of_parts};
    use crate::kernels::cpu::team::Shared;
    use std::arch::x86_64::*;
    use std::ops::Range;

    const CHUNK: usize = 8;
    /// Anchors per register group, keys per register group.
    const GROUP: usize = 12;
    const KEYS: usize = 8;

    /// Nearest-even bf16 of two floats; the first in the low half.
    fn pair(low: f32, high: f32) -> u32 {
        let round = |x: f32| {
            let b = x.to_bits();
            (b + 0x7fff + ((b >> 16) & 1)) >> 16
        };
        round(low) | (round(high) << 16)
    }

    struct Keys {
        /// [panels][d / 2][PANEL]
        panels: Vec<u32>,
        /// [padded n / 2][d]
        rows: Vec<u32>,
        /// keys in the last panel
        last: usize,
    }

    fn pack(d: usize, keys: &[f32]) -> Keys {
        let n = keys.len() / d;
        let padded = n.next_multiple_of(PANEL);
        let at = |j: usize, k: usize| if j < n { keys[j * d + k] } else { 0.0 };
        let mut panels = Vec::with_capacity(padded * d / 2);
        let mut rows = Vec::with_capacity(padded * d / 2);
        for panel in (0..padded).step_by(PANEL) {
            for k in (0..d).step_by(2) {
                panels.extend((panel..panel + PANEL).map(|j| pair(at(j, k), at(j, k + 1))));
            }
            for j in (panel..panel + PANEL).step_by(2) {
                rows.extend((0..d).map(|k| pair(at(j, k), at(j + 1, k))));
            }
        }
        Keys { panels, rows, last: n - (padded - PANEL) }
    }

    pub(super) fn all_pairs(
        team: &Team,
        d: usize,
        anchors: &[f32],
        keys: &[f32],
        coefficient: Coefficient,
    ) -> AllPairs {
        assert!(available(Level::Avx512), "bf16 products need AVX-512 BF16");
        let (m, n) = (anchors.len() / d, keys.len() / d);
        let packed = pack(d, keys);
        let (mut sums, mut anchor_grad) = (vec![0.0; m], vec![0.0; m * d]);
        let (s, a) = (Shared::new(&mut sums), Shared::new(&mut anchor_grad));
        let mut key_grad = sum_of_parts(team, m, packed.rows.len() * 2, |rows, key_grad| {
            // SAFETY: the parts are disjoint; the instructions are there (asserted above).
            unsafe {
                let (sums, anchor_grad) = (s.slice(rows.clone()), a.slice(rows.start * d..rows.end * d));
                worker(d, anchors, &packed, rows, coefficient, sums, anchor_grad, key_grad);
            }
        });
        key_grad.truncate(n * d);
        AllPairs { sums, anchor_grad, key_grad }
    }

    #[allow(clippy::too_many_arguments, reason = "called once; a struct would only rename them")]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn worker(
        d: usize,
        anchors: &[f32],
        keys: &Keys,
        range: Range<usize>,
        coefficient: Coefficient,
        sums: &mut [f32],
        anchor_grad: &mut [f32],
        key_grad: &mut [f32],
    ) {
        let panels = keys.panels.len() / (d / 2 * PANEL);
        let mut by_row = vec![0u32; CHUNK * GROUP * PANEL / 2]; // [panel of chunk][GROUP][PANEL / 2], pairs of keys
        let mut by_key = vec![0u32; panels * ROWS / 2 * PANEL]; // [panel][ROWS / 2][PANEL], pairs of anchors
        let mut packed = vec![0u32; ROWS * d / 2];
        let mut grad = vec![0.0f32; ROWS * d];
        let mut lane_sums = vec![0.0f32; ROWS * 16];
        let mut scaled = vec![0.0f32; ROWS * d];
        for start in range.clone().step_by(ROWS) {
            let block = &anchors[start * d..(start + ROWS).min(range.end) * d];
            let rows = block.len() / d;
            packed.fill(0);
            for (p, a) in packed.iter_mut().zip(block.chunks_exact(2)) {
                *p = pair(a[0], a[1]);
            }
            grad.fill(0.0);
            lane_sums.fill(0.0);
            for first in (0..panels).step_by(CHUNK) {
                let chunk = first..(first + CHUNK).min(panels);
                for row in (0..rows).step_by(GROUP) {
                    for panel in chunk.clone() {
                        let valid = if panel + 1 == panels { keys.last } else { PANEL };
                        unsafe {
                            exp_logits(
                                d,
                                packed.as_ptr().add(row * d / 2),
                                keys.panels.as_ptr().add(panel * d / 2 * PANEL),
                                valid,
                                by_row.as_mut_ptr().add((panel - first) * GROUP * PANEL / 2),
                                by_key.as_mut_ptr().add((panel * ROWS + row) / 2 * PANEL),
                                lane_sums.as_mut_ptr().add(row * 16),
                            );
                        }
                    }
                    unsafe {
                        add_anchor_grad(d, &by_row, keys.rows.as_ptr(), chunk.clone(), grad.as_mut_ptr().add(row * d))
                    };
                }
            }
            let base = start - range.start;
            scaled.fill(0.0);
            for r in 0..rows {
                let sum: f32 = lane_sums[r * 16..(r + 1) * 16].iter().sum();
                let c = coefficient(start + r, sum);
                sums[base + r] = sum;
                for k in 0..d {
                    anchor_grad[(base + r) * d + k] = c * grad[r * d + k];
                    scaled[r * d + k] = c * block[r * d + k];
                }
            }
            for (p, rows) in packed.chunks_exact_mut(d).zip(scaled.chunks_exact(2 * d)) {
                for k in 0..d {
                    p[k] = pair(rows[k], rows[d + k]); // [ROWS / 2][d]
                }
            }
            for panel in 0..panels {
                unsafe {
                    let tile = by_key.as_ptr().add(panel * ROWS / 2 * PANEL);
                    add_key_grad(
                        d,
                        tile,
                        packed.as_ptr(),
                        rows.div_ceil(2),
                        key_grad.as_mut_ptr().add(panel * PANEL * d),
                    );
                }
            }
        }
    }

    /// e^x on [-1, 1], degree 5 minimax: relative error <= 5e-5, far under bf16.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn exp_unit(x: __m512) -> __m512 {
        let mut p = _mm512_set1_ps(8.040_51e-3);
        for c in [4.364_626e-2_f32, 1.672_742_6e-1, 4.993_418_6e-1, 9.998_37e-1, 1.000_027_6] {
            p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(c));
        }
        p
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn dot(acc: __m512, a: __m512i, b: __m512i) -> __m512 {
        unsafe {
            _mm512_dpbf16_ps(
                acc,
                std::mem::transmute::<__m512i, __m512bh>(a),
                std::mem::transmute::<__m512i, __m512bh>(b),
            )
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn narrow(low: __m512, high: __m512) -> __m512i {
        unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(p: *const u32) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn splat(p: *const u32) -> __m512i {
        unsafe { _mm512_set1_epi32(*p as i32) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn exp_logits(
        d: usize,
        anchors: *const u32,
        panel: *const u32,
        valid: usize,
        by_row: *mut u32,
        by_key: *mut u32,
        lane_sums: *mut f32,
    ) {
        unsafe {
            let mut acc = [[_mm512_setzero_ps(); 2]; GROUP];
            for k in 0..d / 2 {
                let key = [load(panel.add(k * PANEL)), load(panel.add(k * PANEL + 16))];
                for r in 0..GROUP {
                    let a = splat(anchors.add(r * d / 2 + k));
                    acc[r] = [dot(acc[r][0], a, key[0]), dot(acc[r][1], a, key[1])];
                }
            }
            let mask = (1u64 << valid) - 1;
            for r in 0..GROUP {
                let e = [exp_unit(acc[r][0]), exp_unit(acc[r][1])];
                acc[r] = [_mm512_maskz_mov_ps(mask as u16, e[0]), _mm512_maskz_mov_ps((mask >> 16) as u16, e[1])];
                let sums = lane_sums.add(r * 16);
                _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), _mm512_add_ps(acc[r][0], acc[r][1])));
                _mm512_storeu_si512(by_row.add(r * PANEL / 2).cast(), narrow(acc[r][0], acc[r][1]));
            }
            // word i of the result: 2i from anchor r, 2i + 1 from anchor r + 1
            let mut order = [0u16; 32];
            for i in 0..32 {
                order[i] = (i / 2 + (i % 2) * 16) as u16;
            }
            let order = _mm512_loadu_si512(order.as_ptr().cast());
            for r in (0..GROUP).step_by(2) {
                for v in 0..2 {
                    let pairs = _mm512_permutexvar_epi16(order, narrow(acc[r][v], acc[r + 1][v]));
                    _mm512_storeu_si512(by_key.add(r / 2 * PANEL + v * 16).cast(), pairs);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn add_anchor_grad(d: usize, by_row: &[u32], keys: *const u32, chunk: Range<usize>, grad: *mut f32) {
        unsafe {
            for column in (0..d).step_by(32) {
                let mut acc = [[_mm512_setzero_ps(); 2]; GROUP];
                for panel in chunk.clone() {
                    let tile = by_row.as_ptr().add((panel - chunk.start) * GROUP * PANEL / 2);
                    let keys = keys.add(panel * PANEL / 2 * d + column);
                    for j in 0..PANEL / 2 {
                        let key = [load(keys.add(j * d)), load(keys.add(j * d + 16))];
                        for r in 0..GROUP {
                            let e = splat(tile.add(r * PANEL / 2 + j));
                            acc[r] = [dot(acc[r][0], e, key[0]), dot(acc[r][1], e, key[1])];
                        }
                    }
                }
                for r in 0..GROUP {
                    add_to(grad.add(r * d + column), acc[r]);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn add_key_grad(d: usize, tile: *const u32, anchors: *const u32, pairs: usize, grad: *mut f32) {
        unsafe {
            for column in (0..d).step_by(32) {
                for j in (0..PANEL).step_by(KEYS) {
                    let mut acc = [[_mm512_setzero_ps(); 2]; KEYS];
                    for r in 0..pairs {
                        let anchor = [load(anchors.add(r * d + column)), load(anchors.add(r * d + column + 16))];
                        for k in 0..KEYS {
                            let e = splat(tile.add(r * PANEL + j + k));
                            acc[k] = [dot(acc[k][0], e, anchor[0]), dot(acc[k][1], e, anchor[1])];
                        }
                    }
                    for k in 0..KEYS {
                        add_to(grad.add((j + k) * d + column), acc[k]);
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add_to(p: *mut f32, v: [__m512; 2]) {
        unsafe {
            _mm512_storeu_ps(p, _mm512_add_ps(_mm512_loadu_ps(p), v[0]));
            _mm512_storeu_ps(p.add(16), _mm512_add_ps(_mm512_loadu_ps(p.add(16)), v[1]));
        }
    }
}
