//! The anchors' half of [`super::all_pairs`]: row sums of count_c exp(a_b . k_c / t) and sum_c count_c e_bc k_c, neither
//! scaled. Where the keys of a loss lie on several workers its row sums are known only after a reduction, so the fused
//! pass cannot be used; with anchors and keys exchanged this same half gives the keys' gradient.

use super::all_pairs::{CHUNK, PANEL, PackedKeys, ROWS, add_anchor_grad, exp_logits};
use super::simd::{Level, Simd, Vectorised};
use super::team::{Shared, Team};
use std::ops::Range;

struct Job<'a> {
    anchors: &'a [f32],
    keys: &'a PackedKeys,
    inverse_temperature: f32,
}

/// For anchors [m, d]: sums [m] and rows [m, d].
pub(crate) fn half_pairs(
    level: Level,
    team: &Team,
    anchors: &[f32],
    keys: &PackedKeys,
    inverse_temperature: f32,
) -> (Vec<f32>, Vec<f32>) {
    let d = keys.d;
    let m = anchors.len() / d;
    let (mut sums, mut rows) = (vec![0.0; m], vec![0.0; m * d]);
    let job = Job { anchors, keys, inverse_temperature };
    let (s, r) = (Shared::new(&mut sums), Shared::new(&mut rows));
    team.run(|thread| {
        let range = team.part(m, ROWS, thread);
        // SAFETY: parts of different threads are disjoint.
        let (sums, rows) = unsafe { (s.slice(range.clone()), r.slice(range.start * d..range.end * d)) };
        level.run(Worker { job: &job, range, sums, rows });
    });
    (sums, rows)
}

/// All blocks of one thread.
struct Worker<'a> {
    job: &'a Job<'a>,
    range: Range<usize>,
    sums: &'a mut [f32],
    rows: &'a mut [f32],
}

impl Vectorised for Worker<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        if S::LANES == 16 { unsafe { self.blocks::<S, 2, 12, 12>() } } else { unsafe { self.blocks::<S, 4, 3, 6>() } }
    }
}

impl Worker<'_> {
    /// `NV` vectors make a panel; `MR`, `GR` are the register rows of the two products.
    #[inline(always)]
    unsafe fn blocks<S: Simd, const NV: usize, const MR: usize, const GR: usize>(self) {
        let Worker { job, range, sums, rows } = self;
        let keys = job.keys;
        let d = keys.d;
        let panels = keys.count.len() / PANEL;
        let mut tile = vec![0.0f32; CHUNK * ROWS * PANEL];
        let mut scaled = vec![0.0f32; ROWS * d]; // anchors times log2(e) / t
        let mut grad = vec![0.0f32; ROWS * d];
        let mut lane_sums = vec![0.0f32; ROWS * PANEL];
        let to_log2 = job.inverse_temperature * std::f32::consts::LOG2_E;
        let blocks = range.step_by(ROWS).zip(sums.chunks_mut(ROWS).zip(rows.chunks_mut(ROWS * d)));
        for (start, (sums, rows)) in blocks {
            let block = &job.anchors[start * d..][..rows.len()];
            scaled.fill(0.0);
            scaled.iter_mut().zip(block).for_each(|(s, a)| *s = a * to_log2);
            grad.fill(0.0);
            lane_sums.fill(0.0);
            for first in (0..panels).step_by(CHUNK) {
                let chunk = CHUNK.min(panels - first);
                for row in (0..sums.len().next_multiple_of(GR)).step_by(GR) {
                    // SAFETY: every block has ROWS rows, a multiple of GR and MR; panels are [d][PANEL].
                    unsafe {
                        for panel in 0..chunk {
                            for r in (row..row + GR).step_by(MR) {
                                exp_logits::<S, NV, MR>(
                                    d,
                                    scaled.as_ptr().add(r * d),
                                    keys.panels.as_ptr().add((first + panel) * d * PANEL),
                                    keys.count.as_ptr().add((first + panel) * PANEL),
                                    tile.as_mut_ptr().add((panel * ROWS + r) * PANEL),
                                    lane_sums.as_mut_ptr().add(r * PANEL),
                                );
                            }
                        }
                        add_anchor_grad::<S, GR>(
                            d,
                            tile.as_ptr().add(row * PANEL),
                            keys.rows.as_ptr().add(first * PANEL * d),
                            0..chunk,
                            grad.as_mut_ptr().add(row * d),
                        );
                    }
                }
            }
            for (sum, lanes) in sums.iter_mut().zip(lane_sums.chunks_exact(PANEL)) {
                *sum = lanes.iter().sum();
            }
            rows.copy_from_slice(&grad[..rows.len()]);
        }
    }
}
