//! What the CPU kernels sum over rows is the same, bit for bit, from any team of threads and any distribution of the rows.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use accord_data::Interactions;
use accord_data::partition::{Cost, Method, Partition, Scheme, Shard};
use accord_engine::graph::Graph;
use accord_engine::kernels::cpu::{CpuKernels, Level};
use accord_engine::kernels::torch::TorchKernels;
use accord_engine::kernels::{
    Bound, Factor, HeadGrads, Kernels, Pairs, Precision, RowFactor, TowerBounds, TowerOutput, largest, prototype_bound,
};
use accord_engine::weights::Tower;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

const USERS: usize = 330;
const ITEMS: usize = 270;
const NODES: i64 = (USERS + ITEMS) as i64;
const TEAMS: [usize; 4] = [1, 2, 3, 5];

fn train() -> Interactions {
    let pairs: Vec<(u32, u32)> = (0..USERS as u32)
        .flat_map(|u| (0..ITEMS as u32).map(move |i| (u, i)))
        .filter(|&(u, i)| (u * 31 + i * 17 + u * i) % 29 == 0)
        .collect();
    Interactions::from_pairs(USERS, ITEMS, &pairs).unwrap().0
}

fn kernels(graph: &Arc<Graph>, level: Level, threads: usize) -> CpuKernels {
    CpuKernels::new(Arc::clone(graph), level, threads).unwrap()
}

fn reference() -> TorchKernels {
    TorchKernels::new(Arc::new(Graph::whole(&train())), Device::Cpu, Kind::Double)
}

/// Deterministic f32 of very different magnitudes; every third has few bits, so that products lie halfway between others.
fn numbers(shape: &[i64], seed: i64) -> Tensor {
    let count: i64 = shape.iter().product();
    let index = Tensor::arange(count, (Kind::Double, Device::Cpu)) + 1.0;
    let random = |a: f64| ((&index * a + seed as f64 * 78.233).sin() * 43758.5453).frac();
    let fine = random(12.9898) * (random(4.1414) * 9.0).floor().exp2() / 512.0;
    let coarse = (&fine * 4096.0).round() / 4096.0;
    fine.where_self(&index.remainder(3.0).gt(0.5), &coarse).to_kind(Kind::Float).view(shape)
}

fn unit(x: &Tensor) -> Tensor {
    (x / x.square().sum_dim_intlist(1, true, Kind::Float).sqrt().clamp_min(1e-6)).contiguous()
}

fn bits(x: &Tensor) -> Vec<u64> {
    let values: Vec<f64> = Vec::try_from(x.to_kind(Kind::Double).reshape([-1])).unwrap();
    values.into_iter().map(f64::to_bits).collect()
}

#[track_caller]
fn assert_same(what: &str, got: &[Tensor], wanted: &[Tensor]) {
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let (got, wanted) = (bits(got), bits(wanted));
        assert_eq!(got.len(), wanted.len(), "{what}, {i}");
        let differ = got.iter().zip(&wanted).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 0, "{what}, {i}: of {} elements", got.len());
    }
}

#[track_caller]
fn assert_close(what: &str, got: &[Tensor], wanted: &[Tensor], tolerance: f64) {
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let off = largest([&(got.to_kind(Kind::Double) - wanted)]) / largest([wanted]);
        assert!(off <= tolerance, "{what}, {i}: off by {off:.2e}");
    }
}

/// Rows `0..n` in another order, cut into `parts` of different lengths.
fn shuffled(n: i64, parts: i64) -> Vec<Tensor> {
    let order = ((Tensor::arange(n, (Kind::Double, Device::Cpu)) + 1.0) * 0.618_034).frac().argsort(0, false);
    let cuts: Vec<i64> = (0..=parts).map(|p| n * p * p / (parts * parts)).collect();
    cuts.windows(2).map(|cut| order.narrow(0, cut[0], cut[1] - cut[0])).collect()
}

/// `sums` of the rows of each part, added up.
fn added(parts: &[Tensor], sums: impl Fn(&Tensor) -> Vec<Tensor>) -> Vec<Tensor> {
    let all: Vec<Vec<Tensor>> = parts.iter().map(sums).collect();
    (0..all[0].len()).map(|i| all[1..].iter().fold(all[0][i].copy(), |sum, part| sum + &part[i])).collect()
}

/// `sums(kernels, kind, rows)` from every team, and in up to three parts, against all rows from one thread and f64.
fn check(what: &str, rows: i64, tolerance: f64, sums: impl Fn(&dyn Kernels, Kind, &Tensor) -> Vec<Tensor>) {
    let graph = Arc::new(Graph::whole(&train()));
    let all = Tensor::arange(rows, (Kind::Int64, Device::Cpu));
    for level in Level::all() {
        let wanted = sums(&kernels(&graph, level, 1), Kind::Float, &all);
        assert!(wanted.iter().all(|x| x.kind() == Kind::Double));
        for threads in TEAMS {
            let kernels = kernels(&graph, level, threads);
            let what = format!("{what}, {level:?} x{threads}");
            assert_same(&what, &sums(&kernels, Kind::Float, &all), &wanted);
            for parts in [1, 2, 3] {
                let got = added(&shuffled(rows, parts), |rows| sums(&kernels, Kind::Float, rows));
                assert_same(&format!("{what}, {parts} parts"), &got, &wanted);
            }
        }
        if tolerance > 0.0 {
            assert_close(&format!("{what}, {level:?}"), &wanted, &sums(&reference(), Kind::Double, &all), tolerance);
        }
    }
}

