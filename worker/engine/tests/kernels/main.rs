//! One behaviour suite for every kernel set: each is held against libtorch in f64 on ragged sizes, with isolated nodes,
//! widths that need padding, and every instruction set of this machine.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints for its reader")]

mod sharded;

use accord_data::Interactions;
use accord_engine::graph::{Dropout, Graph, Part};
use accord_engine::kernels::cpu::{CpuKernels, Level};
use accord_engine::kernels::torch::TorchKernels;
use accord_engine::kernels::{
    AdamStep, Adjacency, Bound, Candidates, Factor, HalfPairs, HeadGrads, IntentGrads, IntentLayer, Kernels, NONE,
    Norm, Pairs, Precision, RowFactor, TowerBounds, largest, prototype_bound,
};
use accord_engine::noise::{Noise, Tower};
use accord_engine::weights::Tower as TextTower;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

const USERS: usize = 61;
const ITEMS: usize = 47;
const NODES: i64 = (USERS + ITEMS) as i64;

/// About five items a user; user 7 and item 11 have nothing.
fn train() -> Interactions {
    let pairs: Vec<(u32, u32)> = (0..USERS as u32)
        .flat_map(|u| (0..ITEMS as u32).map(move |i| (u, i)))
        .filter(|&(u, i)| u != 7 && i != 11 && (u * 31 + i * 17 + u * i) % 9 == 0)
        .collect();
    Interactions::from_pairs(USERS, ITEMS, &pairs).unwrap().0
}

fn reference() -> TorchKernels {
    TorchKernels::new(Arc::new(Graph::whole(&train())), Device::Cpu, Kind::Double)
}

/// Every f32 kernel set this machine can run.
fn subjects() -> Vec<(String, Box<dyn Kernels>)> {
    subjects_on(Arc::new(Graph::whole(&train())))
}

fn subjects_on(graph: Arc<Graph>) -> Vec<(String, Box<dyn Kernels>)> {
    let torch = |device| Box::new(TorchKernels::new(graph.clone(), device, Kind::Float)) as Box<dyn Kernels>;
    let mut all = vec![("torch f32".to_owned(), torch(Device::Cpu))];
    for level in Level::all() {
        for threads in [1, 2, 5] {
            let kernels = CpuKernels::new(graph.clone(), level, threads).unwrap();
            all.push((format!("{level:?} x{threads}"), Box::new(kernels)));
        }
    }
    all
}

/// Deterministic numbers in [-1, 1), f64.
fn numbers(shape: &[i64], seed: i64) -> Tensor {
    let count: i64 = shape.iter().product();
    let index = Tensor::arange(count, (Kind::Double, Device::Cpu)) + 1.0;
    // the fraction of a large sine looks random enough; golden-ratio multiples would make neighbouring rows parallel
    (((index * 12.9898 + seed as f64 * 78.233).sin() * 43758.5453).frac().abs() * 2.0 - 1.0).view(shape)
}

fn single(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float)
}

fn assert_close(what: &str, got: &Tensor, wanted: &Tensor, tolerance: f64) {
    let got = got.to_kind(Kind::Double);
    assert_eq!(got.size(), wanted.size(), "{what}: shape");
    let largest = wanted.abs().max().double_value(&[]).max(1e-30);
    let off = (got - wanted).abs().max().double_value(&[]) / largest;
    assert!(off <= tolerance, "{what} is off by {off:.2e}, more than {tolerance:.0e}");
}

fn heads() -> Tensor {
    Tensor::from_slice(&[0i64, 3, 7, 8, 20, 60, 61, 65, 72, 100, 107])
}

/// x with zero rows outside `heads`.
fn only_heads(x: &Tensor) -> Tensor {
    let mut out = x.zeros_like();
    let _ = out.index_copy_(0, &heads(), &x.index_select(0, &heads()));
    out
}

/// A_hat x + plus, added to `total` too.
fn propagated(
    kernels: &dyn Kernels,
    adjacency: &Adjacency,
    x: &Tensor,
    plus: Option<&Tensor>,
    total: Option<&mut Tensor>,
) -> Tensor {
    let mut out = x.empty_like();
    kernels.product(adjacency, Part::Own, x, plus, &mut out, total);
    out
}

