//! Python pickles of one scipy.sparse matrix or one numpy array, as RLMRec, IRLLRec and SSLRec ship their datasets.
//! Protocols 2 to 5 are read; 0 and 1, whose numbers are text, are refused with a message.
//!
//! A pickle is a program for a stack machine that may call any function of Python. The machine here follows the part
//! of it that moves data, and resolves no name but those in [`object::Global`]: numpy arrays, dtypes and numbers, and
//! scipy.sparse matrices. Everything else is an error that gives the name. No code of a file is ever run.
//!
//! # Layout
//! * `input`: lengths, numbers and strings of the file. `opcode`: names of the opcodes, and why the others are refused.
//! * `machine`: the stack machine. `object`: what it makes; nothing is copied or nested, objects refer to each other by
//!   number, so no cycle, depth or repetition in a file costs more than its length.
//! * `numpy`: arrays and dtypes. `scipy`: sparse matrices.
//!
//! # Why no crate
//! `serde-pickle` refuses every global but a few of Python's own, or replaces it by `None`, and so cannot give a numpy
//! array; candle-core's pickle module knows torch's globals and the opcodes of protocol 2 alone, copies every value,
//! and would bring a tensor library into this crate.

mod input;
mod machine;
mod numpy;
mod object;
mod opcode;
mod scipy;
#[cfg(test)]
mod tests;

use super::matrices::Matrix;
use crate::error::DataError;
use object::{Object, Objects};
use std::fs;
use std::path::Path;

/// Endings of pickled files.
pub(crate) const ENDINGS: [&str; 2] = ["pkl", "pickle"];

const DAMAGED: &str = "the file is truncated or damaged: write it again";

/// A dense table, row-major.
#[derive(Debug, PartialEq)]
pub(crate) struct Dense {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// `rows * width` finite values.
    pub(crate) values: Vec<f32>,
}

/// Why a pickle is refused; both parts complete the name of the file.
#[derive(Debug)]
struct Refusal {
    problem: String,
    advice: &'static str,
}

impl Refusal {
    fn new(problem: impl Into<String>, advice: &'static str) -> Refusal {
        Refusal { problem: problem.into(), advice }
    }

    /// For files that no version of pickle, numpy and scipy writes.
    fn damaged(problem: impl Into<String>) -> Refusal {
        Refusal::new(problem, DAMAGED)
    }

    fn of(self, path: &Path) -> DataError {
        DataError::malformed(path, self.problem, self.advice)
    }
}

/// Reads a scipy.sparse matrix (coo, csr or csc). Zeros among its values are kept.
///
/// # Errors
/// A file that is not such a pickle, or a matrix that [`Matrix::new`] refuses.
pub(crate) fn matrix(path: &Path) -> Result<Matrix, DataError> {
    matrix_in(path, &read(path)?)
}

/// As [`matrix`]; `path` is for messages.
fn matrix_in(path: &Path, bytes: &[u8]) -> Result<Matrix, DataError> {
    let (objects, top) = machine::run(bytes).map_err(|refusal| refusal.of(path))?;
    if let Object::Sparse { kind, state } = objects.get(top) {
        return scipy::matrix(path, &objects, *kind, *state);
    }
    let advice = match objects.get(top) {
        Object::Array { .. } => "save scipy.sparse.coo_matrix(array)",
        Object::List | Object::Tuple(_) | Object::Dict(_) => "save each matrix in a file of its own",
        _ => "save one matrix of users x items, as pickle.dump(scipy.sparse.coo_matrix(...), file) does",
    };
    Err(foreign(&objects, top, "a scipy.sparse matrix", advice).of(path))
}

/// Reads a two-dimensional numpy array of floats.
///
/// # Errors
/// A file that is not such a pickle, or a value that is not finite as `f32` (with its row and column).
pub(crate) fn dense(path: &Path) -> Result<Dense, DataError> {
    dense_in(path, &read(path)?)
}

/// As [`dense`]; `path` is for messages.
fn dense_in(path: &Path, bytes: &[u8]) -> Result<Dense, DataError> {
    let (objects, top) = machine::run(bytes).map_err(|refusal| refusal.of(path))?;
    if let Object::Array { state } = objects.get(top) {
        let loaded = numpy::load(&objects, *state).map_err(|refusal| refusal.of(path))?;
        return numpy::table(path, &loaded);
    }
    let advice = match objects.get(top) {
        Object::Sparse { .. } => "save matrix.toarray()",
        // an array of its values would lose whose vector each is
        Object::Dict(_) => {
            "save it with its ids: numpy.savez(\"usr_emb.npz\", ids=list(d), embeddings=list(d.values()))"
        }
        Object::List | Object::Tuple(_) => "save one array with a row for each user or item: numpy.stack(list)",
        _ => "save one table with a row for each user or item, as pickle.dump(numpy.array(...), file) does",
    };
    Err(foreign(&objects, top, "a numpy array", advice).of(path))
}

fn foreign(objects: &Objects, top: object::Id, expected: &str, advice: &'static str) -> Refusal {
    Refusal::new(format!("the pickle holds {}, not {expected}", objects.get(top).kind()), advice)
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let bytes = fs::read(path).map_err(DataError::read(path))?;
    if bytes.is_empty() {
        return Err(DataError::Empty { path: path.into(), advice: "write it again with pickle.dump".into() });
    }
    Ok(bytes)
}
