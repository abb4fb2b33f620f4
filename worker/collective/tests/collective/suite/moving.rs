use super::{KINDS, World, assert_same, joined};
use accord_collective::{Reduce, Work};
use tch::Kind;

pub(crate) fn all_gather(world: &World<'_>) {
    for kind in KINDS {
        for (rows, width) in [(1, 1), (3, 5), (4000, 16)] {
            let x = world.marked(world.rank, 0, rows, width, kind);
            let out = world.zeros(rows * world.size as i64, width, kind);
            world.collective.all_gather(&out, &x).unwrap().wait().unwrap();
            assert_same(
                &out,
                &joined(&world.ranks().map(|rank| world.marked(rank, 0, rows, width, kind)).collect::<Vec<_>>()),
            );
        }
    }
}

/// Sends `rows(from, to)` rows from each rank to each, and checks what arrives.
fn exchange(world: &World<'_>, kind: Kind, width: i64, rows: impl Fn(usize, usize) -> i64) {
    let part = |from: usize, to: usize| world.marked(from, to, rows(from, to), width, kind);
    let sent: Vec<i64> = world.ranks().map(|to| rows(world.rank, to)).collect();
    let received: Vec<i64> = world.ranks().map(|from| rows(from, world.rank)).collect();
    let x = joined(&world.ranks().map(|to| part(world.rank, to)).collect::<Vec<_>>());
    let out = world.zeros(received.iter().sum(), width, kind);
    world.collective.all_to_all(&out, &received, &x, &sent).unwrap().wait().unwrap();
    assert_same(&out, &joined(&world.ranks().map(|from| part(from, world.rank)).collect::<Vec<_>>()));
}

pub(crate) fn all_to_all_uneven(world: &World<'_>) {
    for kind in KINDS {
        for width in [1, 6] {
            exchange(world, kind, width, |from, to| (1 + 2 * from + 5 * to) as i64);
        }
    }
    exchange(world, Kind::Float, 64, |from, to| (3000 + 100 * from + to) as i64);
}

pub(crate) fn all_to_all_with_zero_counts(world: &World<'_>) {
    for kind in KINDS {
        // only to the next rank; nothing to or from rank 0; nothing at all; only to itself; then all is in step again
        exchange(world, kind, 3, |from, to| if to == (from + 1) % world.size { 4 } else { 0 });
        exchange(world, kind, 3, |from, to| if from == 0 || to == 0 { 0 } else { 2 });
        exchange(world, kind, 3, |_, _| 0);
        exchange(world, kind, 3, |from, to| if from == to { 5 } else { 0 });
        exchange(world, kind, 0, |_, _| 2);
        exchange(world, kind, 3, |from, to| (from + to) as i64);
    }
}

pub(crate) fn broadcast(world: &World<'_>) {
    for kind in KINDS {
        for root in world.ranks() {
            let x = world.marked(world.rank, 2, 70, 9, kind);
            world.collective.broadcast(&x, root).unwrap().wait().unwrap();
            assert_same(&x, &world.marked(root, 2, 70, 9, kind));
        }
    }
}

pub(crate) fn send_and_receive(world: &World<'_>) {
    if world.size == 1 {
        return;
    }
    let (next, previous) = ((world.rank + 1) % world.size, (world.rank + world.size - 1) % world.size);
    for kind in KINDS {
        let (x, y) = (world.marked(world.rank, 0, 300, 7, kind), world.zeros(300, 7, kind));
        let send = world.collective.send(&x, next).unwrap();
        let receive = world.collective.receive(&y, previous).unwrap();
        receive.wait().unwrap();
        send.wait().unwrap();
        assert_same(&y, &world.marked(previous, 0, 300, 7, kind));
    }
}

pub(crate) fn sends_arrive_in_their_order(world: &World<'_>) {
    if world.size == 1 {
        return;
    }
    let (next, previous) = ((world.rank + 1) % world.size, (world.rank + world.size - 1) % world.size);
    let parts: Vec<_> = (0..6).map(|n| world.marked(world.rank, n, 11, 2, Kind::Float)).collect();
    let places: Vec<_> = (0..6).map(|_| world.zeros(11, 2, Kind::Float)).collect();
    let receives: Vec<Work> = places.iter().map(|y| world.collective.receive(y, previous).unwrap()).collect();
    let sends: Vec<Work> = parts.iter().map(|x| world.collective.send(x, next).unwrap()).collect();
    // the last first
    for work in receives.into_iter().rev().chain(sends) {
        work.wait().unwrap();
    }
    for (n, place) in places.iter().enumerate() {
        assert_same(place, &world.marked(previous, n, 11, 2, Kind::Float));
    }
}

pub(crate) fn empty_tensors(world: &World<'_>) {
    let collective = world.collective;
    for kind in KINDS {
        for (rows, width) in [(0, 4), (3, 0)] {
            let (x, all) = (world.zeros(rows, width, kind), world.zeros(rows * world.size as i64, width, kind));
            collective.all_gather(&all, &x).unwrap().wait().unwrap();
            collective.broadcast(&x, 0).unwrap().wait().unwrap();
            if super::NUMBERS.contains(&kind) {
                collective.all_reduce(&x, Reduce::Sum).unwrap().wait().unwrap();
                collective.reduce_scatter(&x, &all, Reduce::Max).unwrap().wait().unwrap();
            }
            if world.size > 1 {
                let send = collective.send(&x, (world.rank + 1) % world.size).unwrap();
                let receive = collective.receive(&x, (world.rank + world.size - 1) % world.size).unwrap();
                send.wait().unwrap();
                receive.wait().unwrap();
            }
        }
    }
    all_gather(world);
}

pub(crate) fn tensors_with_gradients(world: &World<'_>) {
    let x = world.marked(world.rank, 0, 3, 2, Kind::Float).set_requires_grad(true);
    let before = x.detach().copy();
    world.collective.all_reduce(&x, Reduce::Sum).unwrap().wait().unwrap();
    let sum = world.ranks().map(|rank| world.marked(rank, 0, 3, 2, Kind::Float)).reduce(|a, b| a + b).unwrap();
    assert_same(&x.detach(), &sum);
    assert!(x.requires_grad());
    let all = world.zeros(3 * world.size as i64, 2, Kind::Float);
    world.collective.all_gather(&all, &before.set_requires_grad(true)).unwrap().wait().unwrap();
    assert!(!all.requires_grad());
}
