//! IRLLRec (Wang et al. 2025) on LightGCN: RLMRec-Con, and on top of it the intents: pairwise alignment of the intent view G
//! with the intent texts S, translation alignment with noise, and matching with the momentum teacher.

use super::{StepInput, Tally, Teacher, Texts, item_rows, user_rows};
use crate::intent_view;
use crate::loss::alignment::{Alignment, ItemRows};
use crate::loss::itm;
use crate::loss::translation::Translation;
use crate::propagate::Propagated;
use crate::weights::Weights;
use tch::Tensor;

/// Weight of the (already weighted) translation loss inside the matching term, and of its cross-entropy.
const MATCHING: [f64; 2] = [0.4, 0.6];

/// Adds the intent terms; returns what the layers E^0 .. E^{L-1} receive.
pub fn add_terms(
    input: &StepInput,
    texts: &Texts,
    weights: &Weights,
    teacher: Teacher,
    graph: &Propagated,
    tally: &mut Tally,
) -> Vec<Tensor> {
    let (Some(tower), Some(text), Some([c_user, c_item])) = (&weights.intent, &texts.intent, &weights.intents) else {
        return Vec::new();
    };
    let (kernels, heads) = (input.kernels, &input.batch.heads);
    let prototypes = [c_user, c_item];
    let inputs = &graph.layers[..input.config.layers];
    let view = tally.clock.time("intent view", || intent_view::forward(kernels, inputs, heads, prototypes));
    // the translation and matching terms run over all nodes, so all rows of S are needed
    let student = tally.clock.time("text towers", || kernels.tower(tower, text));
    let (mut d_g, mut d_s) = (view.g.zeros_like(), student.z.zeros_like());
    align(input, &view.g, &student.z, [&mut d_g, &mut d_s], tally);
    translate(input, &student.z, &graph.x, &mut d_s, tally);
    if let Some(teacher) = teacher {
        teacher.follow(tower, input.config.teacher_momentum);
        let target = tally.clock.time("text towers", || kernels.tower(teacher, text).z);
        match_teacher(input, &student.z, &target, &mut d_s, tally);
    }
    if let Some(d_tower) = &mut tally.weights.intent {
        tally.clock.time("text towers backward", || kernels.tower_backward(tower, text, &student, &d_s, d_tower));
    }
    let (d_layers, d_prototypes) = tally
        .clock
        .time("intent view backward", || intent_view::backward(kernels, inputs, heads, prototypes, &view, &d_g));
    tally.weights.intents = Some(d_prototypes);
    d_layers
}

/// Pairwise alignment of G with S; adds to dG and dS, [N, d] each.
fn align(input: &StepInput, g: &Tensor, s: &Tensor, [d_g, d_s]: [&mut Tensor; 2], tally: &mut Tally) {
    let (batch, users, loss) = (input.batch, input.users, &input.config.loss);
    let alignment = Alignment {
        batch,
        users,
        weight: loss.kd_int_weight,
        temperature: loss.kd_int_temperature,
        graph_view: g,
        user_text: &user_rows(s, users),
        item_text: ItemRows {
            z: &item_rows(s, users),
            positives: &batch.distinct_positives.ids,
            negatives: &batch.distinct_negatives.ids,
        },
    };
    // views: adding to them adds to dS
    let (mut d_user, mut d_item) = (user_rows(d_s, users), item_rows(d_s, users));
    tally.terms.kd_int = tally.clock.time("alignment", || alignment.run(input.kernels, d_g, &mut d_user, &mut d_item));
}

/// Translation alignment of S and X; adds to dS and dX.
fn translate(input: &StepInput, s: &Tensor, x: &Tensor, d_s: &mut Tensor, tally: &mut Tally) {
    let Some([text_noise, graph_noise]) = &input.noise else { return };
    let loss = &input.config.loss;
    let translation = Translation {
        text: s,
        graph: x,
        noise: [text_noise, graph_noise],
        // the matching term holds the weighted translation loss once more (quirk Q2)
        scale: loss.translation_weight * (1.0 + MATCHING[0] * loss.itm_weight),
        precision: input.config.precision,
    };
    let raw = tally.clock.time("translation", || translation.run(input.kernels, d_s, &mut tally.x));
    tally.terms.translation = loss.translation_weight * raw;
}

/// Matching of S with the teacher's output; adds to dS.
fn match_teacher(input: &StepInput, s: &Tensor, target: &Tensor, d_s: &mut Tensor, tally: &mut Tally) {
    let weight = input.config.loss.itm_weight;
    let cross_entropy = tally.clock.time("matching", || itm::cross_entropy(s, target, MATCHING[1] * weight, d_s));
    tally.terms.itm = weight * (MATCHING[0] * tally.terms.translation + MATCHING[1] * cross_entropy);
}
