//! What workers of one generation share below the maths, and the project's only foreign functions besides the kernels.
//!
//! # Layout
//! * [`Collective`]: the operations; [`Work`], one in flight; [`CollectiveError`]; [`Traffic`], what was moved.
//! * [`Store`]: where the ranks meet. [`gloo`], [`nccl`] and [`Alone`]: the implementations.
//! * [`cuda`]: loads libtorch's CUDA half at run time, where there is one.
//! * `communicator`: what the implementations share; `shape` what is asked of tensors, `health` why a communicator can
//!   no longer be used, `form` the deadline of connecting, `ffi` the C interface to c10d (cpp/shim.cpp), `loader` dlopen.

mod alone;
mod communicator;
pub mod cuda;
mod error;
mod ffi;
mod form;
pub mod gloo;
mod health;
mod loader;
pub mod nccl;
mod shape;
mod store;
mod traffic;
mod work;

pub use alone::Alone;
pub use error::CollectiveError;
pub use form::Options;
pub use health::{AbortHandle, Exchange, ExchangePhase};
pub use store::Store;
use tch::Tensor;
pub use traffic::{Count, Traffic};
pub use work::Work;

/// How the elements of all ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    Sum,
    Max,
    Min,
}

/// Between the workers of one generation. Every rank calls the same operations in the same order. Tensors are
/// contiguous; counts are rows (dim 0). Operations start at once and complete in their order; the tensors must not be
/// touched until [`Work::wait`] returns.
///
/// Reductions take f32, f64 and i64 tensors; everything else takes any kind of number. Empty tensors and zero counts
/// are fine. All tensors lie on the device of the communicator. A wait ends within the deadline of
/// [`Options`]; after a time-out, an error or an abort every further call fails with the first reason, and a new
/// communicator under a new generation is the way on.
///
/// # Errors
/// [`CollectiveError::Shape`] for tensors or ranks that do not fit (nothing was started and the communicator is still
/// good); otherwise why the communicator cannot be used.
pub trait Collective: Send {
    /// 0 to `size() - 1`.
    fn rank(&self) -> usize;

    /// P, the number of ranks.
    fn size(&self) -> usize;

    /// In place: every rank ends with the same reduction of all `x`. All have the same shape.
    fn all_reduce(&self, x: &Tensor, op: Reduce) -> Result<Work, CollectiveError>;

    /// `out` [P * rows, ..] becomes all `x` [rows, ..], in rank order.
    fn all_gather(&self, out: &Tensor, x: &Tensor) -> Result<Work, CollectiveError>;

    /// `out` [rows, ..] becomes this rank's rows of the reduction of all `x` [P * rows, ..].
    fn reduce_scatter(&self, out: &Tensor, x: &Tensor, op: Reduce) -> Result<Work, CollectiveError>;

    /// Sends the first `sent[0]` rows of `x` to rank 0, the next `sent[1]` to rank 1 and so on; `out` becomes
    /// `received[0]` rows of rank 0, then `received[1]` of rank 1 and so on. Counts include this rank itself and add up
    /// to the rows of their tensor.
    fn all_to_all(&self, out: &Tensor, received: &[i64], x: &Tensor, sent: &[i64]) -> Result<Work, CollectiveError>;

    /// `x` becomes that of `root`.
    fn broadcast(&self, x: &Tensor, root: usize) -> Result<Work, CollectiveError>;

    /// Returns when every rank has called it.
    fn barrier(&self) -> Result<(), CollectiveError>;

    /// Meets the peer's [`receive`](Self::receive). Sends to one peer arrive in their order.
    fn send(&self, x: &Tensor, to: usize) -> Result<Work, CollectiveError>;

    /// `x` becomes what the peer [`send`](Self::send)s, which has the same size.
    fn receive(&self, x: &Tensor, from: usize) -> Result<Work, CollectiveError>;

    /// Ends this communicator from another thread.
    fn abort_handle(&self) -> AbortHandle;

    /// Since the start.
    fn traffic(&self) -> Traffic;
}
