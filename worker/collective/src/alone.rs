//! A world of one.

use crate::health::{AbortHandle, Health};
use crate::shape::Check;
use crate::{Collective, CollectiveError, Reduce, Traffic, Work};
use std::sync::Arc;
use tch::Tensor;

/// Copies where a result is needed, on any device. Every operation is complete when it returns, so there is nothing to
/// abort, and nothing is sent, so there is no traffic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

fn check(operation: &'static str) -> Check {
    Check { operation, rank: 0, size: 1, device: None }
}

fn copy(out: &Tensor, x: &Tensor) -> Result<Work, CollectiveError> {
    out.f_detach()?.f_copy_(&x.f_detach()?)?;
    Ok(Work::done())
}

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&self, x: &Tensor, _: Reduce) -> Result<Work, CollectiveError> {
        check("all_reduce").reducible(x).map(|()| Work::done())
    }

    fn all_gather(&self, out: &Tensor, x: &Tensor) -> Result<Work, CollectiveError> {
        check("all_gather").parts(out, x)?;
        copy(out, x)
    }

    fn reduce_scatter(&self, out: &Tensor, x: &Tensor, _: Reduce) -> Result<Work, CollectiveError> {
        check("reduce_scatter").reducible(x)?;
        check("reduce_scatter").parts(x, out)?;
        copy(out, x)
    }

    fn all_to_all(&self, out: &Tensor, received: &[i64], x: &Tensor, sent: &[i64]) -> Result<Work, CollectiveError> {
        check("all_to_all").counts(out, received, x, sent)?;
        copy(out, x)
    }

    fn broadcast(&self, x: &Tensor, root: usize) -> Result<Work, CollectiveError> {
        check("broadcast").movable(x)?;
        check("broadcast").rank(root).map(|()| Work::done())
    }

    fn barrier(&self) -> Result<(), CollectiveError> {
        Ok(())
    }

    /// There is nobody to send to.
    fn send(&self, _: &Tensor, to: usize) -> Result<Work, CollectiveError> {
        check("send").peer(to).map(|()| Work::done())
    }

    /// There is nobody to receive from.
    fn receive(&self, _: &Tensor, from: usize) -> Result<Work, CollectiveError> {
        check("receive").peer(from).map(|()| Work::done())
    }

    fn abort_handle(&self) -> AbortHandle {
        AbortHandle::new(Arc::new(Health::default()))
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}
