//! The epoch loop: batches in their keyed order, steps, evaluation, early stopping, snapshots. One thread owns it.

use crate::batch::BatchRows;
use crate::device;
use crate::error::EngineError;
use crate::eval;
use crate::graph::{Dropout, Graph};
use crate::init;
use crate::kernels::{Adjacency, Kernels, Precision};
use crate::model::{Clock, ModelConfig, StepInput, Texts};
use crate::noise::{Noise, Tower};
use crate::propagate;
use crate::report::{Directive, EpochReport, EvalReport, EvalSplit, Losses, Observer, Outcome, StepReport};
use crate::snapshot;
use crate::step::ModelState;
use accord_data::checkpoint::{Progress, Snapshot};
use accord_data::sampling::{Batch, EpochPlan};
use accord_data::{Dataset, Interactions, TextTables};
use accord_spec::{JobSpec, ModelKind, TranslationPrecision};
use std::sync::Arc;
use std::time::Instant;
use tch::{Kind, Tensor};

/// Where a trainer runs.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    /// Compute threads on the CPU.
    pub threads: usize,
    pub device: accord_spec::Device,
}

/// A job on its dataset, from its first step to its last.
pub struct Trainer {
    spec: JobSpec,
    dataset: Arc<Dataset>,
    config: ModelConfig,
    device: tch::Device,
    kernels: Box<dyn Kernels>,
    texts: Option<Texts>,
    state: ModelState,
    /// Embeddings E of the best validation epoch.
    best: Option<Tensor>,
    progress: Progress,
    notices: Vec<String>,
}

impl Trainer {
    pub fn new(spec: &JobSpec, dataset: Arc<Dataset>, runtime: Runtime) -> Result<Trainer, EngineError> {
        let device = device::pick(runtime.device)?;
        tch::set_num_threads(runtime.threads as i32);
        let graph = Arc::new(Graph::new(&dataset.train));
        let kernels = device::kernels(device, graph, runtime.threads)?;
        let texts = texts(spec.model.kind, &dataset, device)?;
        let widths = texts.as_ref().map(|t| {
            let width = |x: &Tensor| x.size()[1] as usize;
            [width(&t.profile), t.intent.as_ref().map_or(0, width)]
        });
        let mut state = init::state(spec, dataset.users(), dataset.items(), widths);
        state.to_device(device);
        let mut notices = Vec::new();
        let precision = translation_precision(spec, dataset.users() + dataset.items(), kernels.as_ref(), &mut notices);
        let config = ModelConfig {
            kind: spec.model.kind,
            layers: spec.model.layers,
            loss: spec.loss.clone(),
            teacher_momentum: spec.model.teacher_momentum,
            precision,
        };
        let progress = Progress::default();
        let (spec, best) = (spec.clone(), None);
        Ok(Trainer { spec, dataset, config, device, kernels, texts, state, best, progress, notices })
    }

