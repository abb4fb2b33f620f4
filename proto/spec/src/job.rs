//! The sections of a job file. Field names are the keys a user writes: a stable interface.

use crate::Kubernetes;
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
pub struct Data {
    /// Folder of the dataset, relative to the folder of the job file; or `s3://bucket/prefix`, which each machine
    /// fetches once. Not read for a made-up catalog.
    #[serde(default)]
    pub path: String,
    /// A made-up catalog instead of files: for trying sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthetic>,
    #[serde(default)]
    pub format: Format,
    /// File names inside `path`; RLMRec-Con and IRLLRec read all four, by these default names when the key is absent.
    #[serde(default)]
    pub text: Option<TextFiles>,
    /// Interactions rated below this are dropped (formats that carry ratings).
    #[serde(default)]
    pub min_rating: Option<f64>,
    /// How one interaction file becomes training, validation and test parts.
    #[serde(default)]
    pub split: Split,
    /// Shares of training, validation and test when one file is split.
    #[serde(default = "default_split_ratio")]
    pub split_ratio: [f64; 3],
}

fn default_split_ratio() -> [f64; 3] {
    [0.6, 0.2, 0.2]
}

/// Size of a made-up catalog with power-law degrees and communities; interactions are those of all three parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    pub users: usize,
    pub items: usize,
    pub interactions: usize,
    #[serde(default)]
    pub seed: u64,
}

/// How interactions lie on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `user item [rating [time]]` a line: text, CSV or TSV, with or without a header, ids of any form.
    Pairs,
    /// LightGCN's lists: `user item item ...` a line.
    Adjacency,
    /// RecBole's atomic files: `.inter`, `.item`, `.user`.
    Recbole,
    /// Sparse matrices as numpy archives: `row`/`col`/`shape`, or scipy's COO and CSR.
    #[default]
    Npz,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Each interaction by itself, keyed by the job's seed.
    #[default]
    Random,
    /// Each user's interactions in time order: the oldest train.
    Time,
}

/// Frozen text embeddings: tables with ids (`.npz`, `.parquet`, `.jsonl`), or matrices (`.npy`, `.safetensors`) whose row i
/// belongs to user or item i. Where a file of a default name is absent, another of these endings is looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFiles {
    #[serde(default = "TextFiles::user_profile")]
    pub user_profile: String,
    #[serde(default = "TextFiles::item_profile")]
    pub item_profile: String,
    #[serde(default = "TextFiles::user_intent")]
    pub user_intent: String,
    #[serde(default = "TextFiles::item_intent")]
    pub item_intent: String,
}

impl TextFiles {
    fn user_profile() -> String {
        "usr_emb.npy".into()
    }
    fn item_profile() -> String {
        "itm_emb.npy".into()
    }
    fn user_intent() -> String {
        "usr_intent_emb.npy".into()
    }
    fn item_intent() -> String {
        "itm_intent_emb.npy".into()
    }
}

impl Default for TextFiles {
    fn default() -> TextFiles {
        TextFiles {
            user_profile: Self::user_profile(),
            item_profile: Self::item_profile(),
            user_intent: Self::user_intent(),
            item_intent: Self::item_intent(),
        }
    }
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
    /// Evaluations without a better validation Recall at the largest k before training stops.
    pub patience: u64,
}

impl Default for Optim {
    fn default() -> Optim {
        Optim { lr: 1e-3, batch_size: 4096, epochs: 3000, patience: 5 }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eval {
    pub every_epochs: u64,
    pub ks: Vec<usize>,
}

impl Default for Eval {
    fn default() -> Eval {
        Eval { every_epochs: 3, ks: vec![5, 10, 20] }
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
