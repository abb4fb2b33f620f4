//! RLMRec-Con (Ren et al. 2024): LightGCN, and alignment of X with the profile texts Z.

use super::{Clock, HeadRows, StepInput, Texts};
use crate::error::EngineError;
use crate::kernels::{TowerBounds, TowerOutput, largest};
use crate::loss::alignment::{Alignment, AlignmentGrads};
use crate::weights::Tower;
use tch::Tensor;

/// Profile texts of one step. An item's Z enters only through the batch: the other items' rows are not made.
pub struct Profiles {
    /// Inputs: own users in scope [u, T], own items of the batch [k, T]
    inputs: [Tensor; 2],
    largest_text: f64,
    users: TowerOutput,
    items: TowerOutput,
}

impl Profiles {
    pub fn forward(input: &StepInput, texts: &Texts, tower: &Tower, clock: &mut Clock) -> Profiles {
        let own = &input.batch.own;
        let items = own.rows.size()[0] - own.users as i64;
        clock.time("text towers", || {
            let users = users_in_scope(input, &texts.profile);
            let items = input.kernels.gather(&texts.profile, &own.rows.narrow(0, own.users as i64, items));
            let [user_output, item_output] = [&users, &items].map(|x| input.kernels.tower(tower, x));
            Profiles {
                inputs: [users, items],
                largest_text: texts.largest_profile,
                users: user_output,
                items: item_output,
            }
        })
    }

    /// Z of the own heads [k, d].
    pub fn heads(&self, input: &StepInput) -> Tensor {
        let own = &input.batch.own;
        let users = input.kernels.gather(&self.users.z, &input.batch.scope.heads.narrow(0, 0, own.users as i64));
        Tensor::cat(&[&users, &self.items.z], 0)
    }

    /// The profile alignment's part of this rank; returns what Z of the users in scope receives [u, d].
    pub fn align(
        &self,
        input: &StepInput,
        heads: &HeadRows,
        grads: &mut HeadRows,
    ) -> Result<(f64, Tensor), EngineError> {
        let mut d_users = self.users.z.zeros_like();
        let (Some(text), Some(d_text)) = (&heads.z, &mut grads.z) else { return Ok((0.0, d_users)) };
        let loss = &input.config.loss;
        let alignment = Alignment {
            world: input.world,
            batch: input.batch,
            weight: loss.kd_weight,
            temperature: loss.kd_temperature,
            graph: &heads.x,
            text,
            user_text: &self.users.z,
        };
        let mut grads = AlignmentGrads { graph: &mut grads.x, text: d_text, user_text: &mut d_users };
        let value = alignment.run(input.kernels, &mut grads)?;
        Ok((value, d_users))
    }

    /// `d_users` [u, d], `d_heads` [k, d] of the own heads; adds to the tower's gradients, f64.
    pub fn backward(
        &self,
        input: &StepInput,
        tower: &Tower,
        mut d_users: Tensor,
        d_heads: &Tensor,
        grad: &mut Tower,
    ) -> Result<(), EngineError> {
        let own = &input.batch.own;
        let (users, items) = (own.users as i64, own.rows.size()[0] - own.users as i64);
        let kernels = input.kernels;
        let places = input.batch.scope.heads.narrow(0, 0, users);
        kernels.scatter_add(&mut d_users, &places, &d_heads.narrow(0, 0, users).contiguous());
        let d_items = d_heads.narrow(0, users, items).contiguous();
        let hidden = largest([&self.users.hidden, &self.items.hidden]);
        let magnitudes = input.world.max([self.largest_text, hidden, largest([&d_users, &d_items])])?;
        let bounds = TowerBounds::new(tower, input.batch.scope.total + input.batch.heads.len(), magnitudes);
        kernels.tower_backward(tower, &self.inputs[0], &self.users, &d_users, &bounds, grad);
        kernels.tower_backward(tower, &self.inputs[1], &self.items, &d_items, &bounds, grad);
        Ok(())
    }
}

fn users_in_scope(input: &StepInput, table: &Tensor) -> Tensor {
    let scope = &input.batch.scope;
    match &scope.chosen {
        None => table.narrow(0, 0, scope.users as i64),
        Some(chosen) => input.kernels.gather(table, &chosen.rows.narrow(0, 0, scope.users as i64)),
    }
}
