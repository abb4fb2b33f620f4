//! One rank's place among the workers of a generation: which nodes are its own, and everything it exchanges with the
//! others. With one worker nothing is exchanged and nothing is copied for it.

use crate::batch::BatchRows;
use crate::error::EngineError;
pub use crate::exchange::HaloOptions;
use crate::exchange::{Boundary, Halo, Subset};
use crate::graph::{Graph, Part};
use crate::kernels::{Adjacency, Kernels};
use accord_collective::{Alone, Collective, Reduce, Traffic};
use accord_data::Interactions;
use accord_data::partition::{Partition, Scheme, Shard};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

pub struct World {
    collective: Box<dyn Collective>,
    pub graph: Arc<Graph>,
    /// Users and items of the whole catalog.
    pub users: usize,
    pub items: usize,
    device: Device,
    /// [n] global ids of the own nodes; users first
    own_ids: Tensor,
    shared: Option<Shared>,
}

/// What only a rank among several has.
struct Shared {
    partition: Partition,
    halo: Halo,
    boundary: Boundary,
    /// Items of each rank
    items: Vec<i64>,
    /// Users of the rank with most, and where each user lies when the ranks' users, padded to that, follow each other
    most_users: i64,
    user_places: Tensor,
}

impl World {
    /// One worker that owns everything.
    pub fn alone(train: &Interactions, device: Device) -> World {
        World::of(Box::new(Alone), Graph::whole(train), train, device, None)
    }

    fn of(
        collective: Box<dyn Collective>,
        graph: Graph,
        train: &Interactions,
        device: Device,
        shared: Option<Shared>,
    ) -> World {
        let own: Vec<i64> = graph.own().iter().map(|&node| i64::from(node)).collect();
        let own_ids = Tensor::from_slice(&own).to(device);
        let (graph, users, items) = (Arc::new(graph), train.users(), train.items());
        World { collective, graph, users, items, device, own_ids, shared }
    }

    /// One rank of a partition; every rank must be given the same one.
    pub fn new(
        collective: Box<dyn Collective>,
        train: &Interactions,
        partition: Partition,
        scheme: Scheme,
        options: HaloOptions,
        device: Device,
    ) -> World {
        if collective.size() == 1 {
            return World::of(collective, Graph::whole(train), train, device, None);
        }
        let users = train.users();
        let shard = Shard::new(train, &partition, collective.rank(), scheme);
        let halo = Halo::new(&shard, options, device);
        let boundary = Boundary::new(&shard);
        let count = |nodes: &[u16]| {
            let mut counts = vec![0; partition.parts()];
            nodes.iter().for_each(|&owner| counts[owner as usize] += 1);
            counts
        };
        let (owned_users, items) = (count(&partition.owner()[..users]), count(&partition.owner()[users..]));
        let most_users = owned_users.iter().copied().max().unwrap_or(0);
        let mut next: Vec<i64> = (0..partition.parts() as i64).map(|rank| rank * most_users).collect();
        let place = |&owner: &u16| {
            next[owner as usize] += 1;
            next[owner as usize] - 1
        };
        let user_places: Vec<i64> = partition.owner()[..users].iter().map(place).collect();
        let user_places = Tensor::from_slice(&user_places).to(device);
        let graph = Graph::new(shard, users);
        let shared = Shared { partition, halo, boundary, items, most_users, user_places };
        World::of(collective, graph, train, device, Some(shared))
    }

    pub fn rank(&self) -> usize {
        self.collective.rank()
    }

    pub fn size(&self) -> usize {
        self.collective.size()
    }

    pub fn traffic(&self) -> Traffic {
        self.collective.traffic()
    }

    /// Between `true` and `false` lies a training step.
    pub fn in_step(&self, inside: bool) {
        if let Some(Shared { halo, .. }) = &self.shared {
            halo.in_step(inside);
        }
    }

