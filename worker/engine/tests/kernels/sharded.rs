//! A product spread over ranks: every kernel set, every way of exchanging rows.

use super::{NODES, USERS, assert_close, numbers, propagated, single, subjects, subjects_on, train};
use accord_data::partition::{Cost, Method, Partition, Scheme, Shard};
use accord_engine::graph::{Dropout, Graph, Part};
use accord_engine::kernels::{Adjacency, Kernels};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

fn index(ids: &[u32]) -> Tensor {
    Tensor::from_slice(&ids.iter().map(|&i| i64::from(i)).collect::<Vec<_>>())
}

/// One rank of one kernel set.
struct Rank {
    shard: Shard,
    kernels: Box<dyn Kernels>,
    adjacency: Adjacency,
    /// [n, d]
    own: Tensor,
}

impl Rank {
    /// What it sends: raw rows and partial sums, each grouped by peer.
    fn sent(&self) -> [Tensor; 2] {
        let rows = self.shard.outgoing.node.len() as i64;
        let mut partial = Tensor::empty([rows, self.own.size()[1]], (Kind::Float, Device::Cpu));
        self.kernels.product(&self.adjacency, Part::Outgoing, &self.own, None, &mut partial, None);
        [self.own.index_select(0, &index(&self.shard.send_rows)), partial]
    }

    /// Own rows, then what each peer has for this rank.
    fn filled(&self, peers: &[Rank], sent: &[[Tensor; 2]]) -> Tensor {
        let mut pieces = vec![self.own.shallow_clone()];
        for (peer, [raw, partial]) in peers.iter().zip(sent) {
            let lists = &peer.shard.sent;
            let before = lists[..self.shard.rank].iter().fold((0, 0), |sum, r| (sum.0 + r.raw, sum.1 + r.partial));
            let rows = lists[self.shard.rank];
            pieces.push(raw.narrow(0, before.0 as i64, rows.raw as i64));
            pieces.push(partial.narrow(0, before.1 as i64, rows.partial as i64));
        }
        Tensor::cat(&pieces, 0)
    }

    /// The rows of the whole product.
    fn product(&self, filled: &Tensor) -> Tensor {
        let mut out = self.own.empty_like();
        self.kernels.product(&self.adjacency, Part::Own, filled, None, &mut out, None);
        self.kernels.product(&self.adjacency, Part::Halo, filled, None, &mut out, None);
        let slots = &self.shard.slots;
        for (slot, node) in slots.node.iter().enumerate().filter(|(slot, _)| slots.partial[*slot]) {
            let mut row = out.get(self.shard.nodes.binary_search(node).unwrap() as i64);
            row += filled.get((self.shard.nodes.len() + slot) as i64);
        }
        out
    }
}

/// Every shard's rows, with the slots filled as the exchange would, are the rows of the whole product; bit for bit where
/// rows travel raw.
#[test]
fn the_parts_of_a_sharded_product_make_the_whole() {
    let (train, d) = (train(), 40);
    let x = single(&numbers(&[NODES, d], 31));
    let partition = Partition::new(&train, 3, Method::Hash, Cost { edge: 1.0, node: 1.0 });
    let kernel_sets = subjects();
    for scheme in [Scheme::Halo, Scheme::Aggregate, Scheme::AllGather] {
        for dropout in [None, Dropout::new(5, 9, 0.8), Dropout::new(5, 9, 0.8).map(Dropout::transposed)] {
            for (set, (name, kernels)) in kernel_sets.iter().enumerate() {
                let wanted = propagated(kernels.as_ref(), &kernels.adjacency(dropout), &x, None, None);
                let rank = |rank| {
                    let shard = Shard::new(&train, &partition, rank, scheme);
                    let graph = Arc::new(Graph::new(shard.clone(), USERS));
                    let kernels = subjects_on(graph).swap_remove(set).1;
                    let own = x.index_select(0, &index(&shard.nodes)).contiguous();
                    Rank { shard, adjacency: kernels.adjacency(dropout), kernels, own }
                };
                let ranks = [rank(0), rank(1), rank(2)];
                let sent = ranks.each_ref().map(Rank::sent);
                for rank in &ranks {
                    let got = rank.product(&rank.filled(&ranks, &sent));
                    let wanted = wanted.index_select(0, &index(&rank.shard.nodes));
                    let what = format!("{name}, rank {}, {scheme:?}, {dropout:?}", rank.shard.rank);
                    assert_close(&what, &got, &wanted, 2e-6);
                    let hand_written = !name.starts_with("torch");
                    assert!(!hand_written || scheme == Scheme::Aggregate || got == wanted, "{what}: other bits");
                }
            }
        }
    }
}
