//! The sections of a job file but `[data]` and `[kubernetes]`. Field names are the keys a user writes: a stable interface.

use crate::{Data, Kubernetes, Metric, MetricAtK};
use serde::{Deserialize, Serialize};

/// A whole job file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    pub job: Job,
    pub data: Data,
    pub model: Model,
    #[serde(default)]
    pub loss: Loss,
    #[serde(default)]
    pub optim: Optim,
    #[serde(default)]
    pub eval: Eval,
    #[serde(default)]
    pub cluster: Cluster,
    #[serde(default)]
    pub partition: Partition,
    #[serde(default)]
    pub checkpoint: Checkpoint,
    #[serde(default)]
    pub recovery: Recovery,
    #[serde(default)]
    pub kubernetes: Kubernetes,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    pub name: String,
    /// Keys every random draw: shuffling, negatives, noise, dropout, initial weights.
    #[serde(default = "default_seed")]
    pub seed: u64,
    #[serde(default)]
    pub priority: i32,
}

fn default_seed() -> u64 {
    2023
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub kind: ModelKind,
    /// Width d of the embeddings.
    #[serde(default = "default_dim")]
    pub dim: usize,
    /// Graph convolutions L.
    #[serde(default = "default_layers")]
    pub layers: usize,
    /// Intent prototypes K of each side.
    #[serde(default = "default_intents")]
    pub intents: usize,
    /// Share of directed edges kept in a training step.
    #[serde(default = "default_edge_keep")]
    pub edge_keep: f64,
    #[serde(default = "default_teacher_momentum")]
    pub teacher_momentum: f64,
    #[serde(default)]
    pub teacher_init: TeacherInit,
    #[serde(default = "default_teacher_sync_steps")]
    pub teacher_sync_steps: u64,
}

fn default_dim() -> usize {
    32
}
fn default_layers() -> usize {
    3
}
fn default_intents() -> usize {
    128
}
fn default_edge_keep() -> f64 {
    1.0
}
fn default_teacher_momentum() -> f64 {
    0.999
}
fn default_teacher_sync_steps() -> u64 {
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    Lightgcn,
    RlmrecCon,
    Irllrec,
}

impl ModelKind {
    /// The name a job file uses.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Lightgcn => "lightgcn",
            ModelKind::RlmrecCon => "rlmrec-con",
            ModelKind::Irllrec => "irllrec",
        }
    }
}

/// Where the momentum teacher starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TeacherInit {
    /// Weights drawn apart from the student's, biases equal: what the official code does (spec, quirk Q1).
    #[default]
    Independent,
    /// A copy of the student.
    Copy,
}

/// Loss weights and temperatures (IRLLRec sections 3.3 to 3.5; in the official code's configuration the three last
/// weights are `kd_int_weight`, `kd_int_weight_2`, `kd_int_weight_3`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Loss {
    pub reg_weight: f64,
    pub kd_weight: f64,
    pub kd_temperature: f64,
    pub kd_int_weight: f64,
    pub kd_int_temperature: f64,
    pub translation_weight: f64,
    pub translation_precision: TranslationPrecision,
    pub itm_weight: f64,
    pub negatives: Negatives,
}

impl Default for Loss {
    fn default() -> Loss {
        Loss {
            reg_weight: 1e-7,
            kd_weight: 1e-2,
            kd_temperature: 0.2,
            kd_int_weight: 2e-2,
            kd_int_temperature: 0.2,
            translation_weight: 1e-7,
            translation_precision: TranslationPrecision::Auto,
            itm_weight: 1e-7,
            negatives: Negatives::Auto,
        }
    }
}

/// Arithmetic of the all-nodes translation term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TranslationPrecision {
    /// By the term's weight and the error of each form; the choice is logged.
    #[default]
    Auto,
    F32,
    /// bf16 products, f32 sums.
    Bf16,
    /// The cubic moment form: O(N d^3), no pairs.
    Moments,
}

