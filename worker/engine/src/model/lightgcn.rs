//! LightGCN: propagation and BPR.

use super::{Clock, StepInput};
use crate::error::EngineError;
use crate::graph::Dropout;
use crate::propagate::{self, Propagated};
use accord_spec::ModelKind;
use tch::Tensor;

/// E^0 .. E^{L-1} where the intent view needs them, and X.
pub fn forward(input: &StepInput, embeds: &Tensor, clock: &mut Clock) -> Result<Propagated, EngineError> {
    let StepInput { world, kernels, config, .. } = *input;
    let keep = config.kind == ModelKind::Irllrec;
    clock.time("propagation", || {
        let adjacency = kernels.adjacency(input.dropout);
        propagate::forward(world, kernels, &adjacency, embeds, config.layers, keep)
    })
}

/// dX [n, d], and `extra` that the layers E^0 .. E^{L-1} receive besides -> the embeddings' gradient [n, d].
pub fn backward(input: &StepInput, d_x: &Tensor, extra: &[Tensor], clock: &mut Clock) -> Result<Tensor, EngineError> {
    let StepInput { world, kernels, config, .. } = *input;
    clock.time("propagation backward", || {
        let transposed = kernels.adjacency(input.dropout.map(Dropout::transposed));
        propagate::backward(world, kernels, &transposed, config.layers, d_x, extra)
    })
}
