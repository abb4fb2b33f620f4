//! Hand-written f32 kernels on the CPU. Written once over [`simd::Simd`]; AVX-512, AVX2 or plain arrays at run time.
//!
//! Widths that are not a multiple of 32 are padded with zero columns on the way in, which no kernel here can see.
//! This folder holds the crate's only unsafe code: vector loads, and disjoint parts of a slice for the threads.
#![allow(unsafe_code, reason = "vector kernels")]
// register tiles are indexed arrays on purpose; what unsafe functions ask for is said once, at `simd::Simd`
#![allow(clippy::needless_range_loop, clippy::missing_safety_doc, clippy::too_many_arguments)]

mod all_pairs;
mod exact;
mod gemm;
mod half_pairs;
mod intent_view;
mod low_precision;
mod moments;
mod propagation;
mod rows;
mod simd;
mod team;
mod text_tower;
mod top_k;

pub use simd::Level;

use super::{
    AdamStep, Adjacency, Bound, Candidates, Factor, HalfPairs, HalfSums, HeadGrads, IntentGrads, IntentLayer, Kernels,
    Norm, PairGrads, Pairs, Precision, Ranking, TowerBounds, TowerOutput, UnitRows,
};
use crate::error::EngineError;
use crate::graph::{Dropout, Graph, Part};
use crate::weights::Tower;
use accord_data::Interactions;
use all_pairs::{AllPairs, PackedKeys};
use intent_view::{Heads, IntentView, IntentsBackward, Layer, Prototypes};
use moments::Moments;
use std::sync::Arc;
use tch::{Kind, Tensor};
use team::Team;
use text_tower::TextTower;

/// Columns a vector kernel takes at once.
const COLUMNS: usize = 32;

pub struct CpuKernels {
    graph: Arc<Graph>,
    level: Level,
    team: Team,
}

impl CpuKernels {
    /// # Errors
    /// When this machine lacks the instructions of `level`, or cannot start the threads.
    pub fn new(graph: Arc<Graph>, level: Level, threads: usize) -> Result<CpuKernels, EngineError> {
        if !Level::all().contains(&level) {
            return Err(EngineError::Device(format!("this processor has no {level:?} instructions")));
        }
        let team =
            Team::new(threads).map_err(|e| EngineError::Device(format!("cannot start {threads} threads: {e}")))?;
        Ok(CpuKernels { graph, level, team })
    }

    fn prototypes(&self, d: usize, prototypes: [&Tensor; 2]) -> [Prototypes; 2] {
        prototypes.map(|c| {
            let k = c.size()[1] as usize;
            let c = pad(c, d - c.size()[0] as usize, k.next_multiple_of(16) - k);
            Prototypes::new(d, k, floats(&c))
        })
    }

    fn heads(&self, heads: &Tensor) -> Vec<bool> {
        let mut mask = vec![false; self.graph.columns()];
        ids(heads).iter().for_each(|&h| mask[h as usize] = true);
        mask
    }
}

/// The elements of a contiguous f32 CPU tensor.
fn floats(x: &Tensor) -> &[f32] {
    check(x, Kind::Float);
    if x.numel() == 0 {
        return &[];
    }
    // SAFETY: contiguous f32 on the CPU (checked), alive as long as the borrow of x.
    unsafe { std::slice::from_raw_parts(x.data_ptr().cast::<f32>().cast_const(), x.numel()) }
}

fn floats_mut(x: &mut Tensor) -> &mut [f32] {
    check(x, Kind::Float);
    if x.numel() == 0 {
        return &mut [];
    }
    // SAFETY: as in `floats`; the caller holds the tensor exclusively.
    unsafe { std::slice::from_raw_parts_mut(x.data_ptr().cast::<f32>(), x.numel()) }
}

/// The elements of a contiguous Int64 CPU tensor.
fn ids(x: &Tensor) -> &[i64] {
    check(x, Kind::Int64);
    // an empty tensor may have no data at all
    if x.numel() == 0 {
        return &[];
    }
    // SAFETY: contiguous i64 on the CPU (checked), alive as long as the borrow of x.
    unsafe { std::slice::from_raw_parts(x.data_ptr().cast::<i64>().cast_const(), x.numel()) }
}

fn check(x: &Tensor, kind: Kind) {
    assert!(
        x.kind() == kind && x.is_contiguous() && x.device() == tch::Device::Cpu,
        "the CPU kernels want contiguous {kind:?} on the CPU, got {x:?}"
    );
}

fn width(x: &Tensor) -> usize {
    x.size()[1] as usize
}

/// `x` with zero rows and columns appended; shares x's data when there is nothing to append.
fn pad(x: &Tensor, rows: usize, columns: usize) -> Tensor {
    match (rows, columns) {
        (0, 0) => x.contiguous(),
        _ => x.constant_pad_nd([0, columns as i64, 0, rows as i64]).contiguous(),
    }
}

