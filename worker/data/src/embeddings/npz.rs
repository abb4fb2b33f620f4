//! Tables with ids as numpy archives: one list of ids and one matrix of floats, as
//! `numpy.savez("usr_emb.npz", ids=..., embeddings=...)` writes them. The matrix is read in blocks.

use super::file::{Element, Matrix};
use super::join::Row;
use super::names::{self, Field, Unclear};
use super::table::RowSink;
use crate::error::{DataError, Side};
use crate::readers::npy::{self, Array, Header, Kind, fixed};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use zip::ZipArchive;

/// Deflate packs at most this many bytes into one, and nothing packed is larger than the archive.
const MOST_RATIO: u64 = 1032;
const ADVICE: &str = "save one list of ids and one matrix: numpy.savez(file, ids=ids, embeddings=matrix)";

pub(super) struct Archive {
    path: PathBuf,
    vectors: Member,
    pub(super) matrix: Matrix,
    id_name: String,
    /// By row.
    ids: Vec<String>,
}

/// An array of an archive, by its header.
struct Member {
    /// With its ending, as the archive has it.
    name: String,
    header: Header,
    /// Bytes of the header.
    from: usize,
}

impl Archive {
    pub(super) fn open(path: &Path, side: Side) -> Result<Archive, DataError> {
        let mut zip = open(path)?;
        let bytes = size(path)?;
        let mut members = Vec::new();
        for index in 0..zip.len() {
            members.push(member(path, &mut zip, index, bytes)?);
        }
        let unclear = |why: &str| {
            let problem = format!("{why} (the archive has {})", describe(&members));
            DataError::malformed(path, problem, ADVICE)
        };
        let vectors: Vec<usize> = (0..members.len()).filter(|&k| members[k].is_matrix()).collect();
        let &[vectors] = vectors.as_slice() else {
            return Err(unclear(&format!("{} matrices of floats", vectors.len())));
        };
        // a named matrix of another kind was not meant to be passed over
        let is_passed_over = |k: usize| k != vectors && names::is_vector(members[k].array());
        if let Some(other) = (0..members.len()).find(|&k| is_passed_over(k)) {
            return Err(unclear(&format!("`{}` is no matrix of floats", members[other].array())));
        }
        let rows = members[vectors].header.shape[0];
        let fields: Vec<Field> = members.iter().map(|member| member.field(side, rows)).collect();
        let ids = names::find_id(&fields, side).map_err(|found| match found {
            Unclear::None => unclear(&format!("no list of {side} ids")),
            Unclear::Several(found) => unclear(&names::several("lists", side, found.iter().map(|&k| fields[k].name))),
        })?;
        if members[ids].values() == names::Values::Others {
            return Err(unclear(&format!("`{}` is no list of integers or strings", members[ids].array())));
        }
        let id_name = members[ids].array().to_owned();
        let ids = read_ids(&path.join(&members[ids].name), &mut zip, &members[ids])?;
        let vectors = members.swap_remove(vectors);
        let inside = path.join(&vectors.name);
        let element = Element::of_npy(&inside, vectors.header.kind)?;
        let matrix = Matrix::new(&inside, &vectors.header.shape, element, vectors.header.fortran)?;
        if ids.len() != matrix.rows {
            return Err(DataError::WrongShape {
                path: inside,
                found: format!("{} rows", matrix.rows),
                expected: format!("there are {} ids", ids.len()),
                advice: "save one id for each row".into(),
            });
        }
        Ok(Archive { path: path.into(), vectors, matrix, id_name, ids })
    }

    /// What the ids and the vectors are, for the reading.
    pub(super) fn fields(&self) -> (&str, String) {
        (&self.id_name, format!("`{}`", self.vectors.array()))
    }

    pub(super) fn each_row(&self, take: RowSink) -> Result<(), DataError> {
        let inside = self.path.join(&self.vectors.name);
        let mut zip = open(&self.path)?;
        let mut entry = zip.by_name(&self.vectors.name).map_err(|e| damaged(&self.path, &e))?;
        skip(&mut entry, self.vectors.from).map_err(DataError::read(&inside))?;
        self.matrix.each_block(&inside, &mut entry, &mut |first, block| {
            for (number, values) in (first..).zip(block.chunks_exact(self.matrix.width)) {
                take(Row { number: number as u64, id: self.ids.get(number).map(String::as_str), values })?;
            }
            Ok(())
        })?;
        // the checksum is compared at the end of the entry
        std::io::copy(&mut entry, &mut std::io::sink()).map_err(DataError::read(&inside))?;
        Ok(())
    }
}

impl Member {
    fn array(&self) -> &str {
        self.name.strip_suffix(".npy").unwrap_or(&self.name)
    }

    fn is_matrix(&self) -> bool {
        self.header.shape.len() == 2 && matches!(self.header.kind, Kind::F16 | Kind::F32 | Kind::F64)
    }

