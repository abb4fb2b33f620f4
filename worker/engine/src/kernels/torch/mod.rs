//! The same operations through libtorch, on any device and in f32 or f64: the CUDA path, and the f64 reference.
//!
//! Everything that runs over edges is a product with the adjacency's sparsity pattern (CSR) or a dot product an edge, in
//! chunks; everything over pairs is chunked by anchors. No [N, N] or [B, U] matrix beyond one chunk. No `index_add` on
//! the graph: a CSR product sums each row in its own order.

mod sparse;

use super::{
    AdamStep, Adjacency, Bound, Candidates, Factor, HalfPairs, HalfSums, HeadGrads, IntentGrads, IntentLayer, Kernels,
    LEAKY_SLOPE, MOMENT_SLOPE, Norm, PairGrads, Pairs, Precision, Ranking, RowFactor, TowerBounds, TowerOutput,
    UnitRows,
};
use crate::graph::{Dropout, Graph, Part};
use crate::weights::Tower;
use accord_data::Interactions;
use sparse::Sparse;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Elements of a temporary: 2^24 f32 are 64 MiB.
const CHUNK: i64 = 1 << 24;

pub struct TorchKernels {
    graph: Arc<Graph>,
    device: Device,
    kind: Kind,
    /// A_hat by [`Part`].
    parts: [Sparse; 3],
    /// Own rows over all columns: what the intent view runs over.
    all: Sparse,
}

impl TorchKernels {
    /// `kind`: Float or Double.
    pub fn new(graph: Arc<Graph>, device: Device, kind: Kind) -> TorchKernels {
        let place = (kind, device);
        let parts = [Part::Own, Part::Halo, Part::Outgoing].map(|part| Sparse::new(&graph, graph.lists(part), place));
        let all = Sparse::new(&graph, graph.all_lists(), place);
        TorchKernels { graph, device, kind, parts, all }
    }

    /// Runs of `x`'s rows on one side: `of_runs(side, rows)`, put together in order.
    fn by_sides(&self, x: &Tensor, of_run: impl Fn(usize, &Tensor) -> Tensor) -> Tensor {
        let rows = x.size()[0];
        let runs = self.graph.sides.iter().filter(|(_, run)| (run.end as i64) <= rows);
        let parts: Vec<Tensor> =
            runs.map(|(side, run)| of_run(*side, &x.narrow(0, run.start as i64, run.len() as i64))).collect();
        if parts.is_empty() { x.zeros_like() } else { Tensor::cat(&parts, 0) }
    }

    /// softmax(E C) of one side: [rows, K]
    fn intent_shares(&self, e: &Tensor, c: &Tensor) -> Tensor {
        e.matmul(c).softmax(1, self.kind)
    }
}

fn row_dots(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).sum_dim_intlist(1, false, a.kind())
}

/// Rows `from..` of x, at most `chunk`.
fn chunks(n: i64, width: i64) -> impl Iterator<Item = (i64, i64)> {
    let chunk = (CHUNK / width.max(1)).max(1);
    (0..n).step_by(chunk as usize).map(move |from| (from, chunk.min(n - from)))
}

/// x_a x_b of each row: [n, d * d]
fn products(x: &Tensor) -> Tensor {
    (x.unsqueeze(2) * x.unsqueeze(1)).flatten(1, 2)
}

impl Kernels for TorchKernels {
    fn adjacency(&self, dropout: Option<Dropout>) -> Adjacency {
        let Some(dropout) = dropout else { return Adjacency::Whole };
        let parts = [Part::Own, Part::Halo, Part::Outgoing];
        Adjacency::Values(parts.map(|part| {
            let lists = self.graph.lists(part);
            let columns = &self.graph.ids;
            let kept: Vec<bool> = (0..lists.rows())
                .flat_map(|v| lists.of(v).iter().map(move |&t| dropout.keeps(lists.ids[v], columns[t as usize])))
                .collect();
            &self.parts[part as usize].value * Tensor::from_slice(&kept).to(self.device)
        }))
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
        let matrix = &self.parts[part as usize];
        if part == Part::Halo && matrix.is_empty() {
            return;
        }
        let product = match adjacency {
            Adjacency::Whole => matrix.product(&matrix.value, x),
            Adjacency::Values(values) => matrix.product(&values[part as usize], x),
            Adjacency::Lists(_) => panic!("this adjacency belongs to the CPU kernels"),
        };
        match part {
            Part::Halo => *out += product,
            Part::Own | Part::Outgoing => out.copy_(&product),
        }
        if let Some(plus) = plus {
            *out += plus;
        }
        if let Some(total) = total {
            *total += &*out;
        }
    }

