//! InfoNCE over cosines: sum_b weight_b ( -a_b . k_p(b) / t + log sum_c count_c exp(a_b . k_c / t) ), rows normalised.
//! The positive of every anchor is one of the keys, and stays in the denominator, as in the official code. No max is
//! subtracted: |cosine| / t is bounded, and the job file's rules keep it at 50 or less.

use crate::kernels::{Kernels, Norm, Pairs, Precision, RowFactor};
use tch::{Kind, Tensor};

pub struct InfoNce<'a> {
    /// [m, d] raw
    pub anchors: &'a Tensor,
    /// [m] occurrences of the anchor in the batch
    pub weight: &'a Tensor,
    /// [m] the anchor's positive among the keys
    pub positive: &'a Tensor,
    /// [n, d] raw
    pub keys: &'a Tensor,
    /// [n] occurrences of the key; none: once
    pub count: Option<&'a Tensor>,
    pub temperature: f64,
    /// Multiplies value and gradients.
    pub scale: f64,
}

/// Value and gradients of the raw rows.
pub struct Contrast {
    pub loss: f64,
    /// [m, d]
    pub anchors: Tensor,
    /// [n, d]
    pub keys: Tensor,
}

impl InfoNce<'_> {
    pub fn run(&self, kernels: &dyn Kernels) -> Contrast {
        let (anchors, keys) = (kernels.unit_rows(self.anchors, Norm::Root), kernels.unit_rows(self.keys, Norm::Root));
        let inverse_temperature = 1.0 / self.temperature;
        let weight = self.weight * (self.scale * inverse_temperature);
        let mut pairs = kernels.all_pairs(&Pairs {
            anchors: &anchors.rows,
            keys: &keys.rows,
            count: self.count,
            inverse_temperature,
            factor: RowFactor { weight: &weight, epsilon: 0.0, diagonal: None },
            precision: Precision::Full,
        });
        let positive = kernels.gather(&keys.rows, self.positive);
        let logit = (&anchors.rows * &positive).sum_dim_intlist(1, false, Kind::Double) * inverse_temperature;
        let loss = (self.weight * (pairs.sums.to_kind(Kind::Double).log() - logit)).sum(Kind::Double).double_value(&[]);
        let weight = -weight.unsqueeze(1);
        pairs.anchors += positive * &weight;
        kernels.scatter_add(&mut pairs.keys, self.positive, &(&anchors.rows * &weight));
        Contrast {
            loss: loss * self.scale,
            anchors: kernels.unit_rows_backward(&anchors, &pairs.anchors),
            keys: kernels.unit_rows_backward(&keys, &pairs.keys),
        }
    }
}
