//! What every implementation between several ranks has in common: checks, empty tensors, counting. A back end is left
//! with non-empty flat tensors; those that are only moved come to it as bytes.

use crate::health::{ExchangePhase, Health};
use crate::shape::{self, Check};
use crate::traffic::{Ledger, Payload};
use crate::work::Pending;
use crate::{AbortHandle, Collective, CollectiveError, Options, Reduce, Traffic, Work};
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

pub(crate) type Started = Result<Box<dyn Pending>, CollectiveError>;

/// Starts operations. An error it returns has made the communicator unusable.
pub(crate) trait Backend: Send {
    /// Makes the communicator unusable, on this rank and soon on the others; returns the first failure.
    fn fail(&self, error: CollectiveError) -> CollectiveError;
    /// `x` [n] elements.
    fn all_reduce(&self, x: Tensor, op: Reduce) -> Started;
    /// `out` [P * n] and `x` [n] bytes; `operation` is what it is done for.
    fn all_gather(&self, operation: &'static str, out: Tensor, x: Tensor) -> Started;
    /// `out` [n] and `x` [P * n] elements.
    fn reduce_scatter(&self, out: Tensor, x: Tensor, op: Reduce) -> Started;
    /// `out` and `x` bytes, the counts [P] bytes of each rank. This rank may have none at all while others do.
    fn all_to_all(&self, out: Tensor, received: Vec<i64>, x: Tensor, sent: Vec<i64>) -> Started;
    /// `x` [n] bytes.
    fn broadcast(&self, x: Tensor, root: usize) -> Started;
    /// `x` [n] bytes.
    fn send(&self, x: Tensor, to: usize) -> Started;
    /// `x` [n] bytes.
    fn receive(&self, x: Tensor, from: usize) -> Started;
}

pub(crate) struct Communicator<B> {
    rank: usize,
    size: usize,
    device: Device,
    health: Arc<Health>,
    ledger: Arc<Ledger>,
    backend: B,
}

impl<B: Backend> Communicator<B> {
    pub(crate) fn new(backend: B, health: Arc<Health>, device: Device, options: &Options) -> Communicator<B> {
        let Options { rank, size, .. } = *options;
        Communicator { rank, size, device, health, ledger: Arc::default(), backend }
    }

    fn check(&self, operation: &'static str) -> Check {
        Check { operation, rank: self.rank, size: self.size, device: Some(self.device) }
    }