    fn intent_view(&self, e: &Tensor, heads: &Tensor, prototypes: [&Tensor; 2]) -> IntentLayer {
        let intents =
            self.by_sides(e, |side, e| self.intent_shares(e, prototypes[side]).matmul(&prototypes[side].tr()));
        let inverse_norm = row_dots(&intents, &intents).sqrt().clamp_min(1e-12).reciprocal();
        let unit = intents * inverse_norm.unsqueeze(1);
        let a = self.all.dots(&unit, &unit) * 0.5 + 0.5;
        let sum = self.all.product(&a, &Tensor::ones([e.size()[0], 1], (self.kind, self.device))).squeeze_dim(1);
        // an isolated head has no edge to weigh
        let reciprocal = sum.reciprocal().where_self(&sum.gt(0.0), &sum.zeros_like());
        let mut inverse_sum = sum.zeros_like();
        let _ = inverse_sum.index_copy_(0, heads, &reciprocal.index_select(0, heads));
        let g = self.all.product(&(a * self.all.at_rows(&inverse_sum)), e);
        IntentLayer { unit, inverse_norm, inverse_sum, g }
    }

    fn intent_view_backward(&self, e: &Tensor, _: [&Tensor; 2], layer: &IntentLayer, given: &HeadGrads) -> IntentGrads {
        let (all, d_g, unit) = (&self.all, given.g, &layer.unit);
        let rows = self.graph.rows() as i64;
        let a = all.dots(unit, unit) * 0.5 + 0.5;
        // both directions of an edge: as head, and as tail of its neighbour
        let as_head = (all.dots(d_g, e) - all.at_rows(given.q)) * all.at_rows(given.inverse_sum);
        let as_tail = (all.dots(e, d_g) - all.at_columns(given.q)) * all.at_columns(given.inverse_sum);
        let d_unit = all.product(&((as_head + as_tail) * 0.5), unit);
        let d_e = all.product(&(a * all.at_columns(given.inverse_sum)), d_g);
        let own = |x: &Tensor| x.narrow(0, 0, rows);
        let along = row_dots(&d_unit, &own(unit)).unsqueeze(1);
        let d_intents = (d_unit - own(unit) * along) * own(&layer.inverse_norm).unsqueeze(1);
        IntentGrads { e: d_e, intents: d_intents }
    }

    fn intents_backward(
        &self,
        e: &Tensor,
        d_intents: &Tensor,
        prototypes: [&Tensor; 2],
        _: Bound,
        d_e: &mut Tensor,
    ) -> [Tensor; 2] {
        let rows = self.graph.rows() as i64;
        let mut d_prototypes = prototypes.map(|c| c.zeros_like().to_kind(Kind::Double));
        for (side, run) in self.graph.sides.iter().filter(|(_, run)| (run.end as i64) <= rows) {
            let of_run = |x: &Tensor| x.narrow(0, run.start as i64, run.len() as i64);
            let (e, c, d_v) = (of_run(e), prototypes[*side], of_run(d_intents));
            let p = self.intent_shares(&e, c);
            let d_p = d_v.matmul(c);
            let d_logits = &p * (&d_p - row_dots(&p, &d_p).unsqueeze(1));
            let mut d_e = of_run(d_e);
            d_e += d_logits.matmul(&c.tr());
            d_prototypes[*side] += d_v.tr().matmul(&p) + e.tr().matmul(&d_logits);
        }
        d_prototypes
    }