    /// Goes on from a snapshot of the same job.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), EngineError> {
        self.best = snapshot::restore(&mut self.state, snapshot)?;
        self.progress = snapshot.progress.clone();
        Ok(())
    }

    /// Everything that [`Trainer::restore`] needs to go on as if undisturbed.
    pub fn snapshot(&self) -> Snapshot {
        snapshot::save(&self.state, self.best.as_ref(), self.progress.clone())
    }

    /// Trains until the last epoch, early stopping, or the observer's word.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Outcome, EngineError> {
        self.notices.drain(..).for_each(|notice| observer.notice(&notice));
        while !self.progress.finished && self.progress.epoch < self.spec.optim.epochs {
            match self.epoch(observer)? {
                Directive::Continue => {}
                Directive::CheckpointAndStop | Directive::Stop => return Ok(Outcome::Stopped),
            }
        }
        let test = self.evaluate(EvalSplit::Test);
        observer.eval(&test);
        Ok(Outcome::Finished { best_epoch: self.progress.best_epoch, test })
    }

    /// X of the best epoch: users [U, d] and items [I, d], row-major.
    pub fn final_embeddings(&self) -> (Vec<f32>, Vec<f32>) {
        let x = self.final_x(self.best.as_ref());
        let mut users: Vec<f32> = Vec::try_from(x.to(tch::Device::Cpu).view([-1])).expect("an f32 tensor on the CPU");
        let items = users.split_off(self.dataset.users() * self.spec.model.dim);
        (users, items)
    }

    /// The rest of the current epoch. `Continue` means the next one may begin.
    fn epoch(&mut self, observer: &mut dyn Observer) -> Result<Directive, EngineError> {
        let start = Instant::now();
        let mut clock = Clock::default();
        let epoch = self.progress.epoch;
        let train = &self.dataset.train;
        let plan = clock.time("sampling", || EpochPlan::new(train, self.spec.job.seed, epoch));
        let steps = plan.steps(self.spec.optim.batch_size);
        while self.progress.step_in_epoch < steps {
            let step_start = Instant::now();
            let batch = plan.batch(self.progress.step_in_epoch, self.spec.optim.batch_size);
            let losses = self.step(&batch, &mut clock)?;
            add_losses(&mut self.progress.epoch_losses, &losses);
            let directive = observer.step(&StepReport {
                epoch,
                step: self.progress.step,
                step_in_epoch: self.progress.step_in_epoch,
                steps_per_epoch: steps,
                losses,
                seconds: step_start.elapsed().as_secs_f64(),
            });
            if self.progress.step_in_epoch == steps {
                self.end_epoch(steps, start, &clock, observer);
            }
            let due = self.progress.step.is_multiple_of(self.spec.checkpoint.every_steps) || self.progress.finished;
            if due || directive == Directive::CheckpointAndStop {
                observer.snapshot(self.snapshot());
            }
            if matches!(directive, Directive::Stop | Directive::CheckpointAndStop) {
                return Ok(directive);
            }
            if self.progress.epoch != epoch {
                break;
            }
        }
        Ok(Directive::Continue)
    }

    fn step(&mut self, batch: &Batch, clock: &mut Clock) -> Result<Losses, EngineError> {
        let (seed, step) = (self.spec.job.seed, self.progress.step);
        let node_counts = [self.dataset.users(), self.dataset.items()];
        let rows = clock.time("batch", || BatchRows::new(batch, node_counts, Kind::Float, self.device));
        let translates = self.spec.loss.translation_weight > 0.0 && self.config.kind == ModelKind::Irllrec;
        let noise = translates.then(|| {
            clock.time("noise", || {
                [Tower::Text, Tower::Graph]
                    .map(|tower| self.kernels.noise_factor(Noise::new(seed, step, tower), &self.state.weights.embeds))
            })
        });
        let input = StepInput {
            kernels: self.kernels.as_ref(),
            config: &self.config,
            users: node_counts[0] as i64,
            texts: self.texts.as_ref(),
            batch: &rows,
            dropout: Dropout::new(seed, step, self.spec.model.edge_keep),
            noise,
        };
        let (losses, grads) = self.state.losses(&input, clock);
        finite(&losses, step + 1, self.progress.epoch)?;
        clock.time("adam", || {
            self.state.update(self.kernels.as_ref(), &grads, self.spec.optim.lr, self.spec.loss.reg_weight);
        });
        self.progress.step += 1;
        self.progress.step_in_epoch += 1;
        Ok(losses)
    }

    /// Reports the epoch's means, evaluates when due, and moves on to the next epoch.
    fn end_epoch(&mut self, steps: u64, start: Instant, clock: &Clock, observer: &mut dyn Observer) {
        let epoch = self.progress.epoch;
        observer.epoch(&EpochReport {
            epoch,
            step: self.progress.step,
            losses: mean_losses(&self.progress.epoch_losses, steps),
            seconds: start.elapsed().as_secs_f64(),
            phases: clock.0.iter().map(|(phase, seconds)| ((*phase).to_owned(), *seconds)).collect(),
        });
        if epoch.is_multiple_of(self.spec.eval.every_epochs) {
            let mut report = self.evaluate(EvalSplit::Validation);
            let recall = report.recall.last().map_or(0.0, |r| r.1);
            if self.progress.best.is_none_or(|best| recall > best) {
                self.progress.best = Some(recall);
                self.progress.best_epoch = epoch;
                self.progress.evaluations_without_gain = 0;
                self.best = Some(self.state.weights.embeds.copy());
            } else {
                self.progress.evaluations_without_gain += 1;
            }
            (report.best, report.best_epoch) = (self.progress.best.unwrap_or(0.0), self.progress.best_epoch);
            observer.eval(&report);
        }
        self.progress.epoch += 1;
        self.progress.step_in_epoch = 0;
        self.progress.epoch_losses.clear();
        self.progress.finished = self.progress.evaluations_without_gain >= self.spec.optim.patience
            || self.progress.epoch >= self.spec.optim.epochs;
    }

    /// Validation looks at the current parameters, test at the best epoch's.
    fn evaluate(&self, split: EvalSplit) -> EvalReport {
        let start = Instant::now();
        let (held_out, embeds, epoch): (&Interactions, _, _) = match split {
            EvalSplit::Validation => (&self.dataset.validation, None, self.progress.epoch),
            EvalSplit::Test => (&self.dataset.test, self.best.as_ref(), self.progress.best_epoch),
        };
        let x = self.final_x(embeds);
        let metrics = eval::evaluate(self.kernels.as_ref(), &x, &self.dataset.train, held_out, &self.spec.eval.ks);
        EvalReport {
            epoch,
            step: self.progress.step,
            split,
            users: metrics.users as u64,
            recall: metrics.recall,
            ndcg: metrics.ndcg,
            best: self.progress.best.unwrap_or(0.0),
            best_epoch: self.progress.best_epoch,
            seconds: start.elapsed().as_secs_f64(),
        }
    }

    /// X without dropout, of these embeddings or the current ones.
    fn final_x(&self, embeds: Option<&Tensor>) -> Tensor {
        let embeds = embeds.unwrap_or(&self.state.weights.embeds);
        propagate::forward(self.kernels.as_ref(), &Adjacency::Whole, embeds, self.config.layers).x
    }
}

