//! The training engine: what a single process needs to train LightGCN, RLMRec-Con and IRLLRec.
//!
//! # Layout
//! * [`trainer`]: the epoch loop: batches, steps, evaluation, early stopping, snapshots; speaks through [`report`].
//! * [`step`]: one training step: losses and gradients of a batch, then Adam.
//! * [`model`] (one file a model), [`loss`] (one formula a file), [`propagate`], [`intent_view`].
//! * [`world`]: which nodes a worker owns and all it exchanges with others (`exchange`: the halo lists).
//! * [`kernels`]: the hot loops: hand-written on the CPU, libtorch elsewhere.
//! * [`eval`]: full-ranking metrics. [`snapshot`]: tensors <-> checkpoint rows. [`device`]: CPU or CUDA.
//!
//! It knows no process: reports go to an [`report::Observer`], other workers are behind `accord_collective::Collective`.

pub mod batch;
pub mod device;
pub mod error;
pub mod eval;
mod exchange;
pub mod export;
pub mod graph;
pub mod guard;
pub mod init;
pub mod intent_view;
pub mod kernels;
pub mod loss;
pub mod model;
pub mod noise;
pub mod propagate;
pub mod report;
pub mod scope;
pub mod snapshot;
pub mod step;
pub mod trainer;
pub mod weights;
pub mod world;

pub use error::EngineError;
pub use trainer::Trainer;
