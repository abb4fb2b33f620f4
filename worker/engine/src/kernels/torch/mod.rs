//! The same operations through libtorch, on any device and in f32 or f64: the CUDA path, and the f64 reference.
//!
//! Everything that runs over edges is a product with the adjacency's sparsity pattern (CSR) or a dot product an edge, in
//! chunks; everything over pairs is chunked by anchors. No [N, N] or [B, U] matrix beyond one chunk. No `index_add` on
//! the graph: a CSR product sums each row in its own order.

use super::{
    AdamStep, Adjacency, IntentGrads, IntentLayer, Kernels, LEAKY_SLOPE, NONE, Norm, PairGrads, Pairs, Precision,
    TowerOutput, UnitRows,
};
use crate::graph::{Dropout, Graph};
use crate::weights::Tower;
use accord_data::Interactions;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Elements of a temporary: 2^24 f32 are 64 MiB.
const CHUNK: i64 = 1 << 24;

pub struct TorchKernels {
    graph: Arc<Graph>,
    device: Device,
    kind: Kind,
    /// [N + 1], [E], [E]: row starts, rows and columns of A's entries
    start: Tensor,
    row: Tensor,
    column: Tensor,
    /// [E] values of A_hat
    value: Tensor,
}

impl TorchKernels {
    /// `kind`: Float or Double.
    pub fn new(graph: Arc<Graph>, device: Device, kind: Kind) -> TorchKernels {
        let ids = |ids: &[u32]| Tensor::from_slice(&ids.iter().map(|&i| i64::from(i)).collect::<Vec<_>>()).to(device);
        let (start, column) = (ids(&graph.start), ids(&graph.neighbours));
        let degree = start.narrow(0, 1, graph.nodes() as i64) - start.narrow(0, 0, graph.nodes() as i64);
        let row =
            Tensor::arange(graph.nodes() as i64, (Kind::Int64, device)).repeat_interleave_self_tensor(&degree, 0, None);
        let root = degree.to_kind(Kind::Double).pow_tensor_scalar(-0.5);
        let value = (root.index_select(0, &row) * root.index_select(0, &column)).to_kind(kind);
        TorchKernels { graph, device, kind, start, row, column, value }
    }

    /// Product of the matrix that has A's pattern and these values [E] with x [N, d].
    fn product(&self, values: &Tensor, x: &Tensor) -> Tensor {
        let n = self.graph.nodes() as i64;
        let options = (self.kind, self.device);
        Tensor::sparse_csr_tensor_crow_col_value_size(&self.start, &self.column, values, [n, n], options).mm(x)
    }

    /// a[row] . b[column] for every entry of A: [E]; a, b [N, d]
    fn edge_dots(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let edges = self.row.numel() as i64;
        let chunk = (CHUNK / a.size()[1]).max(1);
        let parts: Vec<Tensor> = (0..edges)
            .step_by(chunk as usize)
            .map(|from| {
                let size = chunk.min(edges - from);
                let (row, column) = (self.row.narrow(0, from, size), self.column.narrow(0, from, size));
                (a.index_select(0, &row) * b.index_select(0, &column)).sum_dim_intlist(1, false, self.kind)
            })
            .collect();
        if parts.is_empty() { Tensor::zeros([0], (self.kind, self.device)) } else { Tensor::cat(&parts, 0) }
    }

    fn at_rows(&self, x: &Tensor) -> Tensor {
        x.index_select(0, &self.row)
    }

    fn at_columns(&self, x: &Tensor) -> Tensor {
        x.index_select(0, &self.column)
    }

    /// Users' and items' rows of x [N, d].
    fn sides(&self, x: &Tensor) -> [Tensor; 2] {
        let users = self.graph.users as i64;
        [x.narrow(0, 0, users), x.narrow(0, users, x.size()[0] - users)]
    }

    /// softmax(E C) of one side: [rows, K]
    fn intent_shares(&self, e: &Tensor, c: &Tensor) -> Tensor {
        e.matmul(c).softmax(1, self.kind)
    }
}

fn row_dots(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).sum_dim_intlist(1, false, a.kind())
}

