//! What the formats of interaction matrices share: a matrix as its file holds it -> checked ids and values -> records.
//! Ids keep their value: the shape says how many users (rows) and items (columns) there are. Knows no file format.

use super::files::{self, Located, Wanted};
use super::npy::Array;
use super::pairs;
use super::records::Records;
use super::tables::Catalog;
use super::{Found, Source};
use crate::error::{DataError, Side};
use crate::manifest::Repairs;
use crate::reading::{FileReading, Reading};
use std::path::{Path, PathBuf};

/// An array of a matrix. Its place (the file, then the array's name in it) is for messages.
pub(crate) struct Named<'a> {
    pub(crate) place: PathBuf,
    pub(crate) array: Array<'a>,
}

/// Where the entries of a matrix lie.
pub(crate) enum Layout<'a> {
    /// Row and column of each entry.
    Coo { row: Named<'a>, col: Named<'a> },
    /// By rows: offsets of the rows, and the column of each entry.
    Csr { indptr: Named<'a>, indices: Named<'a> },
    /// By columns: offsets of the columns, and the row of each entry.
    Csc { indptr: Named<'a>, indices: Named<'a> },
}

/// An interaction matrix with at least one entry; each entry lies within the shape.
#[derive(Debug, PartialEq)]
pub(crate) struct Matrix {
    /// Users and items.
    pub(crate) shape: [usize; 2],
    /// User of each entry, in the order of the file.
    pub(crate) rows: Vec<u32>,
    /// Item of each entry.
    pub(crate) columns: Vec<u32>,
    /// Value of each entry, zeros included; none of them is NaN.
    pub(crate) values: Option<Vec<f64>>,
}