    /// Starts an operation that has passed its checks. One without anything to do is complete: tensors that are empty
    /// are so on every rank.
    fn start(
        &self,
        operation: &'static str,
        payload: Payload,
        empty: bool,
        start: impl FnOnce() -> Started,
    ) -> Result<Work, CollectiveError> {
        // an abort from another thread is first noticed here, or in a wait
        self.health.check().map_err(|e| self.backend.fail(e))?;
        let number = self.health.started(operation);
        let pending = if empty { None } else { Some(start()?) };
        self.ledger.started(operation, payload);
        let (ledger, health) = (Arc::clone(&self.ledger), Arc::clone(&self.health));
        Ok(match pending {
            Some(pending) => Work::pending(Timed { operation, number, ledger, health, pending }),
            None => {
                health.proceed(number, ExchangePhase::Done);
                Work::done()
            }
        })
    }
}

impl<B: Backend> Collective for Communicator<B> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&self, x: &Tensor, op: Reduce) -> Result<Work, CollectiveError> {
        const NAME: &str = "all_reduce";
        self.check(NAME).reducible(x)?;
        let payload = Payload::all_reduce(shape::length(x), self.size);
        self.start(NAME, payload, x.numel() == 0, || self.backend.all_reduce(shape::flat(x)?, op))
    }

    fn all_gather(&self, out: &Tensor, x: &Tensor) -> Result<Work, CollectiveError> {
        const NAME: &str = "all_gather";
        self.check(NAME).parts(out, x)?;
        let payload = Payload::part(shape::length(x), self.size);
        let start = || self.backend.all_gather(NAME, shape::bytes(out)?, shape::bytes(x)?);
        self.start(NAME, payload, x.numel() == 0, start)
    }

    fn reduce_scatter(&self, out: &Tensor, x: &Tensor, op: Reduce) -> Result<Work, CollectiveError> {
        const NAME: &str = "reduce_scatter";
        self.check(NAME).reducible(x)?;
        self.check(NAME).parts(x, out)?;
        let payload = Payload::part(shape::length(out), self.size);
        let start = || self.backend.reduce_scatter(shape::flat(out)?, shape::flat(x)?, op);
        self.start(NAME, payload, x.numel() == 0, start)
    }

    fn all_to_all(&self, out: &Tensor, received: &[i64], x: &Tensor, sent: &[i64]) -> Result<Work, CollectiveError> {
        const NAME: &str = "all_to_all";
        self.check(NAME).counts(out, received, x, sent)?;
        let row = shape::row_length(x);
        let of_bytes = |counts: &[i64]| counts.iter().map(|rows| rows * row).collect::<Vec<_>>();
        let (received, sent) = (of_bytes(received), of_bytes(sent));
        let payload = Payload::counts(&sent, &received, self.rank);
        let start = || self.backend.all_to_all(shape::bytes(out)?, received, shape::bytes(x)?, sent);
        self.start(NAME, payload, false, start)
    }

    fn broadcast(&self, x: &Tensor, root: usize) -> Result<Work, CollectiveError> {
        const NAME: &str = "broadcast";
        self.check(NAME).movable(x)?;
        self.check(NAME).rank(root)?;
        let payload = Payload::broadcast(shape::length(x), root == self.rank, self.size);
        self.start(NAME, payload, x.numel() == 0, || self.backend.broadcast(shape::bytes(x)?, root))
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        const NAME: &str = "barrier";
        let zeros = |length| Tensor::f_zeros([length], (Kind::Uint8, self.device));
        let start = || self.backend.all_gather(NAME, zeros(self.size as i64)?, zeros(1)?);
        self.start(NAME, Payload::default(), false, start)?.wait()
    }

    fn send(&self, x: &Tensor, to: usize) -> Result<Work, CollectiveError> {
        const NAME: &str = "send";
        self.check(NAME).movable(x)?;
        self.check(NAME).peer(to)?;
        let payload = Payload { sent: shape::length(x), received: 0 };
        self.start(NAME, payload, x.numel() == 0, || self.backend.send(shape::bytes(x)?, to))
    }

    fn receive(&self, x: &Tensor, from: usize) -> Result<Work, CollectiveError> {
        const NAME: &str = "receive";
        self.check(NAME).movable(x)?;
        self.check(NAME).peer(from)?;
        let payload = Payload { sent: 0, received: shape::length(x) };
        self.start(NAME, payload, x.numel() == 0, || self.backend.receive(shape::bytes(x)?, from))
    }

    fn abort_handle(&self) -> AbortHandle {
        AbortHandle::new(Arc::clone(&self.health))
    }

    fn traffic(&self) -> Traffic {
        self.ledger.traffic()
    }
}

/// Counts the time spent waiting, and says how far the operation is.
struct Timed {
    operation: &'static str,
    number: u64,
    ledger: Arc<Ledger>,
    health: Arc<Health>,
    pending: Box<dyn Pending>,
}

impl Pending for Timed {
    fn wait(self: Box<Self>) -> Result<(), CollectiveError> {
        let started = Instant::now();
        self.health.proceed(self.number, ExchangePhase::Waiting);
        let outcome = self.pending.wait();
        if outcome.is_ok() {
            self.health.proceed(self.number, ExchangePhase::Done);
        }
        self.ledger.waited(self.operation, started.elapsed());
        outcome
    }
}
