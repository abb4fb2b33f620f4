//! Replays the golden fixtures of the official code: every loss term, forward tensor, gradient, both Adam steps, the
//! teacher and the evaluation; libtorch kernels in f64 within 1e-10 relative, and every f32 kernel set within 1e-5.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints for its reader")]

mod fixture;

use accord_engine::batch::BatchRows;
use accord_engine::eval;
use accord_engine::graph::Graph;
use accord_engine::intent_view;
use accord_engine::kernels::cpu::{CpuKernels, Level};
use accord_engine::kernels::torch::TorchKernels;
use accord_engine::kernels::{Adjacency, Kernels};
use accord_engine::model::{Clock, StepInput};
use accord_engine::propagate;
use fixture::Fixture;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// A kernel set to hold against the fixtures.
struct Subject {
    name: String,
    kind: Kind,
    make: Box<dyn Fn(Arc<Graph>) -> Box<dyn Kernels>>,
}

fn subjects() -> Vec<Subject> {
    let torch = |name: &str, kind, device| Subject {
        name: name.into(),
        kind,
        make: Box::new(move |graph| Box::new(TorchKernels::new(graph, device, kind)) as Box<dyn Kernels>),
    };
    let mut all = vec![torch("torch f64", Kind::Double, Device::Cpu), torch("torch f32", Kind::Float, Device::Cpu)];
    for level in Level::all() {
        for threads in [1, 3] {
            let make = move |graph| Box::new(CpuKernels::new(graph, level, threads).unwrap()) as Box<dyn Kernels>;
            all.push(Subject { name: format!("cpu {level:?} x{threads}"), kind: Kind::Float, make: Box::new(make) });
        }
    }
    if accord_engine::device::cuda_available() {
        all.push(torch("cuda f64", Kind::Double, Device::Cuda(0)));
        all.push(torch("cuda f32", Kind::Float, Device::Cuda(0)));
    } else {
        println!("SKIPPED: cuda subjects, no CUDA device");
    }
    all
}

/// Largest difference over the largest value, against the tolerance of the precision.
struct Judge {
    subject: String,
    kind: Kind,
    worst: f64,
    failures: Vec<String>,
}

impl Judge {
    fn new(subject: &Subject) -> Judge {
        Judge { subject: subject.name.clone(), kind: subject.kind, worst: 0.0, failures: Vec::new() }
    }

    fn tolerance(&self) -> f64 {
        if self.kind == Kind::Double { 1e-10 } else { 1e-5 }
    }

    fn tensor(&mut self, what: &str, got: &Tensor, wanted: &Tensor) {
        let (got, wanted) = (got.to(Device::Cpu).to_kind(Kind::Double), wanted.to_kind(Kind::Double));
        assert_eq!(got.size(), wanted.size(), "{}: shape of {what}", self.subject);
        let largest = wanted.abs().max().double_value(&[]);
        let difference = (&got - &wanted).abs().max().double_value(&[]);
        let relative = if largest > 0.0 { difference / largest } else { difference };
        self.note(what, relative);
    }

    fn scalar(&mut self, what: &str, got: f64, wanted: f64) {
        self.note(what, if wanted == 0.0 { got.abs() } else { ((got - wanted) / wanted).abs() });
    }

    fn note(&mut self, what: &str, relative: f64) {
        // a NaN is not below any tolerance
        if relative.is_nan() || relative > self.tolerance() {
            self.failures.push(format!("{}: {what} is off by {relative:.2e}", self.subject));
        } else {
            self.worst = self.worst.max(relative);
        }
    }

    fn finish(self) {
        println!("{}: worst relative difference {:.1e}", self.subject, self.worst);
        assert!(self.failures.is_empty(), "\n{}", self.failures.join("\n"));
    }
}

/// Every step, term, gradient and update of one fixture.
fn replay(tag: &str) {
    for subject in subjects() {
        let fixture = Fixture::load(tag, subject.kind);
        let kernels = (subject.make)(fixture.graph());
        let device = if subject.name.starts_with("cuda") { Device::Cuda(0) } else { Device::Cpu };
        let mut judge = Judge::new(&subject);
        forward(&fixture, kernels.as_ref(), device, &mut judge);
        let mut state = fixture.state();
        state.to_device(device);
        let texts = fixture.texts(device);
        let config = fixture.config();
        let (users, positives, negatives) = fixture.batch();
        let batch = accord_data::sampling::Batch { users: &users, positives: &positives, negatives: &negatives };
        let rows = BatchRows::new(&batch, [fixture.users, fixture.items], subject.kind, device);
        for step in ["s1", "s2"] {
            let input = StepInput {
                kernels: kernels.as_ref(),
                config: &config,
                users: fixture.users as i64,
                texts: texts.as_ref(),
                batch: &rows,
                dropout: None,
                noise: fixture.noise(step, device),
            };
            let (losses, grads) = state.losses(&input, &mut Clock::default());
            judge.scalar(&format!("{step}.loss"), losses.total, fixture.scalar(&format!("{step}.loss")));
            for (name, value) in [
                ("bpr", losses.bpr),
                ("reg", losses.reg),
                ("kd", losses.kd),
                ("kd_int", losses.kd_int),
                ("ssl", losses.translation),
                ("itm", losses.itm),
            ] {
                if let Some(wanted) = fixture.term(step, name) {
                    judge.scalar(&format!("{step}.{name}"), value, wanted);
                }
            }
            for ((name, grad), (_, w)) in grads.named().into_iter().zip(state.weights.named()) {
                let whole = grad + w * (2.0 * config.loss.reg_weight);
                judge.tensor(&format!("{step}.grad.{name}"), &whole, &fixture.table(&format!("{step}.grad"), &name));
            }
            state.update(kernels.as_ref(), &grads, 1e-3, config.loss.reg_weight);
            for (name, w) in state.weights.named() {
                judge.tensor(&format!("{step}.param.{name}"), w, &fixture.table(&format!("{step}.param"), &name));
            }
            for (name, w) in accord_engine::weights::tower_names("int_mlp_m")
                .iter()
                .zip(state.teacher.iter().flat_map(|t| t.tensors()))
            {
                judge.tensor(&format!("{step}.param.{name}"), w, &fixture.table(&format!("{step}.param"), name));
            }
            if let (Some(teacher), Some(texts)) = (&state.teacher, &texts) {
                let intent = texts.intent.as_ref().unwrap();
                judge.tensor(
                    &format!("{step}.teacher_out"),
                    &kernels.tower(teacher, intent).z,
                    fixture.get(&format!("{step}.teacher_out")),
                );
            }
        }
        evaluation(&fixture, kernels.as_ref(), &state.weights.embeds, config.layers, &mut judge);
        judge.finish();
    }
}

