//! IRLLRec (Wang et al. 2025) on LightGCN: RLMRec-Con, and on top of it the intents: pairwise alignment of the intent view G
//! with the intent texts S, translation alignment with noise, and matching with the momentum teacher.

use super::{Clock, HeadRows, StepInput, Terms, Texts};
use crate::error::EngineError;
use crate::intent_view::{self, IntentView};
use crate::kernels::{TowerBounds, TowerOutput, largest};
use crate::loss::alignment::{Alignment, AlignmentGrads};
use crate::loss::itm;
use crate::loss::translation::Translation;
use crate::propagate::Propagated;
use crate::weights::Tower;
use tch::Tensor;

/// Weight of the (already weighted) translation loss inside the matching term, and of its cross-entropy.
const MATCHING: [f64; 2] = [0.4, 0.6];

/// Both views of the intents in one step.
pub struct Intents<'a> {
    prototypes: [&'a Tensor; 2],
    view: IntentView,
    /// Input and output of the text tower: the rows in scope
    text: Tensor,
    largest_text: f64,
    student: TowerOutput,
}

impl<'a> Intents<'a> {
    /// None for the models before IRLLRec.
    pub fn forward(
        input: &StepInput,
        texts: &Texts,
        tower: Option<&Tower>,
        prototypes: Option<&'a [Tensor; 2]>,
        graph: &Propagated,
        clock: &mut Clock,
    ) -> Option<Intents<'a>> {
        let (tower, text, [c_user, c_item]) = (tower?, texts.intent.as_ref()?, prototypes?);
        let largest_text = texts.largest_intent;
        let prototypes = [c_user, c_item];
        let heads = &input.batch.own.rows;
        let view = clock.time("intent view", || intent_view::forward(input.kernels, &graph.layers, heads, prototypes));
        let text = input.batch.scope.of_table(text);
        let student = clock.time("text towers", || input.kernels.tower(tower, &text));
        Some(Intents { prototypes, view, text, largest_text, student })
    }

    /// G and S of the own heads [k, d].
    pub fn heads(&self, input: &StepInput) -> [Tensor; 2] {
        let batch = input.batch;
        [(&self.view.g, &batch.own.rows), (&self.student.z, &batch.scope.heads)]
            .map(|(table, rows)| input.kernels.gather(table, rows))
    }

    /// Zeros for dS of the rows in scope.
    pub fn zeros(&self) -> Tensor {
        self.student.z.zeros_like()
    }

    /// This rank's part of the pairwise alignment of G with S; adds to dS of the users in scope.
    pub fn align(
        &self,
        input: &StepInput,
        heads: &HeadRows,
        grads: &mut HeadRows,
        d_s: &Tensor,
    ) -> Result<f64, EngineError> {
        let (Some(graph), Some(text), Some(d_graph), Some(d_text)) = (&heads.g, &heads.s, &mut grads.g, &mut grads.s)
        else {
            return Ok(0.0);
        };
        let loss = &input.config.loss;
        let users = input.batch.scope.users as i64;
        let alignment = Alignment {
            world: input.world,
            batch: input.batch,
            weight: loss.kd_int_weight,
            temperature: loss.kd_int_temperature,
            graph,
            text,
            user_text: &self.student.z.narrow(0, 0, users),
        };
        // a view: adding to it adds to dS
        let mut d_users = d_s.narrow(0, 0, users);
        let mut grads = AlignmentGrads { graph: d_graph, text: d_text, user_text: &mut d_users };
        alignment.run(input.kernels, &mut grads)
    }

    /// Translation alignment of S and X [n, d]; adds to dS and dX.
    pub fn translate(
        &self,
        input: &StepInput,
        x: &Tensor,
        d_s: &mut Tensor,
        d_x: &mut Tensor,
    ) -> Result<f64, EngineError> {
        let Some([text_noise, graph_noise]) = &input.noise else { return Ok(0.0) };
        let loss = &input.config.loss;
        let scope = &input.batch.scope;
        let translation = Translation {
            world: input.world,
            places: &scope.places,
            total: scope.total,
            text: &self.student.z,
            graph: &scope.of_table(x),
            noise: [text_noise, graph_noise],
            // the matching term holds the weighted translation loss once more (quirk Q2)
            scale: loss.translation_weight * (1.0 + MATCHING[0] * loss.itm_weight),
            precision: input.config.precision,
        };
        let value = match &scope.chosen {
            None => translation.run(input.kernels, d_s, d_x)?,
            Some(chosen) => {
                let mut d_rows = translation.graph.zeros_like();
                let value = translation.run(input.kernels, d_s, &mut d_rows)?;
                input.kernels.scatter_add(d_x, &chosen.rows, &d_rows);
                value
            }
        };
        Ok(loss.translation_weight * value)
    }

    /// Matching of S with the teacher's output; adds to dS.
    pub fn match_teacher(&self, input: &StepInput, teacher: &Tower, terms: &Terms, d_s: &mut Tensor) -> f64 {
        let weight = input.config.loss.itm_weight;
        let target = input.kernels.tower(teacher, &self.text).z;
        let scale = MATCHING[1] * weight;
        let cross_entropy = itm::cross_entropy(&self.student.z, &target, input.batch.scope.total, scale, d_s);
        weight * (MATCHING[0] * terms.translation + MATCHING[1] * cross_entropy)
    }

    /// dS -> the tower's gradients, f64.
    pub fn backward_text(
        &self,
        input: &StepInput,
        tower: &Tower,
        d_s: &Tensor,
        grad: &mut Tower,
    ) -> Result<(), EngineError> {
        let magnitudes = [self.largest_text, largest([&self.student.hidden]), largest([d_s])];
        let bounds = TowerBounds::new(tower, input.batch.scope.total, input.world.max(magnitudes)?);
        input.kernels.tower_backward(tower, &self.text, &self.student, d_s, &bounds, grad);
        Ok(())
    }

    /// dG of the own heads [k, d] -> what the layers E^0 .. E^{L-1} receive, and the prototypes' gradients, f64.
    pub fn backward_view(
        &self,
        input: &StepInput,
        graph: &Propagated,
        d_heads: &Tensor,
    ) -> Result<(Vec<Tensor>, [Tensor; 2]), EngineError> {
        let mut d_g = self.view.g.zeros_like();
        input.kernels.scatter_add(&mut d_g, &input.batch.own.rows, d_heads);
        let StepInput { world, kernels, batch, .. } = *input;
        intent_view::backward(world, kernels, &graph.layers, batch, self.prototypes, &self.view, &d_g)
    }
}