#[test]
fn propagation_with_and_without_dropout() {
    for d in [8, 32, 40, 64, 128] {
        let (x, plus) = (numbers(&[NODES, d], 1), numbers(&[NODES, d], 2));
        for dropout in [None, Dropout::new(5, 9, 0.8), Dropout::new(5, 9, 0.8).map(Dropout::transposed)] {
            let run = |kernels: &dyn Kernels, kind| {
                let [x, plus, mut sum] = [&x, &plus, &x].map(|t| t.copy().to_kind(kind));
                let out = propagated(kernels, &kernels.adjacency(dropout), &x, Some(&plus), Some(&mut sum));
                (out, sum)
            };
            let (wanted, wanted_sum) = run(&reference(), Kind::Double);
            for (name, kernels) in subjects() {
                let (got, sum) = run(kernels.as_ref(), Kind::Float);
                assert_close(&format!("{name}, d {d}, {dropout:?}"), &got, &wanted, 1e-6);
                assert_close(&format!("{name}, d {d}, {dropout:?}, sum"), &sum, &wanted_sum, 1e-6);
            }
        }
    }
}

#[test]
fn transposed_dropout_is_the_adjoint() {
    let (x, y) = (numbers(&[NODES, 32], 1), numbers(&[NODES, 32], 2));
    let dropout = Dropout::new(3, 4, 0.7).unwrap();
    let inner = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
    let kernels = reference();
    let product = |dropout, x: &Tensor| propagated(&kernels, &kernels.adjacency(dropout), x, None, None);
    let forward = inner(&product(Some(dropout), &x), &y);
    let backward = inner(&x, &product(Some(dropout.transposed()), &y));
    assert!((forward - backward).abs() < 1e-12 * forward.abs().max(1.0), "{forward} {backward}");
    let whole = inner(&product(None, &x), &y);
    assert!((forward - whole).abs() > 1e-6, "dropout dropped nothing");
}

#[test]
fn dropout_keeps_the_asked_share_of_directed_edges() {
    let dropout = Dropout::new(11, 12, 0.8).unwrap();
    let kept = (0..100_000u32).filter(|&e| dropout.keeps(e / 300, e % 300)).count();
    assert!((79_000..81_000).contains(&kept), "{kept} of 100000 edges kept");
    let both = (0..1000u32).filter(|&e| dropout.keeps(e, e + 7) == dropout.keeps(e + 7, e)).count();
    assert!(both < 900, "the two directions drop together");
    assert!(Dropout::new(1, 1, 1.0).is_none());
}

/// The backward of one worker: its own heads are all heads. dE, and the gradients of the prototypes.
fn intent_grads(
    kernels: &dyn Kernels,
    e: &Tensor,
    prototypes: [&Tensor; 2],
    layer: &IntentLayer,
    g: &Tensor,
) -> (Tensor, [Tensor; 2]) {
    let q = (g * &layer.g).sum_dim_intlist(1, false, g.kind());
    let given = HeadGrads { heads: &heads(), g, q: &q, inverse_sum: &layer.inverse_sum };
    let IntentGrads { e: mut d_e, intents } = kernels.intent_view_backward(e, prototypes, layer, &given);
    let bound = prototype_bound(prototypes, NODES as usize, [largest([e]), largest([&intents])]);
    let d_prototypes = kernels.intents_backward(e, &intents, prototypes, bound, &mut d_e);
    (d_e, d_prototypes)
}

