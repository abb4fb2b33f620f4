//! Operations in flight, completed in the order they were started.

use super::mesh::{Mesh, Message, Tag};
use crate::work::Pending;
use crate::{CollectiveError, communicator};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tch::Tensor;

/// What a started collective needs: messages that are under way, and what follows when all have arrived, which may
/// start more.
pub(super) struct Started {
    pub(super) messages: Vec<Message>,
    pub(super) then: Option<Then>,
}

pub(super) type Then = Box<dyn FnOnce(&Mesh) -> Result<Vec<Message>, CollectiveError> + Send>;

pub(super) struct Pipeline {
    pub(super) mesh: Mesh,
    queue: Mutex<Queue>,
}

/// Collectives are completed in their order, by whoever waits: a rank that waits for a later one first must not leave
/// the others without its part of an earlier one.
#[derive(Default)]
struct Queue {
    /// of collectives, the same on all ranks
    started: u64,
    running: VecDeque<Running>,
    /// [size] messages of `send` to, and of `receive` from, each rank
    sends: Vec<u64>,
    receives: Vec<u64>,
    /// messages whose work was dropped without waiting; their buffers must outlive the transfer
    dropped: Vec<Message>,
}

struct Running {
    number: u64,
    operation: &'static str,
    started: Started,
}

impl Pipeline {
    pub(super) fn new(mesh: Mesh) -> Pipeline {
        let counts = vec![0; mesh.size];
        let queue = Queue { sends: counts.clone(), receives: counts, ..Queue::default() };
        Pipeline { mesh, queue: Mutex::new(queue) }
    }

    /// Starts a collective; `start` gets its number.
    pub(super) fn start(
        self: &Arc<Self>,
        operation: &'static str,
        start: impl FnOnce(&Mesh, u64) -> Result<Started, CollectiveError>,
    ) -> communicator::Started {
        let mut queue = self.queue();
        queue.started += 1;
        let number = queue.started;
        let started = start(&self.mesh, number).map_err(|e| self.give_up(&mut queue, e))?;
        queue.running.push_back(Running { number, operation, started });
        Ok(Box::new(Turn { pipeline: Arc::clone(self), number }))
    }

    /// Starts a message.
    pub(super) fn send(self: &Arc<Self>, x: &Tensor, to: usize) -> communicator::Started {
        self.start_one("send", |queue| {
            queue.sends[to] += 1;
            self.mesh.send(Tag::pair("send", queue.sends[to]), x, to)
        })
    }

    /// Starts to wait for one.
    pub(super) fn receive(self: &Arc<Self>, x: &Tensor, from: usize) -> communicator::Started {
        self.start_one("receive", |queue| {
            queue.receives[from] += 1;
            self.mesh.receive(Tag::pair("receive", queue.receives[from]), x, from)
        })
    }

    fn start_one(
        self: &Arc<Self>,
        operation: &'static str,
        start: impl FnOnce(&mut Queue) -> Result<Message, CollectiveError>,
    ) -> communicator::Started {
        let mut queue = self.queue();
        let message = start(&mut queue).map_err(|e| self.give_up(&mut queue, e))?;
        Ok(Box::new(One { pipeline: Arc::clone(self), operation, message: Some(message) }))
    }

    /// Completes all collectives up to `number`.
    fn complete(&self, number: u64) -> Result<(), CollectiveError> {
        let until = Instant::now() + self.mesh.deadline;
        let mut queue = self.queue();
        let outcome = self.mesh.health.check().and_then(|()| {
            while let Some(first) = queue.running.pop_front_if(|first| first.number <= number) {
                self.run(first, until)?;
            }
            Ok(())
        });
        outcome.map_err(|e| self.give_up(&mut queue, e))
    }

    fn run(&self, running: Running, until: Instant) -> Result<(), CollectiveError> {
        let Running { operation, started: Started { messages, then }, .. } = running;
        let arrive = |messages: &[Message]| messages.iter().try_for_each(|m| self.mesh.wait(operation, m, until));
        arrive(&messages)?;
        match then {
            Some(then) => arrive(&then(&self.mesh)?),
            None => Ok(()),
        }
    }

    /// Records a failure, and returns the first. After this no tensor of an unfinished operation is touched any more.
    pub(super) fn fail(&self, error: CollectiveError) -> CollectiveError {
        self.give_up(&mut self.queue(), error)
    }

    fn give_up(&self, queue: &mut Queue, error: CollectiveError) -> CollectiveError {
        let first = self.mesh.fail(error);
        queue.running.clear();
        queue.dropped.clear();
        first
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collective's place in the queue.
struct Turn {
    pipeline: Arc<Pipeline>,
    number: u64,
}

impl Pending for Turn {
    fn wait(self: Box<Self>) -> Result<(), CollectiveError> {
        self.pipeline.complete(self.number)
    }
}

/// One message between two ranks, which has no place in the order of the collectives.
struct One {
    pipeline: Arc<Pipeline>,
    operation: &'static str,
    message: Option<Message>,
}

impl Pending for One {
    fn wait(mut self: Box<Self>) -> Result<(), CollectiveError> {
        let Some(message) = self.message.take() else { return Ok(()) };
        let mesh = &self.pipeline.mesh;
        let outcome = mesh.wait(self.operation, &message, Instant::now() + mesh.deadline);
        outcome.map_err(|e| self.pipeline.fail(e))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.pipeline.queue().dropped.push(message);
        }
    }
}
