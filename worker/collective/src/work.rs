//! An operation in flight.

use crate::CollectiveError;

/// Holds on to its tensors. Dropping it without waiting does not stop the operation: it completes in the background or
/// with a later wait, and its tensors must still not be touched.
#[must_use = "the tensors must not be touched before wait"]
pub struct Work(Option<Box<dyn Pending>>);

/// What a back end knows about one operation it started.
pub(crate) trait Pending: Send {
    fn wait(self: Box<Self>) -> Result<(), CollectiveError>;
}

impl Work {
    /// Already complete.
    pub fn done() -> Work {
        Work(None)
    }

    pub(crate) fn pending(pending: impl Pending + 'static) -> Work {
        Work(Some(Box::new(pending)))
    }

    /// Returns when the operation is complete on this rank: results are there, inputs may be overwritten.
    ///
    /// # Errors
    /// Why the communicator can no longer be used. The results are then undefined.
    pub fn wait(self) -> Result<(), CollectiveError> {
        self.0.map_or(Ok(()), |pending| pending.wait())
    }
}
