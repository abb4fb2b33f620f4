//! The objects of a pickle. They refer to each other by number and to the file's bytes by reference: none owns data, and
//! none is dropped or printed recursively.

use super::Refusal;

/// Number of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u32);

/// What the machine makes.
#[derive(Debug)]
pub(super) enum Object<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Text(&'a str),
    Bytes(Bytes<'a>),
    Tuple(Box<[Id]>),
    /// A list's elements are not kept: no array or matrix needs them.
    List,
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Dtype(Dtype<'a>),
    /// A numpy array; without a state until BUILD.
    Array {
        state: Option<ArrayState>,
    },
    /// A numpy number.
    Scalar {
        dtype: Id,
        data: Id,
    },
    /// A scipy.sparse matrix; its state is a dictionary.
    Sparse {
        kind: SparseKind,
        state: Option<Id>,
    },
}

/// Bytes of the file, decoded only where they are used: a file may name the same bytes any number of times.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bytes<'a> {
    Plain(&'a [u8]),
    /// Each character is one byte: how Python 3 writes bytes in protocol 2.
    Latin1(&'a str),
}

/// `numpy.dtype(name)`; the order of its bytes follows with BUILD.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dtype<'a> {
    pub(super) name: &'a str,
    pub(super) order: Option<&'a str>,
}

/// An array as numpy's `__reduce__` describes it; nothing is checked yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrayState {
    pub(super) shape: Id,
    pub(super) dtype: Id,
    /// Column-major.
    pub(super) fortran: bool,
    pub(super) data: Id,
}

/// How a sparse matrix lists its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SparseKind {
    Coo,
    Csr,
    Csc,
}

/// The names that are resolved. None of them is called: each stands for data that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `numpy.core.multiarray._reconstruct`: an empty array, filled by BUILD.
    Reconstruct,
    /// `numpy.core.numeric._frombuffer`: an array of protocol 5.
    FromBuffer,
    /// `numpy.core.multiarray.scalar`
    Scalar,
    Ndarray,
    Dtype,
    /// `_codecs.encode`
    Encode,
    /// Python's `bytes`, which stands for no bytes in protocol 2.
    Bytes,
    Sparse(SparseKind),
}

impl Global {
    /// # Errors
    /// Every name that is not listed here.
    pub(super) fn resolve(module: &str, name: &str) -> Result<Global, Refusal> {
        Ok(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::Reconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::FromBuffer,
            ("numpy", "ndarray") => Global::Ndarray,
            ("numpy", "dtype") => Global::Dtype,
            ("_codecs", "encode") => Global::Encode,
            ("__builtin__" | "builtins", "bytes") => Global::Bytes,
            ("scipy.sparse.coo" | "scipy.sparse._coo", "coo_matrix" | "coo_array") => Global::Sparse(SparseKind::Coo),
            ("scipy.sparse.csr" | "scipy.sparse._csr", "csr_matrix" | "csr_array") => Global::Sparse(SparseKind::Csr),
            ("scipy.sparse.csc" | "scipy.sparse._csc", "csc_matrix" | "csc_array") => Global::Sparse(SparseKind::Csc),
            // where scipy 1.8 to 1.10 has them
            ("scipy.sparse._arrays", "coo_array") => Global::Sparse(SparseKind::Coo),
            ("scipy.sparse._arrays", "csr_array") => Global::Sparse(SparseKind::Csr),
            ("scipy.sparse._arrays", "csc_array") => Global::Sparse(SparseKind::Csc),
            _ => return Err(not_resolved(module, name)),
        })
    }
}

/// Frames and dictionaries of vectors have ids, which an array would lose.
const TABLE: &str = "refusing: save interactions as scipy.sparse.coo_matrix(...), and vectors with their ids: \
                     numpy.savez(\"usr_emb.npz\", ids=ids, embeddings=matrix)";

fn not_resolved(module: &str, name: &str) -> Refusal {
    let from =
        |package: &str| module.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let advice = match () {
        () if from("torch") => "refusing: a torch tensor is saved with numpy.save(name, tensor.numpy())",
        () if from("pandas") || module == "collections" => TABLE,
        () if from("scipy.sparse") => "refusing: save matrix.tocoo() or matrix.tocsr()",
        () if from("numpy") => "refusing: save numpy.ascontiguousarray(array), of plain numbers",
        // what Python writes for a class without a way of its own, as for scipy's dok_matrix
        () if from("copyreg") || from("copy_reg") => {
            "refusing: no code of a pickle is run; save matrix.tocoo(), or numpy.asarray(array)"
        }
        () => "refusing: no code of a pickle is run; save one scipy.sparse matrix or one numpy array",
    };
    let shown: String = format!("{module}.{name}").chars().take(100).flat_map(char::escape_debug).collect();
    Refusal::new(format!("the pickle refers to `{shown}`, which is neither a matrix nor an array"), advice)
}

impl Object<'_> {
    /// For "the pickle holds ...".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Object::None => "None",
            Object::Bool(_) => "a truth value",
            Object::Int(_) | Object::Float | Object::Scalar { .. } => "a number",
            Object::Text(_) => "text",
            Object::Bytes(_) => "bytes",
            Object::Tuple(_) => "a tuple",
            Object::List => "a list",
            Object::Dict(_) => "a dictionary",
            Object::Global(_) => "the name of a class or function",
            Object::Dtype(_) => "a numpy dtype",
            Object::Array { .. } => "a numpy array",
            Object::Sparse { .. } => "a scipy.sparse matrix",
        }
    }
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub(super) struct Objects<'a>(Vec<Object<'a>>);

impl<'a> Objects<'a> {
    /// The machine's limit on opcodes keeps the number of objects within `u32`.
    pub(super) fn add(&mut self, object: Object<'a>) -> Id {
        self.0.push(object);
        Id((self.0.len() - 1) as u32)
    }

    pub(super) fn get(&self, id: Id) -> &Object<'a> {
        &self.0[id.0 as usize]
    }

    pub(super) fn get_mut(&mut self, id: Id) -> &mut Object<'a> {
        &mut self.0[id.0 as usize]
    }

    /// Text; Python 2 writes names as byte strings.
    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match *self.get(id) {
            Object::Text(text) => Some(text),
            Object::Bytes(Bytes::Plain(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn is_none(&self, id: Id) -> bool {
        matches!(self.get(id), Object::None)
    }
}
