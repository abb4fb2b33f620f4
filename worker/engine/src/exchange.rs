//! The halo exchange of one rank: its boundary rows and partial sums go out, the slots of remote rows fill up. One
//! all-to-all per product; rows are grouped by peer, raw rows before partial sums, as `accord_data::partition` lists them.

use crate::error::EngineError;
use crate::graph::Part;
use crate::kernels::{Adjacency, Kernels};
use accord_collective::{Collective, Work};
use accord_data::partition::{Rows, Shard};
use std::cell::{Cell, RefCell};
use tch::{Device, Kind, Tensor};

/// What is sent and received in one exchange.
pub(crate) struct Halo {
    /// Own nodes, and slots
    rows: i64,
    slots: i64,
    /// Rows to and from each peer
    sent: Vec<Rows>,
    received: Vec<i64>,
    /// Own rows sent raw, grouped by peer
    raw: Tensor,
    partial: i64,
    /// Partial sums received: their columns, and the own rows that they are added to
    partial_columns: Tensor,
    partial_rows: Tensor,
    /// Sent so far
    pub(crate) bytes: Cell<u64>,
    options: HaloOptions,
    /// With stale halos: which exchange of the step comes next, none outside of steps; and each one's last.
    next: Cell<Option<usize>>,
    last: RefCell<Vec<Option<Transfer>>>,
}

/// What may be given up for fewer bytes or less waiting; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HaloOptions {
    /// Rows travel as bf16.
    pub bf16: bool,
    /// A training step uses the rows that the step before received, and waits for its own only in the next one.
    pub stale: bool,
}

/// Rows on their way.
struct Transfer {
    /// None once it is waited for
    work: Option<Work>,
    /// [slots, d] as they travel
    arriving: Tensor,
    /// Read by the collective until the wait is over.
    _buffer: Tensor,
}

impl Transfer {
    fn wait(&mut self) -> Result<(), EngineError> {
        if let Some(work) = self.work.take() {
            work.wait()?;
        }
        Ok(())
    }
}

/// An exchange under way: the slots must not be read before [`InFlight::wait`].
pub(crate) struct InFlight {
    transfer: Option<Transfer>,
    slots: Tensor,
}

impl InFlight {
    pub(crate) fn wait(self) -> Result<(), EngineError> {
        let Some(mut transfer) = self.transfer else { return Ok(()) };
        transfer.wait()?;
        fill(self.slots, &transfer.arriving);
        Ok(())
    }
}

/// Nothing to do where the rows arrive in the slots themselves.
fn fill(mut slots: Tensor, arrived: &Tensor) {
    if slots.data_ptr() != arrived.data_ptr() {
        slots.copy_(arrived);
    }
}

impl Halo {
    pub(crate) fn new(shard: &Shard, options: HaloOptions, device: Device) -> Halo {
        let ids = |ids: Vec<i64>| Tensor::from_slice(&ids).to(device);
        let rows = shard.nodes.len();
        let partial: Vec<usize> = (0..shard.slots.node.len()).filter(|&slot| shard.slots.partial[slot]).collect();
        // `nodes` ascends
        let row_of = |slot: &usize| shard.nodes.partition_point(|&node| node < shard.slots.node[*slot]) as i64;
        Halo {
            rows: rows as i64,
            slots: shard.slots.node.len() as i64,
            received: shard.received.iter().map(|r| (r.raw + r.partial) as i64).collect(),
            sent: shard.sent.clone(),
            raw: ids(shard.send_rows.iter().map(|&row| i64::from(row)).collect()),
            partial: shard.outgoing.node.len() as i64,
            partial_rows: ids(partial.iter().map(row_of).collect()),
            partial_columns: ids(partial.iter().map(|slot| (rows + slot) as i64).collect()),
            bytes: Cell::new(0),
            options,
            next: Cell::new(None),
            last: RefCell::default(),
        }
    }

    /// Sends what the peers need of `x` [n + h, d] for a product with `adjacency`, and starts to fill its slots.
    pub(crate) fn start(
        &self,
        collective: &dyn Collective,
        kernels: &dyn Kernels,
        adjacency: &Adjacency,
        x: &Tensor,
    ) -> Result<InFlight, EngineError> {
        let d = x.size()[1];
        let own = x.narrow(0, 0, self.rows);
        let raw = kernels.gather(&own, &self.raw);
        let mut buffer = raw;
        if self.partial > 0 {
            let mut partial = Tensor::empty([self.partial, d], (x.kind(), x.device()));
            kernels.product(adjacency, Part::Outgoing, &own, None, &mut partial, None);
            buffer = self.interleave(&buffer, &partial);
        }
        let sent: Vec<i64> = self.sent.iter().map(|r| (r.raw + r.partial) as i64).collect();
        let slots = x.narrow(0, self.rows, self.slots);
        let stale = self.next.get().filter(|_| self.options.stale);
        let mut transfer = self.send(collective, buffer, &slots, stale.is_some(), &sent)?;
        let Some(place) = stale else { return Ok(InFlight { transfer: Some(transfer), slots }) };
        self.next.set(Some(place + 1));
        let mut last = self.last.borrow_mut();
        if last.len() <= place {
            last.resize_with(place + 1, || None);
        }
        match &mut last[place] {
            Some(before) => {
                before.wait()?;
                fill(slots.shallow_clone(), &before.arriving);
            }
            // the first step has nothing older than its own
            None => {
                transfer.wait()?;
                fill(slots.shallow_clone(), &transfer.arriving);
            }
        }
        last[place] = Some(transfer);
        Ok(InFlight { transfer: None, slots })
    }

