//! What can go wrong in training.

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The job asks for something its dataset does not have.
    #[error("{0}")]
    Data(String),
    #[error("device: {0}")]
    Device(String),
    /// A loss that is NaN or infinite: training cannot go on.
    #[error(
        "loss term `{term}` is {value} at step {step} (epoch {epoch}) on rank {rank}: lower optim.lr or the term's weight, and check the embeddings"
    )]
    NonFinite { term: &'static str, value: f64, step: u64, epoch: u64, rank: usize },
    /// Copies that must be equal are not: the ranks' results cannot be trusted.
    #[error("{0}")]
    Diverged(String),
    /// Another worker is gone or late.
    #[error(transparent)]
    Collective(#[from] accord_collective::CollectiveError),
    /// A checkpoint that does not fit the job.
    #[error("checkpoint: {0}")]
    Snapshot(String),
    #[error(transparent)]
    Torch(#[from] tch::TchError),
}
