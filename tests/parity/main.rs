//! Replays the golden fixtures of the official code: every loss term, forward tensor, gradient, both Adam steps, the
//! teacher and the evaluation; libtorch kernels in f64 within 1e-10 relative, and every f32 kernel set within 1e-5. With
//! one worker, and with 2, 3 and 4 that exchange over Gloo, as threads and as processes: each rank is held against the rows
//! it owns.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints for its reader")]

mod fixture;
mod judge;
mod ranks;

use accord_collective::Collective;
use accord_data::partition::{Partition, Scheme};
use accord_engine::batch::BatchRows;
use accord_engine::eval::{self, Measures};
use accord_engine::graph::Graph;
use accord_engine::intent_view;
use accord_engine::kernels::cpu::{CpuKernels, Level};
use accord_engine::kernels::torch::TorchKernels;
use accord_engine::kernels::{Adjacency, Candidates, Kernels};
use accord_engine::model::{Clock, StepInput};
use accord_engine::propagate;
use accord_engine::report::Losses;
use accord_engine::scope::Draw;
use accord_engine::step::StepGrads;
use accord_engine::world::{HaloOptions, World};
use accord_spec::{Metric, ModelKind, Negatives};
use fixture::Fixture;
use judge::Judge;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// A kernel set to hold against the fixtures.
struct Subject {
    name: String,
    kind: Kind,
    device: Device,
    make: Box<dyn Fn(Arc<Graph>) -> Box<dyn Kernels>>,
}