#[test]
fn intent_view_forward_and_backward() {
    for (d, k) in [(1, 1), (8, 6), (32, 128), (40, 20), (64, 16)] {
        let e = numbers(&[NODES, d], 3);
        let prototypes = [numbers(&[d, k], 4), numbers(&[d, k], 5)];
        let d_g = only_heads(&numbers(&[NODES, d], 6));
        let double = [&prototypes[0], &prototypes[1]];
        let wanted = reference().intent_view(&e, &heads(), double);
        let wanted_grads = intent_grads(&reference(), &e, double, &wanted, &d_g);
        for (name, kernels) in subjects() {
            let what = |part: &str| format!("{name}, d {d}, k {k}: {part}");
            let single_prototypes = [single(&prototypes[0]), single(&prototypes[1])];
            let prototypes = [&single_prototypes[0], &single_prototypes[1]];
            let got = kernels.intent_view(&single(&e), &heads(), prototypes);
            assert_close(&what("unit intents"), &got.unit, &wanted.unit, 2e-6);
            assert_close(&what("inverse norm"), &got.inverse_norm, &wanted.inverse_norm, 2e-6);
            assert_close(&what("inverse sum"), &got.inverse_sum, &wanted.inverse_sum, 2e-6);
            assert_close(&what("g"), &got.g, &wanted.g, 2e-6);
            let grads = intent_grads(kernels.as_ref(), &single(&e), prototypes, &got, &single(&d_g));
            assert_close(&what("d e"), &grads.0, &wanted_grads.0, 1e-5);
            for side in 0..2 {
                assert_close(&what("d prototypes"), &grads.1[side], &wanted_grads.1[side], 1e-5);
            }
        }
    }
}

/// Rows of length 1.
fn unit(n: i64, d: i64, seed: i64) -> Tensor {
    let x = numbers(&[n, d], seed);
    let norm = x.square().sum_dim_intlist(1, true, Kind::Double).sqrt();
    x / norm
}

#[test]
fn all_pairs_with_counts_and_with_a_diagonal() {
    for (m, n, d) in [(1, 1, 8), (50, 33, 32), (97, 300, 64), (130, 64, 40)] {
        let (anchors, keys) = (unit(m, d, 7), unit(n, d, 8));
        let (weight, count) = (numbers(&[m], 9).abs() + 0.5, (numbers(&[n], 10) * 4.0).abs().ceil());
        let diagonal = numbers(&[m], 11);
        for (count, diagonal, epsilon) in [(Some(&count), None, 0.0), (None, Some(&diagonal), 1e-8)] {
            let pairs = |anchors, keys, count, weight, diagonal| Pairs {
                anchors,
                keys,
                count,
                inverse_temperature: 5.0,
                factor: Factor::OfSums(RowFactor { weight, epsilon, diagonal }),
                bf16: false,
            };
            let wanted = reference().all_pairs(&pairs(&anchors, &keys, count, &weight, diagonal));
            let (a, k, w) = (single(&anchors), single(&keys), single(&weight));
            let (c, diagonal) = (count.map(single), diagonal.map(single));
            for (name, kernels) in subjects() {
                let got = kernels.all_pairs(&pairs(&a, &k, c.as_ref(), &w, diagonal.as_ref()));
                let what = |part: &str| format!("{name}, {m} x {n} x {d}: {part}");
                assert_close(&what("sums"), &got.sums, &wanted.sums, 3e-6);
                assert_close(&what("anchors"), &got.anchors, &wanted.anchors, 3e-6);
                assert_close(&what("keys"), &got.keys, &wanted.keys, 3e-6);
            }
        }
    }
}

