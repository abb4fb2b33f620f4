//! Row sums of exp(a_b . k_c / t) over all keys, and both gradients, without an [anchors, keys] matrix.
//!
//! One pass. For a block of [`ROWS`] anchors every logit is computed once, its exponential kept in a tile that stays in
//! L2/L3 ([panels][ROWS][PANEL] floats, 2 MB for 11,000 keys), and used twice:
//!   anchors: sum_c e_bc k_c, chunk by chunk while the tile is in L1 (it needs no row sum: scaled at the end);
//!   keys:    once the row sums of the block are known, sum_b e_bc (coefficient_b a_b), panel by panel.
//! 3 products of d multiply-adds and one exp per pair, instead of 4 products and 2 exps with recomputation.
//! Anchors are cut into [`PARTS`] whatever the number of threads. Each part has its own [keys, d] gradient; those are
//! added at the end, in the order of the parts: no atomics, and the same bits from any team.
//! No max is subtracted: callers keep |logit| <= 80.

use super::simd::{Level, Simd, Vectorised, exp2};
use super::team::{Shared, Team, cut};
use std::ops::Range;

/// Keys per panel; a panel is stored transposed, [d][PANEL].
pub(crate) const PANEL: usize = 32;
/// Anchors per block.
pub(crate) const ROWS: usize = 48;
/// Most parts of the anchors, so also most threads at work: each costs a gradient of the keys.
const PARTS: usize = 8;
/// Panels per chunk: the part of the tile that a group of anchors fills before it is read back.
pub(crate) const CHUNK: usize = 8;

/// Turns the row sum of anchor `b` into the factor of its softmax row in the loss, e.g. weight_b / (t * sum_b).
pub(crate) type Coefficient<'a> = &'a (dyn Fn(usize, f32) -> f32 + Sync);

/// Keys in both layouts, padded to whole panels with rows of multiplicity 0.
pub(crate) struct PackedKeys {
    pub(crate) n: usize,
    /// Width, a multiple of 32.
    pub(crate) d: usize,
    /// [padded n, d]
    pub(crate) rows: Vec<f32>,
    /// [panels][d][PANEL]
    pub(crate) panels: Vec<f32>,
    /// [padded n] how often each key counts
    pub(crate) count: Vec<f32>,
}

impl PackedKeys {
    /// `keys` [n, d]; `count` [n], or every key once.
    pub(crate) fn new(team: &Team, d: usize, keys: &[f32], count: Option<&[f32]>) -> Self {
        assert!(d.is_multiple_of(32), "width {d} is not a multiple of 32");
        let n = keys.len() / d;
        let padded = n.next_multiple_of(PANEL);
        let mut rows = keys.to_vec();
        rows.resize(padded * d, 0.0);
        let mut panels = vec![0.0; padded * d];
        team.rows(&mut panels, d, PANEL, |range, panels| {
            let rows = &rows[range.start * d..range.end * d];
            for (panel, rows) in panels.chunks_exact_mut(d * PANEL).zip(rows.chunks_exact(d * PANEL)) {
                for (j, row) in rows.chunks_exact(d).enumerate() {
                    row.iter().enumerate().for_each(|(k, x)| panel[k * PANEL + j] = *x);
                }
            }
        });
        let mut count = count.map_or_else(|| vec![1.0; n], <[f32]>::to_vec);
        count.resize(padded, 0.0);
        PackedKeys { n, d, rows, panels, count }
    }
}

/// Result for anchors [m, d] and keys [n, d].
pub(crate) struct AllPairs {
    /// [m] sum_c count_c exp(a_b . k_c / t)
    pub(crate) sums: Vec<f32>,
    /// [m, d] coefficient_b sum_c count_c e_bc k_c
    pub(crate) anchor_grad: Vec<f32>,
    /// [n, d] count_c sum_b coefficient_b e_bc a_b
    pub(crate) key_grad: Vec<f32>,
}

struct Job<'a> {
    anchors: &'a [f32],
    keys: &'a PackedKeys,
    inverse_temperature: f32,
    coefficient: Coefficient<'a>,
    keys_only: bool,
}

