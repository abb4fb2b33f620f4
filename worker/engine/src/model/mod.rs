//! The models, one file each, as sums of loss terms. Each model contains the one before it:
//! LightGCN < RLMRec-Con (profile alignment) < IRLLRec (intents, translation, matching).

pub mod irllrec;
pub mod lightgcn;
pub mod rlmrec_con;

use crate::batch::BatchRows;
use crate::graph::Dropout;
use crate::kernels::{Kernels, Precision};
use crate::weights::{Tower, Weights};
use accord_spec::{Loss, ModelKind};
use tch::Tensor;

/// What a model is made of, besides its weights.
pub struct ModelConfig {
    pub kind: ModelKind,
    pub layers: usize,
    pub loss: Loss,
    pub teacher_momentum: f64,
    /// Arithmetic of the translation term, chosen from `loss.translation_precision`.
    pub precision: Precision,
}

/// Frozen text embeddings of all nodes, users then items.
pub struct Texts {
    /// [N, T]
    pub profile: Tensor,
    /// [N, T'] (IRLLRec)
    pub intent: Option<Tensor>,
}

/// Everything one step reads.
pub struct StepInput<'a> {
    pub kernels: &'a dyn Kernels,
    pub config: &'a ModelConfig,
    /// U
    pub users: i64,
    pub texts: Option<&'a Texts>,
    pub batch: &'a BatchRows,
    pub dropout: Option<Dropout>,
    /// [N, d] factors 1 + e of the translation term, for texts and graph.
    pub noise: Option<[Tensor; 2]>,
}

/// Loss terms of one step, weighted; the regulariser is the optimiser's side (see `step.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    pub bpr: f64,
    pub kd: f64,
    pub kd_int: f64,
    pub translation: f64,
    pub itm: f64,
}

/// What the terms of a step add to, one after the other.
pub struct Tally {
    pub terms: Terms,
    /// dX [N, d]
    pub x: Tensor,
    /// Gradients of the weights; `embeds` comes last, out of dX.
    pub weights: Weights,
    pub clock: Clock,
}

/// Rows of a side's table.
fn user_rows(table: &Tensor, users: i64) -> Tensor {
    table.narrow(0, 0, users)
}

fn item_rows(table: &Tensor, users: i64) -> Tensor {
    table.narrow(0, users, table.size()[0] - users)
}

/// Seconds by phase, in the order the phases first ran.
#[derive(Debug, Default)]
pub struct Clock(pub Vec<(&'static str, f64)>);

impl Clock {
    pub fn time<T>(&mut self, phase: &'static str, work: impl FnOnce() -> T) -> T {
        let start = std::time::Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        match self.0.iter_mut().find(|p| p.0 == phase) {
            Some(p) => p.1 += seconds,
            None => self.0.push((phase, seconds)),
        }
        result
    }
}

/// The teacher is part of a step: its EMA update comes after the student's forward pass (spec, quirk Q4).
pub type Teacher<'a> = Option<&'a mut Tower>;