    /// As ids.
    fn values(&self) -> names::Values {
        match self.header.kind {
            _ if self.header.shape.len() != 1 => names::Values::Others,
            Kind::Bool | Kind::F16 | Kind::F32 | Kind::F64 => names::Values::Others,
            Kind::Bytes(_) | Kind::Text(_) => names::Values::Texts,
            _ => names::Values::Integers,
        }
    }

    /// A list that is not as long as the matrix of so many rows is no candidate, unless its name says that it is.
    fn field(&self, side: Side, rows: usize) -> Field<'_> {
        let is_long = self.header.shape.first() == Some(&rows) || names::is_id(self.array(), side);
        let values = if is_long { self.values() } else { names::Values::Others };
        Field { name: self.array(), values }
    }
}

fn describe(members: &[Member]) -> String {
    let each = members.iter().map(|member| {
        let shape: Vec<String> = member.header.shape.iter().map(usize::to_string).collect();
        format!("`{}`: {} {}", member.array(), shape.join(" x "), member.header.kind)
    });
    match members.is_empty() {
        true => "no array".into(),
        false => each.collect::<Vec<_>>().join("; "),
    }
}

fn size(path: &Path) -> Result<u64, DataError> {
    Ok(std::fs::metadata(path).map_err(DataError::read(path))?.len())
}

fn open(path: &Path) -> Result<ZipArchive<File>, DataError> {
    if size(path)? == 0 {
        return Err(DataError::Empty { path: path.into(), advice: "write the embeddings again".into() });
    }
    let file = File::open(path).map_err(DataError::read(path))?;
    ZipArchive::new(file).map_err(|e| damaged(path, &e))
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> DataError {
    let problem = format!("not a readable .npz archive ({why})");
    DataError::malformed(path, problem, "the file is truncated or damaged: write it again")
}

/// The header of an array whose size the archive of `bytes` can hold.
fn member(path: &Path, zip: &mut ZipArchive<File>, index: usize, bytes: u64) -> Result<Member, DataError> {
    let mut entry = zip.by_index(index).map_err(|e| damaged(path, &e))?;
    let name = entry.name().to_owned();
    let declared = entry.size();
    if declared > bytes.saturating_mul(MOST_RATIO) {
        return Err(damaged(path, &format!("`{name}` claims {declared} bytes")));
    }
    let inside = path.join(&name);
    let mut start = Vec::new();
    entry.by_ref().take(npy::HEADER_BYTES).read_to_end(&mut start).map_err(DataError::read(&inside))?;
    let (header, from) = npy::parse_header(&inside, &start).map_err(advise_on_objects)?;
    npy::same_size(&inside, &header, declared.saturating_sub(from as u64))?;
    Ok(Member { name, header, from })
}

/// An array of Python's objects needs another advice where it holds ids or vectors.
pub(super) fn advise_on_objects(error: DataError) -> DataError {
    match error {
        DataError::Malformed { place, problem, .. } if problem.contains("pickled objects") => {
            let advice = "save ids.astype(str), and vectors as numpy.stack(vectors)".into();
            DataError::Malformed { place, problem, advice }
        }
        other => other,
    }
}

fn skip(entry: &mut dyn Read, bytes: usize) -> std::io::Result<()> {
    std::io::copy(&mut entry.take(bytes as u64), &mut std::io::sink()).map(|_| ())
}

/// The whole list, in memory; `path` is the member's, for messages.
fn read_ids(path: &Path, zip: &mut ZipArchive<File>, member: &Member) -> Result<Vec<String>, DataError> {
    let entry = zip.by_name(&member.name).map_err(|e| damaged(path, &e))?;
    // the member's size is checked
    let declared = entry.size();
    let mut bytes = Vec::new();
    entry.take(declared.saturating_add(1)).read_to_end(&mut bytes).map_err(DataError::read(path))?;
    let array = npy::parse(path, &bytes)?;
    strings(&array).ok_or_else(|| DataError::malformed(path, "an id is not text", "save ids as integers or as UTF-8"))
}

/// Ids as text; none if one is empty or not text.
fn strings(array: &Array) -> Option<Vec<String>> {
    let chunks = |size: usize| array.data.chunks_exact(size.max(1));
    let ids: Option<Vec<String>> = match array.header.kind {
        Kind::U64 => Some(chunks(8).map(|c| u64::from_le_bytes(fixed(c)).to_string()).collect()),
        Kind::Bytes(n) => chunks(n).map(|c| String::from_utf8(without_zeros(c).to_vec()).ok()).collect(),
        Kind::Text(n) => chunks(n.saturating_mul(4)).map(letters).collect(),
        _ => array.integers().map(|values| values.iter().map(i64::to_string).collect()),
    };
    ids.filter(|ids| ids.iter().all(|id| !id.is_empty()))
}

/// numpy fills strings up with zeros.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let length = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    &bytes[..length]
}

/// UCS-4.
fn letters(bytes: &[u8]) -> Option<String> {
    let codes: Vec<u32> = bytes.chunks_exact(4).map(|c| u32::from_le_bytes(fixed(c))).collect();
    let length = codes.iter().rposition(|&c| c != 0).map_or(0, |last| last + 1);
    codes[..length].iter().map(|&code| char::from_u32(code)).collect()
}