fn tower(text: i64, hidden: i64, d: i64) -> Tower {
    Tower {
        w1: numbers(&[hidden, text], 1),
        b1: numbers(&[hidden], 2),
        w2: numbers(&[d, hidden], 3),
        b2: numbers(&[d], 4),
    }
}

/// Gradients of the tower from rows of x, hidden and dz, in the kind of the kernels.
fn tower_grads(kernels: &dyn Kernels, tower: &Tower, inputs: [&Tensor; 3], bounds: &TowerBounds) -> Vec<Tensor> {
    let [x, hidden, dz] = inputs;
    let [w1, b1, w2, b2] = tower.tensors().map(|w| Tensor::zeros(w.size(), (Kind::Double, Device::Cpu)));
    let mut grad = Tower { w1, b1, w2, b2 };
    let output = TowerOutput { z: dz.shallow_clone(), hidden: hidden.shallow_clone() };
    kernels.tower_backward(tower, x, &output, dz, bounds, &mut grad);
    let Tower { w1, b1, w2, b2 } = grad;
    vec![w1, b1, w2, b2]
}

#[test]
fn gradients_of_a_text_tower() {
    let (rows, text, hidden, d) = (700, 70, 48, 32);
    let weights = tower(text, hidden, d);
    let inputs = [numbers(&[rows, text], 5), numbers(&[rows, hidden], 6), numbers(&[rows, d], 7)];
    let bounds = TowerBounds::new(&weights, rows as usize, inputs.each_ref().map(|x| largest([x])));
    // d_hidden is a row's own, and f32
    check("tower", rows, 2e-7, |kernels, kind, rows| {
        let [x, hidden, dz] = inputs.each_ref().map(|x| x.index_select(0, rows).to_kind(kind));
        let [w1, b1, w2, b2] = weights.tensors().map(|w| w.to_kind(kind));
        tower_grads(kernels, &Tower { w1, b1, w2, b2 }, [&x, &hidden, &dz], &bounds)
    });
}

#[test]
fn moments_with_and_without_weights() {
    let rows = 500;
    let (x, weight) = (unit(&numbers(&[rows, 32], 8)), numbers(&[rows], 9));
    for weighted in [false, true] {
        let bound = Bound(rows as f64 * if weighted { largest([&weight]) } else { 1.0 });
        // their layout is the kernel set's own: kernels.rs holds what they give against f64
        check("moments", rows, 0.0, |kernels, kind, rows| {
            let of = |x: &Tensor| x.index_select(0, rows).to_kind(kind);
            vec![kernels.moments(&of(&x), weighted.then(|| of(&weight)).as_ref(), bound)]
        });
        let applied = |kernels: &dyn Kernels, kind| {
            let (x, weight) = (x.to_kind(kind), weight.to_kind(kind));
            let moments = kernels.moments(&x, weighted.then_some(&weight), bound);
            let half = kernels.half_moments(&moments, &x);
            [half.sums, half.rows]
        };
        for level in Level::all() {
            let graph = Arc::new(Graph::whole(&train()));
            let got = applied(&kernels(&graph, level, 2), Kind::Float);
            assert_close(&format!("{level:?}"), &got, &applied(&reference(), Kind::Double), 5e-7);
        }
    }
}

/// dE and the prototypes' gradients of the rows of one graph, from tables of all nodes.
fn intents(kernels: &dyn Kernels, rows: &Tensor, tables: &[Tensor; 5], bound: Bound) -> (Tensor, [Tensor; 2]) {
    let [e, d_intents, d_e, c_user, c_item] = tables;
    let [e, d_intents, mut d_e] = [e, d_intents, d_e].map(|x| x.index_select(0, rows));
    let d_c = kernels.intents_backward(&e, &d_intents, [c_user, c_item], bound, &mut d_e);
    (d_e, d_c)
}

