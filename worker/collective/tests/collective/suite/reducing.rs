use super::{NUMBERS, World, assert_same, joined};
use accord_collective::Reduce;
use tch::{Kind, Tensor};

/// As few as one element, fewer than there are ranks, and so many that the work is divided.
const ROWS: [i64; 4] = [1, 2, 33, 70_001];

fn expected(parts: impl Iterator<Item = Tensor>, op: Reduce) -> Tensor {
    parts
        .reduce(|sum, part| match op {
            Reduce::Sum => sum + part,
            Reduce::Max => sum.maximum(&part),
            Reduce::Min => sum.minimum(&part),
        })
        .unwrap()
}

pub(crate) fn all_reduce(world: &World<'_>) {
    for kind in NUMBERS {
        for rows in ROWS {
            for (use_, op) in [Reduce::Sum, Reduce::Max, Reduce::Min].into_iter().enumerate() {
                let x = world.marked(world.rank, use_, rows, 1, kind);
                world.collective.all_reduce(&x, op).unwrap().wait().unwrap();
                assert_same(&x, &expected(world.ranks().map(|rank| world.marked(rank, use_, rows, 1, kind)), op));
            }
        }
    }
    let scalar = Tensor::from(world.rank as i64 + 1).to_device(world.device);
    world.collective.all_reduce(&scalar, Reduce::Sum).unwrap().wait().unwrap();
    assert_eq!(scalar.int64_value(&[]), (world.size * (world.size + 1) / 2) as i64);
}

/// Numbers of very different sizes, whose sum depends on the order of the additions.
fn delicate(world: &World<'_>, rows: i64) -> Tensor {
    let x = world.marked(world.rank, 5, rows, 3, Kind::Double);
    let tiny = (&x * 0.37).exp() * 1e-20;
    let signed: Tensor = (x - 90.0) * (tiny + 1e-3 * (world.rank as f64 + 0.1));
    signed.to_kind(Kind::Float)
}

pub(crate) fn all_reduce_is_the_same_everywhere_and_every_time(world: &World<'_>) {
    for rows in [5, 50_000] {
        let [first, second] = [(), ()].map(|()| {
            let x = delicate(world, rows);
            world.collective.all_reduce(&x, Reduce::Sum).unwrap().wait().unwrap();
            x
        });
        assert_same(&first, &second);
        let all = world.zeros(rows * world.size as i64, 3, Kind::Float);
        world.collective.all_gather(&all, &first).unwrap().wait().unwrap();
        for rank in world.ranks() {
            assert_same(&all.narrow(0, rank as i64 * rows, rows), &first);
        }
    }
}

pub(crate) fn reduce_scatter(world: &World<'_>) {
    for kind in NUMBERS {
        for rows in [1, 20_000] {
            for op in [Reduce::Sum, Reduce::Max, Reduce::Min] {
                let whole =
                    |rank| joined(&world.ranks().map(|to| world.marked(rank, to, rows, 2, kind)).collect::<Vec<_>>());
                let out = world.zeros(rows, 2, kind);
                world.collective.reduce_scatter(&out, &whole(world.rank), op).unwrap().wait().unwrap();
                assert_same(
                    &out,
                    &expected(world.ranks().map(|rank| world.marked(rank, world.rank, rows, 2, kind)), op),
                );
            }
        }
    }
}

pub(crate) fn reduce_scatter_leaves_its_input(world: &World<'_>) {
    let x = world.marked(world.rank, 1, 3 * world.size as i64, 2, Kind::Float);
    let before = x.copy();
    let out = world.zeros(3, 2, Kind::Float);
    world.collective.reduce_scatter(&out, &x, Reduce::Sum).unwrap().wait().unwrap();
    assert_same(&x, &before);
}