/// Halves of the pairs with the factors between them are the whole; with the keys in two sets too.
#[test]
fn half_pairs_add_up_to_all_pairs() {
    for (m, n, d) in [(1, 1, 8), (50, 33, 32), (97, 300, 64), (130, 64, 40)] {
        let (anchors, keys) = (unit(m, d, 7), unit(n, d, 8));
        let (weight, count) = (numbers(&[m], 9).abs() + 0.5, (numbers(&[n], 10) * 4.0).abs().ceil());
        let wanted = reference().all_pairs(&Pairs {
            anchors: &anchors,
            keys: &keys,
            count: Some(&count),
            inverse_temperature: 5.0,
            factor: Factor::OfSums(RowFactor { weight: &weight, epsilon: 0.0, diagonal: None }),
            bf16: false,
        });
        let [anchors, keys, weight, count] = [&anchors, &keys, &weight, &count].map(single);
        for (name, kernels) in subjects() {
            // with the factors of the whole known, some of the keys have the gradients they have among all
            let pairs = |keys: &Tensor, count: &Tensor, factor| {
                let (anchors, count) = (&anchors, Some(count));
                kernels.all_pairs(&Pairs { anchors, keys, count, inverse_temperature: 5.0, factor, bf16: false })
            };
            let whole = RowFactor { weight: &weight, epsilon: 0.0, diagonal: None };
            let whole = pairs(&keys, &count, Factor::OfSums(whole));
            let some = |x: &Tensor| x.narrow(0, n / 3, n - n / 3).contiguous();
            let given = pairs(&some(&keys), &some(&count), Factor::Given(&(&weight / &whole.sums)));
            assert_close(&format!("{name}, given factors"), &given.keys, &some(&whole.keys), 1e-6);
            assert!(name.starts_with("torch") || given.keys == some(&whole.keys), "{name}: other bits");
            let half = |anchors: &Tensor, keys: &Tensor, count: &Tensor| {
                kernels.half_pairs(&HalfPairs { anchors, keys, count: Some(count), inverse_temperature: 5.0 })
            };
            let cut = n / 3;
            let sets = [(0, cut), (cut, n - cut)].map(|(from, size)| {
                half(&anchors, &keys.narrow(0, from, size).contiguous(), &count.narrow(0, from, size).contiguous())
            });
            let [first, second] = sets;
            let (sums, rows) = (first.sums + second.sums, first.rows + second.rows);
            let factor = &weight / &sums;
            let back = half(&keys, &anchors, &factor).rows * count.unsqueeze(1);
            let what = |part: &str| format!("{name}, {m} x {n} x {d}: {part}");
            assert_close(&what("sums"), &sums, &wanted.sums, 3e-6);
            assert_close(&what("anchors"), &(rows * factor.unsqueeze(1)), &wanted.anchors, 3e-6);
            assert_close(&what("keys"), &back, &wanted.keys, 3e-6);
        }
    }
}

#[test]
fn low_precision_pairs_stay_within_their_stated_error() {
    let (m, d) = (200, 32);
    let (anchors, keys) = (unit(m, d, 12), unit(m, d, 13));
    let weight = Tensor::ones([m], (Kind::Double, Device::Cpu));
    let diagonal = (&anchors * &keys).sum_dim_intlist(1, false, Kind::Double);
    let pairs = |anchors, keys, weight, diagonal, bf16| Pairs {
        anchors,
        keys,
        count: None,
        inverse_temperature: 1.0,
        factor: Factor::OfSums(RowFactor { weight, epsilon: 1e-8, diagonal: Some(diagonal) }),
        bf16,
    };
    let wanted = reference().all_pairs(&pairs(&anchors, &keys, &weight, &diagonal, false));
    let (a, k, w, g) = (single(&anchors), single(&keys), single(&weight), single(&diagonal));
    for (name, kernels) in subjects() {
        let check = |form: &str, sums: &Tensor, anchors: &Tensor, keys: &Tensor, tolerance| {
            assert_close(&format!("{name}, {form} sums"), sums, &wanted.sums, tolerance);
            assert_close(&format!("{name}, {form} anchors"), anchors, &wanted.anchors, tolerance);
            assert_close(&format!("{name}, {form} keys"), keys, &wanted.keys, tolerance);
        };
        if kernels.precision(Precision::Bf16) == Precision::Bf16 {
            let got = kernels.all_pairs(&pairs(&a, &k, &w, &g, true));
            check("bf16", &got.sums, &got.anchors, &got.keys, 1e-2);
        } else {
            println!("SKIPPED: {name} has no bf16 products");
        }
        // moments of two sets of keys add up
        let halves =
            [0, m / 2].map(|from| kernels.moments(&k.narrow(0, from, m / 2).contiguous(), None, Bound(m as f64)));
        let to_keys = kernels.half_moments(&(&halves[0] + &halves[1]), &a);
        let factor = RowFactor { weight: &w, epsilon: 1e-8, diagonal: Some(&g) }.of(&to_keys.sums);
        let bound = Bound(m as f64 * largest([&factor]));
        let to_anchors = kernels.half_moments(&kernels.moments(&a, Some(&factor), bound), &k);
        check("moments", &to_keys.sums, &(to_keys.rows * factor.unsqueeze(1)), &to_anchors.rows, 2e-2);
    }
}

