//! The k best items of every asked user by x_u . x_i, training items left out; no [users, items] matrix.
//!
//! Scores come in register tiles of users by one panel of items; a row is looked at only when some score beats the
//! user's current k-th best, and only such candidates are looked up in the training list.
//! Ties go to the smaller item id (items come in ascending order). A user with fewer than k candidates gets [`NONE`](crate::kernels::NONE) in
//! the remaining places.

use super::all_pairs::{PANEL, PackedKeys};
use super::simd::{Level, Simd, Vectorised};
use super::team::{Shared, Team};
use crate::kernels::Ranking;
use accord_data::Interactions;
use std::cmp::Ordering;
use std::ops::Range;

/// Users per block (a multiple of the 12 rows of a register tile).
const USERS: usize = 96;
/// Panels per chunk, kept in L2.
const CHUNK: usize = 64;

/// Candidates of one user.
struct Best {
    items: Vec<(f32, u32)>,
    threshold: f32,
}

fn order(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

impl Best {
    fn push(&mut self, k: usize, score: f32, item: u32) {
        self.items.push((score, item));
        if self.items.len() == 4 * k {
            self.items.select_nth_unstable_by(k - 1, order);
            self.items.truncate(k);
            self.threshold = self.items[k - 1].0;
        }
    }
}

struct Job<'a> {
    rows: &'a [f32],
    users: &'a [u32],
    items: &'a PackedKeys,
    ids: &'a [u32],
    k: usize,
    train: &'a Interactions,
}

/// `rows` [m, d] are those of `users`, `ids` [n] the ascending ids of `items`.
pub(crate) fn top_k(
    level: Level,
    team: &Team,
    rows: &[f32],
    users: &[u32],
    items: &PackedKeys,
    ids: &[u32],
    k: usize,
    train: &Interactions,
) -> Ranking {
    let m = users.len();
    let mut ranking = Ranking::empty(m, k);
    let job = Job { rows, users, items, ids, k, train };
    let (places, scores) = (Shared::new(&mut ranking.items), Shared::new(&mut ranking.scores));
    team.run(|thread| {
        let range = team.part(m, USERS, thread);
        let places_range = range.start * k..range.end * k;
        // SAFETY: parts of different threads are disjoint.
        let (out, scores) = unsafe { (places.slice(places_range.clone()), scores.slice(places_range)) };
        level.run(Worker { job: &job, range, out, scores });
    });
    ranking
}

struct Worker<'a> {
    job: &'a Job<'a>,
    range: Range<usize>,
    out: &'a mut [u32],
    scores: &'a mut [f64],
}

impl Vectorised for Worker<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        if S::LANES == 16 { unsafe { self.blocks::<S, 2, 12>() } } else { unsafe { self.blocks::<S, 4, 3>() } }
    }
}

impl Worker<'_> {
    #[inline(always)]
    unsafe fn blocks<S: Simd, const NV: usize, const MR: usize>(self) {
        let Worker { job, range, out, scores } = self;
        let d = job.items.d;
        let panels = job.items.count.len() / PANEL;
        let mut block = vec![0.0f32; USERS * d];
        let places = out.chunks_mut(USERS * job.k).zip(scores.chunks_mut(USERS * job.k));
        for (first, (out, scores)) in range.step_by(USERS).zip(places) {
            let rows = out.len() / job.k;
            block.fill(0.0);
            block[..rows * d].copy_from_slice(&job.rows[first * d..(first + rows) * d]);
            let mut best: Vec<Best> = (0..rows)
                .map(|_| Best { items: Vec::with_capacity(4 * job.k), threshold: f32::NEG_INFINITY })
                .collect();
            for chunk in (0..panels).step_by(CHUNK) {
                for row in (0..rows).step_by(MR) {
                    for panel in chunk..(chunk + CHUNK).min(panels) {
                        // SAFETY: `block` has USERS rows, a multiple of MR; panels are [d][PANEL].
                        unsafe {
                            let items = job.items.panels.as_ptr().add(panel * d * PANEL);
                            let acc = dots::<S, NV, MR>(d, block.as_ptr().add(row * d), items);
                            for r in 0..MR.min(rows - row) {
                                let threshold = S::splat(best[row + r].threshold);
                                if (0..NV).any(|v| S::any_greater(acc[r][v], threshold)) {
                                    let mut scores = [0.0f32; PANEL];
                                    for v in 0..NV {
                                        S::store(scores.as_mut_ptr().add(v * S::LANES), acc[r][v]);
                                    }
                                    take(job, first + row + r, panel, &scores, &mut best[row + r]);
                                }
                            }
                        }
                    }
                }
            }
            let places = out.chunks_exact_mut(job.k).zip(scores.chunks_exact_mut(job.k));
            for (best, (out, scores)) in best.iter_mut().zip(places) {
                best.items.sort_unstable_by(order);
                for ((item, score), best) in out.iter_mut().zip(scores).zip(&best.items) {
                    (*item, *score) = (best.1, f64::from(best.0));
                }
            }
        }
    }
}

/// Dot products of `MR` users with one panel of items.
#[inline(always)]
unsafe fn dots<S: Simd, const NV: usize, const MR: usize>(
    d: usize,
    users: *const f32,
    items: *const f32,
) -> [[S::V; NV]; MR] {
    unsafe {
        let mut acc = [[S::splat(0.0); NV]; MR];
        for k in 0..d {
            let mut item = [S::splat(0.0); NV];
            for v in 0..NV {
                item[v] = S::load(items.add(k * PANEL + v * S::LANES));
            }
            for r in 0..MR {
                let a = S::splat(*users.add(r * d + k));
                for v in 0..NV {
                    acc[r][v] = S::fma(a, item[v], acc[r][v]);
                }
            }
        }
        acc
    }
}

/// Offers one user the scores of one panel.
#[inline(never)]
fn take(job: &Job, row: usize, panel: usize, scores: &[f32; PANEL], best: &mut Best) {
    let trained = job.train.of(job.users[row]);
    for (j, &score) in scores.iter().enumerate() {
        let place = panel * PANEL + j;
        if score > best.threshold && place < job.items.n && trained.binary_search(&job.ids[place]).is_err() {
            best.push(job.k, score, job.ids[place]);
        }
    }
}