/// `keys_only`: leaves the anchors' gradient zero.
pub(crate) fn all_pairs(
    level: Level,
    team: &Team,
    anchors: &[f32],
    keys: &PackedKeys,
    inverse_temperature: f32,
    coefficient: Coefficient,
    keys_only: bool,
) -> AllPairs {
    let d = keys.d;
    let m = anchors.len() / d;
    let job = Job { anchors, keys, inverse_temperature, coefficient, keys_only };
    let mut sums = vec![0.0; m];
    let mut anchor_grad = vec![0.0; m * d];
    let (s, a) = (Shared::new(&mut sums), Shared::new(&mut anchor_grad));
    let mut key_grad = sum_of_parts(team, m, keys.rows.len(), |range, key_grad| {
        // SAFETY: the parts are disjoint.
        let (sums, anchor_grad) = unsafe { (s.slice(range.clone()), a.slice(range.start * d..range.end * d)) };
        level.run(Worker { job: &job, range, sums, anchor_grad, key_grad });
    });
    key_grad.truncate(keys.n * d);
    AllPairs { sums, anchor_grad, key_grad }
}

/// Runs `work(range of anchors, its key gradient [length], zero)` for each part of the `m` anchors, and adds up the
/// gradients.
pub(crate) fn sum_of_parts(
    team: &Team,
    m: usize,
    length: usize,
    work: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let parts = m.div_ceil(ROWS).clamp(1, PARTS);
    let mut key_grads: Vec<Vec<f32>> = vec![Vec::new(); parts];
    let shared = Shared::new(&mut key_grads);
    team.run(|thread| {
        for part in team.part(parts, 1, thread) {
            // SAFETY: every part is one thread's.
            let key_grad = unsafe { &mut shared.slice(part..part + 1)[0] };
            *key_grad = vec![0.0; length];
            work(cut(m, ROWS, part, parts), key_grad);
        }
    });
    team.sum_into_first(&mut key_grads);
    key_grads.swap_remove(0)
}

/// All blocks of one part.
struct Worker<'a> {
    job: &'a Job<'a>,
    range: Range<usize>,
    sums: &'a mut [f32],
    anchor_grad: &'a mut [f32],
    key_grad: &'a mut [f32],
}

impl Vectorised for Worker<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // 32 registers of 16 lanes hold larger tiles than 16 of 8
        if S::LANES == 16 {
            unsafe { self.blocks::<S, 2, 12, 12, 8>() }
        } else {
            unsafe { self.blocks::<S, 4, 3, 6, 4>() }
        }
    }
}

impl Worker<'_> {
    /// `NV` vectors make a panel; `MR`, `GR`, `KR` are the register rows of the three products.
    #[inline(always)]
    unsafe fn blocks<S: Simd, const NV: usize, const MR: usize, const GR: usize, const KR: usize>(self) {
        let Worker { job, range, sums, anchor_grad, key_grad } = self;
        let keys = job.keys;
        let d = keys.d;
        let panels = keys.count.len() / PANEL;
        let mut tile = vec![0.0f32; panels * ROWS * PANEL];
        let mut scaled = vec![0.0f32; ROWS * d]; // anchors times log2(e) / t, later times coefficient
        let mut grad = vec![0.0f32; ROWS * d];
        let mut lane_sums = vec![0.0f32; ROWS * PANEL];
        let to_log2 = job.inverse_temperature * std::f32::consts::LOG2_E;
        for start in range.clone().step_by(ROWS) {
            let block = &job.anchors[start * d..(start + ROWS).min(range.end) * d];
            let rows = block.len() / d;
            scaled.fill(0.0);
            for (s, a) in scaled.iter_mut().zip(block) {
                *s = a * to_log2;
            }
            grad.fill(0.0);
            lane_sums.fill(0.0);
            for first in (0..panels).step_by(CHUNK) {
                let chunk = first..(first + CHUNK).min(panels);
                unsafe {
                    for row in (0..rows.next_multiple_of(GR)).step_by(GR) {
                        for panel in chunk.clone() {
                            for r in (row..row + GR).step_by(MR) {
                                exp_logits::<S, NV, MR>(
                                    d,
                                    scaled.as_ptr().add(r * d),
                                    keys.panels.as_ptr().add(panel * d * PANEL),
                                    keys.count.as_ptr().add(panel * PANEL),
                                    tile.as_mut_ptr().add((panel * ROWS + r) * PANEL),
                                    lane_sums.as_mut_ptr().add(r * PANEL),
                                );
                            }
                        }
                        if !job.keys_only {
                            add_anchor_grad::<S, GR>(
                                d,
                                tile.as_ptr().add(row * PANEL),
                                keys.rows.as_ptr(),
                                chunk.clone(),
                                grad.as_mut_ptr().add(row * d),
                            );
                        }
                    }
                }
            }
            let base = start - range.start;
            scaled.fill(0.0);
            for r in 0..rows {
                let sum: f32 = lane_sums[r * PANEL..(r + 1) * PANEL].iter().sum();
                let coefficient = (job.coefficient)(start + r, sum);
                sums[base + r] = sum;
                for k in 0..d {
                    anchor_grad[(base + r) * d + k] = coefficient * grad[r * d + k];
                    scaled[r * d + k] = coefficient * block[r * d + k];
                }
            }
            for panel in 0..panels {
                unsafe {
                    add_key_grad::<S, KR>(
                        d,
                        tile.as_ptr().add(panel * ROWS * PANEL),
                        scaled.as_ptr(),
                        rows,
                        key_grad.as_mut_ptr().add(panel * PANEL * d),
                    );
                }
            }
        }
    }
}