#[test]
fn unit_rows_and_their_backward() {
    for d in [8, 32, 40] {
        let x = numbers(&[NODES, d], 22);
        // a zero row has no direction
        let _ = x.get(5).zero_();
        let grad = numbers(&[NODES, d], 23);
        for norm in [Norm::Root, Norm::Max] {
            let run = |kernels: &dyn Kernels, kind| {
                let unit = kernels.unit_rows(&x.copy().to_kind(kind), norm);
                let back = kernels.unit_rows_backward(&unit, &grad.copy().to_kind(kind));
                // the zero row's factor is 1e4 or 1e12: looked at by itself
                let _ = back.get(5).zero_();
                (unit.rows, back)
            };
            let (wanted, wanted_back) = run(&reference(), Kind::Double);
            for (name, kernels) in subjects() {
                let (rows, back) = run(kernels.as_ref(), Kind::Float);
                assert_close(&format!("{name}, d {d}, {norm:?}"), &rows, &wanted, 1e-6);
                assert_close(&format!("{name}, d {d}, {norm:?} backward"), &back, &wanted_back, 3e-6);
            }
        }
    }
}

#[test]
fn text_tower_and_its_backward() {
    for (rows, text, hidden, d) in [(1, 1, 1, 1), (1, 5, 6, 8), (107, 24, 16, 32), (400, 50, 41, 20)] {
        let run = |kernels: &dyn Kernels, kind| {
            let number = |shape: &[i64], seed| numbers(shape, seed).to_kind(kind);
            let tower = TextTower {
                w1: number(&[hidden, text], 24),
                b1: number(&[hidden], 25),
                w2: number(&[d, hidden], 26),
                b2: number(&[d], 27),
            };
            let (x, dz) = (number(&[rows, text], 28), number(&[rows, d], 29));
            let output = kernels.tower(&tower, &x);
            let [w1, b1, w2, b2] = tower.tensors().map(|w| w.ones_like().to_kind(Kind::Double));
            let mut grad = TextTower { w1, b1, w2, b2 };
            let magnitudes = [&x, &output.hidden, &dz].map(|x| largest([x]));
            let bounds = TowerBounds::new(&tower, rows as usize, magnitudes);
            kernels.tower_backward(&tower, &x, &output, &dz, &bounds, &mut grad);
            (output.z, grad)
        };
        let (wanted, wanted_grad) = run(&reference(), Kind::Double);
        for (name, kernels) in subjects() {
            let (z, grad) = run(kernels.as_ref(), Kind::Float);
            let what = format!("{name}, {rows} x {text} x {hidden} x {d}");
            assert_close(&what, &z, &wanted, 3e-6);
            for (got, wanted) in grad.tensors().into_iter().zip(wanted_grad.tensors()) {
                assert_close(&format!("{what} backward"), got, wanted, 3e-6);
            }
        }
    }
}

#[test]
fn gathered_rows_come_back_added() {
    let table = numbers(&[NODES, 24], 14);
    let ids = Tensor::from_slice(&[5i64, 107, 0, 5, 5]);
    let rows = numbers(&[5, 24], 15);
    let mut wanted = table.copy();
    reference().scatter_add(&mut wanted, &ids, &rows);
    for (name, kernels) in subjects() {
        let mut got = single(&table);
        assert_close(&name, &kernels.gather(&got, &ids), &table.index_select(0, &ids), 1e-7);
        kernels.scatter_add(&mut got, &ids, &single(&rows));
        assert_close(&name, &got, &wanted, 1e-6);
    }
}

#[test]
fn adam_takes_the_same_steps() {
    let start = numbers(&[1237], 16);
    let run = |kernels: &dyn Kernels, kind| {
        let mut w = start.copy().to_kind(kind);
        let (mut m, mut v) = (w.zeros_like(), w.zeros_like());
        for step in 1..=3 {
            let grad = numbers(&[1237], 16 + step).to_kind(kind);
            kernels.adam(&mut w, &grad, [&mut m, &mut v], AdamStep { step: step as u64, lr: 1e-2, reg: 1e-2 });
        }
        (w, v)
    };
    let (wanted, wanted_moment) = run(&reference(), Kind::Double);
    for (name, kernels) in subjects() {
        let (w, v) = run(kernels.as_ref(), Kind::Float);
        assert_close(&name, &w, &wanted, 1e-5);
        assert_close(&name, &v, &wanted_moment, 1e-5);
    }
}