fn subjects() -> Vec<Subject> {
    let torch = |name: &str, kind, device| Subject {
        name: name.into(),
        kind,
        device,
        make: Box::new(move |graph| Box::new(TorchKernels::new(graph, device, kind)) as Box<dyn Kernels>),
    };
    let mut all = vec![torch("torch f64", Kind::Double, Device::Cpu), torch("torch f32", Kind::Float, Device::Cpu)];
    for level in Level::all() {
        for threads in [1, 3] {
            let make = move |graph| Box::new(CpuKernels::new(graph, level, threads).unwrap()) as Box<dyn Kernels>;
            all.push(Subject {
                name: format!("cpu {level:?} x{threads}"),
                kind: Kind::Float,
                device: Device::Cpu,
                make: Box::new(make),
            });
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

/// One rank of a world against the fixture: every step, term, gradient and update of the rows it owns.
fn replay_rank(tag: &str, subject: &Subject, world: &World, about: &str) -> Judge {
    let fixture = Fixture::load(tag, subject.kind);
    let (device, kernels) = (subject.device, (subject.make)(Arc::clone(&world.graph)));
    let kernels = kernels.as_ref();
    let own = own_rows(world);
    let mut judge = Judge::new(format!("{tag}, {}, {about}", subject.name), subject.kind);
    forward(&fixture, world, kernels, device, &mut judge);
    let mut state = fixture.state(&own);
    state.to_device(device);
    let texts = fixture.texts(&own, device);
    let config = fixture.config();
    let (users, positives, negatives) = fixture.batch();
    let batch = accord_data::sampling::Batch { users: &users, positives: &positives, negatives: &negatives };
    let draw = Draw { negatives: Negatives::All, seed: 1, step: 0 };
    let rows = BatchRows::new(&batch, world, draw, subject.kind, device);
    for step in ["s1", "s2"] {
        let input = StepInput {
            world,
            kernels,
            config: &config,
            texts: texts.as_ref(),
            batch: &rows,
            dropout: None,
            noise: fixture.noise(step, &own, device),
        };
        let StepGrads { losses, weights: grads } = state.losses(&input, &mut Clock::default()).unwrap();
        assert_eq!(losses.len(), world.size());
        terms(&fixture, step, &losses, &mut judge);
        let wanted = |prefix: &str, name: &str| match name {
            "embeds" => fixture.table(&format!("{step}.{prefix}"), name).index_select(0, &own),
            _ => fixture.table(&format!("{step}.{prefix}"), name),
        };
        for ((name, grad), (_, w)) in grads.named().into_iter().zip(state.weights.named()) {
            let whole = grad + w * (2.0 * config.loss.reg_weight);
            judge.tensor(&format!("{step}.grad.{name}"), &whole, &wanted("grad", &name));
        }
        state.update(kernels, &grads, 1e-3, config.loss.reg_weight);
        for (name, w) in state.weights.named() {
            judge.tensor(&format!("{step}.param.{name}"), w, &wanted("param", &name));
        }
        let teacher = state.teacher.iter().flat_map(|t| t.tensors());
        for (name, w) in accord_engine::weights::tower_names("int_mlp_m").iter().zip(teacher) {
            judge.tensor(&format!("{step}.param.{name}"), w, &wanted("param", name));
        }
        if let (Some(teacher), Some(texts)) = (&state.teacher, &texts) {
            let out = kernels.tower(teacher, texts.intent.as_ref().unwrap()).z;
            let what = format!("{step}.teacher_out");
            judge.tensor(&what, &out, &fixture.get(&what).index_select(0, &own));
        }
    }
    evaluation(&fixture, world, kernels, &state.weights.embeds, config.layers, &mut judge);
    judge
}

/// The sums of the ranks' parts.
fn terms(fixture: &Fixture, step: &str, ranks: &[Losses], judge: &mut Judge) {
    let sum = |term: fn(&Losses) -> f64| ranks.iter().map(term).sum::<f64>();
    judge.scalar(&format!("{step}.loss"), sum(|l| l.total), fixture.scalar(&format!("{step}.loss")));
    for (name, value) in [
        ("bpr", sum(|l| l.bpr)),
        ("reg", sum(|l| l.reg)),
        ("kd", sum(|l| l.kd)),
        ("kd_int", sum(|l| l.kd_int)),
        ("ssl", sum(|l| l.translation)),
        ("itm", sum(|l| l.itm)),
    ] {
        if let Some(wanted) = fixture.term(step, name) {
            judge.scalar(&format!("{step}.{name}"), value, wanted);
        }
    }
}

fn own_rows(world: &World) -> Tensor {
    Tensor::from_slice(&world.graph.own().iter().map(|&node| i64::from(node)).collect::<Vec<_>>())
}

fn forward(fixture: &Fixture, world: &World, kernels: &dyn Kernels, device: Device, judge: &mut Judge) {
    let own = own_rows(world);
    let mut state = fixture.state(&own);
    state.to_device(device);
    let weights = &state.weights;
    let layers = fixture.config().layers;
    let graph = propagate::forward(world, kernels, &Adjacency::Whole, &weights.embeds, layers, true).unwrap();
    let x = Tensor::cat(&[fixture.get("fwd.user"), fixture.get("fwd.item")], 0);
    judge.tensor("fwd.user and fwd.item", &graph.x, &x.index_select(0, &own));
    let wanted = |name: String| fixture.get(&name).index_select(0, &own);
    let Some([c_user, c_item]) = &weights.intents else { return };
    let all = Tensor::arange(own.numel() as i64, (Kind::Int64, device));
    for (l, e) in graph.layers.iter().enumerate() {
        judge.tensor(&format!("fwd.layer{l}"), &world.own(e), &wanted(format!("fwd.layer{l}")));
        let view = kernels.intent_view(e, &all, [c_user, c_item]);
        let intents = &view.unit / view.inverse_norm.unsqueeze(1);
        judge.tensor(&format!("fwd.intent_layer{l}"), &world.own(&intents), &wanted(format!("fwd.intent_layer{l}")));
        judge.tensor(&format!("fwd.iaa_layer{l}"), &view.g, &wanted(format!("fwd.iaa_layer{l}")));
        // one rank has both ends of every edge
        if world.size() == 1 {
            let (rows, columns) = (fixture.get("fwd.edge_row").to(device), fixture.get("fwd.edge_col").to(device));
            let at = |x: &Tensor, ids: &Tensor| x.index_select(0, ids);
            let cosine = (at(&view.unit, &rows) * at(&view.unit, &columns)).sum_dim_intlist(1, false, e.kind());
            let weight = (cosine * 0.5 + 0.5) * at(&view.inverse_sum, &rows);
            let what = format!("fwd.edge_weight_layer{l}");
            judge.tensor(&what, &weight, fixture.get(&what));
        }
    }
    let mean = intent_view::forward(kernels, &graph.layers, &all, [c_user, c_item]).g;
    let sum = (0..layers).map(|l| wanted(format!("fwd.iaa_layer{l}"))).reduce(|a, b| a + b).unwrap();
    judge.tensor("mean intent view", &mean, &(sum / layers as f64));
}

/// The ranking itself must be the same, and with it the metrics, whatever the precision and the number of ranks.
fn evaluation(
    fixture: &Fixture,
    world: &World,
    kernels: &dyn Kernels,
    embeds: &Tensor,
    layers: usize,
    judge: &mut Judge,
) {
    let x = propagate::forward(world, kernels, &Adjacency::Whole, embeds, layers, false).unwrap().x;
    let ks: Vec<usize> = fixture.ids("eval.k").iter().map(|&k| k as usize).collect();
    if world.size() == 1 {
        let users = fixture.ids("eval.users");
        let rows = Tensor::from_slice(&users.iter().map(|&u| i64::from(u)).collect::<Vec<_>>()).to(x.device());
        let items = x.narrow(0, fixture.users as i64, fixture.items as i64);
        let ids: Vec<u32> = (0..fixture.items as u32).collect();
        let candidates = Candidates { rows: &items, ids: &ids };
        let ranked = kernels.top_k(&x.index_select(0, &rows), &users, candidates, &fixture.train(), 5);
        assert_eq!(ranked.items, fixture.ids("eval.top5"), "{}: top 5", judge.subject);
    }
    let measures = Measures { metrics: vec![Metric::Recall, Metric::Ndcg], ks };
    let metrics = eval::evaluate(world, kernels, &x, &fixture.train(), &fixture.test(), &measures).unwrap();
    for values in &metrics.values {
        let name = format!("eval.{}", values.metric.name());
        let at_k = Tensor::from_slice(&values.at.iter().map(|at| at.1).collect::<Vec<_>>());
        judge.tensor(&name, &at_k, fixture.get(&name));
    }
}

fn replay_alone(tag: &str) {
    for subject in subjects() {
        let world = World::alone(&Fixture::load(tag, subject.kind).train(), subject.device);
        replay_rank(tag, &subject, &world, "1 worker").finish();
    }
}

/// Ways to spread the nodes over the ranks, the odd ones among them.
const SPREADS: [&str; 3] = ["by hash", "users and items apart", "all but one empty"];

fn partition(fixture: &Fixture, size: usize, spread: &str) -> Partition {
    let owner = |node: usize| match spread {
        "by hash" => node * 7 % 11 % size,
        // no rank has both sides; with three and more, some have nothing
        "users and items apart" => {
            if node < fixture.users {
                0
            } else {
                size - 1
            }
        }
        _ => {
            if node == 3 {
                0
            } else {
                1
            }
        }
    };
    Partition::from_owner(size, (0..fixture.users + fixture.items).map(|node| owner(node) as u16).collect()).unwrap()
}

/// How remote rows travel, by model: partial sums are for linear layers only.
fn schemes(tag: &str) -> &'static [Scheme] {
    match Fixture::load(tag, Kind::Double).model {
        ModelKind::Irllrec => &[Scheme::Halo, Scheme::AllGather],
        ModelKind::Lightgcn | ModelKind::RlmrecCon => &[Scheme::Halo, Scheme::Aggregate, Scheme::AllGather],
    }
}

fn replay_on(tag: &str, subject: &Subject, collective: Box<dyn Collective>, spread: &str, scheme: Scheme) -> Judge {
    let fixture = Fixture::load(tag, subject.kind);
    let (rank, size) = (collective.rank(), collective.size());
    let partition = partition(&fixture, size, spread);
    let world = World::new(collective, &fixture.train(), partition, scheme, HaloOptions::default(), subject.device);
    replay_rank(tag, subject, &world, &format!("rank {rank} of {size}, {spread}, {scheme:?}"))
}

fn replay_in_threads(tag: &str) {
    let picked = |subject: &Subject| ["torch f64", "cpu Portable x1"].contains(&subject.name.as_str());
    for size in [2, 3, 4] {
        for spread in SPREADS {
            for &scheme in schemes(tag) {
                for name in subjects().into_iter().filter(picked).map(|s| s.name) {
                    let judges = ranks::in_threads(size, |collective| {
                        let subject = subjects().into_iter().find(|s| s.name == name).unwrap();
                        replay_on(tag, &subject, collective, spread, scheme)
                    });
                    judges.into_iter().for_each(Judge::finish);
                }
            }
        }
    }
}

#[test]
fn lightgcn_equals_the_official_code() {
    replay_alone("lightgcn");
}

#[test]
fn rlmrec_con_equals_the_official_code() {
    replay_alone("lightgcn_plus");
}

#[test]
fn irllrec_equals_the_official_code_at_the_shipped_weights() {
    replay_alone("lightgcn_int");
}

#[test]
fn irllrec_equals_the_official_code_where_every_term_has_a_visible_gradient() {
    replay_alone("lightgcn_int_heavy");
}

#[test]
fn lightgcn_on_several_workers_equals_the_official_code() {
    replay_in_threads("lightgcn");
}

#[test]
fn rlmrec_con_on_several_workers_equals_the_official_code() {
    replay_in_threads("lightgcn_plus");
}

#[test]
fn irllrec_on_several_workers_equals_the_official_code() {
    replay_in_threads("lightgcn_int");
}

#[test]
fn irllrec_on_several_workers_with_visible_gradients_equals_the_official_code() {
    replay_in_threads("lightgcn_int_heavy");
}

#[test]
fn processes_equal_the_official_code() {
    let here = "processes_equal_the_official_code";
    for size in [2, 3, 4] {
        ranks::in_processes(size, here, |collective| {
            let subject = subjects().into_iter().find(|s| s.name == "torch f64").unwrap();
            replay_on("lightgcn_int_heavy", &subject, collective, "by hash", Scheme::Halo).finish();
        });
    }
}
