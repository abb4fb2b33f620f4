//! Alignment of a graph view with a text view (spec 5.3 profile alignment, 5.4 pairwise intent alignment):
//! weight / B * [ InfoNCE(users, against ALL users' texts) + InfoNCE(positives, in batch) + InfoNCE(negatives, in batch) ].
//! A rank takes the anchors it owns; users are held against the texts of all ranks, or of fewer users where
//! `loss.negatives` says so.

use crate::batch::{BatchRows, Distinct};
use crate::error::EngineError;
use crate::kernels::Kernels;
use crate::loss::info_nce::{InfoNce, Positives};
use crate::scope::Negatives;
use crate::world::World;
use tch::Tensor;

pub struct Alignment<'a> {
    pub world: &'a World,
    pub batch: &'a BatchRows,
    pub weight: f64,
    pub temperature: f64,
    /// [H, d] graph view of the heads: X or G
    pub graph: &'a Tensor,
    /// [H, d] texts of the heads
    pub text: &'a Tensor,
    /// [users in scope, d] texts of this rank's users
    pub user_text: &'a Tensor,
}

/// What an alignment adds to.
pub struct AlignmentGrads<'a> {
    /// [H, d] this rank's part
    pub graph: &'a mut Tensor,
    pub text: &'a mut Tensor,
    /// [users in scope, d]
    pub user_text: &'a mut Tensor,
}

impl Alignment<'_> {
    /// Returns this rank's part of the loss.
    pub fn run(&self, kernels: &dyn Kernels, grads: &mut AlignmentGrads) -> Result<f64, EngineError> {
        let batch = self.batch;
        let mut loss = match &batch.scope.negatives {
            Negatives::All => self.all_users(kernels, grads)?,
            Negatives::Batch => self.in_batch(kernels, &batch.users, grads),
            Negatives::Sampled { places, count } => self.sampled_users(kernels, places, count, grads)?,
        };
        for side in [&batch.positives, &batch.negatives] {
            loss += self.in_batch(kernels, side, grads);
        }
        Ok(loss)
    }

    fn all_users(&self, kernels: &dyn Kernels, grads: &mut AlignmentGrads) -> Result<f64, EngineError> {
        let (world, users) = (self.world, &self.batch.users);
        // users are the first rows
        let positives = self.batch.own.rows.narrow(0, 0, self.batch.own.users as i64);
        let anchors = kernels.gather(self.graph, &users.places);
        let contrast = self.against(&anchors, &users.count, self.user_text, None);
        let contrast = match world.size() {
            1 => contrast.run(kernels, &positives),
            _ => contrast.run_over_ranks(world, kernels, &users.own, Positives::Keys(&positives))?,
        };
        kernels.scatter_add(grads.graph, &users.places, &contrast.anchors);
        *grads.user_text += contrast.keys;
        Ok(contrast.loss)
    }

    /// Against a sample that stands for all users; the positive is added to it.
    fn sampled_users(
        &self,
        kernels: &dyn Kernels,
        places: &Tensor,
        count: &Tensor,
        grads: &mut AlignmentGrads,
    ) -> Result<f64, EngineError> {
        let users = &self.batch.users;
        let (anchors, keys) = (kernels.gather(self.graph, &users.places), kernels.gather(self.user_text, places));
        let positives = kernels.gather(self.text, &users.own_places);
        let contrast = self.against(&anchors, &users.count, &keys, Some(count));
        let contrast = contrast.run_over_ranks(self.world, kernels, &users.own, Positives::Besides(&positives))?;
        kernels.scatter_add(grads.graph, &users.places, &contrast.anchors);
        kernels.scatter_add(grads.user_text, places, &contrast.keys);
        if let Some(d_positives) = &contrast.positives {
            kernels.scatter_add(grads.text, &users.own_places, d_positives);
        }
        Ok(contrast.loss)
    }

    fn in_batch(&self, kernels: &dyn Kernels, side: &Distinct, grads: &mut AlignmentGrads) -> f64 {
        let anchors = kernels.gather(self.graph, &side.own_places);
        let keys = kernels.gather(self.text, &side.places);
        let contrast = self.against(&anchors, &side.own_count, &keys, Some(&side.count)).run(kernels, &side.own);
        kernels.scatter_add(grads.graph, &side.own_places, &contrast.anchors);
        kernels.scatter_add(grads.text, &side.places, &contrast.keys);
        contrast.loss
    }

    fn against<'a>(
        &self,
        anchors: &'a Tensor,
        weight: &'a Tensor,
        keys: &'a Tensor,
        count: Option<&'a Tensor>,
    ) -> InfoNce<'a> {
        let scale = self.weight / self.batch.size as f64;
        InfoNce { anchors, weight, keys, count, temperature: self.temperature, scale }
    }
}
