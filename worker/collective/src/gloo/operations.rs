//! The collectives as messages. Tensors are flat; those that are only moved are bytes.

use super::mesh::{Mesh, Message, Tag};
use super::pipeline::Started;
use crate::{CollectiveError, Reduce, shape};
use tch::Tensor;

/// Up to this many bytes sent by a rank, an all_reduce sends everything to everyone: more bytes, but one message delay
/// instead of two.
const ONE_PHASE: i64 = 256 << 10;

impl Started {
    fn with(messages: Vec<Message>) -> Started {
        Started { messages, then: None }
    }
}

/// Consecutive elements of a flat tensor, some for each rank.
pub(super) struct Spans {
    flat: Tensor,
    /// [size + 1]
    starts: Vec<i64>,
}

impl Spans {
    /// As many elements for each rank.
    fn even(flat: Tensor, mesh: &Mesh) -> Spans {
        let each = flat.numel() / mesh.size;
        Spans::new(flat, &vec![each as i64; mesh.size])
    }

    /// `lengths[rank]` elements for each rank.
    pub(super) fn new(flat: Tensor, lengths: &[i64]) -> Spans {
        let ends = lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        let starts = std::iter::once(0).chain(ends).collect();
        Spans { flat, starts }
    }

    fn of(&self, rank: usize) -> Result<Tensor, CollectiveError> {
        let (start, end) = (self.starts[rank], self.starts[rank + 1]);
        Ok(self.flat.f_narrow(0, start, end - start)?)
    }

    fn bytes(&self, rank: usize) -> Result<Tensor, CollectiveError> {
        shape::bytes(&self.of(rank)?)
    }
}

pub(super) fn all_to_all(mesh: &Mesh, number: u64, received: &Spans, sent: &Spans) -> Result<Started, CollectiveError> {
    received.of(mesh.rank)?.f_copy_(&sent.of(mesh.rank)?)?;
    mesh.exchange(Tag::collective("all_to_all", number), |from| received.of(from), |to| sent.of(to)).map(Started::with)
}

/// `out` [P * n] and `x` [n] bytes.
pub(super) fn all_gather(
    mesh: &Mesh,
    operation: &'static str,
    number: u64,
    out: Tensor,
    x: &Tensor,
) -> Result<Started, CollectiveError> {
    let out = Spans::even(out, mesh);
    out.of(mesh.rank)?.f_copy_(x)?;
    let tag = Tag::collective(operation, number);
    mesh.exchange(tag, |from| out.of(from), |_| Ok(x.shallow_clone())).map(Started::with)
}

/// `x` [n] bytes.
pub(super) fn broadcast(mesh: &Mesh, number: u64, x: &Tensor, root: usize) -> Result<Started, CollectiveError> {
    let tag = Tag::collective("broadcast", number);
    let messages = if mesh.rank == root {
        (0..mesh.size).filter(|&to| to != root).map(|to| mesh.send(tag, x, to)).collect::<Result<_, _>>()?
    } else {
        vec![mesh.receive(tag, x, root)?]
    };
    Ok(Started::with(messages))
}

/// `out` [n], `x` [P * n] elements.
pub(super) fn reduce_scatter(
    mesh: &Mesh,
    number: u64,
    mut out: Tensor,
    x: Tensor,
    op: Reduce,
) -> Result<Started, CollectiveError> {
    let parts = Spans::even(x, mesh);
    let own = parts.of(mesh.rank)?;
    let others = Others::like(&out, mesh)?;
    let tag = reduction("reduce_scatter", number, op, &out);
    let messages = mesh.exchange(tag, |from| others.bytes(from), |to| parts.bytes(to))?;
    let then = move |_: &Mesh| {
        others.reduce(op, &own, &mut out)?;
        Ok(Vec::new())
    };
    Ok(Started { messages, then: Some(Box::new(then)) })
}

/// `x` [n] elements.
pub(super) fn all_reduce(mesh: &Mesh, number: u64, x: Tensor, op: Reduce) -> Result<Started, CollectiveError> {
    if shape::length(&x) * (mesh.size as i64 - 1) <= ONE_PHASE {
        all_reduce_at_once(mesh, number, x, op)
    } else {
        all_reduce_by_parts(mesh, number, x, op)
    }
}

