//! What every implementation does, whatever its number of ranks. Each case is called on every rank, in the same order.

mod moving;
mod order;
mod reducing;
mod refusing;

use accord_collective::Collective;
use tch::{Device, Kind, Tensor};

type Case = (&'static str, fn(&World<'_>));

const CASES: &[Case] = &[
    ("all_reduce", reducing::all_reduce),
    ("all_reduce_is_the_same_everywhere_and_every_time", reducing::all_reduce_is_the_same_everywhere_and_every_time),
    ("reduce_scatter", reducing::reduce_scatter),
    ("reduce_scatter_leaves_its_input", reducing::reduce_scatter_leaves_its_input),
    ("all_gather", moving::all_gather),
    ("all_to_all_uneven", moving::all_to_all_uneven),
    ("all_to_all_with_zero_counts", moving::all_to_all_with_zero_counts),
    ("broadcast", moving::broadcast),
    ("send_and_receive", moving::send_and_receive),
    ("sends_arrive_in_their_order", moving::sends_arrive_in_their_order),
    ("empty_tensors", moving::empty_tensors),
    ("tensors_with_gradients", moving::tensors_with_gradients),
    ("waits_in_another_order", order::waits_in_another_order),
    ("ranks_wait_in_different_orders", order::ranks_wait_in_different_orders),
    ("a_dropped_work_still_completes", order::a_dropped_work_still_completes),
    ("barrier", order::barrier),
    ("traffic", order::traffic),
    ("wrong_tensors", refusing::wrong_tensors),
    ("wrong_counts", refusing::wrong_counts),
    ("wrong_ranks", refusing::wrong_ranks),
];

/// Of one rank.
pub(crate) struct World<'a> {
    pub(crate) collective: &'a dyn Collective,
    pub(crate) device: Device,
    pub(crate) rank: usize,
    pub(crate) size: usize,
}

pub(crate) fn run(collective: &dyn Collective, device: Device) {
    let world = World { collective, device, rank: collective.rank(), size: collective.size() };
    // ranks share the cores
    tch::set_num_threads(1);
    for (name, case) in CASES {
        eprintln!("rank {} of {}: {name}", world.rank, world.size);
        case(&world);
    }
}

/// What can be moved, and at least has to be.
pub(crate) const KINDS: [Kind; 5] = [Kind::Float, Kind::Double, Kind::Int64, Kind::Uint8, Kind::BFloat16];
/// What can be reduced.
pub(crate) const NUMBERS: [Kind; 3] = [Kind::Float, Kind::Double, Kind::Int64];

impl World<'_> {
    /// Every element tells where it comes from: [rows, width] of small whole numbers that bf16 and u8 hold, different
    /// for each `rank` and `use_`.
    pub(crate) fn marked(&self, rank: usize, use_: usize, rows: i64, width: i64, kind: Kind) -> Tensor {
        let count = Tensor::arange(rows * width, (Kind::Int64, Device::Cpu));
        let marked: Tensor = (count * 3 + (40 * rank + 7 * use_) as i64).fmod(199.0);
        marked.view([rows, width]).to_kind(kind).to_device(self.device)
    }

    pub(crate) fn zeros(&self, rows: i64, width: i64, kind: Kind) -> Tensor {
        Tensor::zeros([rows, width], (kind, self.device))
    }

    pub(crate) fn ranks(&self) -> std::ops::Range<usize> {
        0..self.size
    }
}

/// The tensors of all ranks, one after the other.
pub(crate) fn joined(parts: &[Tensor]) -> Tensor {
    Tensor::cat(parts, 0)
}

#[track_caller]
pub(crate) fn assert_same(found: &Tensor, expected: &Tensor) {
    assert_eq!((found.size(), found.kind()), (expected.size(), expected.kind()));
    assert!(found.equal(expected), "found {found:?}\n{found}\nexpected\n{expected}");
}
