//! Datasets, batch order and checkpoints: everything a run reads before training and keeps after it.
//!
//! # Layout
//! * [`Dataset`]: interactions in three parts, text embeddings, external ids; read from one of the formats of `data.format`.
//! * [`Interactions`]: user-item pairs as CSR. [`Embeddings`]: a dense table of `f32`.
//! * [`recbole`]: RecBole's typed tables by themselves (titles, genres, ages).
//! * [`parquet`]: columns of Parquet files (interactions, text tables), without Arrow.
//! * [`prepared`]: writes a dataset as the npz folder that every later run reads.
//! * [`random`]: the counter-based generator every random draw of a run goes through.
//! * [`ranking`]: the best items of a user, by embeddings.
//! * [`sampling`]: one epoch's batch order and negatives, the same for any number of workers.
//! * [`partition`]: which worker owns which node, what each worker holds, and what workers send each other.
//! * [`synthetic`]: made-up catalogs of any size, for measurements.
//! * [`checkpoint`]: shards, then a manifest commits.
//! * [`export`]: what a finished run leaves for serving, whole or not at all.
//! * [`wheel`]: one PyPI wheel into the user's cache.
//!
//! No tensor library, no network protocol and no clock-driven decision belongs here.

pub mod checkpoint;
mod dataset;
mod durable;
mod embeddings;
mod error;
pub mod export;
mod interactions;
mod manifest;
pub mod partition;
pub mod prepared;
pub mod random;
pub mod ranking;
mod readers;
mod reading;
pub mod sampling;
pub mod synthetic;
pub mod wheel;

pub use dataset::Dataset;
pub use embeddings::{Embeddings, TextNeed, TextTables};
pub use error::{DataError, Side};
pub use interactions::Interactions;
pub use manifest::{DatasetManifest, Repair};
pub use readers::{guess_format, parquet, recbole};
pub use reading::{ColumnReading, FileReading, Reading, TextReading};
