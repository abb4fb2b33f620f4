//! The job file: every key of `job.toml`, its default, and the rules its values keep.
//!
//! # Layout
//! * [`job`]: the sections of a job file as plain structs; units are in the names. [`data`]: the section on datasets.
//! * [`Kubernetes`]: how its workers run as pods.
//! * [`parse`]: text and `--set` overrides -> [`JobSpec`]; errors carry line, field and a hint.
//! * [`Metric`]: the names of the ranking metrics; [`MetricAtK`]: one of them at a cut-off; [`MetricTable`]: values of them.
//! * [`Location`]: where `checkpoint.uri` and `data.path` point.
//! * [`validate`]: the rules between values that the types cannot say.
//!
//! This crate knows no process, no network and no tensor: both binaries and the engine read it.

mod data;
mod job;
mod kubernetes;
mod location;
mod metric;
mod metric_table;
mod parse;
mod validate;

pub use data::{Column, Columns, Data, Format, MissingIds, Quoting, Split, Synthetic, TextFiles};
pub use job::{
    Checkpoint, Cluster, Device, Eval, Halo, HaloPrecision, Job, JobSpec, Loss, Model, ModelKind, Negatives, Optim,
    Partition, PartitionStrategy, Recovery, TeacherInit, TranslationPrecision,
};
pub use kubernetes::Kubernetes;
pub use location::Location;
pub use metric::{Metric, MetricAtK};
pub use metric_table::{MetricTable, TestMetrics};
pub use parse::{Override, SpecError, parse};
pub use validate::MAX_WORKERS;

#[cfg(test)]
mod tests;