/// `x` [n, d] with d rounded up to the vector kernels' columns.
fn aligned(x: &Tensor) -> Tensor {
    let d = width(x);
    pad(x, 0, d.next_multiple_of(COLUMNS) - d)
}

/// The first `d` columns of `x`.
fn narrowed(x: Tensor, d: usize) -> Tensor {
    if width(&x) == d { x } else { x.narrow(1, 0, d as i64).contiguous() }
}

/// Values [n, padded] as a tensor of the first `d` columns.
fn matrix(values: &[f32], padded: usize, d: usize) -> Tensor {
    narrowed(Tensor::from_slice(values).view([-1, padded as i64]), d)
}

/// A tower's weights with hidden and d rounded up to the vector kernels' 16; the padding computes zeros.
struct PaddedTower {
    hidden: i64,
    d: i64,
    tensors: [Tensor; 4],
}

impl PaddedTower {
    fn new(tower: &Tower) -> PaddedTower {
        let (hidden, d) = (tower.b1.numel(), tower.b2.numel());
        let (more_hidden, more_d) = (hidden.next_multiple_of(16) - hidden, d.next_multiple_of(16) - d);
        let column = |b: &Tensor, more: usize| pad(&b.unsqueeze(1), more, 0).squeeze_dim(1);
        let tensors = [
            pad(&tower.w1, more_hidden, 0),
            column(&tower.b1, more_hidden),
            pad(&tower.w2, more_d, more_hidden),
            column(&tower.b2, more_d),
        ];
        PaddedTower { hidden: (hidden + more_hidden) as i64, d: (d + more_d) as i64, tensors }
    }

    fn kernel<'a>(&'a self, level: Level, team: &'a Team) -> TextTower<'a> {
        let [w1, b1, w2, b2] = self.tensors.each_ref().map(floats);
        TextTower::new(level, team, text_tower::Weights { w1, b1, w2, b2 })
    }
}

impl Kernels for CpuKernels {
    fn adjacency(&self, dropout: Option<Dropout>) -> Adjacency {
        match dropout {
            None => Adjacency::Whole,
            Some(dropout) => propagation::kept(&self.team, &self.graph, dropout),
        }
    }

    fn product(
        &self,
        adjacency: &Adjacency,
        part: Part,
        x: &Tensor,
        plus: Option<&Tensor>,
        out: &mut Tensor,
        total: Option<&mut Tensor>,
    ) {
        let d = width(x);
        let (x, plus) = (aligned(x), plus.map(aligned));
        let job = propagation::Product {
            lists: propagation::lists(&self.graph, adjacency, part),
            scale: &self.graph.inverse_sqrt_degree,
            d: width(&x),
            reads: if part == Part::Halo { self.graph.columns() } else { self.graph.rows() },
            x: floats(&x),
            plus: plus.as_ref().map(floats),
            adds: part == Part::Halo,
        };
        if width(&x) == d {
            return job.run(self.level, &self.team, floats_mut(out), total.map(floats_mut));
        }
        let mut padded = aligned(out);
        job.run(self.level, &self.team, floats_mut(&mut padded), None);
        out.copy_(&padded.narrow(1, 0, d as i64));
        if let Some(total) = total {
            *total += &*out;
        }
    }

