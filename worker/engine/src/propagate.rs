//! LightGCN's propagation (He et al. 2020), with X the SUM of the layers as the official code has it (spec section 4).

use crate::kernels::{Adjacency, Kernels};
use tch::Tensor;

/// Layers of a forward pass.
pub struct Propagated {
    /// E^0 .. E^L, [N, d] each
    pub layers: Vec<Tensor>,
    /// X = sum of the layers [N, d]
    pub x: Tensor,
}

/// E^{l+1} = A_hat E^l from `e0` [N, d].
pub fn forward(kernels: &dyn Kernels, adjacency: &Adjacency, e0: &Tensor, layers: usize) -> Propagated {
    let mut all = vec![e0.shallow_clone()];
    let mut x = e0.copy();
    for l in 0..layers {
        let next = kernels.propagate(adjacency, &all[l], None, Some(&mut x));
        all.push(next);
    }
    Propagated { layers: all, x }
}

/// dX [N, d] and what each layer E^0 .. E^{L-1} receives besides (the intent view) -> dE^0:
/// dE^L = dX, dE^l = A_hat^T dE^{l+1} + dX + extra_l. `transposed`: the adjacency of the transposed matrix.
pub fn backward(
    kernels: &dyn Kernels,
    transposed: &Adjacency,
    layers: usize,
    d_x: &Tensor,
    extra: &[Tensor],
) -> Tensor {
    let mut grad = d_x.shallow_clone();
    for l in (0..layers).rev() {
        grad = match extra.get(l) {
            None => kernels.propagate(transposed, &grad, Some(d_x), None),
            Some(extra) => kernels.propagate(transposed, &grad, Some(&(d_x + extra)), None),
        };
    }
    grad
}
