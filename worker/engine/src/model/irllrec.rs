//! IRLLRec (Wang et al. 2025) on LightGCN: RLMRec-Con, and on top of it the intents: pairwise alignment of the intent view G
//! with the intent texts S, translation alignment with noise, and matching with the momentum teacher.

use super::{Clock, Gradients, StepInput, Teacher, Terms, Texts, item_rows, user_rows};
use crate::intent_view;
use crate::loss::alignment::{Alignment, ItemRows};
use crate::loss::itm;
use crate::loss::translation::Translation;
use crate::propagate::Propagated;
use crate::weights::Weights;
use tch::Tensor;

/// Weight of the (already weighted) translation loss inside the matching term, and of its cross-entropy.
const MATCHING: [f64; 2] = [0.4, 0.6];

/// Adds the intent terms to `terms`; returns what the layers E^0 .. E^{L-1} receive.
pub fn add_terms(
    input: &StepInput,
    texts: &Texts,
    weights: &Weights,
    teacher: Teacher,
    graph: &Propagated,
    grads: &mut Gradients,
    terms: &mut Terms,
    clock: &mut Clock,
) -> Vec<Tensor> {
    let (Some(tower), Some(texts), Some([c_user, c_item])) = (&weights.intent, &texts.intent, &weights.intents) else {
        return Vec::new();
    };
    let (kernels, batch, config) = (input.kernels, input.batch, input.config);
    let inputs = &graph.layers[..config.layers];
    let view = clock.time("intent view", || intent_view::forward(kernels, inputs, &batch.heads, [c_user, c_item]));
    // the translation and matching terms run over all nodes, so all rows of S are needed
    let student = clock.time("text towers", || kernels.tower(tower, texts));
    let (mut d_g, mut d_s) = (view.g.zeros_like(), student.z.zeros_like());
    terms.kd_int = clock.time("alignment", || {
        let alignment = Alignment {
            batch,
            users: input.users,
            weight: config.loss.kd_int_weight,
            temperature: config.loss.kd_int_temperature,
            graph_view: &view.g,
            user_text: &user_rows(&student.z, input.users),
            item_text: ItemRows {
                z: &item_rows(&student.z, input.users),
                positives: &batch.distinct_positives.ids,
                negatives: &batch.distinct_negatives.ids,
            },
        };
        let (mut d_user, mut d_item) = (user_rows(&d_s, input.users), item_rows(&d_s, input.users));
        alignment.run(kernels, &mut d_g, &mut d_user, &mut d_item)
    });
    let (w_translation, w_itm) = (config.loss.translation_weight, config.loss.itm_weight);
    if let Some([text_noise, graph_noise]) = &input.noise {
        let translation = Translation {
            text: &student.z,
            graph: &graph.x,
            noise: [text_noise, graph_noise],
            // the matching term holds the weighted translation loss once more (quirk Q2)
            scale: w_translation * (1.0 + MATCHING[0] * w_itm),
            precision: config.precision,
        };
        let raw = clock.time("translation", || translation.run(kernels, &mut d_s, &mut grads.x));
        terms.translation = w_translation * raw;
    }
    if let Some(teacher) = teacher {
        teacher.follow(tower, config.teacher_momentum);
        let target = clock.time("text towers", || kernels.tower(teacher, texts).z);
        let scale = MATCHING[1] * w_itm;
        let cross_entropy = clock.time("matching", || itm::cross_entropy(&student.z, &target, scale, &mut d_s));
        terms.itm = w_itm * (MATCHING[0] * terms.translation + MATCHING[1] * cross_entropy);
    }
    if let Some(d_tower) = &mut grads.weights.intent {
        clock.time("text towers backward", || kernels.tower_backward(tower, texts, &student, &d_s, d_tower));
    }
    let (d_layers, d_prototypes) = clock.time("intent view backward", || {
        intent_view::backward(kernels, inputs, &batch.heads, [c_user, c_item], &view, &d_g)
    });
    grads.weights.intents = Some(d_prototypes);
    d_layers
}