fn forward(fixture: &Fixture, kernels: &dyn Kernels, device: Device, judge: &mut Judge) {
    let mut state = fixture.state();
    state.to_device(device);
    let weights = &state.weights;
    let layers = fixture.config().layers;
    let graph = propagate::forward(kernels, &Adjacency::Whole, &weights.embeds, layers);
    let users = fixture.users as i64;
    judge.tensor("fwd.user", &graph.x.narrow(0, 0, users), fixture.get("fwd.user"));
    judge.tensor("fwd.item", &graph.x.narrow(0, users, fixture.items as i64), fixture.get("fwd.item"));
    let Some([c_user, c_item]) = &weights.intents else { return };
    let all = Tensor::arange(users + fixture.items as i64, (Kind::Int64, device));
    let (rows, columns) = (fixture.get("fwd.edge_row").to(device), fixture.get("fwd.edge_col").to(device));
    for (l, e) in graph.layers.iter().enumerate() {
        judge.tensor(&format!("fwd.layer{l}"), e, fixture.get(&format!("fwd.layer{l}")));
        if l == layers {
            continue;
        }
        let view = kernels.intent_view(e, &all, [c_user, c_item]);
        let intents = &view.unit / view.inverse_norm.unsqueeze(1);
        judge.tensor(&format!("fwd.intent_layer{l}"), &intents, fixture.get(&format!("fwd.intent_layer{l}")));
        let at = |x: &Tensor, ids: &Tensor| x.index_select(0, ids);
        let cosine = (at(&view.unit, &rows) * at(&view.unit, &columns)).sum_dim_intlist(1, false, e.kind());
        let weight = (cosine * 0.5 + 0.5) * at(&view.inverse_sum, &rows);
        judge.tensor(&format!("fwd.edge_weight_layer{l}"), &weight, fixture.get(&format!("fwd.edge_weight_layer{l}")));
        judge.tensor(&format!("fwd.iaa_layer{l}"), &view.g, fixture.get(&format!("fwd.iaa_layer{l}")));
    }
    let mean = intent_view::forward(kernels, &graph.layers[..layers], &all, [c_user, c_item]).g;
    let wanted =
        (0..layers).map(|l| fixture.get(&format!("fwd.iaa_layer{l}")).shallow_clone()).reduce(|a, b| a + b).unwrap();
    judge.tensor("mean intent view", &mean, &(wanted / layers as f64));
}

/// The ranking itself must be the same, and with it the metrics, whatever the precision.
fn evaluation(fixture: &Fixture, kernels: &dyn Kernels, embeds: &Tensor, layers: usize, judge: &mut Judge) {
    let x = propagate::forward(kernels, &Adjacency::Whole, embeds, layers).x;
    let ks: Vec<usize> = fixture.ids("eval.k").iter().map(|&k| k as usize).collect();
    let ranked = kernels.top_k(&x, &fixture.ids("eval.users"), &fixture.train(), 5);
    assert_eq!(ranked, fixture.ids("eval.top5"), "{}: top 5", judge.subject);
    let metrics = eval::evaluate(kernels, &x, &fixture.train(), &fixture.test(), &ks);
    let values = |pairs: &[(usize, f64)]| Tensor::from_slice(&pairs.iter().map(|p| p.1).collect::<Vec<_>>());
    judge.tensor("eval.recall", &values(&metrics.recall), fixture.get("eval.recall"));
    judge.tensor("eval.ndcg", &values(&metrics.ndcg), fixture.get("eval.ndcg"));
}

#[test]
fn lightgcn_equals_the_official_code() {
    replay("lightgcn");
}

#[test]
fn rlmrec_con_equals_the_official_code() {
    replay("lightgcn_plus");
}

#[test]
fn irllrec_equals_the_official_code_at_the_shipped_weights() {
    replay("lightgcn_int");
}

#[test]
fn irllrec_equals_the_official_code_where_every_term_has_a_visible_gradient() {
    replay("lightgcn_int_heavy");
}
