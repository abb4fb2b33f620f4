//! Interaction matrices as numpy archives: `row`/`col` (COO) or `indptr`/`indices` (CSR, CSC), each with `shape`, and
//! with `data` where scipy wrote them.

use super::files::Located;
use super::matrices::{self, Layout, Matrix, Named};
use super::npy::{self, Array};
use super::{Found, Source};
use crate::Interactions;
use crate::error::DataError;
use crate::manifest::Repairs;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use zip::ZipArchive;

/// Reads the parts of a dataset and its catalog.
pub(crate) fn read(source: &Source, located: Located, repairs: &mut Repairs) -> Result<Found, DataError> {
    matrices::read_parts(source, located, repairs, matrix)
}

/// A matrix by itself.
///
/// # Errors
/// A file that is no matrix, or a pair that is out of its range.
pub(crate) fn interactions(path: &Path) -> Result<Interactions, DataError> {
    let Matrix { shape: [users, items], rows, columns, .. } = matrix(path)?;
    let pairs: Vec<(u32, u32)> = rows.into_iter().zip(columns).collect();
    Ok(Interactions::from_pairs(users, items, &pairs)?.0)
}

/// One matrix.
fn matrix(path: &Path) -> Result<Matrix, DataError> {
    let members = Members::open(path)?;
    let shape = members.need("shape")?;
    let shape = match shape.parse()?.integers().as_deref() {
        Some(&[users, items]) if users >= 0 && items >= 0 => [users as usize, items as usize],
        _ => {
            return Err(DataError::malformed(
                path,
                "`shape` is not two sizes",
                "save users x items, as scipy.sparse.save_npz does",
            ));
        }
    };
    let format = members.get("format").map(|m| m.parse().map(|a| a.text())).transpose()?.flatten();
    let layout = match (members.get("row"), members.get("col"), members.get("indptr"), members.get("indices")) {
        (Some(row), Some(col), _, _) => Layout::Coo { row: row.named()?, col: col.named()? },
        // as many rows as columns: offsets of rows and of columns look alike
        (_, _, Some(_), Some(_)) if format.is_none() && shape[0] == shape[1] => {
            return Err(DataError::malformed(
                path,
                format!(
                    "a matrix of {} x {} without `format`, which may be stored by rows or by columns",
                    shape[0], shape[1]
                ),
                "save it with scipy.sparse.save_npz",
            ));
        }
        (_, _, Some(indptr), Some(indices)) if matches!(format.as_deref(), None | Some("csr")) => {
            Layout::Csr { indptr: indptr.named()?, indices: indices.named()? }
        }
        (_, _, Some(indptr), Some(indices)) if format.as_deref() == Some("csc") => {
            Layout::Csc { indptr: indptr.named()?, indices: indices.named()? }
        }
        _ => {
            let kind = format
                .map_or_else(|| "no `row` and `col`, or `indptr` and `indices`".into(), |f| format!("a `{f}` matrix"));
            return Err(DataError::malformed(path, kind, "save matrix.tocoo() or matrix.tocsr()"));
        }
    };
    let data = members.get("data").map(Member::named).transpose()?;
    Matrix::new(path, shape, &layout, data.as_ref())
}

/// The unpacked arrays of an archive.
struct Members {
    archive: PathBuf,
    members: Vec<Member>,
}

struct Member {
    /// `archive.npz/name.npy`, for messages.
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Member {
    fn parse(&self) -> Result<Array<'_>, DataError> {
        let array = npy::parse(&self.path, &self.bytes)?;
        if array.header.shape.len() > 1 {
            return Err(DataError::malformed(
                &self.path,
                format!("the array has {} dimensions", array.header.shape.len()),
                "a sparse matrix is saved as lists",
            ));
        }
        debug_assert!(array.len() <= self.bytes.len());
        Ok(array)
    }

    fn named(&self) -> Result<Named<'_>, DataError> {
        Ok(Named { place: self.path.clone(), array: self.parse()? })
    }
}

const KNOWN: [&str; 7] = ["row", "col", "indptr", "indices", "shape", "data", "format"];

impl Members {
    fn open(path: &Path) -> Result<Members, DataError> {
        let file = File::open(path).map_err(DataError::read(path))?;
        let size = file.metadata().map_err(DataError::read(path))?.len();
        if size == 0 {
            return Err(DataError::Empty { path: path.into(), advice: "write the matrix again".into() });
        }
        let damaged = |e: &dyn std::fmt::Display| {
            DataError::malformed(
                path,
                format!("not a readable .npz archive ({e})"),
                "the file is truncated or damaged: write it again",
            )
        };
        let mut archive = ZipArchive::new(file).map_err(|e| damaged(&e))?;
        let mut members = Vec::new();
        for name in KNOWN {
            let name = format!("{name}.npy");
            if archive.index_for_name(&name).is_none() {
                continue;
            }
            let mut entry = archive.by_name(&name).map_err(|e| damaged(&e))?;
            let declared = entry.size();
            // deflate packs at most 1032 to 1, and nothing packed is larger than the archive
            if declared > size.saturating_mul(1032) {
                return Err(damaged(&format!("`{name}` claims {declared} bytes")));
            }
            let mut bytes = Vec::with_capacity(declared.min(1 << 24) as usize);
            entry.by_ref().take(declared + 1).read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
            if bytes.len() as u64 != declared {
                return Err(damaged(&format!("`{name}` is not the {declared} bytes it claims")));
            }
            members.push(Member { path: path.join(name), bytes });
        }
        Ok(Members { archive: path.into(), members })
    }

    fn get(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.path.file_stem().is_some_and(|s| s == name))
    }

    fn need(&self, name: &str) -> Result<&Member, DataError> {
        self.get(name).ok_or_else(|| {
            DataError::malformed(
                &self.archive,
                format!("the archive has no `{name}`"),
                "save row, col and shape, or use scipy.sparse.save_npz",
            )
        })
    }
}
