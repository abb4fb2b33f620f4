//! What is asked of tensors, counts and ranks before an operation starts: a wrong argument must be an error here, not
//! a crash in libtorch or a wait of every other rank.

use crate::CollectiveError;
use tch::{Device, Kind, Tensor};

/// The world an operation is called in.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    pub operation: &'static str,
    pub rank: usize,
    pub size: usize,
    /// of the communicator; none when any will do
    pub device: Option<Device>,
}

impl Check {
    /// `x` can be sent, received or broadcast.
    pub(crate) fn movable(self, x: &Tensor) -> Result<(), CollectiveError> {
        if !x.defined() {
            return self.fail("the tensor is undefined");
        }
        if x.is_sparse() || !x.is_contiguous() {
            return self.fail(format!("the tensor {:?} is not contiguous; call contiguous() first", x.size()));
        }
        match x.kind() {
            Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16 | Kind::Bool => {}
            Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64 => {}
            kind => return self.fail(format!("tensors of {kind:?} are not supported")),
        }
        match self.device {
            Some(device) if device != x.device() => {
                self.fail(format!("the tensor is on {:?}, the communicator on {device:?}", x.device()))
            }
            _ => Ok(()),
        }
    }

    /// `x` can be summed as well.
    pub(crate) fn reducible(self, x: &Tensor) -> Result<(), CollectiveError> {
        self.movable(x)?;
        match x.kind() {
            Kind::Float | Kind::Double | Kind::Int64 => Ok(()),
            kind => self.fail(format!("{kind:?} cannot be reduced, only Float, Double and Int64")),
        }
    }

    /// `whole` is [size * rows, ..] and `part` [rows, ..].
    pub(crate) fn parts(self, whole: &Tensor, part: &Tensor) -> Result<(), CollectiveError> {
        self.alike(whole, part)?;
        let (whole, part) = (whole.size(), part.size());
        if whole[0] != part[0] * self.size as i64 {
            return self.fail(format!("{whole:?} must have {} times the rows of {part:?}", self.size));
        }
        Ok(())
    }

    /// `out` has `received` rows of each rank and `x` `sent` rows for each.
    pub(crate) fn counts(
        self,
        out: &Tensor,
        received: &[i64],
        x: &Tensor,
        sent: &[i64],
    ) -> Result<(), CollectiveError> {
        self.alike(out, x)?;
        for (name, counts, tensor) in [("received", received, out), ("sent", sent, x)] {
            if counts.len() != self.size {
                return self.fail(format!("{} {name} counts for {} ranks", counts.len(), self.size));
            }
            if counts.iter().any(|&count| count < 0) {
                return self.fail(format!("a {name} count is negative: {counts:?}"));
            }
            let rows: i64 = counts.iter().sum();
            if rows != tensor.size()[0] {
                return self.fail(format!(
                    "{name} counts {counts:?} add up to {rows} rows, the tensor is {:?}",
                    tensor.size()
                ));
            }
        }
        let (to, from) = (sent[self.rank], received[self.rank]);
        if to != from {
            return self.fail(format!("rank {} sends itself {to} rows but receives {from}", self.rank));
        }
        Ok(())
    }

    pub(crate) fn rank(self, rank: usize) -> Result<(), CollectiveError> {
        if rank >= self.size {
            return self.fail(format!("there is no rank {rank} of {}", self.size));
        }
        Ok(())
    }

    /// `rank` is another than this one.
    pub(crate) fn peer(self, rank: usize) -> Result<(), CollectiveError> {
        self.rank(rank)?;
        if rank == self.rank {
            return self.fail(format!("rank {rank} is this rank itself; copy the tensor instead"));
        }
        Ok(())
    }

    /// Rows of the same kind and width.
    fn alike(self, a: &Tensor, b: &Tensor) -> Result<(), CollectiveError> {
        self.movable(a)?;
        self.movable(b)?;
        if a.kind() != b.kind() || a.device() != b.device() {
            let describe = |x: &Tensor| format!("{:?} on {:?}", x.kind(), x.device());
            return self.fail(format!("one tensor is {}, the other {}", describe(a), describe(b)));
        }
        let (a, b) = (a.size(), b.size());
        if a.is_empty() || b.is_empty() || a[1..] != b[1..] {
            return self.fail(format!("{a:?} and {b:?} differ in more than their rows"));
        }
        Ok(())
    }

    fn fail(self, reason: impl Into<String>) -> Result<(), CollectiveError> {
        Err(CollectiveError::Shape { operation: self.operation, reason: reason.into() })
    }
}

/// All of `x` as bytes: [numel * element size]. Shares the memory.
pub(crate) fn bytes(x: &Tensor) -> Result<Tensor, CollectiveError> {
    Ok(flat(x)?.f_view_dtype(Kind::Uint8)?)
}

/// All of `x`: [numel]. Shares the memory.
pub(crate) fn flat(x: &Tensor) -> Result<Tensor, CollectiveError> {
    Ok(x.f_detach()?.f_view([-1i64])?)
}

/// Bytes of one row of `x`, which may have no rows.
pub(crate) fn row_length(x: &Tensor) -> i64 {
    x.size()[1..].iter().product::<i64>() * x.kind().elt_size_in_bytes() as i64
}

/// Bytes of `x`.
pub(crate) fn length(x: &Tensor) -> i64 {
    (x.numel() * x.kind().elt_size_in_bytes()) as i64
}