    fn all_pairs(&self, pairs: &Pairs) -> PairGrads {
        let (m, n) = (pairs.anchors.size()[0], pairs.keys.size()[0]);
        let mut keys = pairs.keys.zeros_like();
        let (mut sums, mut anchors) = (Vec::new(), Vec::new());
        for (from, size) in chunks(m, n) {
            let rows = |x: &Tensor| x.narrow(0, from, size);
            let block = rows(pairs.anchors);
            let mut e = (block.matmul(&pairs.keys.tr()) * pairs.inverse_temperature).exp();
            if let Some(count) = pairs.count {
                e *= count;
            }
            let sum = e.sum_dim_intlist(1, false, self.kind);
            let factors = match &pairs.factor {
                Factor::Given(factors) => rows(factors),
                Factor::OfSums(f) => {
                    let diagonal = f.diagonal.map(rows);
                    let (weight, epsilon) = (rows(f.weight), f.epsilon);
                    RowFactor { weight: &weight, epsilon, diagonal: diagonal.as_ref() }.of(&sum)
                }
            };
            e *= factors.unsqueeze(1);
            anchors.push(e.matmul(pairs.keys));
            keys += e.tr().matmul(&block);
            sums.push(sum);
        }
        if sums.is_empty() {
            return PairGrads {
                sums: Tensor::zeros([0], (self.kind, self.device)),
                anchors: pairs.anchors.copy(),
                keys,
            };
        }
        PairGrads { sums: Tensor::cat(&sums, 0), anchors: Tensor::cat(&anchors, 0), keys }
    }

    fn half_pairs(&self, half: &HalfPairs) -> HalfSums {
        let (m, n) = (half.anchors.size()[0], half.keys.size()[0]);
        let sums = Tensor::zeros([m], (self.kind, self.device));
        let rows = half.anchors.zeros_like();
        for (from, size) in chunks(m, n) {
            let mut e = (half.anchors.narrow(0, from, size).matmul(&half.keys.tr()) * half.inverse_temperature).exp();
            if let Some(count) = half.count {
                e *= count;
            }
            sums.narrow(0, from, size).copy_(&e.sum_dim_intlist(1, false, self.kind));
            rows.narrow(0, from, size).copy_(&e.matmul(half.keys));
        }
        HalfSums { sums, rows }
    }

    fn moments(&self, x: &Tensor, weight: Option<&Tensor>, _: Bound) -> Tensor {
        let [n, d] = [x.size()[0], x.size()[1]];
        let mut third = Tensor::zeros([d * d, d], (self.kind, self.device));
        let mut second = Tensor::zeros([d, d], (self.kind, self.device));
        let mut first = Tensor::zeros([d], (self.kind, self.device));
        for (from, size) in chunks(n, d * d) {
            let x = x.narrow(0, from, size);
            let weighted = match weight {
                Some(weight) => &x * weight.narrow(0, from, size).unsqueeze(1),
                None => x.shallow_clone(),
            };
            third += products(&x).tr().matmul(&weighted);
            second += x.tr().matmul(&weighted);
            first += weighted.sum_dim_intlist(0, false, self.kind);
        }
        let total = weight
            .map_or_else(|| Tensor::full([1], n as f64, (self.kind, self.device)), |w| w.sum(self.kind).view([1]));
        Tensor::cat(&[third.view([-1]), second.view([-1]), first, total], 0).to_kind(Kind::Double)
    }

    fn half_moments(&self, moments: &Tensor, y: &Tensor) -> HalfSums {
        let [m, d] = [y.size()[0], y.size()[1]];
        let parts = moments.to_kind(self.kind).split_with_sizes([d * d * d, d * d, d, 1], 0);
        let (third, second) = (parts[0].view([d * d, d]), parts[1].view([d, d]));
        let sums = Tensor::zeros([m], (self.kind, self.device));
        let rows = y.zeros_like();
        for (from, size) in chunks(m, d * d) {
            let y = y.narrow(0, from, size);
            let one = parts[2].unsqueeze(0);
            let two = y.matmul(&second) * MOMENT_SLOPE;
            let three = products(&y).matmul(&third) * 0.5;
            sums.narrow(0, from, size).copy_(&(row_dots(&y, &(&one + &two / 2.0 + &three / 3.0)) + &parts[3]));
            rows.narrow(0, from, size).copy_(&(one + two + three));
        }
        HalfSums { sums, rows }
    }

    fn unit_rows(&self, x: &Tensor, norm: Norm) -> UnitRows {
        let square = row_dots(x, x).unsqueeze(1);
        let inverse = match norm {
            Norm::Root => (square + 1e-8).rsqrt(),
            Norm::Max => square.sqrt().clamp_min(1e-12).reciprocal(),
        };
        UnitRows { rows: x * &inverse, inverse }
    }

    fn unit_rows_backward(&self, unit: &UnitRows, grad: &Tensor) -> Tensor {
        let along = row_dots(grad, &unit.rows).unsqueeze(1);
        (grad - &unit.rows * along) * &unit.inverse
    }

