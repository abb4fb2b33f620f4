//! The intent view of the graph tower: G = mean over layers 0 .. L-1 of the adaptively weighted neighbours
//! (spec section 4). Only the batch's nodes are heads: G enters no other loss.

use crate::kernels::{IntentLayer, Kernels};
use tch::Tensor;

pub struct IntentView {
    layers: Vec<IntentLayer>,
    /// [N, d], zero outside the heads
    pub g: Tensor,
}

/// `inputs` E^0 .. E^{L-1}; `prototypes` [d, K] of users and items.
pub fn forward(kernels: &dyn Kernels, inputs: &[Tensor], heads: &Tensor, prototypes: [&Tensor; 2]) -> IntentView {
    let layers: Vec<IntentLayer> = inputs.iter().map(|e| kernels.intent_view(e, heads, prototypes)).collect();
    let mut g = layers[0].g.copy();
    layers[1..].iter().for_each(|layer| g += &layer.g);
    g /= inputs.len() as f64;
    IntentView { layers, g }
}

/// dG [N, d] -> what each input receives [N, d], and the prototypes' gradients.
pub fn backward(
    kernels: &dyn Kernels,
    inputs: &[Tensor],
    heads: &Tensor,
    prototypes: [&Tensor; 2],
    view: &IntentView,
    d_g: &Tensor,
) -> (Vec<Tensor>, [Tensor; 2]) {
    let d_g = d_g / inputs.len() as f64;
    let mut d_prototypes = prototypes.map(Tensor::zeros_like);
    let d_inputs = inputs
        .iter()
        .zip(&view.layers)
        .map(|(e, layer)| {
            let grads = kernels.intent_view_backward(e, heads, prototypes, layer, &d_g);
            d_prototypes.iter_mut().zip(&grads.prototypes).for_each(|(sum, grad)| *sum += grad);
            grads.e
        })
        .collect();
    (d_inputs, d_prototypes)
}
