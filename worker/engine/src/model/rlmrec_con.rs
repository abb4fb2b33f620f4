//! RLMRec-Con (Ren et al. 2024): LightGCN and the alignment of X with the profile texts.

use super::{StepInput, Tally, Texts, item_rows, user_rows};
use crate::loss::alignment::{Alignment, ItemRows};
use crate::propagate::Propagated;
use crate::weights::Weights;

/// Adds the profile alignment.
pub fn add_terms(input: &StepInput, texts: &Texts, weights: &Weights, graph: &Propagated, tally: &mut Tally) {
    let Tally { terms, x: d_x, weights: grads, clock } = tally;
    let (Some(tower), Some(d_tower)) = (&weights.profile, &mut grads.profile) else { return };
    let batch = input.batch;
    let user_texts = user_rows(&texts.profile, input.users);
    // an item's Z enters only through the batch: the other rows need not be made
    let item_texts =
        clock.time("text towers", || input.kernels.gather(&item_rows(&texts.profile, input.users), &batch.items));
    let (users, items) = clock
        .time("text towers", || (input.kernels.tower(tower, &user_texts), input.kernels.tower(tower, &item_texts)));
    let (mut d_users, mut d_items) = (users.z.zeros_like(), items.z.zeros_like());
    terms.kd = clock.time("alignment", || {
        let alignment = Alignment {
            batch,
            users: input.users,
            weight: input.config.loss.kd_weight,
            temperature: input.config.loss.kd_temperature,
            graph_view: &graph.x,
            user_text: &users.z,
            item_text: ItemRows { z: &items.z, positives: &batch.positive_places, negatives: &batch.negative_places },
        };
        alignment.run(input.kernels, d_x, &mut d_users, &mut d_items)
    });
    clock.time("text towers backward", || {
        input.kernels.tower_backward(tower, &user_texts, &users, &d_users, d_tower);
        input.kernels.tower_backward(tower, &item_texts, &items, &d_items, d_tower);
    });
}
