//! Translation alignment with noise (spec 5.5): texts S and graph X, each perturbed by multiplicative Gaussian noise,
//! -(1/N) sum_i log( e_ii / (sum_j e_ij + 1e-8) + 1e-8 ), e_ij = exp(y_i . x_j), over all N nodes (or those in scope),
//! temperature 1. A rank takes the rows it owns; those of the others come as they are, or as moments in one reduction.

use crate::error::EngineError;
use crate::kernels::{Bound, Factor, HalfPairs, Kernels, Norm, PairGrads, Pairs, Precision, RowFactor, largest};
use crate::world::World;
use tch::{Kind, Tensor};

const EPSILON: f64 = 1e-8;

pub struct Translation<'a> {
    pub world: &'a World,
    /// Where the own rows lie among those of all ranks, and how many those are: N
    pub places: &'a Tensor,
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
                factor: Factor::OfSums(factor),
                bf16: self.precision == Precision::Bf16,
            })),
            (Precision::Full | Precision::Bf16, _) => self.over_ranks(kernels, y, x, &factor),
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

    /// Own y against all x; with every row's factor known, all y against own x.
    fn over_ranks(
        &self,
        kernels: &dyn Kernels,
        y: &Tensor,
        x: &Tensor,
        factor: &RowFactor,
    ) -> Result<PairGrads, EngineError> {
        let all = |own: &Tensor| self.world.collect(own, self.places, self.total as i64);
        let half = kernels.half_pairs(&HalfPairs { anchors: y, keys: &all(x)?, count: None, inverse_temperature: 1.0 });
        let factors = factor.of(&half.sums);
        let keys = kernels
            .all_pairs(&Pairs {
                anchors: &all(y)?,
                keys: x,
                count: None,
                inverse_temperature: 1.0,
                factor: Factor::Given(&all(&factors)?),
                bf16: false,
            })
            .keys;
        Ok(PairGrads { sums: half.sums, anchors: half.rows * factors.unsqueeze(1), keys })
    }
}
