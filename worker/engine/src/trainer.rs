//! The epoch loop: batches in their keyed order, steps, evaluation, early stopping, snapshots. One thread owns it. Every
//! rank of a generation runs the same loop over the same batches; what must be decided alike is agreed on first.

use crate::batch::BatchRows;
use crate::device;
use crate::error::EngineError;
use crate::eval::{self, Measures, measures::EvalPlan};
use crate::graph::Dropout;
use crate::guard;
use crate::init;
use crate::kernels::{Adjacency, Kernels, Precision};
use crate::model::{Clock, ModelConfig, StepInput, Texts};
use crate::noise::{Noise, Tower};
use crate::propagate;
use crate::report::{Directive, EpochReport, EvalReport, EvalSplit, Losses, Observer, Outcome, StepReport};
use crate::scope::Draw;
use crate::snapshot;
use crate::step::{ModelState, StepGrads};
use crate::world::World;
use accord_data::checkpoint::{Progress, Snapshot};
use accord_data::sampling::{Batch, EpochPlan};
use accord_data::{Dataset, Interactions, TextNeed, TextTables};
use accord_spec::{JobSpec, MetricAtK, ModelKind, Negatives, TranslationPrecision};
use std::sync::Arc;
use std::time::Instant;
use tch::{Kind, Tensor};

/// Steps between two comparisons of what every rank has a copy of.
const GUARD_STEPS: u64 = 100;

/// A job on its dataset, from its first step to its last.
pub struct Trainer {
    spec: JobSpec,
    train: Interactions,
    validation: Interactions,
    test: Interactions,
    config: ModelConfig,
    device: tch::Device,
    world: World,
    kernels: Box<dyn Kernels>,
    texts: Option<Texts>,
    state: ModelState,
    measures: Measures,
    /// The validation metric that early stopping follows and that selects the best epoch.
    select: MetricAtK,
    /// Embeddings E of the best validation epoch.
    best: Option<Tensor>,
    progress: Progress,
    notices: Vec<String>,
    sent: Sent,
}

/// Bytes to other workers inside steps, evaluations left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub steps: u64,
    /// By the halo exchanges of propagation, and in all.
    pub halo: u64,
    pub all: u64,
}

impl Trainer {
    /// `world` was made for `device`; the text tables of `dataset` hold the rows of the world's own nodes.
    pub fn new(
        spec: &JobSpec,
        dataset: Dataset,
        world: World,
        device: tch::Device,
        threads: usize,
    ) -> Result<Trainer, EngineError> {
        refuse_unnamed_all(spec, world.nodes())?;
        tch::set_num_threads(threads as i32);
        let kernels = device::kernels(device, Arc::clone(&world.graph), threads)?;
        // ids and titles go, and each text table as soon as it is a tensor
        let Dataset { train, validation, test, text, .. } = dataset;
        let EvalPlan { measures, select, mut notices } = EvalPlan::new(&spec.eval, &train, &validation)?;
        let texts = texts(spec.model.kind, text, device)?;
        let widths = texts.as_ref().map(|t| {
            let width = |x: &Tensor| x.size()[1] as usize;
            [width(&t.profile), t.intent.as_ref().map_or(0, width)]
        });
        let mut state = init::state(spec, &world, widths);
        state.to_device(device);
        let precision = translation_precision(spec, &world, kernels.as_ref(), &mut notices);
        let config = ModelConfig {
            kind: spec.model.kind,
            layers: spec.model.layers,
            loss: spec.loss.clone(),
            teacher_momentum: spec.model.teacher_momentum,
            teacher_sync_steps: spec.model.teacher_sync_steps,
            precision,
        };
        let progress = Progress::default();
        let (spec, best) = (spec.clone(), None);
        Ok(Trainer {
            spec,
            train,
            validation,
            test,
            config,
            device,
            world,
            kernels,
            texts,
            state,
            measures,
            select,
            best,
            progress,
            notices,
            sent: Sent::default(),
        })
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// The training interactions of all users.
    pub fn train(&self) -> &Interactions {
        &self.train
    }

    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// Goes on from a snapshot of the same job, which any number of workers wrote.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), EngineError> {
        self.best = snapshot::restore(&mut self.state, self.world.graph.own(), snapshot)?;
        self.progress = snapshot.progress.clone();
        Ok(())
    }

