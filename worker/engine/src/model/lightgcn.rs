//! LightGCN: propagation and BPR.

use super::{Clock, StepInput, Tally};
use crate::graph::Dropout;
use crate::loss::bpr::bpr;
use crate::propagate::{self, Propagated};
use crate::weights::Weights;
use tch::Tensor;

/// E^0 .. E^L and X.
pub fn forward(input: &StepInput, weights: &Weights, clock: &mut Clock) -> Propagated {
    clock.time("propagation", || {
        let adjacency = input.kernels.adjacency(input.dropout);
        propagate::forward(input.kernels, &adjacency, &weights.embeds, input.config.layers)
    })
}

pub fn add_terms(input: &StepInput, graph: &Propagated, tally: &mut Tally) {
    tally.terms.bpr = tally.clock.time("bpr", || bpr(input.kernels, input.batch, &graph.x, &mut tally.x));
}

/// `extra`: what the layers E^0 .. E^{L-1} receive besides dX.
pub fn backward(input: &StepInput, tally: &mut Tally, extra: &[Tensor]) {
    tally.weights.embeds = tally.clock.time("propagation backward", || {
        let transposed = input.kernels.adjacency(input.dropout.map(Dropout::transposed));
        propagate::backward(input.kernels, &transposed, input.config.layers, &tally.x, extra)
    });
}