impl Kernels for TorchKernels {
    fn adjacency(&self, dropout: Option<Dropout>) -> Adjacency {
        let Some(dropout) = dropout else { return Adjacency::Whole };
        let kept: Vec<bool> = (0..self.graph.nodes())
            .flat_map(|v| self.graph.of(v).iter().map(move |&t| dropout.keeps(v as u32, t)))
            .collect();
        Adjacency::Values(&self.value * Tensor::from_slice(&kept).to(self.device))
    }

    fn propagate(&self, adjacency: &Adjacency, x: &Tensor, plus: Option<&Tensor>, sum: Option<&mut Tensor>) -> Tensor {
        let mut out = match adjacency {
            Adjacency::Whole => self.product(&self.value, x),
            Adjacency::Values(values) => self.product(values, x),
            Adjacency::Lists(_) => panic!("this adjacency belongs to the CPU kernels"),
        };
        if let Some(plus) = plus {
            out += plus;
        }
        if let Some(sum) = sum {
            *sum += &out;
        }
        out
    }

    fn intent_view(&self, e: &Tensor, heads: &Tensor, prototypes: [&Tensor; 2]) -> IntentLayer {
        let sides = self.sides(e);
        let intents =
            Tensor::cat(&[0, 1].map(|s| self.intent_shares(&sides[s], prototypes[s]).matmul(&prototypes[s].tr())), 0);
        let inverse_norm = row_dots(&intents, &intents).sqrt().clamp_min(1e-12).reciprocal();
        let unit = intents * inverse_norm.unsqueeze(1);
        let a = self.edge_dots(&unit, &unit) * 0.5 + 0.5;
        let sum = self.product(&a, &Tensor::ones([e.size()[0], 1], (self.kind, self.device))).squeeze_dim(1);
        // an isolated head has no edge to weigh
        let reciprocal = sum.reciprocal().where_self(&sum.gt(0.0), &sum.zeros_like());
        let mut inverse_sum = sum.zeros_like();
        let _ = inverse_sum.index_copy_(0, heads, &reciprocal.index_select(0, heads));
        let g = self.product(&(a * self.at_rows(&inverse_sum)), e);
        IntentLayer { unit, inverse_norm, inverse_sum, g }
    }

    fn intent_view_backward(
        &self,
        e: &Tensor,
        _heads: &Tensor,
        prototypes: [&Tensor; 2],
        layer: &IntentLayer,
        d_g: &Tensor,
    ) -> IntentGrads {
        let q = row_dots(d_g, &layer.g);
        let a = self.edge_dots(&layer.unit, &layer.unit) * 0.5 + 0.5;
        // both directions of an edge: as head, and as tail of its neighbour
        let as_head = (self.edge_dots(d_g, e) - self.at_rows(&q)) * self.at_rows(&layer.inverse_sum);
        let as_tail = (self.edge_dots(e, d_g) - self.at_columns(&q)) * self.at_columns(&layer.inverse_sum);
        let d_unit = self.product(&((as_head + as_tail) * 0.5), &layer.unit);
        let mut d_e = self.product(&(a * self.at_columns(&layer.inverse_sum)), d_g);
        let along = row_dots(&d_unit, &layer.unit).unsqueeze(1);
        let d_intents = (d_unit - &layer.unit * along) * layer.inverse_norm.unsqueeze(1);
        let (e, d_intents) = (self.sides(e), self.sides(&d_intents));
        let mut d_sides = Vec::with_capacity(2);
        let prototypes = [0, 1].map(|side| {
            let (e, c, d_v) = (&e[side], prototypes[side], &d_intents[side]);
            let p = self.intent_shares(e, c);
            let d_p = d_v.matmul(c);
            let d_logits = &p * (&d_p - row_dots(&p, &d_p).unsqueeze(1));
            d_sides.push(d_logits.matmul(&c.tr()));
            d_v.tr().matmul(&p) + e.tr().matmul(&d_logits)
        });
        d_e += Tensor::cat(&d_sides, 0);
        IntentGrads { e: d_e, prototypes }
    }