/// The text tables the model reads, as tensors of all nodes.
fn texts(kind: ModelKind, dataset: &Dataset, device: tch::Device) -> Result<Option<Texts>, EngineError> {
    if kind == ModelKind::Lightgcn {
        return Ok(None);
    }
    let missing = || {
        EngineError::Data(format!("model.kind = \"{}\" needs text embeddings, and the dataset has none", kind.name()))
    };
    let TextTables { user_profile, item_profile, user_intent, item_intent } =
        dataset.text.as_ref().ok_or_else(missing)?;
    let table = |sides: [&accord_data::Embeddings; 2]| {
        let rows = |side: &accord_data::Embeddings| {
            Tensor::from_slice(&side.values).view([side.rows as i64, side.width as i64])
        };
        Tensor::cat(&sides.map(rows), 0).to(device)
    };
    let intent = (kind == ModelKind::Irllrec).then(|| table([user_intent, item_intent]));
    Ok(Some(Texts { profile: table([user_profile, item_profile]), intent }))
}

/// Up to these weights the error stays below f32 rounding (6e-8) of the whole gradient's largest element. Measured on
/// amazon after 300 steps at weight 1e-3: the moment form moves the gradient by 2.2e-7, bf16 by 9.3e-8, and the move is
/// linear in the weight; the rest is margin for late training, where cosines near 1 make moments err most (RESULTS.md).
const MOMENTS_UP_TO: f64 = 1e-5;
const BF16_UP_TO: f64 = 1e-4;

fn translation_precision(spec: &JobSpec, nodes: usize, kernels: &dyn Kernels, notices: &mut Vec<String>) -> Precision {
    // the matching term holds the translation term once more
    let weight = spec.loss.translation_weight * (1.0 + 0.4 * spec.loss.itm_weight);
    // multiply-adds a node: all pairs 3 N d, third moments 2 d^2 (d + 1)
    let moments_pay = 2 * spec.model.dim * (spec.model.dim + 1) < 3 * nodes;
    let wanted = match spec.loss.translation_precision {
        TranslationPrecision::F32 => Precision::Full,
        TranslationPrecision::Bf16 => Precision::Bf16,
        TranslationPrecision::Moments => Precision::Moments,
        TranslationPrecision::Auto if weight <= MOMENTS_UP_TO && moments_pay => Precision::Moments,
        TranslationPrecision::Auto if weight <= BF16_UP_TO => Precision::Bf16,
        TranslationPrecision::Auto => Precision::Full,
    };
    let picked = kernels.precision(wanted);
    if spec.model.kind == ModelKind::Irllrec {
        let name = match picked {
            Precision::Full => "f32",
            Precision::Bf16 => "bf16",
            Precision::Moments => "moments",
        };
        notices.push(format!("translation term: {name} arithmetic at weight {weight:e}"));
    }
    picked
}

fn terms(losses: &Losses) -> [(&'static str, f64); 7] {
    let Losses { total, bpr, reg, kd, kd_int, translation, itm } = *losses;
    [
        ("bpr", bpr),
        ("reg", reg),
        ("kd", kd),
        ("kd_int", kd_int),
        ("translation", translation),
        ("itm", itm),
        ("total", total),
    ]
}

fn finite(losses: &Losses, step: u64, epoch: u64) -> Result<(), EngineError> {
    match terms(losses).into_iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((term, value)) => Err(EngineError::NonFinite { term, value, step, epoch }),
    }
}

fn add_losses(sums: &mut Vec<(String, f64)>, losses: &Losses) {
    if sums.is_empty() {
        *sums = terms(losses).map(|(name, _)| (name.to_owned(), 0.0)).into();
    }
    for ((_, sum), (_, value)) in sums.iter_mut().zip(terms(losses)) {
        *sum += value;
    }
}

fn mean_losses(sums: &[(String, f64)], steps: u64) -> Losses {
    let of = |name: &str| sums.iter().find(|s| s.0 == name).map_or(0.0, |s| s.1) / steps as f64;
    Losses {
        total: of("total"),
        bpr: of("bpr"),
        reg: of("reg"),
        kd: of("kd"),
        kd_int: of("kd_int"),
        translation: of("translation"),
        itm: of("itm"),
    }
}
