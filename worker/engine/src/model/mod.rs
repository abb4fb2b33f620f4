//! The models, one file each, as sums of loss terms. Each model contains the one before it:
//! LightGCN < RLMRec-Con (profile alignment) < IRLLRec (intents, translation, matching).
//!
//! A model makes rows of its own nodes ([n, d]); the batch's heads are then gathered from their owners ([H, d]); each rank
//! makes the gradients of the rows it owns. `step.rs` orders this.

pub mod irllrec;
pub mod lightgcn;
pub mod rlmrec_con;

use crate::batch::BatchRows;
use crate::graph::Dropout;
use crate::kernels::{Kernels, Precision, largest};
use crate::world::World;
use accord_data::{Embeddings, TextTables};
use accord_spec::{Loss, ModelKind};
use tch::{Device, Kind, Tensor};

/// What a model is made of, besides its weights.
pub struct ModelConfig {
    pub kind: ModelKind,
    pub layers: usize,
    pub loss: Loss,
    pub teacher_momentum: f64,
    /// Steps between two averages of the teacher over the ranks.
    pub teacher_sync_steps: u64,
    /// Arithmetic of the translation term, chosen from `loss.translation_precision`.
    pub precision: Precision,
}

/// Frozen text embeddings of the own nodes, users then items.
pub struct Texts {
    /// [n, T]
    pub profile: Tensor,
    /// [n, T'] (IRLLRec)
    pub intent: Option<Tensor>,
    /// Largest magnitudes in them
    pub largest_profile: f64,
    pub largest_intent: f64,
}

impl Texts {
    pub fn new(profile: Tensor, intent: Option<Tensor>) -> Texts {
        let (largest_profile, largest_intent) = (largest([&profile]), largest(&intent));
        Texts { profile, intent, largest_profile, largest_intent }
    }

    /// Each table is let go as soon as it has become a tensor.
    pub fn of(tables: TextTables, device: Device) -> Texts {
        let TextTables { user_profile, item_profile, intents } = tables;
        let table = |users: Embeddings, items: Embeddings| {
            let (user_rows, width) = (users.rows as i64, users.width as i64);
            let all = Tensor::empty([user_rows + items.rows as i64, width], (Kind::Float, Device::Cpu));
            for (side, from) in [(users, 0), (items, user_rows)] {
                let mut rows = all.narrow(0, from, side.rows as i64);
                rows.copy_(&Tensor::from_slice(&side.values).view([-1, width]));
            }
            all.to(device)
        };
        let profile = table(user_profile, item_profile);
        Texts::new(profile, intents.map(|[users, items]| table(users, items)))
    }
}

/// Everything one step reads.
pub struct StepInput<'a> {
    pub world: &'a World,
    pub kernels: &'a dyn Kernels,
    pub config: &'a ModelConfig,
    pub texts: Option<&'a Texts>,
    pub batch: &'a BatchRows,
    pub dropout: Option<Dropout>,
    /// Factors 1 + e of the translation term for the rows in scope, of texts and graph.
    pub noise: Option<[Tensor; 2]>,
}

/// This rank's part of the loss terms of one step, weighted; the regulariser is the optimiser's side (see `step.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    pub bpr: f64,
    pub kd: f64,
    pub kd_int: f64,
    pub translation: f64,
    pub itm: f64,
}

/// Rows of the batch's heads, [H, d] each, or gradients of the own ones, [k, d]; those a model does not have are none.
pub struct HeadRows {
    /// X
    pub x: Tensor,
    /// Z, profile texts
    pub z: Option<Tensor>,
    /// G and S, intent view and intent texts
    pub g: Option<Tensor>,
    pub s: Option<Tensor>,
}

impl HeadRows {
    /// As many zero rows of the same parts.
    pub fn zeros(&self, rows: i64) -> HeadRows {
        let zeros = |x: &Tensor| Tensor::zeros([rows, x.size()[1]], (x.kind(), x.device()));
        let part = |x: &Option<Tensor>| x.as_ref().map(zeros);
        HeadRows { x: zeros(&self.x), z: part(&self.z), g: part(&self.g), s: part(&self.s) }
    }
}

/// Seconds by phase, in the order the phases first ran.
#[derive(Debug, Default)]
pub struct Clock(pub Vec<(&'static str, f64)>);

impl Clock {
    pub fn time<T>(&mut self, phase: &'static str, work: impl FnOnce() -> T) -> T {
        let start = std::time::Instant::now();
        let result = work();
        self.add(phase, start.elapsed().as_secs_f64());
        result
    }

    pub fn add(&mut self, phase: &'static str, seconds: f64) {
        match self.0.iter_mut().find(|p| p.0 == phase) {
            Some(p) => p.1 += seconds,
            None => self.0.push((phase, seconds)),
        }
    }
}