    fn all_pairs(&self, pairs: &Pairs) -> PairGrads {
        let (m, n) = (pairs.anchors.size()[0], pairs.keys.size()[0]);
        let chunk = (CHUNK / n.max(1)).max(1);
        let mut keys = pairs.keys.zeros_like();
        let (mut sums, mut anchors) = (Vec::new(), Vec::new());
        for from in (0..m).step_by(chunk as usize) {
            let rows = |x: &Tensor| x.narrow(0, from, chunk.min(m - from));
            let block = rows(pairs.anchors);
            let mut e = (block.matmul(&pairs.keys.tr()) * pairs.inverse_temperature).exp();
            if let Some(count) = pairs.count {
                e *= count;
            }
            let sum = e.sum_dim_intlist(1, false, self.kind);
            let diagonal = pairs.factor.diagonal.map(rows);
            let factor = super::RowFactor {
                weight: &rows(pairs.factor.weight),
                epsilon: pairs.factor.epsilon,
                diagonal: diagonal.as_ref(),
            };
            e *= factor.of(&sum).unsqueeze(1);
            anchors.push(e.matmul(pairs.keys));
            keys += e.tr().matmul(&block);
            sums.push(sum);
        }
        PairGrads { sums: Tensor::cat(&sums, 0), anchors: Tensor::cat(&anchors, 0), keys }
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

    fn tower_backward(&self, tower: &Tower, x: &Tensor, output: &TowerOutput, dz: &Tensor, grad: &mut Tower) {
        // LeakyReLU keeps the sign, so its output also holds its slope
        let d_hidden = output.hidden.leaky_relu_backward(&dz.matmul(&tower.w2), LEAKY_SLOPE, true);
        grad.w2 += dz.tr().matmul(&output.hidden);
        grad.b2 += dz.sum_dim_intlist(0, false, self.kind);
        grad.w1 += d_hidden.tr().matmul(x);
        grad.b1 += d_hidden.sum_dim_intlist(0, false, self.kind);
    }

    fn precision(&self, _wanted: Precision) -> Precision {
        Precision::Full
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

    fn top_k(&self, x: &Tensor, users: &[u32], train: &Interactions, k: usize) -> Vec<u32> {
        let [user_rows, item_rows] = self.sides(x);
        let items = item_rows.size()[0];
        let chunk = (CHUNK / items.max(1)).max(1) as usize;
        let mut best = Vec::with_capacity(users.len() * k);
        for users in users.chunks(chunk) {
            let ids: Vec<i64> = users.iter().map(|&u| i64::from(u)).collect();
            let scores = user_rows.index_select(0, &Tensor::from_slice(&ids).to(self.device)).matmul(&item_rows.tr());
            let trained: Vec<i64> = users
                .iter()
                .enumerate()
                .flat_map(|(row, &u)| train.of(u).iter().map(move |&i| row as i64 * items + i64::from(i)))
                .collect();
            let _ = scores.view([-1]).index_fill_(0, &Tensor::from_slice(&trained).to(self.device), f64::NEG_INFINITY);
            // a stable sort keeps ties in item order, which topk does not
            let (sorted, order) = scores.sort_stable(true, 1, true);
            let kept = (k as i64).min(items);
            let missing = sorted.narrow(1, 0, kept).eq(f64::NEG_INFINITY);
            let order = order.narrow(1, 0, kept).masked_fill(&missing, -1).contiguous().to(Device::Cpu);
            let order: Vec<i64> = Vec::try_from(order.view([-1])).expect("Int64 on the CPU");
            for row in order.chunks(kept as usize) {
                best.extend(row.iter().map(|&i| u32::try_from(i).unwrap_or(NONE)));
                best.extend(std::iter::repeat_n(NONE, k - kept as usize));
            }
        }
        best
    }

    fn noise_factor(&self, noise: crate::noise::Noise, like: &Tensor) -> Tensor {
        let (n, d) = (like.size()[0] as usize, like.size()[1] as usize);
        let mut factor = vec![0.0f32; n * d];
        noise.fill_factor(0..n, d, &mut factor);
        Tensor::from_slice(&factor).view([n as i64, d as i64]).to_device(self.device).to_kind(self.kind)
    }
}
