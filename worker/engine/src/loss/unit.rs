//! Row normalisation and its backward. The official code has two, which differ in how they avoid dividing by zero.

use tch::Tensor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// x / sqrt(1e-8 + |x|^2): InfoNCE
    Root,
    /// x / max(|x|, 1e-12): torch's F.normalize, in the translation loss
    Max,
}

pub struct UnitRows {
    /// [n, d]
    pub rows: Tensor,
    /// [n, 1] the factor each row was multiplied by
    inverse: Tensor,
    norm: Norm,
}

impl UnitRows {
    /// x [n, d]
    pub fn new(x: &Tensor, norm: Norm) -> UnitRows {
        let square = x.square().sum_dim_intlist(1, true, x.kind());
        let inverse = match norm {
            Norm::Root => (square + 1e-8).rsqrt(),
            Norm::Max => square.sqrt().clamp_min(1e-12).reciprocal(),
        };
        UnitRows { rows: x * &inverse, inverse, norm }
    }

    /// Gradient of the unit rows -> gradient of x: (g - u (u . g)) / |x|; rows at the clamp have no direction to lose.
    pub fn backward(&self, grad: &Tensor) -> Tensor {
        let mut along = (grad * &self.rows).sum_dim_intlist(1, true, grad.kind());
        if self.norm == Norm::Max {
            along = along.masked_fill(&self.inverse.ge(1e12), 0.0);
        }
        (grad - &self.rows * along) * &self.inverse
    }
}