    fn tower(&self, tower: &Tower, x: &Tensor) -> TowerOutput {
        let hidden = tower.b1.addmm(x, &tower.w1.tr()).leaky_relu_();
        TowerOutput { z: tower.b2.addmm(&hidden, &tower.w2.tr()), hidden }
    }

    fn tower_backward(
        &self,
        tower: &Tower,
        x: &Tensor,
        output: &TowerOutput,
        dz: &Tensor,
        _: &TowerBounds,
        grad: &mut Tower,
    ) {
        // LeakyReLU keeps the sign, so its output also holds its slope
        let d_hidden = output.hidden.leaky_relu_backward(&dz.matmul(&tower.w2), LEAKY_SLOPE, true);
        grad.w2 += dz.tr().matmul(&output.hidden);
        grad.b2 += dz.sum_dim_intlist(0, false, self.kind);
        grad.w1 += d_hidden.tr().matmul(x);
        grad.b1 += d_hidden.sum_dim_intlist(0, false, self.kind);
    }

    fn precision(&self, wanted: Precision) -> Precision {
        if wanted == Precision::Bf16 { Precision::Full } else { wanted }
    }

    fn gather(&self, table: &Tensor, ids: &Tensor) -> Tensor {
        table.index_select(0, ids)
    }

    fn scatter_add(&self, table: &mut Tensor, ids: &Tensor, rows: &Tensor) {
        // unlike index_add, this sums repeated ids in a fixed order on CUDA too
        let _ = table.index_put_(&[Some(ids)], rows, true);
    }

    fn adam(&self, w: &mut Tensor, grad: &Tensor, [first, second]: [&mut Tensor; 2], step: AdamStep) {
        let (rate, root_correction) = step.corrections();
        let [b1, b2] = AdamStep::BETAS;
        let grad = grad + &*w * (2.0 * step.reg);
        *first *= b1;
        *first += &grad * (1.0 - b1);
        *second *= b2;
        *second += grad.square() * (1.0 - b2);
        *w -= &*first * rate / (second.sqrt() / root_correction + AdamStep::EPSILON);
    }

    fn sum_of_squares(&self, x: &Tensor) -> f64 {
        x.square().sum(Kind::Double).double_value(&[])
    }

    fn top_k(&self, rows: &Tensor, users: &[u32], candidates: Candidates, train: &Interactions, k: usize) -> Ranking {
        let items = candidates.ids.len() as i64;
        let mut ranking = Ranking::empty(users.len(), k);
        let kept = (k as i64).min(items);
        for (from, size) in chunks(users.len() as i64, items) {
            let scores = rows.narrow(0, from, size).matmul(&candidates.rows.tr());
            let places = from as usize..(from + size) as usize;
            let trained: Vec<i64> = users[places.clone()]
                .iter()
                .enumerate()
                .flat_map(|(row, &u)| {
                    let of_user = train.of(u).iter().filter_map(|item| candidates.ids.binary_search(item).ok());
                    of_user.map(move |place| row as i64 * items + place as i64)
                })
                .collect();
            let _ = scores.view([-1]).index_fill_(0, &Tensor::from_slice(&trained).to(self.device), f64::NEG_INFINITY);
            // a stable sort keeps ties in item order, which topk does not
            let (sorted, order) = scores.sort_stable(true, 1, true);
            let listed = |x: Tensor| x.narrow(1, 0, kept).contiguous().to(Device::Cpu).view([-1]);
            let sorted: Vec<f64> = Vec::try_from(listed(sorted).to_kind(Kind::Double)).expect("f64 on the CPU");
            let order: Vec<i64> = Vec::try_from(listed(order)).expect("Int64 on the CPU");
            let lists = sorted.chunks(kept.max(1) as usize).zip(order.chunks(kept.max(1) as usize));
            for (user, (scores, order)) in places.zip(lists) {
                for (place, (&score, &item)) in scores.iter().zip(order).enumerate() {
                    if score > f64::NEG_INFINITY {
                        ranking.scores[user * k + place] = score;
                        ranking.items[user * k + place] = candidates.ids[item as usize];
                    }
                }
            }
        }
        ranking
    }

    fn noise_factor(&self, noise: &crate::noise::Noise, nodes: &[u32], like: &Tensor) -> Tensor {
        let d = like.size()[1] as usize;
        let mut factor = vec![0.0f32; nodes.len() * d];
        noise.fill_factor(nodes, d, &mut factor);
        Tensor::from_slice(&factor).view([-1, d as i64]).to_device(self.device).to_kind(self.kind)
    }
}