    /// This rank's part of what [`Trainer::restore`] needs to go on as if undisturbed.
    pub fn snapshot(&self) -> Snapshot {
        let nodes = self.world.graph.own();
        snapshot::save(&self.state, self.best.as_ref(), nodes, self.world.rank() == 0, self.progress.clone())
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
        let (test, _) = self.evaluate(EvalSplit::Test)?;
        observer.eval(&test);
        Ok(Outcome::Finished { best_epoch: self.progress.best_epoch, test })
    }

    /// X of the best epoch, own nodes [n, d].
    pub fn final_embeddings(&self) -> Result<Tensor, EngineError> {
        self.final_x(self.best.as_ref())
    }

    /// The rest of the current epoch. `Continue` means the next one may begin.
    fn epoch(&mut self, observer: &mut dyn Observer) -> Result<Directive, EngineError> {
        let start = Instant::now();
        let mut clock = Clock::default();
        let epoch = self.progress.epoch;
        let train = &self.train;
        let plan = clock.time("sampling", || EpochPlan::new(train, self.spec.job.seed, epoch));
        let steps = plan.steps(self.spec.optim.batch_size);
        let begin = (start, self.sent);
        while self.progress.step_in_epoch < steps {
            let step_start = Instant::now();
            let batch = plan.batch(self.progress.step_in_epoch, self.spec.optim.batch_size);
            let before = self.bytes();
            let losses = self.step(&batch, &mut clock)?;
            let after = self.bytes();
            self.sent.steps += 1;
            self.sent.halo += after.0 - before.0;
            self.sent.all += after.1 - before.1;
            add_losses(&mut self.progress.epoch_losses, &losses);
            let wanted = observer.step(&StepReport {
                epoch,
                step: self.progress.step,
                step_in_epoch: self.progress.step_in_epoch,
                steps_per_epoch: steps,
                losses,
                seconds: step_start.elapsed().as_secs_f64(),
            });
            let directive = self.agree(wanted)?;
            if self.progress.step_in_epoch == steps {
                self.end_epoch(steps, begin, &clock, observer)?;
            }
            let due = self.progress.step.is_multiple_of(self.spec.checkpoint.every_steps) || self.progress.finished;
            if due || directive == Directive::CheckpointAndStop {
                let begin = Instant::now();
                let snapshot = self.snapshot();
                observer.snapshot(snapshot, begin.elapsed().as_secs_f64());
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

    /// Sent so far: by halo exchanges, and in all.
    fn bytes(&self) -> (u64, u64) {
        (self.world.halo_bytes(), self.world.traffic().total().bytes_sent)
    }

    fn step(&mut self, batch: &Batch, clock: &mut Clock) -> Result<Losses, EngineError> {
        let (seed, step) = (self.spec.job.seed, self.progress.step);
        let draw = Draw { negatives: self.spec.loss.negatives, seed, step };
        let rows = clock.time("batch", || BatchRows::new(batch, &self.world, draw, Kind::Float, self.device));
        let translates = self.spec.loss.translation_weight > 0.0 && self.config.kind == ModelKind::Irllrec;
        let noise = translates.then(|| {
            clock.time("noise", || {
                [Tower::Text, Tower::Graph].map(|tower| {
                    let noise = Noise::new(seed, step, tower);
                    self.kernels.noise_factor(&noise, rows.scope.nodes(&self.world), &self.state.weights.embeds)
                })
            })
        });
        let input = StepInput {
            world: &self.world,
            kernels: self.kernels.as_ref(),
            config: &self.config,
            texts: self.texts.as_ref(),
            batch: &rows,
            dropout: Dropout::new(seed, step, self.spec.model.edge_keep),
            noise,
        };
        self.world.in_step(true);
        let StepGrads { losses, weights: grads } = self.state.losses(&input, clock)?;
        self.world.in_step(false);
        let losses = sum_of_ranks(&losses, step + 1, self.progress.epoch)?;
        clock.time("adam", || {
            self.state.update(self.kernels.as_ref(), &grads, self.spec.optim.lr, self.spec.loss.reg_weight);
        });
        self.progress.step += 1;
        self.progress.step_in_epoch += 1;
        if self.progress.step.is_multiple_of(GUARD_STEPS) {
            clock.time("replica guard", || guard::replicas(&self.world, &self.state, self.progress.step))?;
        }
        Ok(losses)
    }

    /// The strongest of what the ranks want: all stop after the same step.
    fn agree(&self, wanted: Directive) -> Result<Directive, EngineError> {
        const ORDER: [Directive; 3] = [Directive::Continue, Directive::CheckpointAndStop, Directive::Stop];
        let place = ORDER.iter().position(|&directive| directive == wanted).unwrap_or(0);
        let places = self.world.gather_values(&[place as f64])?;
        let strongest = places.iter().flatten().fold(0.0, |a: f64, &b| a.max(b));
        Ok(ORDER[strongest as usize])
    }

    /// Reports the epoch's means, evaluates when due (after the last epoch always), and moves on to the next epoch.
    fn end_epoch(
        &mut self,
        steps: u64,
        (start, sent): (Instant, Sent),
        clock: &Clock,
        observer: &mut dyn Observer,
    ) -> Result<(), EngineError> {
        let epoch = self.progress.epoch;
        observer.epoch(&EpochReport {
            epoch,
            step: self.progress.step,
            losses: mean_losses(&self.progress.epoch_losses, steps),
            seconds: start.elapsed().as_secs_f64(),
            phases: clock.0.iter().map(|(phase, seconds)| ((*phase).to_owned(), *seconds)).collect(),
            timed_steps: self.sent.steps - sent.steps,
            bytes_sent: self.sent.all - sent.all,
        });
        let is_last = epoch + 1 >= self.spec.optim.epochs;
        if is_last || epoch.is_multiple_of(self.spec.eval.every_epochs) {
            self.validate(observer)?;
        }
        self.progress.epoch += 1;
        self.progress.step_in_epoch = 0;
        self.progress.epoch_losses.clear();
        self.progress.finished = self.progress.evaluations_without_gain >= self.spec.optim.patience
            || self.progress.epoch >= self.spec.optim.epochs;
        Ok(())
    }

    /// Evaluates the current parameters, and keeps them where they are the best so far.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<(), EngineError> {
        let (mut report, value) = self.evaluate(EvalSplit::Validation)?;
        if self.progress.best.is_none_or(|best| value > best) {
            self.progress.best = Some(value);
            self.progress.best_epoch = self.progress.epoch;
            self.progress.evaluations_without_gain = 0;
            self.best = Some(self.state.weights.embeds.copy());
        } else {
            self.progress.evaluations_without_gain += 1;
        }
        (report.best, report.best_epoch) = (self.progress.best.unwrap_or(0.0), self.progress.best_epoch);
        observer.eval(&report);
        Ok(())
    }

    /// Validation looks at the current parameters, test at the best epoch's. The second part is the selecting metric's
    /// value.
    fn evaluate(&self, split: EvalSplit) -> Result<(EvalReport, f64), EngineError> {
        let start = Instant::now();
        let (held_out, embeds, epoch): (&Interactions, _, _) = match split {
            EvalSplit::Validation => (&self.validation, None, self.progress.epoch),
            EvalSplit::Test => (&self.test, self.best.as_ref(), self.progress.best_epoch),
        };
        let x = self.final_x(embeds)?;
        let (train, measures) = (&self.train, &self.measures);
        let metrics = eval::evaluate(&self.world, self.kernels.as_ref(), &x, train, held_out, measures)?;
        // the plan measures what it selects by
        let value = metrics.value(self.select).unwrap_or(0.0);
        let report = EvalReport {
            epoch,
            step: self.progress.step,
            split,
            users: metrics.users as u64,
            metrics: metrics.values,
            select: self.select,
            best: self.progress.best.unwrap_or(0.0),
            best_epoch: self.progress.best_epoch,
            seconds: start.elapsed().as_secs_f64(),
        };
        Ok((report, value))
    }

    /// X without dropout, of these embeddings or the current ones.
    fn final_x(&self, embeds: Option<&Tensor>) -> Result<Tensor, EngineError> {
        let embeds = embeds.unwrap_or(&self.state.weights.embeds);
        let (world, kernels, layers) = (&self.world, self.kernels.as_ref(), self.config.layers);
        Ok(propagate::forward(world, kernels, &Adjacency::Whole, embeds, layers, false)?.x)
    }
}

/// Above this many nodes a step that runs over all of them should be asked for by name.
const ALL_UP_TO: usize = 200_000;

fn refuse_unnamed_all(spec: &JobSpec, nodes: usize) -> Result<(), EngineError> {
    let contrasts = spec.model.kind != ModelKind::Lightgcn;
    if !contrasts || spec.loss.negatives != Negatives::Auto || nodes <= ALL_UP_TO {
        return Ok(());
    }
    Err(EngineError::Data(format!(
        "loss.negatives: every step would run over all {nodes} users and items\n  hint: say negatives = \"all\" if you mean it; \
         \"batch\" or {{ sampled = 65536 }} cost no more on a larger catalog"
    )))
}

/// The text tables the model reads, as tensors of the own nodes.
fn texts(kind: ModelKind, tables: Option<TextTables>, device: tch::Device) -> Result<Option<Texts>, EngineError> {
    let lacking = |what: &str| {
        EngineError::Data(format!("model.kind = \"{}\" needs {what}, and the dataset has none", kind.name()))
    };
    let need = TextNeed::of(kind);
    if need == TextNeed::None {
        return Ok(None);
    }
    let mut tables = tables.ok_or_else(|| lacking("text embeddings"))?;
    match need {
        TextNeed::None | TextNeed::Profiles => tables.intents = None,
        TextNeed::ProfilesAndIntents if tables.intents.is_none() => return Err(lacking("text embeddings of intents")),
        TextNeed::ProfilesAndIntents => {}
    }
    Ok(Some(Texts::of(tables, device)))
}

/// Up to this weight the moment form's error stays below f32 rounding (6e-8) of the whole gradient's largest element.
/// Measured on amazon after 300 steps at weight 1e-3 it moves the gradient by 2.2e-7, and the move is linear in the weight;
/// the rest is margin for late training, where cosines near 1 make moments err most (RESULTS.md).
const MOMENTS_UP_TO: f64 = 1e-5;

fn translation_precision(spec: &JobSpec, world: &World, kernels: &dyn Kernels, notices: &mut Vec<String>) -> Precision {
    // the matching term holds the translation term once more
    let weight = spec.loss.translation_weight * (1.0 + 0.4 * spec.loss.itm_weight);
    // multiply-adds a node: all pairs 3 N d, third moments 2 d^2 (d + 1)
    let moments_pay = 2 * spec.model.dim * (spec.model.dim + 1) < 3 * world.nodes();
    let wanted = match spec.loss.translation_precision {
        TranslationPrecision::F32 => Precision::Full,
        TranslationPrecision::Bf16 => Precision::Bf16,
        TranslationPrecision::Moments => Precision::Moments,
        // the same on any number of workers, so never bf16
        TranslationPrecision::Auto if weight <= MOMENTS_UP_TO && moments_pay => Precision::Moments,
        TranslationPrecision::Auto => Precision::Full,
    };
    let picked = match kernels.precision(wanted) {
        // several workers have f32 products only
        Precision::Bf16 if world.size() > 1 => Precision::Full,
        picked => picked,
    };
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

/// The sum of the ranks' parts, each of which must be finite.
fn sum_of_ranks(ranks: &[Losses], step: u64, epoch: u64) -> Result<Losses, EngineError> {
    let mut sums = Vec::new();
    for (rank, losses) in ranks.iter().enumerate() {
        if let Some((term, value)) = terms(losses).into_iter().find(|(_, value)| !value.is_finite()) {
            return Err(EngineError::NonFinite { term, value, step, epoch, rank });
        }
        add_losses(&mut sums, losses);
    }
    Ok(mean_losses(&sums, 1))
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
