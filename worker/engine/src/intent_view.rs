//! The intent view of the graph tower: G = mean over layers 0 .. L-1 of the adaptively weighted neighbours
//! (spec section 4). Only the batch's nodes are heads: G enters no other loss.

use crate::batch::BatchRows;
use crate::error::EngineError;
use crate::kernels::{HeadGrads, IntentGrads, IntentLayer, Kernels, largest, prototype_bound};
use crate::world::World;
use tch::{Kind, Tensor};

pub struct IntentView {
    layers: Vec<IntentLayer>,
    /// [n, d], zero outside the own heads
    pub g: Tensor,
}

/// `inputs` E^0 .. E^{L-1} with filled slots; `heads` own rows; `prototypes` [d, K] of users and items.
pub fn forward(kernels: &dyn Kernels, inputs: &[Tensor], heads: &Tensor, prototypes: [&Tensor; 2]) -> IntentView {
    let layers: Vec<IntentLayer> = inputs.iter().map(|e| kernels.intent_view(e, heads, prototypes)).collect();
    let mut g = layers[0].g.copy();
    layers[1..].iter().for_each(|layer| g += &layer.g);
    g /= inputs.len() as f64;
    IntentView { layers, g }
}

/// dG [n, d], zero outside the own heads -> what each input receives [n, d], and this rank's part of the prototypes'
/// gradients, f64. Needs, of the remote heads beside it, dG and two numbers a layer: one exchange for all layers.
pub fn backward(
    world: &World,
    kernels: &dyn Kernels,
    inputs: &[Tensor],
    batch: &BatchRows,
    prototypes: [&Tensor; 2],
    view: &IntentView,
    d_g: &Tensor,
) -> Result<(Vec<Tensor>, [Tensor; 2]), EngineError> {
    let d = d_g.size()[1];
    let d_g = d_g / inputs.len() as f64;
    let mut columns = vec![d_g.shallow_clone()];
    for layer in &view.layers {
        columns.push((&d_g * &layer.g).sum_dim_intlist(1, true, d_g.kind()));
        columns.push(layer.inverse_sum.unsqueeze(1));
    }
    let (all, heads) = world.head_slots(kernels, batch, &Tensor::cat(&columns, 1))?;
    let g = all.narrow(1, 0, d).contiguous();
    let number = |layer: usize, which: i64| all.select(1, d + 2 * layer as i64 + which).contiguous();
    let layers = inputs.iter().zip(&view.layers).enumerate();
    let grads = layers.map(|(l, (e, layer))| {
        let given = HeadGrads { heads: &heads, g: &g, q: &number(l, 0), inverse_sum: &number(l, 1) };
        kernels.intent_view_backward(e, prototypes, layer, &given)
    });
    let mut grads: Vec<IntentGrads> = grads.collect();

    // one bound for all layers: their gradients are added
    let own: Vec<Tensor> = inputs.iter().map(|e| world.own(e)).collect();
    let largest = world.max([largest(&own), largest(grads.iter().map(|grads| &grads.intents))])?;
    let bound = prototype_bound(prototypes, world.nodes() * inputs.len(), largest);
    let mut d_prototypes = prototypes.map(|c| c.zeros_like().to_kind(Kind::Double));
    for (e, grads) in inputs.iter().zip(&mut grads) {
        let of_layer = kernels.intents_backward(e, &grads.intents, prototypes, bound, &mut grads.e);
        d_prototypes.iter_mut().zip(of_layer).for_each(|(sum, grad)| *sum += grad);
    }
    Ok((grads.into_iter().map(|grads| grads.e).collect(), d_prototypes))
}
