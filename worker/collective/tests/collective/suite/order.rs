use super::{World, assert_same, joined};
use accord_collective::{Count, Reduce, Work};
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

/// Two all_reduces, one of them in parts, an all_gather between and an all_to_all after them, all at once.
struct Many {
    small: Tensor,
    large: Tensor,
    gathered: Tensor,
    exchanged: Tensor,
    /// alive while the operations run
    _sources: [Tensor; 2],
}

const LARGE: i64 = 60_000;

impl Many {
    fn start(world: &World<'_>) -> (Many, Vec<Work>) {
        let size = world.size as i64;
        let source = |use_, rows| world.marked(world.rank, use_, rows, 2, Kind::Float);
        let many = Many {
            small: source(0, 3),
            large: source(1, LARGE),
            gathered: world.zeros(4 * size, 2, Kind::Float),
            exchanged: world.zeros(5 * size, 2, Kind::Float),
            _sources: [source(2, 4), source(3, 5 * size)],
        };
        let each = vec![5; world.size];
        let works = vec![
            world.collective.all_reduce(&many.large, Reduce::Sum).unwrap(),
            world.collective.all_gather(&many.gathered, &many._sources[0]).unwrap(),
            world.collective.all_reduce(&many.small, Reduce::Max).unwrap(),
            world.collective.all_to_all(&many.exchanged, &each, &many._sources[1], &each).unwrap(),
        ];
        (many, works)
    }

    fn check(&self, world: &World<'_>) {
        let of = |rank, use_, rows| world.marked(rank, use_, rows, 2, Kind::Float);
        assert_same(&self.large, &world.ranks().map(|rank| of(rank, 1, LARGE)).reduce(|a, b| a + b).unwrap());
        assert_same(&self.small, &world.ranks().map(|rank| of(rank, 0, 3)).reduce(|a, b| a.maximum(&b)).unwrap());
        assert_same(&self.gathered, &joined(&world.ranks().map(|rank| of(rank, 2, 4)).collect::<Vec<_>>()));
        let from = |rank| of(rank, 3, 5 * world.size as i64).narrow(0, 5 * world.rank as i64, 5);
        assert_same(&self.exchanged, &joined(&world.ranks().map(from).collect::<Vec<_>>()));
    }
}

pub(crate) fn waits_in_another_order(world: &World<'_>) {
    for order in [[3, 2, 1, 0], [1, 3, 0, 2]] {
        let (many, works) = Many::start(world);
        let mut works: Vec<_> = works.into_iter().map(Some).collect();
        for n in order {
            works[n].take().unwrap().wait().unwrap();
        }
        many.check(world);
    }
}

pub(crate) fn ranks_wait_in_different_orders(world: &World<'_>) {
    let (many, mut works) = Many::start(world);
    if world.rank.is_multiple_of(2) {
        works.reverse();
    }
    works.into_iter().for_each(|work| work.wait().unwrap());
    many.check(world);
}

pub(crate) fn a_dropped_work_still_completes(world: &World<'_>) {
    let (many, works) = Many::start(world);
    drop(works);
    if world.size > 1 {
        let x = world.marked(world.rank, 0, 9, 1, Kind::Float);
        drop(world.collective.send(&x, (world.rank + 1) % world.size).unwrap());
        let y = world.zeros(9, 1, Kind::Float);
        let previous = (world.rank + world.size - 1) % world.size;
        world.collective.receive(&y, previous).unwrap().wait().unwrap();
        assert_same(&y, &world.marked(previous, 0, 9, 1, Kind::Float));
    }
    world.collective.barrier().unwrap();
    many.check(world);
}

pub(crate) fn barrier(world: &World<'_>) {
    world.collective.barrier().unwrap();
    let started = Instant::now();
    if world.rank == world.size - 1 {
        std::thread::sleep(Duration::from_millis(200));
    }
    world.collective.barrier().unwrap();
    assert!(world.size == 1 || started.elapsed() > Duration::from_millis(100), "nobody waited for the last rank");
}

pub(crate) fn traffic(world: &World<'_>) {
    let count = |name| {
        let traffic = world.collective.traffic();
        traffic.operations.iter().find(|(found, _)| *found == name).map_or(Count::default(), |(_, count)| *count)
    };
    let total = || world.collective.traffic().total();
    let others = world.size as u64 - 1;
    let (before, all) = (["all_reduce", "all_gather", "all_to_all"].map(count), total());
    let (many, works) = Many::start(world);
    works.into_iter().for_each(|work| work.wait().unwrap());
    many.check(world);
    if world.size == 1 && world.collective.traffic().operations.is_empty() {
        // a world of one need not count
        return;
    }
    let float = 4 * 2;
    let bytes = [(LARGE as u64 * float * 2 * others / world.size as u64) + 3 * float * 2 * others / world.size as u64]
        .into_iter()
        .chain([4 * float * others, 5 * float * others]);
    for (((name, before), bytes), calls) in
        ["all_reduce", "all_gather", "all_to_all"].into_iter().zip(before).zip(bytes).zip([2, 1, 1])
    {
        let now = count(name);
        assert_eq!(now.calls - before.calls, calls, "{name}");
        assert_eq!(now.bytes_sent - before.bytes_sent, bytes, "{name}");
        assert_eq!(now.bytes_received - before.bytes_received, bytes, "{name}");
        assert!(now.seconds > before.seconds, "{name}");
    }
    assert_eq!(total().calls, all.calls + 4);
    uneven_traffic(world, others);
}

fn uneven_traffic(world: &World<'_>, others: u64) {
    let before = world.collective.traffic().total();
    // everything goes to rank 0, which also broadcasts
    let x = world.zeros(6, 2, Kind::Float);
    world.collective.broadcast(&x, 0).unwrap().wait().unwrap();
    let sent: Vec<i64> = world.ranks().map(|to| if to == 0 { 6 } else { 0 }).collect();
    let received = vec![if world.rank == 0 { 6 } else { 0 }; world.size];
    let out = world.zeros(received.iter().sum(), 2, Kind::Float);
    world.collective.all_to_all(&out, &received, &x, &sent).unwrap().wait().unwrap();
    let now = world.collective.traffic().total();
    let tensor = 6 * 2 * 4;
    let (sent, received) = if world.rank == 0 { (tensor * others, tensor * others) } else { (tensor, tensor) };
    assert_eq!(now.bytes_sent - before.bytes_sent, sent);
    assert_eq!(now.bytes_received - before.bytes_received, received);
}
