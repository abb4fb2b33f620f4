//! Over TCP between CPU tensors: c10d's Gloo.
//!
//! Of Gloo only the point-to-point messages are used, and the collectives are made of them here, for four reasons. Two
//! ranks in different operations make Gloo's own collectives end the process when a message is longer than expected;
//! here a message's tag holds what is sent, so such messages never meet and the deadline ends the wait. A wait for a
//! message can be interrupted, one of a collective cannot. Most operations take one message delay instead of up to
//! `2 (P - 1)`. And sums are taken in rank order, so they are the same on every rank, in every run and for every size.
//! The price: the second half of a large all_reduce is only sent when it is waited for.

mod mesh;
mod operations;
mod pipeline;

use crate::communicator::{Backend, Communicator, Started};
use crate::{Collective, CollectiveError, Options, Reduce, Store, ffi, form};
use mesh::{Mesh, Watchers};
use operations::Spans;
use pipeline::Pipeline;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Blocks until all ranks of the generation are connected.
///
/// # Errors
/// When that takes longer than the deadline, the host is not this machine's, or libtorch is of another version.
pub fn connect(store: &Store, options: &Options) -> Result<Box<dyn Collective>, CollectiveError> {
    options.check()?;
    ffi::check_version()?;
    let (client, own) = (store.client.within(options.deadline), options.clone());
    let group = form::within("gloo", options.deadline, move || {
        ffi::yield_to_others();
        let store = ffi::Store::new(client, &own.prefix())?;
        ffi::Group::gloo(&store, &own.host, own.rank, own.size, own.deadline)
    })?;
    let mesh = Mesh::new(group, options);
    let health = Arc::clone(&mesh.health);
    let watchers = mesh.watch()?;
    let gloo = Gloo { _watchers: watchers, pipeline: Arc::new(Pipeline::new(mesh)) };
    gloo.meet(options.size)?;
    Ok(Box::new(Communicator::new(gloo, health, Device::Cpu, options)))
}

struct Gloo {
    /// first, so that their threads have ended when the connections are closed
    _watchers: Watchers,
    pipeline: Arc<Pipeline>,
}

impl Gloo {
    /// Returns when all ranks have connected to all: one that left right away would fail the others' connecting.
    fn meet(&self, size: usize) -> Result<(), CollectiveError> {
        let zeros = |length| Tensor::f_zeros([length], (Kind::Uint8, Device::Cpu));
        self.all_gather(form::OPERATION, zeros(size as i64)?, zeros(1)?)?.wait()
    }
}

impl Backend for Gloo {
    fn fail(&self, error: CollectiveError) -> CollectiveError {
        self.pipeline.fail(error)
    }

    fn all_reduce(&self, x: Tensor, op: Reduce) -> Started {
        self.pipeline.start("all_reduce", |mesh, number| operations::all_reduce(mesh, number, x, op))
    }

    fn all_gather(&self, operation: &'static str, out: Tensor, x: Tensor) -> Started {
        self.pipeline.start(operation, |mesh, number| operations::all_gather(mesh, operation, number, out, &x))
    }

    fn reduce_scatter(&self, out: Tensor, x: Tensor, op: Reduce) -> Started {
        self.pipeline.start("reduce_scatter", |mesh, number| operations::reduce_scatter(mesh, number, out, x, op))
    }

    fn all_to_all(&self, out: Tensor, received: Vec<i64>, x: Tensor, sent: Vec<i64>) -> Started {
        let (received, sent) = (Spans::new(out, &received), Spans::new(x, &sent));
        self.pipeline.start("all_to_all", |mesh, number| operations::all_to_all(mesh, number, &received, &sent))
    }

    fn broadcast(&self, x: Tensor, root: usize) -> Started {
        self.pipeline.start("broadcast", |mesh, number| operations::broadcast(mesh, number, &x, root))
    }

    fn send(&self, x: Tensor, to: usize) -> Started {
        self.pipeline.send(&x, to)
    }

    fn receive(&self, x: Tensor, from: usize) -> Started {
        self.pipeline.receive(&x, from)
    }
}

impl Drop for Gloo {
    fn drop(&mut self) {
        // works that outlive the communicator would keep its connections open, and the other ranks waiting
        if Arc::strong_count(&self.pipeline) > 1 {
            self.pipeline.fail(CollectiveError::Aborted { why: "the communicator was dropped".into() });
        }
    }
}
