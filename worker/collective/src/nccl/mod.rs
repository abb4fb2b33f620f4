//! Between CUDA tensors of one device a rank: c10d's NCCL, from a library that `make nccl` builds and that is loaded at
//! run time.
//!
//! A wait polls, on the host, until the device has done the operation: only so can it end at a deadline or an abort.

mod library;

use crate::communicator::{Backend, Communicator, Started};
use crate::health::Health;
use crate::work::Pending;
use crate::{Collective, CollectiveError, Options, Reduce, Store, ffi, form};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// Blocks until all ranks of the generation have joined. `device` is the index of this rank's GPU, another for each
/// rank of a machine.
///
/// # Errors
/// When there is no CUDA libtorch, no libaccord_nccl.so (`make nccl`) or no such device, when libtorch is of another
/// version, or when joining takes longer than the deadline.
pub fn connect(store: &Store, options: &Options, device: usize) -> Result<Box<dyn Collective>, CollectiveError> {
    options.check()?;
    let nccl = library::load()?;
    ffi::check_version()?;
    let devices = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if device >= devices {
        return Err(CollectiveError::library(format!("there is no CUDA device {device}: libtorch sees {devices}")));
    }
    let (client, own) = (store.client.within(options.deadline), options.clone());
    let group = form::within("nccl", options.deadline, move || {
        let store = ffi::Store::new(client, &own.prefix())?;
        nccl.connect(&store, device, own.rank, own.size, own.deadline)
    })?;
    let health: Arc<Health> = Arc::default();
    let shared =
        Shared { group, health: Arc::clone(&health), deadline: options.deadline, aborted: AtomicBool::new(false) };
    let backend = Nccl { shared: Arc::new(shared) };
    Ok(Box::new(Communicator::new(backend, health, Device::Cuda(device), options)))
}

struct Nccl {
    shared: Arc<Shared>,
}

struct Shared {
    group: ffi::Group,
    health: Arc<Health>,
    deadline: Duration,
    aborted: AtomicBool,
}

impl Nccl {
    fn start(&self, operation: &'static str, kept: Vec<Tensor>, started: Result<ffi::Work, String>) -> Started {
        match started {
            Ok(work) => Ok(Box::new(Running { shared: Arc::clone(&self.shared), operation, work, _kept: kept })),
            Err(reason) => Err(self.shared.fail(CollectiveError::Peer { operation, reason })),
        }
    }
}

impl Backend for Nccl {
    fn fail(&self, error: CollectiveError) -> CollectiveError {
        self.shared.fail(error)
    }

    fn all_reduce(&self, x: Tensor, op: Reduce) -> Started {
        let work = self.shared.group.all_reduce(&x, op);
        self.start("all_reduce", vec![x], work)
    }

    fn all_gather(&self, operation: &'static str, out: Tensor, x: Tensor) -> Started {
        let work = self.shared.group.all_gather(&out, &x);
        self.start(operation, vec![out, x], work)
    }

    fn reduce_scatter(&self, out: Tensor, x: Tensor, op: Reduce) -> Started {
        let work = self.shared.group.reduce_scatter(&out, &x, op);
        self.start("reduce_scatter", vec![out, x], work)
    }

    fn all_to_all(&self, out: Tensor, received: Vec<i64>, x: Tensor, sent: Vec<i64>) -> Started {
        let work = self.shared.group.all_to_all(&out, &received, &x, &sent);
        self.start("all_to_all", vec![out, x], work)
    }

    fn broadcast(&self, x: Tensor, root: usize) -> Started {
        let work = self.shared.group.broadcast(&x, root);
        self.start("broadcast", vec![x], work)
    }

    fn send(&self, x: Tensor, to: usize) -> Started {
        let work = self.shared.group.send(&x, to, 0);
        self.start("send", vec![x], work)
    }

    fn receive(&self, x: Tensor, from: usize) -> Started {
        let work = self.shared.group.receive(&x, from, 0);
        self.start("receive", vec![x], work)
    }
}

impl Drop for Nccl {
    /// Ends the group on a thread: a broken one can take as long as it likes, one in order has the deadline.
    fn drop(&mut self) {
        if self.shared.health.check().is_err() {
            self.shared.abort();
            return;
        }
        let (shared, (done, ended)) = (Arc::clone(&self.shared), mpsc::channel());
        let shutdown = std::thread::Builder::new().name("nccl-shutdown".into()).spawn(move || {
            if let Err(reason) = shared.group.shutdown() {
                tracing::warn!(reason, "NCCL could not be shut down");
            }
            drop(shared);
            // nobody listens when it is late
            let _ = done.send(());
        });
        if shutdown.is_ok() && ended.recv_timeout(self.shared.deadline).is_err() {
            tracing::warn!("NCCL is still shutting down");
        }
    }
}

impl Shared {
    /// Records a failure and ends what runs on the device; returns the first failure.
    fn fail(self: &Arc<Self>, error: CollectiveError) -> CollectiveError {
        let first = self.health.fail(error);
        self.abort();
        first
    }

    /// Once, on a thread, because NCCL may block.
    fn abort(self: &Arc<Self>) {
        if self.aborted.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(self);
        let aborting = std::thread::Builder::new().name("nccl-abort".into()).spawn(move || {
            if let Err(reason) = shared.group.abort() {
                tracing::warn!(reason, "NCCL could not be aborted");
            }
        });
        if let Err(reason) = aborting {
            tracing::warn!(%reason, "NCCL could not be aborted");
        }
    }
}

struct Running {
    shared: Arc<Shared>,
    operation: &'static str,
    work: ffi::Work,
    _kept: Vec<Tensor>,
}

impl Running {
    fn poll(&self) -> Result<(), CollectiveError> {
        let Running { shared, operation, work, .. } = self;
        let peer = |reason| CollectiveError::Peer { operation, reason };
        let started = Instant::now();
        loop {
            shared.health.check()?;
            if work.is_complete().map_err(peer)? {
                break;
            }
            if started.elapsed() >= shared.deadline {
                return Err(CollectiveError::timeout(operation, shared.deadline));
            }
            pause(started.elapsed());
        }
        // complete: this only reports how, and makes the current stream see the results
        work.wait(shared.deadline).map(drop).map_err(peer)
    }
}

/// The longer an operation has taken, the longer until it is asked for again.
fn pause(waited: Duration) {
    const SPIN: Duration = Duration::from_micros(50);
    const LONGEST: Duration = Duration::from_millis(5);
    if waited < SPIN {
        std::hint::spin_loop();
    } else {
        std::thread::sleep((waited / 20).clamp(Duration::from_micros(10), LONGEST));
    }
}

impl Pending for Running {
    fn wait(self: Box<Self>) -> Result<(), CollectiveError> {
        self.poll().map_err(|e| self.shared.fail(e))
    }
}