    /// `apart`: the rows may not arrive in the slots themselves.
    fn send(
        &self,
        collective: &dyn Collective,
        buffer: Tensor,
        slots: &Tensor,
        apart: bool,
        sent: &[i64],
    ) -> Result<Transfer, EngineError> {
        let kind = if self.options.bf16 { Kind::BFloat16 } else { slots.kind() };
        let buffer = if kind == buffer.kind() { buffer } else { buffer.to_kind(kind) };
        let arriving = if apart || kind != slots.kind() {
            Tensor::empty(slots.size(), (kind, slots.device()))
        } else {
            slots.shallow_clone()
        };
        self.bytes.set(self.bytes.get() + (buffer.numel() * kind.elt_size_in_bytes()) as u64);
        let work = collective.all_to_all(&arriving, &self.received, &buffer, sent)?;
        Ok(Transfer { work: Some(work), arriving, _buffer: buffer })
    }

    /// Between `true` and `false` lies a training step: only there may halos be stale.
    pub(crate) fn in_step(&self, inside: bool) {
        self.next.set(inside.then_some(0));
    }

    /// Raw rows and partial sums of each peer side by side.
    fn interleave(&self, raw: &Tensor, partial: &Tensor) -> Tensor {
        let (mut at_raw, mut at_partial) = (0, 0);
        let mut pieces = Vec::with_capacity(2 * self.sent.len());
        for rows in &self.sent {
            let (raws, partials) = (rows.raw as i64, rows.partial as i64);
            pieces.push(raw.narrow(0, at_raw, raws));
            pieces.push(partial.narrow(0, at_partial, partials));
            (at_raw, at_partial) = (at_raw + raws, at_partial + partials);
        }
        Tensor::cat(&pieces, 0)
    }

    /// Adds the partial sums that arrived in the slots of `x` [n + h, d] to `out` [n, d].
    pub(crate) fn add_partial_sums(&self, kernels: &dyn Kernels, x: &Tensor, out: &mut Tensor) {
        if self.partial_rows.numel() > 0 {
            kernels.scatter_add(out, &self.partial_rows, &kernels.gather(x, &self.partial_columns));
        }
    }
}

/// Who needs which rows raw: what a [`Subset`] is taken from.
pub(crate) struct Boundary {
    nodes: Vec<u32>,
    send_rows: Vec<u32>,
    slots: Vec<u32>,
    sent: Vec<Rows>,
    received: Vec<Rows>,
}

impl Boundary {
    pub(crate) fn new(shard: &Shard) -> Boundary {
        Boundary {
            nodes: shard.nodes.clone(),
            send_rows: shard.send_rows.clone(),
            slots: shard.slots.node.clone(),
            sent: shard.sent.clone(),
            received: shard.received.clone(),
        }
    }
}

/// The part of a raw exchange that concerns some nodes only, the same on both sides because both know the nodes.
pub(crate) struct Subset {
    sent: Vec<i64>,
    received: Vec<i64>,
    /// Own rows to send
    rows: Tensor,
    /// [received] columns that the received rows belong to
    pub(crate) columns: Tensor,
}

impl Subset {
    /// `of` says whether a global node takes part.
    pub(crate) fn new(boundary: &Boundary, of: impl Fn(u32) -> bool, device: Device) -> Subset {
        let own = boundary.nodes.len();
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        let (mut at_row, mut at_slot) = (0, 0);
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for (out, into) in boundary.sent.iter().zip(&boundary.received) {
            let before = (rows.len(), columns.len());
            let raw = &boundary.send_rows[at_row..at_row + out.raw];
            rows.extend(raw.iter().filter(|&&row| of(boundary.nodes[row as usize])).map(|&row| i64::from(row)));
            let slots = at_slot..at_slot + into.raw;
            columns.extend(slots.filter(|&slot| of(boundary.slots[slot])).map(|slot| (own + slot) as i64));
            at_row += out.raw;
            at_slot += into.raw + into.partial;
            sent.push((rows.len() - before.0) as i64);
            received.push((columns.len() - before.1) as i64);
        }
        let ids = |ids: Vec<i64>| Tensor::from_slice(&ids).to_kind(Kind::Int64).to(device);
        Subset { sent, received, rows: ids(rows), columns: ids(columns) }
    }

    /// Rows [received, w] of the remote nodes out of each owner's `table` [n, w].
    pub(crate) fn run(
        &self,
        collective: &dyn Collective,
        kernels: &dyn Kernels,
        table: &Tensor,
    ) -> Result<Tensor, EngineError> {
        let buffer = kernels.gather(table, &self.rows);
        let out = Tensor::empty([self.columns.numel() as i64, table.size()[1]], (table.kind(), table.device()));
        collective.all_to_all(&out, &self.received, &buffer, &self.sent)?.wait()?;
        Ok(out)
    }
}
