//! Translation alignment with noise (spec 5.5): texts S and graph X, each perturbed by multiplicative Gaussian noise,
//! -(1/N) sum_i log( e_ii / (sum_j e_ij + 1e-8) + 1e-8 ), e_ij = exp(y_i . x_j), over all N nodes (or those in scope),
//! temperature 1. A rank takes the rows y_i it owns; the x_j of the others come around the ring, or as moments in one reduction.

use crate::error::EngineError;
use crate::kernels::{Bound, HalfPairs, Kernels, Norm, PairGrads, Pairs, Precision, RowFactor, largest};
use crate::world::World;
use tch::{Kind, Tensor};

const EPSILON: f64 = 1e-8;

pub struct Translation<'a> {
    pub world: &'a World,
    /// Rows of each rank, and of all: N
    pub counts: &'a [i64],
    pub total: usize,
    /// [n, d] S and X, own rows
    pub text: &'a Tensor,
    pub graph: &'a Tensor,
    /// [n, d] 1 + e, of text and graph
    pub noise: [&'a Tensor; 2],
    /// Multiplies the gradients; the value is returned bare.
    pub scale: f64,
    pub precision: Precision,
}

impl Translation<'_> {
    /// Adds to `d_text` and `d_graph` [n, d]; returns this rank's part of the unweighted loss.
    pub fn run(&self, kernels: &dyn Kernels, d_text: &mut Tensor, d_graph: &mut Tensor) -> Result<f64, EngineError> {
        let [text_noise, graph_noise] = self.noise;
        let y = kernels.unit_rows(&(self.text * text_noise), Norm::Max);
        let x = kernels.unit_rows(&(self.graph * graph_noise), Norm::Max);
        let nodes = self.total as f64;
        let diagonal = (&y.rows * &x.rows).sum_dim_intlist(1, false, y.rows.kind());
        let weight = Tensor::full_like(&diagonal, self.scale / nodes);
        let factor = RowFactor { weight: &weight, epsilon: EPSILON, diagonal: Some(&diagonal) };
        let mut pairs = self.pairs(kernels, &y.rows, &x.rows, factor)?;
        let sums = pairs.sums.to_kind(Kind::Double) + EPSILON;
        let q = diagonal.to_kind(Kind::Double).exp() / sums;
        let loss = -(&q + EPSILON).log().sum(Kind::Double).double_value(&[]) / nodes;
        // d -log(q + eps) / d logit_ii, the part besides the softmax row
        let pull = ((&q / (&q + EPSILON)) * (-self.scale / nodes)).to_kind(y.rows.kind()).unsqueeze(1);
        pairs.anchors += &x.rows * &pull;
        pairs.keys += &y.rows * &pull;
        *d_text += kernels.unit_rows_backward(&y, &pairs.anchors) * text_noise;
        *d_graph += kernels.unit_rows_backward(&x, &pairs.keys) * graph_noise;
        Ok(loss)
    }

    /// Own rows y against the x of all ranks, and own x against the y of all; [n, d] each.
    fn pairs(
        &self,
        kernels: &dyn Kernels,
        y: &Tensor,
        x: &Tensor,
        factor: RowFactor,
    ) -> Result<PairGrads, EngineError> {
        match (self.precision, self.world.size()) {
            (Precision::Moments, _) => self.by_moments(kernels, y, x, &factor),
            (Precision::Full | Precision::Bf16, 1) => Ok(kernels.all_pairs(&Pairs {
                anchors: y,
                keys: x,
                count: None,
                inverse_temperature: 1.0,
                factor,
                bf16: self.precision == Precision::Bf16,
            })),
            (Precision::Full | Precision::Bf16, _) => self.by_ring(kernels, y, x, &factor),
        }
    }

    fn by_moments(
        &self,
        kernels: &dyn Kernels,
        y: &Tensor,
        x: &Tensor,
        factor: &RowFactor,
    ) -> Result<PairGrads, EngineError> {
        let of_keys = self.world.sum(kernels.moments(x, None, Bound(self.total as f64)))?;
        let to_keys = kernels.half_moments(&of_keys, y);
        let factors = factor.of(&to_keys.sums);
        let [most] = self.world.max([largest([&factors])])?;
        let bound = Bound(self.total as f64 * most);
        let of_anchors = self.world.sum(kernels.moments(y, Some(&factors), bound))?;
        let keys = kernels.half_moments(&of_anchors, x).rows;
        Ok(PairGrads { sums: to_keys.sums, anchors: to_keys.rows * factors.unsqueeze(1), keys })
    }

    /// Two turns: the row sums must be whole before they can weigh the gradients of x.
    fn by_ring(
        &self,
        kernels: &dyn Kernels,
        y: &Tensor,
        x: &Tensor,
        factor: &RowFactor,
    ) -> Result<PairGrads, EngineError> {
        let rows = self.counts;
        let half = |anchors: &Tensor, keys: &Tensor, count: Option<&Tensor>| {
            kernels.half_pairs(&HalfPairs { anchors, keys, count, inverse_temperature: 1.0 })
        };
        let (mut sums, mut anchors) = (Tensor::zeros_like(factor.weight), y.zeros_like());
        self.world.ring(x, rows, |_, x| {
            let to_block = half(y, x, None);
            sums += to_block.sums;
            anchors += to_block.rows;
            Ok(())
        })?;
        let factors = factor.of(&sums);
        let weighted = Tensor::cat(&[y, &factors.unsqueeze(1)], 1);
        let (d, mut keys) = (y.size()[1], x.zeros_like());
        self.world.ring(&weighted, rows, |_, block| {
            let (y, factors) = (block.narrow(1, 0, d).contiguous(), block.select(1, d).contiguous());
            keys += half(x, &y, Some(&factors)).rows;
            Ok(())
        })?;
        Ok(PairGrads { anchors: anchors * factors.unsqueeze(1), sums, keys })
    }
}
