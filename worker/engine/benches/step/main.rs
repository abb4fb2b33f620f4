//! Seconds per step by phase and peak memory on amazon, and the ratio to the official operators in the same run.
//! `cargo bench -p accord-engine --bench step -- [--threads N] [--steps N] [--data DIR] [--model KIND] [--train N] [--device cpu|cuda]`; wants ../shared/data/amazon.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its results")]

mod official;

use accord_data::sampling::EpochPlan;
use accord_data::{Dataset, Interactions, TextNeed};
use accord_engine::batch::BatchRows;
use accord_engine::eval::{self, Measures};
use accord_engine::graph::Dropout;
use accord_engine::kernels::cpu::Level;
use accord_engine::kernels::{Adjacency, Kernels, Precision};
use accord_engine::model::{Clock, ModelConfig, StepInput, Texts};
use accord_engine::noise::{Noise, Tower};
use accord_engine::scope::Draw;
use accord_engine::step::ModelState;
use accord_engine::weights::Weights;
use accord_engine::world::World;
use accord_engine::{device, init, propagate};
use accord_spec::{JobSpec, ModelKind};
use official::{Official, PairIds};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

struct Options {
    threads: usize,
    steps: usize,
    data: PathBuf,
    /// Only this model.
    model: Option<String>,
    /// Steps of training before the precisions of the translation term are compared.
    train: usize,
    device: Device,
}

fn options() -> Options {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|a| a == flag).and_then(|at| args.get(at + 1));
    let number = |flag: &str, default| after(flag).and_then(|v| v.parse().ok()).unwrap_or(default);
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/amazon");
    Options {
        threads: number("--threads", 2),
        steps: number("--steps", 5),
        data: after("--data").map_or(shared, PathBuf::from),
        model: after("--model").cloned(),
        train: number("--train", 60),
        device: match after("--device").map(String::as_str) {
            Some("cuda") => device::pick(accord_spec::Device::Cuda, 0).expect("a CUDA device"),
            _ => Device::Cpu,
        },
    }
}

fn main() {
    let options = options();
    if !options.data.is_dir() {
        println!("SKIPPED: {} is not there", options.data.display());
        return;
    }
    tch::set_num_threads(options.threads as i32);
    println!(
        "{:?}, {} threads, {:?} kernels, best of {} steps",
        options.device,
        options.threads,
        Level::detect(),
        options.steps
    );
    println!("resident with libtorch loaded: {:.0} MB", memory("VmRSS"));
    for (model, extra) in [("lightgcn", "edge_keep = 0.8"), ("rlmrec-con", "edge_keep = 0.8"), ("irllrec", "")] {
        if options.model.as_ref().is_some_and(|wanted| wanted != model) {
            continue;
        }
        let spec = job(&options.data, model, extra);
        let dataset = match Dataset::load(&spec.data, Path::new("/"), spec.job.seed, TextNeed::of(spec.model.kind)) {
            Ok(dataset) => dataset,
            Err(e) => return println!("SKIPPED: {e}"),
        };
        Subject::new(&options, spec, dataset).compare();
    }
}

fn job(data: &Path, model: &str, extra: &str) -> JobSpec {
    let data = std::fs::canonicalize(data).expect("the folder is there");
    let text = format!(
        "[job]\nname = \"bench\"\n[data]\npath = \"{}\"\n[model]\nkind = \"{model}\"\n{extra}\n",
        data.display()
    );
    accord_spec::parse(&text, &[]).expect("a valid job")
}

/// Megabytes of this process, from the kernel's own count.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1000.0
}

/// Weight of the translation term at which its cheap forms are held against f32.
const MEASURED_WEIGHT: f64 = 1e-3;

struct Subject<'a> {
    options: &'a Options,
    spec: JobSpec,
    dataset: Dataset,
    world: World,
    kernels: Box<dyn Kernels>,
    texts: Option<Texts>,
}

