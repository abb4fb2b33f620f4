//! LightGCN's propagation (He et al. 2020), with X the SUM of the layers as the official code has it (spec section 4).

use crate::error::EngineError;
use crate::kernels::{Adjacency, Kernels};
use crate::world::World;
use tch::Tensor;

/// Layers of a forward pass.
pub struct Propagated {
    /// E^0 .. E^{L-1}, [n + h, d] each, their slots filled; empty where they were not asked for
    pub layers: Vec<Tensor>,
    /// X = sum of the layers [n, d]
    pub x: Tensor,
}

/// E^{l+1} = A_hat E^l from `e0` [n, d]; `keep`: the layers are needed afterwards.
pub fn forward(
    world: &World,
    kernels: &dyn Kernels,
    adjacency: &Adjacency,
    e0: &Tensor,
    layers: usize,
    keep: bool,
) -> Result<Propagated, EngineError> {
    let mut kept = Vec::new();
    let mut x = e0.copy();
    let mut e = world.with_slots(e0);
    for _ in 0..layers {
        let next = world.room(e0);
        world.product(kernels, adjacency, &e, None, &mut world.own(&next), Some(&mut x))?;
        if keep {
            kept.push(e);
        }
        e = next;
    }
    Ok(Propagated { layers: kept, x })
}

/// dX [n, d] and what each layer E^0 .. E^{L-1} receives besides (the intent view) -> dE^0:
/// dE^L = dX, dE^l = A_hat^T dE^{l+1} + dX + extra_l. `transposed`: the adjacency of the transposed matrix. The sparsity
/// is symmetric, so this gathers as forward does: remote rows of the gradient come in, nothing is scattered.
pub fn backward(
    world: &World,
    kernels: &dyn Kernels,
    transposed: &Adjacency,
    layers: usize,
    d_x: &Tensor,
    extra: &[Tensor],
) -> Result<Tensor, EngineError> {
    let mut grad = world.with_slots(d_x);
    for l in (0..layers).rev() {
        let next = world.room(d_x);
        let mut own = world.own(&next);
        match extra.get(l) {
            None => world.product(kernels, transposed, &grad, Some(d_x), &mut own, None)?,
            Some(extra) => world.product(kernels, transposed, &grad, Some(&(d_x + extra)), &mut own, None)?,
        }
        grad = next;
    }
    Ok(world.own(&grad))
}