#[test]
fn gradients_of_the_prototypes() {
    let train = train();
    for (d, k) in [(32, 128), (20, 11)] {
        let tables = [(NODES, d), (NODES, d), (NODES, d), (d, k), (d, k)]
            .map(|(rows, columns)| numbers(&[rows, columns], rows + d));
        let bound = prototype_bound([&tables[3], &tables[4]], NODES as usize, [0, 1].map(|i| largest([&tables[i]])));
        let whole = Arc::new(Graph::whole(&train));
        let all = Tensor::arange(NODES, (Kind::Int64, Device::Cpu));
        let double = tables.each_ref().map(|x| x.to_kind(Kind::Double));
        let (exact_e, exact_c) = intents(&reference(), &all, &double, bound);
        for level in Level::all() {
            let (wanted_e, wanted_c) = intents(&kernels(&whole, level, 1), &all, &tables, bound);
            // the softmax of a row is f32
            assert_close(&format!("{level:?}"), &wanted_c, &exact_c, 3e-7);
            assert_close(&format!("{level:?} dE"), &[wanted_e.shallow_clone()], &[exact_e.shallow_clone()], 1e-6);
            for (threads, parts) in TEAMS.into_iter().flat_map(|threads| [1, 2, 3].map(|parts| (threads, parts))) {
                let what = format!("{level:?} x{threads}, d {d}, {parts} workers");
                let partition = Partition::new(&train, parts, Method::Hash, Cost { edge: 1.0, node: 1.0 });
                let mut sum = wanted_c.each_ref().map(Tensor::zeros_like);
                for rank in 0..parts {
                    let shard = Shard::new(&train, &partition, rank, Scheme::Halo);
                    let rows: Vec<i64> = shard.nodes.iter().map(|&node| i64::from(node)).collect();
                    let (graph, rows) = (Arc::new(Graph::new(shard, USERS)), Tensor::from_slice(&rows));
                    let (d_e, d_c) = intents(&kernels(&graph, level, threads), &rows, &tables, bound);
                    assert_same(&what, &[d_e], &[wanted_e.index_select(0, &rows)]);
                    sum.iter_mut().zip(d_c).for_each(|(sum, part)| *sum += part);
                }
                assert_same(&what, &sum, &wanted_c);
            }
        }
    }
}

#[test]
fn edges_of_the_intent_view_and_all_pairs_from_any_team() {
    let graph = Arc::new(Graph::whole(&train()));
    let d = 32;
    let (e, g, q) = (numbers(&[NODES, d], 12), numbers(&[NODES, d], 13), numbers(&[NODES], 14));
    let (c, heads) = (numbers(&[d, 24], 15), Tensor::arange(NODES / 2, (Kind::Int64, Device::Cpu)) * 2);
    let run = |kernels: &dyn Kernels, anchors: i64, bf16: bool| {
        let layer = kernels.intent_view(&e, &heads, [&c, &c]);
        let given = HeadGrads { heads: &heads, g: &g, q: &q, inverse_sum: &layer.inverse_sum };
        let grads = kernels.intent_view_backward(&e, [&c, &c], &layer, &given);
        let weight = numbers(&[anchors], 16);
        let pairs = kernels.all_pairs(&Pairs {
            anchors: &unit(&numbers(&[anchors, d], 17)),
            keys: &unit(&numbers(&[77, d], 18)),
            count: None,
            inverse_temperature: 1.0,
            factor: Factor::OfSums(RowFactor { weight: &weight, epsilon: 0.0, diagonal: None }),
            bf16,
        });
        vec![layer.g, layer.unit, grads.e, grads.intents, pairs.sums, pairs.anchors, pairs.keys]
    };
    for level in Level::all() {
        let low = kernels(&graph, level, 1).precision(Precision::Bf16) == Precision::Bf16;
        for (anchors, bf16) in [(1, false), (97, false), (1000, false), (1000, low)] {
            let wanted = run(&kernels(&graph, level, 1), anchors, bf16);
            for threads in TEAMS {
                let got = run(&kernels(&graph, level, threads), anchors, bf16);
                assert_same(&format!("{level:?} x{threads}, {anchors} anchors, bf16 {bf16}"), &got, &wanted);
            }
        }
    }
}

#[test]
fn a_sum_that_is_zero_or_not_a_number_stays_so() {
    let graph = Arc::new(Graph::whole(&train()));
    let (rows, text, hidden, d) = (50, 16, 16, 16);
    let weights = tower(text, hidden, d);
    let inputs = [numbers(&[rows, text], 5), numbers(&[rows, hidden], 6), numbers(&[rows, d], 7)];
    let grads = |kernels: &dyn Kernels, dz: &Tensor, bound_of: &Tensor| {
        let magnitudes = [&inputs[0], &inputs[1], bound_of].map(|x| largest([x]));
        let bounds = TowerBounds::new(&weights, rows as usize, magnitudes);
        tower_grads(kernels, &weights, [&inputs[0], &inputs[1], dz], &bounds)
    };
    for level in Level::all() {
        let kernels = kernels(&graph, level, 2);
        let zero = inputs[2].zeros_like();
        assert!(grads(&kernels, &zero, &zero).iter().all(|x| largest([x]) == 0.0), "{level:?}");
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let dz = inputs[2].copy();
            let _ = dz.get(17).fill_(bad);
            // with the bound of this rank, and with one that another rank's values made
            for bound_of in [&dz, &inputs[2]] {
                let finite =
                    grads(&kernels, &dz, bound_of).iter().map(|x| x.isfinite().any().int64_value(&[])).sum::<i64>();
                assert_eq!(finite, 0, "{level:?}, {bad}");
            }
        }
        // a bound that does not hold is not hidden
        let small = inputs[2].full_like(1e-9);
        assert!(grads(&kernels, &inputs[2], &small).iter().all(|x| largest([x]).is_infinite()), "{level:?}");
    }
}
