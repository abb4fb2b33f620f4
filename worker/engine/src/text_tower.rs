//! The text towers: frozen text embeddings -> the graph's space, z = W2 leaky(W1 x + b1) + b2, and the gradients of their
//! weights (the texts are not trained). libtorch's matrix products on every device.

use crate::weights::Tower;
use tch::Tensor;

const SLOPE: f64 = 0.01;

/// Output and hidden activations of some rows.
pub struct TowerOutput {
    /// [rows, d]
    pub z: Tensor,
    /// [rows, H] after LeakyReLU, which keeps the sign: it also holds the slope
    hidden: Tensor,
}

impl Tower {
    /// x [rows, T]
    pub fn forward(&self, x: &Tensor) -> TowerOutput {
        let hidden = self.b1.addmm(x, &self.w1.tr()).leaky_relu_();
        let z = self.b2.addmm(&hidden, &self.w2.tr());
        TowerOutput { z, hidden }
    }

    /// dz [rows, d] -> gradients, added to `grad`.
    pub fn backward(&self, x: &Tensor, output: &TowerOutput, dz: &Tensor, grad: &mut Tower) {
        let hidden = &output.hidden;
        let d_hidden = hidden.leaky_relu_backward(&dz.matmul(&self.w2), SLOPE, true);
        let kind = dz.kind();
        grad.w2 += dz.tr().matmul(hidden);
        grad.b2 += dz.sum_dim_intlist(0, false, kind);
        grad.w1 += d_hidden.tr().matmul(x);
        grad.b1 += d_hidden.sum_dim_intlist(0, false, kind);
    }

    /// theta <- momentum theta + (1 - momentum) student, for weights and biases (spec/IRLLREC.md 5.6).
    pub fn follow(&mut self, student: &Tower, momentum: f64) {
        for (teacher, student) in self.tensors_mut().into_iter().zip(student.tensors()) {
            *teacher *= momentum;
            *teacher += student * (1.0 - momentum);
        }
    }
}
