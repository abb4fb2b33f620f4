//! Alignment of a graph view with a text view (spec 5.3 profile alignment, 5.4 pairwise intent alignment):
//! weight / B * [ InfoNCE(users, against ALL users' texts) + InfoNCE(positives, in batch) + InfoNCE(negatives, in batch) ].
//! A rank takes the anchors and keys it owns; users are held against fewer texts where `loss.negatives` says so.

use crate::batch::{BatchRows, Distinct};
use crate::error::EngineError;
use crate::kernels::Kernels;
use crate::loss::info_nce::{Contrast, InfoNce, Positives};
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

/// What an alignment adds to: rows of this rank.
pub struct AlignmentGrads<'a> {
    /// [k, d] of the own heads
    pub graph: &'a mut Tensor,
    pub text: &'a mut Tensor,
    /// [users in scope, d]
    pub user_text: &'a mut Tensor,
}

/// What the anchors of one side are held against.
struct Keys<'a> {
    /// [n, d], [n]
    rows: &'a Tensor,
    count: Option<&'a Tensor>,
    /// [j] this rank's
    own: &'a Tensor,
    positives: Positives<'a>,
}

impl Alignment<'_> {
    /// Returns this rank's part of the loss.
    pub fn run(&self, kernels: &dyn Kernels, grads: &mut AlignmentGrads) -> Result<f64, EngineError> {
        let batch = self.batch;
        let mut loss = match &batch.scope.negatives {
            Negatives::All => self.all_users(kernels, grads)?,
            Negatives::Batch => self.in_batch(kernels, &batch.users, grads)?,
            Negatives::Sampled(sample) => {
                let rows = self.world.collect(
                    &kernels.gather(self.user_text, &sample.rows),
                    &sample.own,
                    sample.count.size()[0],
                )?;
                let positives = kernels.gather(self.text, &batch.users.own_places);
                let keys = Keys {
                    rows: &rows,
                    count: Some(&sample.count),
                    own: &sample.own,
                    positives: Positives::Besides(&positives),
                };
                let contrast = self.contrast(kernels, &batch.users, &keys, grads)?;
                kernels.scatter_add(grads.user_text, &sample.rows, &contrast.keys);
                if let Some(d_positives) = &contrast.positives {
                    kernels.scatter_add(grads.text, &batch.users.own_heads, d_positives);
                }
                contrast.loss
            }
        };
        for side in [&batch.positives, &batch.negatives] {
            loss += self.in_batch(kernels, side, grads)?;
        }
        Ok(loss)
    }

    fn all_users(&self, kernels: &dyn Kernels, grads: &mut AlignmentGrads) -> Result<f64, EngineError> {
        // users are the first rows
        let positives = self.batch.own.rows.narrow(0, 0, self.batch.own.users as i64);
        let (rows, own) = (self.world.gather_users(self.user_text)?, self.world.own_users());
        let keys = Keys { rows: &rows, count: None, own: &own, positives: Positives::Keys(&positives) };
        let contrast = self.contrast(kernels, &self.batch.users, &keys, grads)?;
        *grads.user_text += contrast.keys;
        Ok(contrast.loss)
    }

    fn in_batch(&self, kernels: &dyn Kernels, side: &Distinct, grads: &mut AlignmentGrads) -> Result<f64, EngineError> {
        let rows = kernels.gather(self.text, &side.places);
        let positives = Tensor::arange(side.own.size()[0], (tch::Kind::Int64, rows.device()));
        let keys =
            Keys { rows: &rows, count: Some(&side.count), own: &side.own, positives: Positives::Keys(&positives) };
        let contrast = self.contrast(kernels, side, &keys, grads)?;
        kernels.scatter_add(grads.text, &side.own_heads, &contrast.keys);
        Ok(contrast.loss)
    }

    /// Adds to the graph view's gradients.
    fn contrast(
        &self,
        kernels: &dyn Kernels,
        side: &Distinct,
        keys: &Keys,
        grads: &mut AlignmentGrads,
    ) -> Result<Contrast, EngineError> {
        let contrast = InfoNce {
            anchors: &kernels.gather(self.graph, &side.places),
            weight: &side.count,
            keys: keys.rows,
            count: keys.count,
            own_anchors: &side.own,
            own_keys: keys.own,
            positives: keys.positives,
            temperature: self.temperature,
            scale: self.weight / self.batch.size as f64,
        }
        .run(self.world, kernels)?;
        kernels.scatter_add(grads.graph, &side.own_heads, &contrast.anchors);
        Ok(contrast)
    }
}