impl Subject<'_> {
    fn new(options: &Options, spec: JobSpec, mut dataset: Dataset) -> Subject<'_> {
        let world = World::alone(&dataset.train, options.device);
        let kernels = device::kernels(options.device, Arc::clone(&world.graph), options.threads).expect("threads");
        let texts = dataset.text.take().map(|tables| Texts::of(tables, options.device));
        Subject { options, spec, dataset, world, kernels, texts }
    }

    fn state(&self) -> ModelState {
        let widths = self
            .texts
            .as_ref()
            .map(|t| [&t.profile, t.intent.as_ref().unwrap_or(&t.profile)].map(|x| x.size()[1] as usize));
        let mut state = init::state(&self.spec, &self.world, widths);
        state.to_device(self.options.device);
        state
    }

    fn rows(&self, plan: &EpochPlan, step: usize) -> BatchRows {
        let draw = Draw { negatives: self.spec.loss.negatives, seed: 1, step: step as u64 };
        let batch = plan.batch(step as u64, self.spec.optim.batch_size);
        BatchRows::new(&batch, &self.world, draw, Kind::Float, self.options.device)
    }

    fn pair_ids(&self, plan: &EpochPlan, step: usize) -> PairIds {
        let batch = plan.batch(step as u64, self.spec.optim.batch_size);
        let nodes = |ids: &[u32], first: usize| {
            Tensor::from_slice(&ids.iter().map(|&id| i64::from(id) + first as i64).collect::<Vec<_>>())
                .to(self.options.device)
        };
        let users = self.dataset.users();
        let (positives, negatives) = (nodes(batch.positives, users), nodes(batch.negatives, users));
        PairIds { users: nodes(batch.users, 0), positives, negatives }
    }

    fn compare(&self) {
        let name = self.spec.model.kind.name();
        println!("\n{name}, amazon, batch {}", self.spec.optim.batch_size);
        let precisions: &[(&str, Precision)] = match self.spec.model.kind {
            ModelKind::Irllrec => {
                &[("moments (auto)", Precision::Moments), ("bf16", Precision::Bf16), ("f32", Precision::Full)]
            }
            ModelKind::Lightgcn | ModelKind::RlmrecCon => &[("f32", Precision::Full)],
        };
        let ours: Vec<(&str, f64)> =
            precisions.iter().map(|&(name, p)| (name, self.ours(p, p == precisions[0].1))).collect();
        println!("  our peak so far {:.0} MB", memory("VmHWM"));
        let official = self.official();
        println!("  official operators: {official:.4} s a step, peak {:.0} MB", memory("VmHWM"));
        ours.iter().for_each(|(name, seconds)| println!("  ratio, {name}: {:.1}x", official / seconds));
        match self.spec.model.kind {
            ModelKind::Lightgcn => self.epoch_and_evaluation(),
            ModelKind::RlmrecCon => {}
            ModelKind::Irllrec => self.translation_errors(),
        }
    }

    /// How far the cheap forms of the translation term move the whole gradient of the embeddings, at a trained state. At
    /// the shipped weight that drowns in f32 rounding, so it is measured at a larger one: the move is linear in it.
    fn translation_errors(&self) {
        let mut state = self.state();
        let per_epoch = EpochPlan::new(&self.dataset.train, 0, 0).steps(self.spec.optim.batch_size) as usize;
        for step in 0..self.options.train {
            let plan = EpochPlan::new(&self.dataset.train, self.spec.job.seed, (step / per_epoch) as u64);
            self.step(&mut state, &plan, step % per_epoch, Precision::Moments, &mut Clock::default());
        }
        let plan = EpochPlan::new(&self.dataset.train, self.spec.job.seed, 1_000_000);
        let mut gradient = |precision| {
            // a teacher that does not move keeps the state the same for all three
            let mut config = ModelConfig { teacher_momentum: 1.0, ..self.config(precision) };
            config.loss.translation_weight = MEASURED_WEIGHT;
            self.losses(&mut state, &plan, 0, &config, &mut Clock::default()).embeds
        };
        let exact = gradient(Precision::Full);
        let largest = exact.abs().max().double_value(&[]);
        for precision in [Precision::Bf16, Precision::Moments] {
            let off = (gradient(precision) - &exact).abs().max().double_value(&[]) / largest;
            println!(
                "  after {} steps, {precision:?} moves the gradient by {off:.1e} of its largest",
                self.options.train
            );
        }
    }

    fn config(&self, precision: Precision) -> ModelConfig {
        ModelConfig {
            kind: self.spec.model.kind,
            layers: self.spec.model.layers,
            loss: self.spec.loss.clone(),
            teacher_momentum: self.spec.model.teacher_momentum,
            teacher_sync_steps: 1,
            precision,
        }
    }

    /// Best seconds of a step; prints the phases of the best.
    fn ours(&self, precision: Precision, phases: bool) -> f64 {
        let mut state = self.state();
        let plan = EpochPlan::new(&self.dataset.train, self.spec.job.seed, 0);
        let mut best: (f64, Vec<(&str, f64)>) = (f64::INFINITY, Vec::new());
        for step in 0..self.options.steps + 1 {
            let start = Instant::now();
            let mut clock = Clock::default();
            self.step(&mut state, &plan, step, precision, &mut clock);
            finish(self.options.device);
            let seconds = start.elapsed().as_secs_f64();
            if seconds < best.0 {
                best = (seconds, clock.0);
            }
        }
        println!("  ours, {precision:?}: {:.4} s a step", best.0);
        if phases {
            best.1.iter().for_each(|(phase, seconds)| println!("    {phase:22} {seconds:.4}"));
        }
        best.0
    }

    /// Loss and gradients of batch `step` of the plan.
    fn losses(
        &self,
        state: &mut ModelState,
        plan: &EpochPlan,
        step: usize,
        config: &ModelConfig,
        clock: &mut Clock,
    ) -> Weights {
        let rows = clock.time("batch", || self.rows(plan, step));
        let noise = (config.kind == ModelKind::Irllrec).then(|| {
            let own = self.world.graph.own();
            let draw =
                |tower| self.kernels.noise_factor(&Noise::new(1, step as u64, tower), own, &state.weights.embeds);
            clock.time("noise", || [draw(Tower::Text), draw(Tower::Graph)])
        });
        let input = StepInput {
            world: &self.world,
            kernels: self.kernels.as_ref(),
            config,
            texts: self.texts.as_ref(),
            batch: &rows,
            dropout: Dropout::new(1, step as u64, self.spec.model.edge_keep),
            noise,
        };
        state.losses(&input, clock).expect("nobody to wait for").weights
    }

    fn step(&self, state: &mut ModelState, plan: &EpochPlan, step: usize, precision: Precision, clock: &mut Clock) {
        let config = self.config(precision);
        let grads = self.losses(state, plan, step, &config, clock);
        clock.time("adam", || state.update(self.kernels.as_ref(), &grads, self.spec.optim.lr, config.loss.reg_weight));
    }

    fn official(&self) -> f64 {
        let state = self.state();
        let plan = EpochPlan::new(&self.dataset.train, self.spec.job.seed, 0);
        let mut official =
            Official::new(&self.spec, &self.dataset.train, self.texts.as_ref(), state.weights, state.teacher);
        let steps =
            if self.spec.model.kind == ModelKind::Irllrec { self.options.steps.min(3) } else { self.options.steps };
        best_of(steps, |step| {
            official.step(&self.pair_ids(&plan, step), step as i32 + 1);
            finish(self.options.device);
        })
    }

    /// LightGCN only: a whole epoch with sampling, and an evaluation.
    fn epoch_and_evaluation(&self) {
        let mut state = self.state();
        let train = &self.dataset.train;
        let epoch = best_of(3, |epoch| {
            let plan = EpochPlan::new(train, self.spec.job.seed, epoch as u64);
            for step in 0..plan.steps(self.spec.optim.batch_size) as usize {
                self.step(&mut state, &plan, step, Precision::Full, &mut Clock::default());
            }
        });
        let held_out = &self.dataset.validation;
        let evaluation = best_of(3, |_| {
            let (world, layers) = (&self.world, self.spec.model.layers);
            let measures = Measures { metrics: self.spec.eval.metrics.clone(), ks: self.spec.eval.cutoffs() };
            let embeds = &state.weights.embeds;
            let graph = propagate::forward(world, self.kernels.as_ref(), &Adjacency::Whole, embeds, layers, false);
            let x = graph.expect("nobody to wait for").x;
            eval::evaluate(world, self.kernels.as_ref(), &x, train, held_out, &measures).expect("nobody to wait for");
        });
        let [theirs, their_evaluation] = self.official_epoch(train, held_out);
        println!(
            "  epoch with sampling: ours {epoch:.3} s, official operators {theirs:.3} s, ratio {:.1}x",
            theirs / epoch
        );
        let ratio = their_evaluation / evaluation;
        println!("  evaluation: ours {evaluation:.3} s, official operators {their_evaluation:.3} s, ratio {ratio:.1}x");
    }

    fn official_epoch(&self, train: &Interactions, held_out: &Interactions) -> [f64; 2] {
        let state = self.state();
        let mut official = Official::new(&self.spec, train, None, state.weights, None);
        let mut number = 0;
        let epoch = best_of(2, |epoch| {
            let plan = EpochPlan::new(train, self.spec.job.seed, epoch as u64);
            for step in 0..plan.steps(self.spec.optim.batch_size) as usize {
                number += 1;
                official.step(&self.pair_ids(&plan, step), number);
            }
        });
        let evaluation = best_of(3, |_| {
            official.evaluate(train, held_out);
        });
        [epoch, evaluation]
    }
}

/// Waits until a device has done what it was asked for.
fn finish(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// Seconds of the fastest of `times` calls.
fn best_of(times: usize, mut work: impl FnMut(usize)) -> f64 {
    (0..times)
        .map(|i| {
            let start = Instant::now();
            work(i);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}