/// tile[r][j] = count_j 2^(anchors_r . panel_j) for `MR` anchors and one panel; adds it to the lane sums.
#[inline(always)]
pub(crate) unsafe fn exp_logits<S: Simd, const NV: usize, const MR: usize>(
    d: usize,
    anchors: *const f32,
    panel: *const f32,
    count: *const f32,
    tile: *mut f32,
    lane_sums: *mut f32,
) {
    unsafe {
        let mut acc = [[S::splat(0.0); NV]; MR];
        for k in 0..d {
            let mut key = [S::splat(0.0); NV];
            for v in 0..NV {
                key[v] = S::load(panel.add(k * PANEL + v * S::LANES));
            }
            for r in 0..MR {
                let a = S::splat(*anchors.add(r * d + k));
                for v in 0..NV {
                    acc[r][v] = S::fma(a, key[v], acc[r][v]);
                }
            }
        }
        for v in 0..NV {
            let count = S::load(count.add(v * S::LANES));
            for r in 0..MR {
                let e = S::mul(exp2::<S>(acc[r][v]), count);
                let at = r * PANEL + v * S::LANES;
                S::store(tile.add(at), e);
                S::store(lane_sums.add(at), S::add(S::load(lane_sums.add(at)), e));
            }
        }
    }
}

/// grad[r] += sum over the keys of the chunk of tile[r][j] keys[j], for `GR` anchors.
#[inline(always)]
pub(crate) unsafe fn add_anchor_grad<S: Simd, const GR: usize>(
    d: usize,
    tile: *const f32,
    keys: *const f32,
    chunk: Range<usize>,
    grad: *mut f32,
) {
    unsafe {
        for column in (0..d).step_by(2 * S::LANES) {
            let mut acc = [[S::splat(0.0); 2]; GR];
            for panel in chunk.clone() {
                let (tile, keys) = (tile.add(panel * ROWS * PANEL), keys.add(panel * PANEL * d + column));
                for j in 0..PANEL {
                    let key = [S::load(keys.add(j * d)), S::load(keys.add(j * d + S::LANES))];
                    for r in 0..GR {
                        let e = S::splat(*tile.add(r * PANEL + j));
                        acc[r] = [S::fma(e, key[0], acc[r][0]), S::fma(e, key[1], acc[r][1])];
                    }
                }
            }
            for r in 0..GR {
                add_to::<S>(grad.add(r * d + column), acc[r]);
            }
        }
    }
}

/// grad[j] += sum over `rows` anchors of tile[r][j] anchors[r], for the keys of one panel, `KR` at a time.
#[inline(always)]
unsafe fn add_key_grad<S: Simd, const KR: usize>(
    d: usize,
    tile: *const f32,
    anchors: *const f32,
    rows: usize,
    grad: *mut f32,
) {
    unsafe {
        for column in (0..d).step_by(2 * S::LANES) {
            for j in (0..PANEL).step_by(KR) {
                let grad = grad.add(j * d + column);
                let mut acc = [[S::splat(0.0); 2]; KR];
                for r in 0..rows {
                    let anchor = anchors.add(r * d + column);
                    let anchor = [S::load(anchor), S::load(anchor.add(S::LANES))];
                    for k in 0..KR {
                        let e = S::splat(*tile.add(r * PANEL + j + k));
                        acc[k] = [S::fma(e, anchor[0], acc[k][0]), S::fma(e, anchor[1], acc[k][1])];
                    }
                }
                for k in 0..KR {
                    add_to::<S>(grad.add(k * d), acc[k]);
                }
            }
        }
    }
}

/// p[..2 vectors] += v. Sums start at zero in registers and are added once per chunk: short chains keep f32 error low.
#[inline(always)]
unsafe fn add_to<S: Simd>(p: *mut f32, v: [S::V; 2]) {
    unsafe {
        S::store(p, S::add(S::load(p), v[0]));
        S::store(p.add(S::LANES), S::add(S::load(p.add(S::LANES)), v[1]));
    }
}
