//! Interaction matrices as numpy archives: `row`/`col` (COO) or `indptr`/`indices` (CSR, CSC), each with `shape`, and
//! with `data` where scipy wrote them. Ids keep their value: the shape says how many users and items there are.

use super::files::{Parts, Record, Wanted};
use super::npy::{self, Array};
use super::tables;
use crate::Interactions;
use crate::error::{DataError, Side};
use crate::manifest::Repairs;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use zip::ZipArchive;

/// Reads the parts of a dataset and its catalog.
pub(crate) fn read(
    folder: &Path,
    wanted: &Wanted,
    repairs: &mut Repairs,
) -> Result<(tables::Catalog, Parts<Vec<Record>>), DataError> {
    let located = super::files::locate(folder, &["npz"])?;
    let mut shape: Option<([usize; 2], std::path::PathBuf)> = None;
    let parts = located.try_map(|path| {
        if wanted.time {
            return Err(DataError::malformed(
                &path,
                "data.split = \"time\" and matrices carry no times",
                "use data.split = \"random\", or give training, validation and test files",
            ));
        }
        let (records, found) = matrix(&path, wanted, repairs)?;
        match &shape {
            Some((expected, first)) if *expected != found => {
                return Err(DataError::WrongShape {
                    path,
                    found: format!("shape {found:?}"),
                    expected: format!("{} has shape {expected:?}", name(first)),
                    advice: "every part has all users as rows and all items as columns".into(),
                });
            }
            Some(_) => {}
            None => shape = Some((found, path)),
        }
        Ok(records)
    })?;
    let [users, items] = shape.map_or([0, 0], |(s, _)| s);
    let catalog = tables::Catalog::numbered(folder, users, items)?;
    Ok((catalog, parts))
}

/// A matrix by itself.
///
/// # Errors
/// A file that is no matrix, or a pair that is out of its range.
pub(crate) fn interactions(path: &Path) -> Result<Interactions, DataError> {
    let wanted = Wanted { min_rating: None, time: false };
    let (records, [users, items]) = matrix(path, &wanted, &mut Repairs::default())?;
    let pairs: Vec<(u32, u32)> = records.into_iter().map(|record| (record.user, record.item)).collect();
    Ok(Interactions::from_pairs(users, items, &pairs)?.0)
}

fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// One matrix and its shape `[users, items]`.
fn matrix(path: &Path, wanted: &Wanted, repairs: &mut Repairs) -> Result<(Vec<Record>, [usize; 2]), DataError> {
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
    let (rows, columns) = match (members.get("row"), members.get("col"), members.get("indptr"), members.get("indices"))
    {
        (Some(row), Some(col), _, _) => (ids(row, Side::User, shape[0])?, ids(col, Side::Item, shape[1])?),
        (_, _, Some(indptr), Some(indices)) if matches!(format.as_deref(), None | Some("csr")) => {
            let columns = ids(indices, Side::Item, shape[1])?;
            (expand(indptr, shape[0], columns.len())?, columns)
        }
        (_, _, Some(indptr), Some(indices)) if format.as_deref() == Some("csc") => {
            let rows = ids(indices, Side::User, shape[0])?;
            let columns = expand(indptr, shape[1], rows.len())?;
            (rows, columns)
        }
        _ => {
            let kind = format
                .map_or_else(|| "no `row` and `col`, or `indptr` and `indices`".into(), |f| format!("a `{f}` matrix"));
            return Err(DataError::malformed(path, kind, "save matrix.tocoo() or matrix.tocsr()"));
        }
    };
    if rows.len() != columns.len() {
        return Err(DataError::malformed(
            path,
            format!("{} rows and {} columns", rows.len(), columns.len()),
            "`row` and `col` must be equally long",
        ));
    }
    if rows.is_empty() {
        return Err(DataError::Empty { path: path.into(), advice: "the matrix has no interaction".into() });
    }
    // a header alone must not make the process allocate gigabytes
    if shape.iter().any(|&n| n > 1000 * (rows.len() + 1000)) {
        return Err(DataError::malformed(
            path,
            format!("shape {shape:?} with {} interactions", rows.len()),
            "the shape is damaged, or over 99.9 % of its rows are unused: renumber the ids",
        ));
    }
    let values = values(&members, rows.len())?;
    if wanted.min_rating.is_some() && values.is_none() {
        return Err(DataError::malformed(
            path,
            "data.min_rating is set and the matrix has no `data`",
            "remove data.min_rating, or save the ratings as the matrix's values",
        ));
    }
    let mut records = Vec::with_capacity(rows.len());
    let (mut zeros, mut low) = (0, 0);
    for (k, (&user, &item)) in rows.iter().zip(&columns).enumerate() {
        match (&values, wanted.min_rating) {
            (Some(v), _) if v[k] == 0.0 => zeros += 1,
            (Some(v), Some(least)) if v[k] < least => low += 1,
            _ => records.push(Record { user, item, time: 0.0 }),
        }
    }
    repairs.add("stored zeros dropped", zeros);
    if let Some(least) = wanted.min_rating {
        repairs.add(format!("interactions rated below data.min_rating = {least} dropped"), low);
    }
    Ok((records, shape))
}

fn values(members: &Members, len: usize) -> Result<Option<Vec<f64>>, DataError> {
    let Some(member) = members.get("data") else { return Ok(None) };
    match member.parse()?.numbers() {
        Some(values) if values.len() == len && values.iter().all(|v| !v.is_nan()) => Ok(Some(values)),
        Some(values) if values.len() == len => {
            Err(DataError::malformed(&member.path, "a value is NaN", "matrix values are ratings, or 1"))
        }
        _ => Err(DataError::malformed(
            &member.path,
            format!("not one number for each of the {len} interactions"),
            "save it again with scipy.sparse.save_npz",
        )),
    }
}

/// Ids below `count`.
fn ids(member: &Member, side: Side, count: usize) -> Result<Vec<u32>, DataError> {
    let values = integers(member)?;
    let mut out = Vec::with_capacity(values.len());
    for (entry, id) in values.into_iter().enumerate() {
        let place = || format!("{}, entry {entry}", member.path.display());
        match u32::try_from(id) {
            _ if id < 0 => return Err(DataError::NegativeId { place: place(), side, id }),
            Ok(small) if (small as usize) < count => out.push(small),
            _ => return Err(DataError::OutOfRange { place: place(), side, id: id as u64, count }),
        }
    }
    Ok(out)
}

fn integers(member: &Member) -> Result<Vec<i64>, DataError> {
    let array = member.parse()?;
    array.integers().ok_or_else(|| {
        DataError::malformed(
            &member.path,
            format!("the ids are {}", array.header.kind),
            "save ids as integers below 2^31",
        )
    })
}

/// Row number of each entry, from the offsets of the rows.
fn expand(indptr: &Member, rows: usize, entries: usize) -> Result<Vec<u32>, DataError> {
    let offsets = integers(indptr)?;
    let valid = offsets.len() == rows.saturating_add(1)
        && offsets.first() == Some(&0)
        && offsets.last() == Some(&(entries as i64))
        && offsets.is_sorted();
    if !valid {
        return Err(DataError::malformed(
            &indptr.path,
            format!("not {rows} + 1 ascending offsets from 0 to {entries}"),
            "the matrix is damaged: save it again",
        ));
    }
    let mut out = Vec::with_capacity(entries);
    for (row, pair) in offsets.windows(2).enumerate() {
        out.resize(pair[1] as usize, row as u32);
    }
    Ok(out)
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
