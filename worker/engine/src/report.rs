//! What a running trainer says, and what it may be told. No tensor crosses this boundary.

use crate::eval::MetricValues;
use accord_data::checkpoint::Snapshot;
use accord_spec::MetricAtK;
use serde::{Deserialize, Serialize};

/// Loss terms of one step, or their mean over an epoch, weighted as they enter the total.
/// Terms a model does not have are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    pub total: f64,
    pub bpr: f64,
    pub reg: f64,
    pub kd: f64,
    pub kd_int: f64,
    pub translation: f64,
    pub itm: f64,
}

/// Wall seconds by phase of a step (`propagation`, `intent view`, ...).
pub type PhaseSeconds = Vec<(String, f64)>;

/// After every step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    pub epoch: u64,
    /// Steps of the whole training done so far, this one included.
    pub step: u64,
    /// Steps of this epoch done so far, and how many it has.
    pub step_in_epoch: u64,
    pub steps_per_epoch: u64,
    pub losses: Losses,
    pub seconds: f64,
}

/// After every epoch: losses are means over its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochReport {
    pub epoch: u64,
    pub step: u64,
    pub losses: Losses,
    pub seconds: f64,
    pub phases: PhaseSeconds,
    /// Steps that `phases` and `bytes_sent` cover: fewer than the epoch has where a snapshot was gone on from.
    pub timed_steps: u64,
    /// To other workers, in those steps.
    pub bytes_sent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalSplit {
    Validation,
    Test,
}

/// After every evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalReport {
    pub epoch: u64,
    pub step: u64,
    pub split: EvalSplit,
    /// Users with held-out items.
    pub users: u64,
    /// In the order of `eval.metrics`.
    pub metrics: Vec<MetricValues>,
    /// The validation metric that selects the best epoch, its best value so far, and that epoch.
    pub select: MetricAtK,
    pub best: f64,
    pub best_epoch: u64,
    pub seconds: f64,
}

/// What the owner of the trainer wants next; asked after every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    Continue,
    /// Hand over a snapshot and end the run (suspend, Ctrl-C).
    CheckpointAndStop,
    /// End the run at once (cancel, abort).
    Stop,
}

/// Receives reports on the trainer's thread; must not block for long.
pub trait Observer {
    fn step(&mut self, report: &StepReport) -> Directive;
    fn epoch(&mut self, report: &EpochReport);
    fn eval(&mut self, report: &EvalReport);
    /// A snapshot asked for, due (`checkpoint.every_steps`), or the last one of a finished run.
    /// `seconds`: what copying it took.
    fn snapshot(&mut self, snapshot: Snapshot, seconds: f64);
    /// Something a person should know: a repair, a choice made, a fallback.
    fn notice(&mut self, text: &str);
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every epoch done, or early stopping: test metrics are those of the best epoch.
    Finished { best_epoch: u64, test: EvalReport },
    /// [`Directive::CheckpointAndStop`] or [`Directive::Stop`].
    Stopped,
}