/// Every rank reduces everything.
fn all_reduce_at_once(mesh: &Mesh, number: u64, mut x: Tensor, op: Reduce) -> Result<Started, CollectiveError> {
    let others = Others::like(&x, mesh)?;
    let bytes = shape::bytes(&x)?;
    let tag = reduction("all_reduce", number, op, &x);
    let messages = mesh.exchange(tag, |from| others.bytes(from), |_| Ok(bytes.shallow_clone()))?;
    let then = move |_: &Mesh| {
        others.reduce(op, &x.shallow_clone(), &mut x)?;
        Ok(Vec::new())
    };
    Ok(Started { messages, then: Some(Box::new(then)) })
}

/// Every rank reduces one part of `x` and sends the result to the others.
fn all_reduce_by_parts(mesh: &Mesh, number: u64, x: Tensor, op: Reduce) -> Result<Started, CollectiveError> {
    let size = mesh.size as i64;
    let (each, more) = (x.numel() as i64 / size, x.numel() as i64 % size);
    let lengths: Vec<i64> = (0..size).map(|rank| each + i64::from(rank < more)).collect();
    let tag = reduction("all_reduce", number, op, &x);
    let parts = Spans::new(x, &lengths);
    let mut own = parts.of(mesh.rank)?;
    let others = Others::like(&own, mesh)?;
    let messages = mesh.exchange(tag, |from| others.bytes(from), |to| parts.bytes(to))?;
    let then = move |mesh: &Mesh| {
        others.reduce(op, &own.shallow_clone(), &mut own)?;
        let result = parts.bytes(mesh.rank)?;
        mesh.exchange(tag.with(1), |from| parts.bytes(from), |_| Ok(result.shallow_clone()))
    };
    Ok(Started { messages, then: Some(Box::new(then)) })
}

/// Ranks that reduce in different ways, or different kinds of numbers, must not exchange their parts.
fn reduction(operation: &'static str, number: u64, op: Reduce, x: &Tensor) -> Tag {
    Tag::collective(operation, number).with(op as u64).with(x.kind() as u64)
}

/// Places for what the other ranks send: [P - 1, n] elements.
struct Others {
    rank: usize,
    places: Tensor,
}

impl Others {
    /// Each like `x` [n].
    fn like(x: &Tensor, mesh: &Mesh) -> Result<Others, CollectiveError> {
        let places = Tensor::f_empty([mesh.size as i64 - 1, x.numel() as i64], (x.kind(), x.device()))?;
        Ok(Others { rank: mesh.rank, places })
    }

    fn of(&self, rank: usize) -> Result<Tensor, CollectiveError> {
        let place = if rank < self.rank { rank } else { rank - 1 };
        Ok(self.places.f_select(0, place as i64)?)
    }

    fn bytes(&self, rank: usize) -> Result<Tensor, CollectiveError> {
        shape::bytes(&self.of(rank)?)
    }

    /// Reduces all parts in rank order into `out`, which may be `own`.
    fn reduce(&self, op: Reduce, own: &Tensor, out: &mut Tensor) -> Result<(), CollectiveError> {
        let size = self.places.size()[0] as usize + 1;
        let part = |rank: usize| if rank == self.rank { Ok(own.shallow_clone()) } else { self.of(rank) };
        // the sum grows in rank 0's place, or in `out` when rank 0 is this one, whose input must stay as it is
        let mut sum = part(0)?;
        if self.rank == 0 {
            out.f_copy_(&sum)?;
            sum = out.shallow_clone();
        }
        for rank in 1..size {
            let next = part(rank)?;
            sum = match op {
                Reduce::Sum => sum.f_add_(&next)?,
                Reduce::Max => sum.f_maximum_out(&sum, &next)?,
                Reduce::Min => sum.f_minimum_out(&sum, &next)?,
            };
        }
        if self.rank != 0 {
            out.f_copy_(&sum)?;
        }
        Ok(())
    }
}
