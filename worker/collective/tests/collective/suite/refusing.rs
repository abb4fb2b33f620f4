use super::World;
use accord_collective::{CollectiveError, Reduce, Work};
use tch::{Kind, Tensor};

/// A mistake is an error with the operation's name, and the communicator goes on.
#[track_caller]
fn refused(expected: &str, result: Result<Work, CollectiveError>) {
    match result {
        Err(CollectiveError::Shape { operation, .. }) => assert_eq!(operation, expected),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("{expected} was started"),
    }
}

fn still_good(world: &World<'_>) {
    let x = Tensor::ones([3], (Kind::Float, world.device));
    world.collective.all_reduce(&x, Reduce::Sum).unwrap().wait().unwrap();
    assert_eq!(x.double_value(&[2]), world.size as f64);
}

pub(crate) fn wrong_tensors(world: &World<'_>) {
    let (c, size) = (world.collective, world.size as i64);
    let float = |rows| world.zeros(rows, 2, Kind::Float);
    for kind in [Kind::Uint8, Kind::BFloat16, Kind::Bool] {
        refused("all_reduce", c.all_reduce(&world.zeros(2, 2, kind), Reduce::Sum));
        refused(
            "reduce_scatter",
            c.reduce_scatter(&world.zeros(2, 2, kind), &world.zeros(2 * size, 2, kind), Reduce::Max),
        );
    }
    let apart = world.zeros(4, 6, Kind::Float).transpose(0, 1);
    refused("all_reduce", c.all_reduce(&apart, Reduce::Sum));
    refused("broadcast", c.broadcast(&apart, 0));
    refused("broadcast", c.broadcast(&Tensor::new(), 0));
    refused("all_gather", c.all_gather(&apart, &float(1)));
    refused("all_gather", c.all_gather(&float(2 * size + 1), &float(2)));
    refused("all_gather", c.all_gather(&world.zeros(2 * size, 2, Kind::Double), &float(2)));
    refused("all_gather", c.all_gather(&world.zeros(2 * size, 3, Kind::Float), &float(2)));
    refused("all_gather", c.all_gather(&float(size), &Tensor::from(1.0f32).to_device(world.device)));
    refused("reduce_scatter", c.reduce_scatter(&float(2), &float(2 * size + 1), Reduce::Sum));
    refused("all_reduce", c.all_reduce(&Tensor::zeros([2], (Kind::ComplexFloat, world.device)), Reduce::Sum));
    refused("broadcast", c.broadcast(&Tensor::zeros([2], (Kind::ComplexFloat, world.device)), 0));
    still_good(world);
}

pub(crate) fn wrong_counts(world: &World<'_>) {
    let c = world.collective;
    let each = vec![2; world.size];
    let rows = 2 * world.size as i64;
    let x = world.zeros(rows, 3, Kind::Float);
    let out = world.zeros(rows, 3, Kind::Float);
    refused("all_to_all", c.all_to_all(&out, &each, &x, &each[1..]));
    refused("all_to_all", c.all_to_all(&out, &[], &x, &each));
    refused("all_to_all", c.all_to_all(&out, &each, &x.narrow(0, 0, rows - 1), &each));
    let mut negative = each.clone();
    negative[world.rank] = -2;
    refused("all_to_all", c.all_to_all(&out, &each, &x, &negative));
    let mut other_to_itself = each.clone();
    other_to_itself[world.rank] = 1;
    let less = x.narrow(0, 0, rows - 1);
    refused("all_to_all", c.all_to_all(&out, &each, &less, &other_to_itself));
    refused("all_to_all", c.all_to_all(&world.zeros(rows, 4, Kind::Float), &each, &x, &each));
    still_good(world);
}

pub(crate) fn wrong_ranks(world: &World<'_>) {
    let c = world.collective;
    let x = world.zeros(2, 2, Kind::Float);
    refused("broadcast", c.broadcast(&x, world.size));
    refused("send", c.send(&x, world.size));
    refused("receive", c.receive(&x, world.size + 7));
    refused("send", c.send(&x, world.rank));
    refused("receive", c.receive(&x, world.rank));
    still_good(world);
}