/// What the contrastive terms run over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negatives {
    /// As "all"; refused where the catalog is so large that one should mean it.
    #[default]
    Auto,
    /// Users against all users, translation and matching over all nodes, as the official code.
    All,
    /// The batch's nodes.
    Batch,
    /// The batch's nodes, and this many users drawn anew each step, which stand for all users.
    Sampled(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optim {
    pub lr: f64,
    pub batch_size: usize,
    pub epochs: u64,
    /// Training stops after this many evaluations in a row without a better validation value of `eval.select`. 1 or more.
    pub patience: u64,
}

impl Default for Optim {
    fn default() -> Optim {
        Optim { lr: 1e-3, batch_size: 4096, epochs: 3000, patience: 5 }
    }
}

/// When the model is evaluated, what is measured, and which epoch is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    /// Epochs between two evaluations on the validation part, from epoch 0 on; the last epoch is always evaluated.
    pub every_epochs: u64,
    /// Cut-offs k, ascending, 1 to 1000. Absent: [`Eval::DEFAULT_KS`] without those above the number of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ks: Option<Vec<usize>>,
    /// The metrics of every evaluation, in the order in which they are shown.
    pub metrics: Vec<Metric>,
    /// The validation metric that early stopping follows and whose best epoch is kept, written `recall@20`: one of
    /// `metrics` at one of `ks`. Absent: see [`Eval::selecting`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<String>,
}

impl Eval {
    pub const DEFAULT_KS: [usize; 3] = [5, 10, 20];
    pub const DEFAULT_METRICS: [Metric; 2] = [Metric::Recall, Metric::Ndcg];
    /// The cut-off of the default selecting metric, where it is among the cut-offs.
    const DEFAULT_SELECT_K: usize = 20;

    /// The cut-offs that are asked for, before the number of items is known.
    pub fn cutoffs(&self) -> Vec<usize> {
        self.ks.clone().unwrap_or_else(|| Eval::DEFAULT_KS.to_vec())
    }

    /// The selecting metric where the job file names none: recall@20 where 20 is among the cut-offs `ks` (ascending), else
    /// recall at the largest of them.
    pub fn default_select(ks: &[usize]) -> MetricAtK {
        let largest = ks.last().copied().unwrap_or(Eval::DEFAULT_SELECT_K);
        let k = if ks.contains(&Eval::DEFAULT_SELECT_K) { Eval::DEFAULT_SELECT_K } else { largest };
        MetricAtK { metric: Metric::Recall, k }
    }

    /// The selecting metric before the data are known.
    ///
    /// # Errors
    /// Why `select` is not a metric at a cut-off.
    pub fn selecting(&self) -> Result<MetricAtK, String> {
        match &self.select {
            Some(text) => text.parse(),
            None => Ok(Eval::default_select(&self.cutoffs())),
        }
    }
}

impl Default for Eval {
    fn default() -> Eval {
        Eval { every_epochs: 3, ks: None, metrics: Eval::DEFAULT_METRICS.to_vec(), select: None }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    pub workers: u32,
    /// Recovery may go on with this many.
    pub min_workers: u32,
    pub device: Device,
    /// 0: the machine's cores divided by its workers.
    pub threads_per_worker: usize,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster { workers: 1, min_workers: 1, device: Device::Auto, threads_per_worker: 0 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// CUDA where it is present, else the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Partition {
    pub strategy: PartitionStrategy,
    pub halo: Halo,
    /// Off by default, for scale: the model then depends on the number of workers.
    pub halo_precision: HaloPrecision,
    /// Off by default, for scale: a step uses the remote rows of the step before and does not wait for its own. The model
    /// then also depends on where a run was interrupted: those rows are in no checkpoint.
    pub halo_stale: bool,
}

/// Arithmetic in which remote rows travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HaloPrecision {
    #[default]
    F32,
    Bf16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionStrategy {
    #[default]
    Fennel,
    Hash,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Halo {
    #[default]
    Auto,
    Raw,
    Prepost,
    Allgather,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// See [`Location::of_checkpoints`](crate::Location::of_checkpoints).
    pub uri: String,
    pub every_steps: u64,
    /// How many of the newest are kept, beside the best.
    pub keep: usize,
    /// So many in a row that cannot be written end the job: it could not recover any more.
    pub max_failures: u32,
}

impl Checkpoint {
    /// Whether they lie in an object store, not in the run directory.
    pub fn in_bucket(&self) -> bool {
        crate::Location::of_checkpoints(&self.uri).is_ok_and(|location| location.is_bucket())
    }
}

impl Default for Checkpoint {
    fn default() -> Checkpoint {
        Checkpoint { uri: "checkpoints".into(), every_steps: 200, keep: 3, max_failures: 10 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recovery {
    /// A silent worker counts as lost after this; every other time-out derives from it.
    pub detect_within_ms: u64,
    pub replace_within_ms: u64,
    pub max_restarts: u32,
    /// How long workers train on without a coordinator (`coordinator serve`).
    pub coordinator_within_ms: u64,
}

impl Default for Recovery {
    fn default() -> Recovery {
        Recovery { detect_within_ms: 5000, replace_within_ms: 30_000, max_restarts: 10, coordinator_within_ms: 600_000 }
    }
}