    fn intent_view(&self, e: &Tensor, heads: &Tensor, prototypes: [&Tensor; 2]) -> IntentLayer {
        let d = width(e);
        let e = aligned(e);
        let padded = width(&e);
        let prototypes = self.prototypes(padded, prototypes);
        let heads = self.heads(heads);
        let (level, team, graph) = (self.level, &self.team, &*self.graph);
        let view = IntentView { level, team, graph, d: padded, prototypes: &prototypes, heads: &heads };
        let (rows, columns) = (graph.rows() as i64, graph.columns() as i64);
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu));
        let (mut unit, mut g) = (e.zeros_like(), zeros(&[rows, padded as i64]));
        let (mut inverse_norm, mut inverse_sum) = (zeros(&[columns]), zeros(&[rows]));
        let layer = Layer {
            unit: floats_mut(&mut unit),
            inverse_norm: floats_mut(&mut inverse_norm),
            inverse_sum: floats_mut(&mut inverse_sum),
            g: floats_mut(&mut g),
        };
        view.forward(floats(&e), layer);
        IntentLayer { unit: narrowed(unit, d), inverse_norm, inverse_sum, g: narrowed(g, d) }
    }

    fn intent_view_backward(
        &self,
        e: &Tensor,
        prototypes: [&Tensor; 2],
        layer: &IntentLayer,
        given: &HeadGrads,
    ) -> IntentGrads {
        let d = width(e);
        let e = aligned(e);
        let padded = width(&e);
        let prototypes = self.prototypes(padded, prototypes);
        let heads = self.heads(given.heads);
        let (level, team, graph) = (self.level, &self.team, &*self.graph);
        let view = IntentView { level, team, graph, d: padded, prototypes: &prototypes, heads: &heads };
        let (unit, d_g) = (aligned(&layer.unit), aligned(given.g));
        let given = Heads { d_g: floats(&d_g), q: floats(given.q), inverse_sum: floats(given.inverse_sum) };
        let (d_e, d_intents) = view.backward(floats(&e), floats(&unit), floats(&layer.inverse_norm), &given);
        IntentGrads { e: matrix(&d_e, padded, d), intents: matrix(&d_intents, padded, d) }
    }

    fn intents_backward(
        &self,
        e: &Tensor,
        d_intents: &Tensor,
        prototypes: [&Tensor; 2],
        bound: Bound,
        d_e: &mut Tensor,
    ) -> [Tensor; 2] {
        let (d, k) = (width(e), prototypes.map(|c| width(c) as i64));
        let (e, d_intents) = (aligned(e), aligned(d_intents));
        let padded = width(&e);
        let (e, d_intents) = (floats(&e), floats(&d_intents));
        let prototypes = &self.prototypes(padded, prototypes);
        let (level, team, graph) = (self.level, &self.team, &*self.graph);
        let job = IntentsBackward { level, team, graph, d: padded, prototypes, e, d_intents, bound };
        let [user, item] = if padded == d {
            job.run(floats_mut(d_e))
        } else {
            let mut wide = aligned(d_e);
            let d_c = job.run(floats_mut(&mut wide));
            d_e.copy_(&wide.narrow(1, 0, d as i64));
            d_c
        };
        [(user, k[0]), (item, k[1])].map(|(d_c, k)| {
            let d_c = Tensor::from_slice(&d_c).view([padded as i64, -1]);
            d_c.narrow(0, 0, d as i64).narrow(1, 0, k).contiguous()
        })
    }

    fn all_pairs(&self, pairs: &Pairs) -> PairGrads {
        let d = width(pairs.anchors);
        let (anchors, keys) = (aligned(pairs.anchors), aligned(pairs.keys));
        let padded = width(&anchors);
        let (weight, diagonal, epsilon) = match &pairs.factor {
            Factor::OfSums(f) => (floats(f.weight), f.diagonal.map(floats), Some(f.epsilon as f32)),
            Factor::Given(factors) => (floats(factors), None, None),
        };
        // RowFactor::of, a row at a time
        let coefficient = |b: usize, sum: f32| {
            let Some(epsilon) = epsilon else { return weight[b] };
            let sum = sum + epsilon;
            let q = diagonal.map_or(1.0, |diagonal| {
                let q = diagonal[b].exp() / sum;
                q / (q + epsilon)
            });
            weight[b] / sum * q
        };
        let (level, team, count) = (self.level, &self.team, pairs.count.map(floats));
        let AllPairs { sums, anchor_grad, key_grad } = if pairs.bf16 {
            low_precision::all_pairs_bf16(team, padded, floats(&anchors), floats(&keys), &coefficient)
        } else {
            let keys = PackedKeys::new(team, padded, floats(&keys), count);
            let inverse_temperature = pairs.inverse_temperature as f32;
            let keys_only = matches!(pairs.factor, Factor::Given(_));
            all_pairs::all_pairs(level, team, floats(&anchors), &keys, inverse_temperature, &coefficient, keys_only)
        };
        PairGrads {
            sums: Tensor::from_slice(&sums),
            anchors: matrix(&anchor_grad, padded, d),
            keys: matrix(&key_grad, padded, d),
        }
    }

    fn half_pairs(&self, half: &HalfPairs) -> HalfSums {
        let d = width(half.anchors);
        let (anchors, keys) = (aligned(half.anchors), aligned(half.keys));
        let padded = width(&anchors);
        let keys = PackedKeys::new(&self.team, padded, floats(&keys), half.count.map(floats));
        let temperature = half.inverse_temperature as f32;
        let (sums, rows) = half_pairs::half_pairs(self.level, &self.team, floats(&anchors), &keys, temperature);
        HalfSums { sums: Tensor::from_slice(&sums), rows: matrix(&rows, padded, d) }
    }

    fn moments(&self, x: &Tensor, weight: Option<&Tensor>, bound: Bound) -> Tensor {
        let x = aligned(x);
        let moments = moments::moments(self.level, &self.team, width(&x), floats(&x), weight.map(floats), bound);
        Tensor::from_slice(&moments)
    }

    fn half_moments(&self, moments: &Tensor, y: &Tensor) -> HalfSums {
        let d = width(y);
        let (y, moments) = (aligned(y), moments.to_kind(Kind::Float));
        let padded = width(&y);
        let (sums, rows) = Moments::of(padded, floats(&moments)).apply(self.level, &self.team, padded, floats(&y));
        HalfSums { sums: Tensor::from_slice(&sums), rows: matrix(&rows, padded, d) }
    }

    fn gather(&self, table: &Tensor, ids: &Tensor) -> Tensor {
        let d = width(table);
        let mut out = Tensor::empty([ids.numel() as i64, d as i64], (Kind::Float, tch::Device::Cpu));
        rows::gather(&self.team, d, floats(table), self::ids(ids), floats_mut(&mut out));
        out
    }

    fn scatter_add(&self, table: &mut Tensor, ids: &Tensor, rows: &Tensor) {
        let d = width(table);
        rows::scatter_add(d, floats_mut(table), self::ids(ids), floats(rows));
    }

    fn adam(&self, w: &mut Tensor, grad: &Tensor, [first, second]: [&mut Tensor; 2], step: AdamStep) {
        let (m, v) = (floats_mut(first), floats_mut(second));
        rows::adam(self.level, &self.team, floats_mut(w), floats(grad), m, v, step);
    }

    fn sum_of_squares(&self, x: &Tensor) -> f64 {
        rows::sum_of_squares(self.level, &self.team, floats(x))
    }

    fn unit_rows(&self, x: &Tensor, norm: Norm) -> UnitRows {
        let mut unit = UnitRows {
            rows: x.empty_like(),
            inverse: Tensor::empty([x.size()[0], 1], (Kind::Float, tch::Device::Cpu)),
        };
        let (rows, inverse) = (floats_mut(&mut unit.rows), floats_mut(&mut unit.inverse));
        rows::unit_rows(&self.team, width(x), floats(x), norm, rows, inverse);
        unit
    }

    fn unit_rows_backward(&self, unit: &UnitRows, grad: &Tensor) -> Tensor {
        let mut out = grad.empty_like();
        let (rows, inverse) = (floats(&unit.rows), floats(&unit.inverse));
        rows::unit_rows_backward(&self.team, width(grad), rows, inverse, floats(grad), floats_mut(&mut out));
        out
    }

    fn tower(&self, tower: &Tower, x: &Tensor) -> TowerOutput {
        let padded = PaddedTower::new(tower);
        let rows = x.size()[0];
        let empty = |columns: i64| Tensor::empty([rows, columns], (Kind::Float, tch::Device::Cpu));
        let (mut z, mut hidden) = (empty(padded.d), empty(padded.hidden));
        padded.kernel(self.level, &self.team).forward(floats(x), floats_mut(&mut z), floats_mut(&mut hidden));
        TowerOutput { z: narrowed(z, tower.b2.numel()), hidden }
    }

    fn tower_backward(
        &self,
        tower: &Tower,
        x: &Tensor,
        output: &TowerOutput,
        dz: &Tensor,
        bounds: &TowerBounds,
        grad: &mut Tower,
    ) {
        let padded = PaddedTower::new(tower);
        let dz = pad(dz, 0, padded.d as usize - width(dz));
        let kernel = padded.kernel(self.level, &self.team);
        let grads = kernel.backward(floats(x), floats(&output.hidden), floats(&dz), bounds);
        let (hidden, d) = (tower.b1.numel() as i64, tower.b2.numel() as i64);
        let transposed = |values: &[f64], columns: i64| Tensor::from_slice(values).view([-1, columns]).tr();
        grad.w1 += transposed(&grads.w1_transposed, padded.hidden).narrow(0, 0, hidden);
        grad.b1 += Tensor::from_slice(&grads.b1).narrow(0, 0, hidden);
        grad.w2 += transposed(&grads.w2_transposed, padded.d).narrow(0, 0, d).narrow(1, 0, hidden);
        grad.b2 += Tensor::from_slice(&grads.b2).narrow(0, 0, d);
    }

    fn precision(&self, wanted: Precision) -> Precision {
        if wanted == Precision::Bf16 && !low_precision::available(self.level) { Precision::Full } else { wanted }
    }

    fn top_k(&self, rows: &Tensor, users: &[u32], candidates: Candidates, train: &Interactions, k: usize) -> Ranking {
        let (rows, items) = (aligned(rows), aligned(candidates.rows));
        let items = PackedKeys::new(&self.team, width(&items), floats(&items), None);
        top_k::top_k(self.level, &self.team, floats(&rows), users, &items, candidates.ids, k, train)
    }

    fn noise_factor(&self, noise: &crate::noise::Noise, nodes: &[u32], like: &Tensor) -> Tensor {
        let d = width(like);
        let mut out = Tensor::empty([nodes.len() as i64, d as i64], (Kind::Float, tch::Device::Cpu));
        self.team.rows(floats_mut(&mut out), d, 64, |rows, out| noise.fill_factor(&nodes[rows], d, out));
        out
    }
}
