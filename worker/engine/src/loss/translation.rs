//! Translation alignment with noise (spec 5.5): texts S and graph X, each perturbed by multiplicative Gaussian noise,
//! -(1/N) sum_i log( e_ii / (sum_j e_ij + 1e-8) + 1e-8 ), e_ij = exp(y_i . x_j), over all N nodes, temperature 1.

use crate::kernels::{Kernels, Norm, Pairs, Precision, RowFactor};
use tch::{Kind, Tensor};

const EPSILON: f64 = 1e-8;

pub struct Translation<'a> {
    /// [N, d] S and X
    pub text: &'a Tensor,
    pub graph: &'a Tensor,
    /// [N, d] 1 + e, of text and graph
    pub noise: [&'a Tensor; 2],
    /// Multiplies the gradients; the value is returned bare.
    pub scale: f64,
    pub precision: Precision,
}

impl Translation<'_> {
    /// Adds to `d_text` and `d_graph` [N, d]; returns the unweighted loss.
    pub fn run(&self, kernels: &dyn Kernels, d_text: &mut Tensor, d_graph: &mut Tensor) -> f64 {
        let [text_noise, graph_noise] = self.noise;
        let y = kernels.unit_rows(&(self.text * text_noise), Norm::Max);
        let x = kernels.unit_rows(&(self.graph * graph_noise), Norm::Max);
        let n = self.text.size()[0] as f64;
        let diagonal = (&y.rows * &x.rows).sum_dim_intlist(1, false, y.rows.kind());
        let weight = Tensor::full_like(&diagonal, self.scale / n);
        let mut pairs = kernels.all_pairs(&Pairs {
            anchors: &y.rows,
            keys: &x.rows,
            count: None,
            inverse_temperature: 1.0,
            factor: RowFactor { weight: &weight, epsilon: EPSILON, diagonal: Some(&diagonal) },
            precision: self.precision,
        });
        let sums = pairs.sums.to_kind(Kind::Double) + EPSILON;
        let q = diagonal.to_kind(Kind::Double).exp() / sums;
        let loss = -(&q + EPSILON).log().sum(Kind::Double).double_value(&[]) / n;
        // d -log(q + eps) / d logit_ii, the part besides the softmax row
        let pull = ((&q / (&q + EPSILON)) * (-self.scale / n)).to_kind(y.rows.kind()).unsqueeze(1);
        pairs.anchors += &x.rows * &pull;
        pairs.keys += &y.rows * &pull;
        *d_text += kernels.unit_rows_backward(&y, &pairs.anchors) * text_noise;
        *d_graph += kernels.unit_rows_backward(&x, &pairs.keys) * graph_noise;
        loss
    }
}
