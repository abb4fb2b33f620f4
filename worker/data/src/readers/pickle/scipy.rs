//! scipy.sparse's part of a pickle: the attributes of a matrix object, under the names of several versions of scipy.

use super::object::{Id, Object, Objects, SparseKind};
use super::{Refusal, numpy};
use crate::error::DataError;
use crate::readers::matrices::{Layout, Matrix, Named};
use std::path::Path;

/// An array of a matrix, with its name.
struct Attribute<'a> {
    name: &'static str,
    loaded: numpy::Loaded<'a>,
}

impl Attribute<'_> {
    fn named(&self, path: &Path) -> Named<'_> {
        Named { place: path.join(self.name), array: self.loaded.array() }
    }
}

/// The matrix whose attributes are in the dictionary `state`; `None` if the file never sets it.
pub(super) fn matrix(path: &Path, objects: &Objects, kind: SparseKind, state: Option<Id>) -> Result<Matrix, DataError> {
    let attributes = Attributes { objects, state };
    let shape = attributes.shape().map_err(|refusal| refusal.of(path))?;
    let data = attributes.array("data").map_err(|refusal| refusal.of(path))?;
    let [first, second] = attributes.places(kind).map_err(|refusal| refusal.of(path))?;
    let (first, second) = (first.named(path), second.named(path));
    let layout = match kind {
        SparseKind::Coo => Layout::Coo { row: first, col: second },
        SparseKind::Csr => Layout::Csr { indptr: first, indices: second },
        SparseKind::Csc => Layout::Csc { indptr: first, indices: second },
    };
    Matrix::new(path, shape, &layout, Some(&data.named(path)))
}

struct Attributes<'o, 'a> {
    objects: &'o Objects<'a>,
    state: Option<Id>,
}

impl<'a> Attributes<'_, 'a> {
    fn find(&self, name: &str) -> Option<Id> {
        let Object::Dict(entries) = self.objects.get(self.state?) else { return None };
        entries.iter().rev().find(|(key, _)| self.objects.text(*key) == Some(name)).map(|&(_, value)| value)
    }

    fn shape(&self) -> Result<[usize; 2], Refusal> {
        let shape = self.find("_shape").or_else(|| self.find("shape")).ok_or_else(|| absent("_shape"))?;
        match numpy::sizes(self.objects, shape)?.as_slice() {
            &[rows, columns] => Ok([rows, columns]),
            sizes => Err(Refusal::new(
                format!("the matrix has {} dimensions", sizes.len()),
                "save a matrix of users x items",
            )),
        }
    }

    /// The two arrays that say where the entries lie.
    fn places(&self, kind: SparseKind) -> Result<[Attribute<'a>; 2], Refusal> {
        if kind != SparseKind::Coo {
            return Ok([self.array("indptr")?, self.array("indices")?]);
        }
        // since scipy 1.13 a tuple
        let Some(coords) = self.find("coords") else { return Ok([self.array("row")?, self.array("col")?]) };
        match self.objects.tuple(coords) {
            Some(&[row, col]) => Ok([self.load("row", row)?, self.load("col", col)?]),
            _ => Err(Refusal::damaged("`coords` of the matrix is not a pair of arrays")),
        }
    }

    fn array(&self, name: &'static str) -> Result<Attribute<'a>, Refusal> {
        self.load(name, self.find(name).ok_or_else(|| absent(name))?)
    }

    fn load(&self, name: &'static str, id: Id) -> Result<Attribute<'a>, Refusal> {
        let Object::Array { state } = self.objects.get(id) else {
            let kind = self.objects.get(id).kind();
            return Err(Refusal::damaged(format!("`{name}` of the matrix is {kind}, not a numpy array")));
        };
        let loaded = numpy::load(self.objects, *state)
            .map_err(|refusal| Refusal { problem: format!("`{name}`: {}", refusal.problem), ..refusal })?;
        if loaded.array().header.shape.len() != 1 {
            return Err(Refusal::damaged(format!("`{name}` of the matrix has not one dimension")));
        }
        Ok(Attribute { name, loaded })
    }
}

fn absent(name: &str) -> Refusal {
    Refusal::damaged(format!("the matrix has no `{name}`"))
}