impl Matrix {
    /// Checks what a file holds; `path` is that file.
    ///
    /// # Errors
    /// An id out of range, arrays whose lengths disagree, no entry at all, a shape that its entries do not justify, or a
    /// value that is NaN.
    pub(crate) fn new(
        path: &Path,
        shape: [usize; 2],
        layout: &Layout,
        data: Option<&Named>,
    ) -> Result<Matrix, DataError> {
        let (rows, columns) = match layout {
            Layout::Coo { row, col } => (ids(row, Side::User, shape[0])?, ids(col, Side::Item, shape[1])?),
            Layout::Csr { indptr, indices } => {
                let columns = ids(indices, Side::Item, shape[1])?;
                (expand(indptr, shape[0], columns.len())?, columns)
            }
            Layout::Csc { indptr, indices } => {
                let rows = ids(indices, Side::User, shape[0])?;
                let columns = expand(indptr, shape[1], rows.len())?;
                (rows, columns)
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
        let values = data.map(|data| values(data, rows.len())).transpose()?;
        Ok(Matrix { shape, rows, columns, values })
    }

    /// Where entries of one user and item are several, scipy means their sum: the values with the sum at the first of them,
    /// and which entries went into it. None where there is no such entry, or no value.
    fn sums(&self) -> Option<(Vec<f64>, Vec<bool>)> {
        let mut values = self.values.clone()?;
        let mut order: Vec<usize> = (0..values.len()).collect();
        let place = |k: usize| (self.rows[k], self.columns[k]);
        order.sort_by_key(|&k| place(k));
        if order.windows(2).all(|pair| place(pair[0]) != place(pair[1])) {
            return None;
        }
        let mut absorbed = vec![false; values.len()];
        for same in order.chunk_by(|&a, &b| place(a) == place(b)) {
            values[same[0]] = same.iter().map(|&k| self.values.as_ref().map_or(0.0, |values| values[k])).sum();
            same[1..].iter().for_each(|&k| absorbed[k] = true);
        }
        Some((values, absorbed))
    }

    /// The entries as interactions: stored zeros, and those rated too low, are dropped and counted.
    fn records(&self, path: &Path, wanted: &Wanted, repairs: &mut Repairs) -> Result<Records, DataError> {
        if wanted.min_rating.is_some() && self.values.is_none() {
            return Err(DataError::malformed(
                path,
                "data.min_rating is set and the matrix has no `data`",
                "remove data.min_rating, or save the ratings as the matrix's values",
            ));
        }
        let mut records = Records::default();
        let (mut zeros, mut low, mut negative) = (0, 0, 0);
        let (sums, absorbed) = self.sums().unzip();
        let (values, absorbed) = (sums.as_ref().or(self.values.as_ref()), absorbed.unwrap_or_default());
        for (k, (&user, &item)) in self.rows.iter().zip(&self.columns).enumerate() {
            match (values, wanted.min_rating) {
                _ if absorbed.get(k) == Some(&true) => {}
                (Some(v), _) if v[k] == 0.0 => zeros += 1,
                (Some(v), Some(least)) if v[k] < least => low += 1,
                _ => {
                    negative += u64::from(values.is_some_and(|values| wanted.doubts(values[k])));
                    records.push(user, item, None);
                }
            }
        }
        repairs.add("stored zeros dropped", zeros);
        let absorbed = absorbed.iter().filter(|absorbed| **absorbed).count();
        repairs.add("entries of a matrix added to an earlier one of the same user and item", absorbed as u64);
        repairs.add(wanted.dropped(), low);
        repairs.add(pairs::NEGATIVE, negative);
        Ok(records)
    }
}

/// Reads each part by `read`, and the catalog beside them.
///
/// # Errors
/// What `read` says, a split by time, parts of different shapes, or a catalog of another size.
pub(crate) fn read_parts(
    source: &Source,
    located: Located,
    repairs: &mut Repairs,
    read: impl Fn(&Path) -> Result<Matrix, DataError>,
) -> Result<Found, DataError> {
    let Source { folder, wanted, .. } = source;
    let mut reading = Reading::default();
    let mut shape: Option<([usize; 2], PathBuf)> = None;
    let parts = located.parts.try_map(|path| {
        if wanted.time {
            return Err(DataError::malformed(
                &path,
                "data.split = \"time\" and matrices carry no times",
                "use data.split = \"random\", or give training, validation and test files",
            ));
        }
        let matrix = read(&path)?;
        let records = matrix.records(&path, wanted, repairs)?;
        let found = matrix.shape;
        reading.files.push(FileReading {
            file: files::name(&path),
            form: format!("a matrix of {} users and {} items", found[0], found[1]),
            interactions: records.len() as u64,
            ..FileReading::default()
        });
        match &shape {
            Some((expected, first)) if *expected != found => {
                return Err(DataError::WrongShape {
                    path,
                    found: format!("shape {found:?}"),
                    expected: format!("{} has shape {expected:?}", files::name(first)),
                    advice: "every part has all users as rows and all items as columns".into(),
                });
            }
            Some(_) => {}
            None => shape = Some((found, path)),
        }
        Ok(records)
    })?;
    let [users, items] = shape.map_or([0, 0], |(s, _)| s);
    reading.users = format!("{users}, rows of the matrices");
    reading.items = format!("{items}, columns of the matrices");
    let catalog = Catalog::numbered(folder, users, items)?;
    Ok(Found { catalog, parts, reading })
}

fn values(data: &Named, len: usize) -> Result<Vec<f64>, DataError> {
    match data.array.numbers() {
        Some(values) if values.len() == len && values.iter().all(|v| !v.is_nan()) => Ok(values),
        Some(values) if values.len() == len => {
            Err(DataError::malformed(&data.place, "a value is NaN", "matrix values are ratings, or 1"))
        }
        _ => Err(DataError::malformed(
            &data.place,
            format!("not one number for each of the {len} interactions"),
            "save the matrix again with scipy.sparse",
        )),
    }
}

/// Ids below `count`.
fn ids(named: &Named, side: Side, count: usize) -> Result<Vec<u32>, DataError> {
    let values = integers(named)?;
    let mut out = Vec::with_capacity(values.len());
    for (entry, id) in values.into_iter().enumerate() {
        let place = || format!("{}, entry {entry}", named.place.display());
        match u32::try_from(id) {
            _ if id < 0 => return Err(DataError::NegativeId { place: place(), side, id }),
            Ok(small) if (small as usize) < count => out.push(small),
            _ => return Err(DataError::OutOfRange { place: place(), side, id: id as u64, count }),
        }
    }
    Ok(out)
}

fn integers(named: &Named) -> Result<Vec<i64>, DataError> {
    named.array.integers().ok_or_else(|| {
        DataError::malformed(
            &named.place,
            format!("the ids are {}", named.array.header.kind),
            "save ids as integers below 2^31",
        )
    })
}

/// Row number of each entry, from the offsets of the rows.
fn expand(indptr: &Named, rows: usize, entries: usize) -> Result<Vec<u32>, DataError> {
    let offsets = integers(indptr)?;
    let stored = usize::try_from(offsets.last().copied().unwrap_or(0)).unwrap_or(entries);
    if offsets.len() == rows.saturating_add(1) && stored < entries {
        return Err(DataError::malformed(
            &indptr.place,
            format!("the matrix stores {entries} entries and its offsets end at {stored}"),
            "call matrix.prune() and save it again",
        ));
    }
    let valid = offsets.len() == rows.saturating_add(1)
        && offsets.first() == Some(&0)
        && offsets.last() == Some(&(entries as i64))
        && offsets.is_sorted();
    if !valid {
        return Err(DataError::malformed(
            &indptr.place,
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
