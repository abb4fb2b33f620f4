//! The training engine: what a single process needs to train LightGCN, RLMRec-Con and IRLLRec.
//!
//! # Layout
//! * [`trainer`]: the epoch loop: batches, steps, evaluation, early stopping, snapshots; speaks through [`report`].
//! * [`step`]: one training step: losses and gradients of a batch, then Adam.
//! * [`model`] (one file a model), [`loss`] (one formula a file), [`propagate`], [`intent_view`].
//! * [`kernels`]: the hot loops: hand-written on the CPU, libtorch elsewhere.
//! * [`eval`]: full-ranking Recall and NDCG. [`snapshot`]: tensors <-> checkpoint rows. [`device`]: CPU or CUDA.
//!
//! It knows no process and no network: reports go to an [`report::Observer`].

pub mod batch;
pub mod device;
pub mod error;
pub mod eval;
pub mod graph;
pub mod init;
pub mod intent_view;
pub mod kernels;
pub mod loss;
pub mod model;
pub mod noise;
pub mod propagate;
pub mod report;
pub mod snapshot;
pub mod step;
pub mod trainer;
pub mod weights;

pub use error::EngineError;
pub use trainer::{Runtime, Trainer};