    /// Bytes that the halo exchanges of propagation sent so far.
    pub fn halo_bytes(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.halo.bytes.get())
    }

    /// Digest of the partition; the same on every rank.
    pub fn digest(&self) -> String {
        self.shared.as_ref().map_or_else(|| "one worker".into(), |shared| shared.partition.digest())
    }

    /// Own nodes n.
    pub fn rows(&self) -> usize {
        self.graph.rows()
    }

    /// N = users + items of the whole catalog.
    pub fn nodes(&self) -> usize {
        self.users + self.items
    }

    /// The rank that owns a global node.
    pub fn owner(&self, node: u32) -> usize {
        self.shared.as_ref().map_or(0, |shared| shared.partition.owner()[node as usize] as usize)
    }

    /// The row of an own node.
    pub fn row(&self, node: u32) -> usize {
        match &self.shared {
            None => node as usize,
            Some(_) => self.graph.own().partition_point(|&own| own < node),
        }
    }

    /// Global ids of a rank's items, ascending.
    pub fn items_of(&self, rank: usize) -> Vec<u32> {
        (0..self.items as u32).filter(|&item| self.owner(self.users as u32 + item) == rank).collect()
    }

    /// Items of each rank.
    pub fn item_counts(&self) -> Vec<i64> {
        self.shared.as_ref().map_or_else(|| vec![self.items as i64], |shared| shared.items.clone())
    }

    /// x [n, d] with room for the slots, [n + h, d]; x itself where there are none.
    pub fn with_slots(&self, x: &Tensor) -> Tensor {
        let slots = (self.graph.columns() - self.graph.rows()) as i64;
        if slots == 0 {
            return x.shallow_clone();
        }
        let extended = self.room(x);
        extended.narrow(0, 0, x.size()[0]).copy_(x);
        extended
    }

    /// Uninitialised [n + h, d] of x's width and kind.
    pub fn room(&self, x: &Tensor) -> Tensor {
        Tensor::empty([self.graph.columns() as i64, x.size()[1]], (x.kind(), x.device()))
    }

    /// The own rows of `x` [n + h, d].
    pub fn own(&self, x: &Tensor) -> Tensor {
        x.narrow(0, 0, self.rows() as i64)
    }

    /// out [n, d] = A_hat x + plus, and total [n, d] += out. Fills the slots of `x` [n + h, d]; own columns are worked on
    /// while remote rows travel.
    pub fn product(
        &self,
        kernels: &dyn Kernels,
        adjacency: &Adjacency,
        x: &Tensor,
        plus: Option<&Tensor>,
        out: &mut Tensor,
        total: Option<&mut Tensor>,
    ) -> Result<(), EngineError> {
        let Some(Shared { halo, .. }) = &self.shared else {
            kernels.product(adjacency, Part::Own, x, plus, out, total);
            return Ok(());
        };
        let in_flight = halo.start(self.collective.as_ref(), kernels, adjacency, x)?;
        kernels.product(adjacency, Part::Own, x, plus, out, None);
        in_flight.wait()?;
        kernels.product(adjacency, Part::Halo, x, None, out, None);
        halo.add_partial_sums(kernels, x, out);
        if let Some(total) = total {
            *total += &*out;
        }
        Ok(())
    }

    /// Fills the slots of those remote nodes that are heads of the batch: `own` [n, w] -> ([n + h, w] with zeros in all
    /// other slots, the columns that are heads).
    pub fn head_slots(
        &self,
        kernels: &dyn Kernels,
        batch: &BatchRows,
        own: &Tensor,
    ) -> Result<(Tensor, Tensor), EngineError> {
        let Some(Shared { boundary, .. }) = &self.shared else {
            return Ok((own.shallow_clone(), batch.own.rows.shallow_clone()));
        };
        let subset = Subset::new(boundary, |node| batch.heads.binary_search(&node).is_ok(), self.device);
        let received = subset.run(self.collective.as_ref(), kernels, own)?;
        let mut all = self.room(own).zero_();
        self.own(&all).copy_(own);
        let _ = all.index_copy_(0, &subset.columns, &received);
        Ok((all, Tensor::cat(&[&batch.own.rows, &subset.columns], 0)))
    }

    /// Rows of the batch's heads from their owners: each rank's own heads [k, w] -> all heads [H, w].
    pub fn gather_heads(&self, batch: &BatchRows, own: &Tensor) -> Result<Tensor, EngineError> {
        let Some(places) = &batch.gathered_places else { return Ok(own.shallow_clone()) };
        self.gather(own, batch.heads_of.iter().copied().max().unwrap_or(0), places)
    }

    /// Each rank's rows [k, w], padded to `most` and put one after the other; of these the rows at `places`.
    fn gather(&self, own: &Tensor, most: i64, places: &Tensor) -> Result<Tensor, EngineError> {
        let padded = own.constant_pad_nd([0, 0, 0, most - own.size()[0]]).contiguous();
        let all = Tensor::empty([most * self.size() as i64, own.size()[1]], (own.kind(), own.device()));
        self.collective.all_gather(&all, &padded)?.wait()?;
        Ok(all.index_select(0, places))
    }

    /// The rows [n, w] of all ranks out of each one's own, which lie at `places`: [total, w]. A sum with zeros is exact.
    pub fn collect(&self, own: &Tensor, places: &Tensor, total: i64) -> Result<Tensor, EngineError> {
        if self.size() == 1 {
            return Ok(own.shallow_clone());
        }
        let mut shape = own.size();
        shape[0] = total;
        let mut all = Tensor::zeros(shape.as_slice(), (own.kind(), own.device()));
        let _ = all.index_copy_(0, places, own);
        self.sum(all)
    }

    /// Rows of all users [U, w], in the order of their ids, out of each rank's own [u, w].
    pub fn gather_users(&self, own: &Tensor) -> Result<Tensor, EngineError> {
        let Some(Shared { user_places, most_users, .. }) = &self.shared else { return Ok(own.shallow_clone()) };
        self.gather(own, *most_users, user_places)
    }

    /// Rows of each rank on rank 0, by rank; nothing on the others. `own` [rows of this rank, w], `rows` of each rank.
    pub fn gather_on_first(&self, own: Tensor, rows: &[i64]) -> Result<Vec<Tensor>, EngineError> {
        if self.rank() > 0 {
            if own.size()[0] > 0 {
                self.collective.send(&own, 0)?.wait()?;
            }
            return Ok(Vec::new());
        }
        let (width, kind) = (own.size()[1], (own.kind(), own.device()));
        let mut all = vec![own];
        for (rank, &rows) in rows.iter().enumerate().skip(1) {
            let arriving = Tensor::empty([rows, width], kind);
            if rows > 0 {
                self.collective.receive(&arriving, rank)?.wait()?;
            }
            all.push(arriving);
        }
        Ok(all)
    }

    /// Ids of the own nodes [n].
    pub fn own_ids(&self) -> &Tensor {
        &self.own_ids
    }

    /// Ids of the own users [u].
    pub fn own_users(&self) -> Tensor {
        self.own_ids.narrow(0, 0, self.graph.users as i64)
    }

    /// Sum over the ranks, in place and returned.
    pub fn sum(&self, x: Tensor) -> Result<Tensor, EngineError> {
        if self.size() > 1 {
            self.collective.all_reduce(&x, Reduce::Sum)?.wait()?;
        }
        Ok(x)
    }

    /// The largest of each of `values` over the ranks; infinite where one is not a number.
    pub fn max<const N: usize>(&self, values: [f64; N]) -> Result<[f64; N], EngineError> {
        let values = values.map(|value| if value.is_nan() { f64::INFINITY } else { value });
        if self.size() == 1 || N == 0 {
            return Ok(values);
        }
        let all = Tensor::from_slice(&values).to(self.device);
        self.collective.all_reduce(&all, Reduce::Max)?.wait()?;
        let all: Vec<f64> = Vec::try_from(all.to(Device::Cpu)).expect("f64 on the CPU");
        Ok(std::array::from_fn(|i| all[i]))
    }

    /// Sums of whole numbers over the ranks.
    pub fn sum_counts(&self, counts: Vec<i64>) -> Result<Vec<i64>, EngineError> {
        self.reduce(counts, Reduce::Sum)
    }

    /// The smallest of each of `values` over the ranks.
    pub fn smallest(&self, values: Vec<i64>) -> Result<Vec<i64>, EngineError> {
        self.reduce(values, Reduce::Min)
    }

    /// Every rank gives as many whole numbers.
    fn reduce(&self, values: Vec<i64>, op: Reduce) -> Result<Vec<i64>, EngineError> {
        if self.size() == 1 || values.is_empty() {
            return Ok(values);
        }
        let all = Tensor::from_slice(&values).to(self.device);
        self.collective.all_reduce(&all, op)?.wait()?;
        Ok(Vec::try_from(all.to(Device::Cpu)).expect("Int64 on the CPU"))
    }

    /// Every rank's `values`, by rank.
    pub fn gather_values(&self, values: &[f64]) -> Result<Vec<Vec<f64>>, EngineError> {
        if self.size() == 1 {
            return Ok(vec![values.to_vec()]);
        }
        let own = Tensor::from_slice(values).to(self.device);
        let all = Tensor::empty([(values.len() * self.size()) as i64], (Kind::Double, self.device));
        self.collective.all_gather(&all, &own)?.wait()?;
        let all: Vec<f64> = Vec::try_from(all.to(Device::Cpu)).expect("f64 on the CPU");
        Ok(all.chunks(values.len()).map(<[f64]>::to_vec).collect())
    }

    /// Gives `work` each rank's block once, the own one first; blocks go around the ring while `work` runs.
    /// `own` [rows of this rank, ..], `rows` of each rank.
    pub fn ring(
        &self,
        own: &Tensor,
        rows: &[i64],
        mut work: impl FnMut(usize, &Tensor) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let (rank, size) = (self.rank(), self.size());
        let (next, previous) = ((rank + 1) % size, (rank + size - 1) % size);
        let only =
            |peer: usize, rows: i64| -> Vec<i64> { (0..size).map(|r| if r == peer { rows } else { 0 }).collect() };
        let mut block = own.contiguous();
        for step in 0..size {
            let (holder, coming) = ((rank + step) % size, (rank + step + 1) % size);
            if step + 1 == size {
                return work(holder, &block);
            }
            let mut shape = own.size();
            shape[0] = rows[coming];
            let arriving = Tensor::empty(shape, (own.kind(), own.device()));
            // One operation, not a receive and a send: NCCL runs single ones in order on one stream, so every rank would
            // wait in its receive for a send that is queued behind another receive.
            let (received, sent) = (only(next, rows[coming]), only(previous, rows[holder]));
            let transfer = self.collective.all_to_all(&arriving, &received, &block, &sent)?;
            work(holder, &block)?;
            transfer.wait()?;
            block = arriving;
        }
        Ok(())
    }
}