#[test]
fn sums_of_squares_do_not_depend_on_the_team() {
    let x = numbers(&[50_003], 20);
    let wanted = reference().sum_of_squares(&x);
    let mut cpu = Vec::new();
    for (name, kernels) in subjects() {
        let got = kernels.sum_of_squares(&single(&x));
        assert!((got - wanted).abs() < 1e-6 * wanted, "{name}: {got}, not {wanted}");
        cpu.extend(name.starts_with("Portable").then_some(got));
    }
    assert!(cpu.windows(2).all(|w| w[0].to_bits() == w[1].to_bits()), "{cpu:?}");
}

#[test]
fn top_k_leaves_training_items_out_and_breaks_ties_by_id() {
    let train = train();
    let users: Vec<u32> = (0..USERS as u32).collect();
    let items: Vec<u32> = (0..ITEMS as u32).collect();
    // coarse scores make ties
    let x = (numbers(&[NODES, 40], 21) * 2.0).round();
    let [rows, item_rows] = [x.narrow(0, 0, USERS as i64), x.narrow(0, USERS as i64, ITEMS as i64)];
    for k in [1, 20, ITEMS] {
        let candidates = Candidates { rows: &item_rows, ids: &items };
        let wanted = reference().top_k(&rows, &users, candidates, &train, k);
        for (row, &user) in wanted.items.chunks(k).zip(&users) {
            assert!(row.iter().all(|&i| i == NONE || !train.contains(user, i)));
            let free = ITEMS - train.of(user).len();
            assert_eq!(row.iter().filter(|&&i| i != NONE).count(), k.min(free));
        }
        let (rows, item_rows) = (single(&rows), single(&item_rows));
        for (name, kernels) in subjects() {
            let candidates = Candidates { rows: &item_rows, ids: &items };
            let got = kernels.top_k(&rows, &users, candidates, &train, k);
            assert_eq!(got.items, wanted.items, "{name}, k {k}");
        }
    }
    // some of the items, under their own ids
    let some: Vec<u32> = items.iter().copied().filter(|i| i % 3 == 1).collect();
    let places = Tensor::from_slice(&some.iter().map(|&i| i64::from(i)).collect::<Vec<_>>());
    let item_rows = item_rows.index_select(0, &places);
    let wanted = reference().top_k(&rows, &users, Candidates { rows: &item_rows, ids: &some }, &train, 5);
    assert!(wanted.items.iter().all(|i| *i == NONE || some.contains(i)));
    for (name, kernels) in subjects() {
        let candidates = Candidates { rows: &single(&item_rows), ids: &some };
        assert_eq!(kernels.top_k(&single(&rows), &users, candidates, &train, 5).items, wanted.items, "{name}");
    }
}

#[test]
fn noise_is_gaussian_and_keyed_by_what_it_should_be() {
    let like = Tensor::zeros([NODES, 34], (Kind::Float, Device::Cpu));
    let nodes: Vec<u32> = (0..NODES as u32).collect();
    let draw = |kernels: &dyn Kernels, step, tower| kernels.noise_factor(&Noise::new(1, step, tower), &nodes, &like);
    let all = subjects();
    let first = draw(all[0].1.as_ref(), 3, Tower::Text);
    for (name, kernels) in &all {
        assert_eq!(draw(kernels.as_ref(), 3, Tower::Text), first, "{name}");
    }
    let kernels = all[0].1.as_ref();
    // a worker draws the rows of its own nodes
    let some = kernels.noise_factor(&Noise::new(1, 3, Tower::Text), &nodes[40..50], &like.narrow(0, 40, 10));
    assert_eq!(some, first.narrow(0, 40, 10));
    assert_ne!(draw(kernels, 4, Tower::Text), first);
    assert_ne!(draw(kernels, 3, Tower::Graph), first);
    let mean = first.mean(Kind::Double).double_value(&[]);
    let deviation = first.std(true).double_value(&[]);
    assert!((mean - 1.0).abs() < 0.06 && (deviation - 1.0).abs() < 0.06, "mean {mean}, deviation {deviation}");
}
