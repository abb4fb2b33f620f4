//! numpy's part of a pickle: what its names stand for, and arrays of little-endian numbers. Big-endian and structured
//! arrays are refused, as in `.npy` files. Checks each size before it allocates.

use super::object::{ArrayState, Bytes, Dtype, Global, Id, Object, Objects};
use super::{DAMAGED, Dense, Refusal};
use crate::error::DataError;
use crate::readers::npy::{Array, Header, Kind, fixed};
use std::borrow::Cow;
use std::path::Path;

const PLAIN: &str = "save numpy.ascontiguousarray(array), of little-endian numbers";

const STACK: &str = "save vectors as numpy.stack(array), and other numbers as array.astype(float)";

/// An array with its bytes.
pub(super) struct Loaded<'a> {
    header: Header,
    data: Cow<'a, [u8]>,
}

impl Loaded<'_> {
    pub(super) fn array(&self) -> Array<'_> {
        Array { header: self.header.clone(), data: &self.data }
    }
}

/// The object that `global(arguments)` stands for.
pub(super) fn made<'a>(objects: &Objects<'a>, global: Global, arguments: &[Id]) -> Result<Object<'a>, Refusal> {
    let odd = || Refusal::damaged("an object is made in a way that numpy and scipy do not write");
    match (global, arguments) {
        (Global::Reconstruct, &[class, _, _]) if matches!(objects.get(class), Object::Global(Global::Ndarray)) => {
            Ok(Object::Array { state: None })
        }
        (Global::FromBuffer, &[data, dtype, shape, order] | &[data, dtype, shape, order, _]) => {
            let fortran = match objects.text(order) {
                Some("C") => false,
                Some("F") => true,
                _ => return Err(Refusal::new("the array has an uncommon order of its axes", PLAIN)),
            };
            Ok(Object::Array { state: Some(ArrayState { shape, dtype, fortran, data }) })
        }
        (Global::Scalar, &[dtype, data]) => Ok(Object::Scalar { dtype, data }),
        (Global::Dtype, &[name, ..]) => {
            let name = objects.text(name).ok_or_else(odd)?;
            Ok(Object::Dtype(Dtype { name, order: None }))
        }
        (Global::Encode, &[text, codec]) => match (objects.get(text), objects.text(codec)) {
            (&Object::Text(text), Some("latin1" | "latin-1")) => Ok(Object::Bytes(Bytes::Latin1(text))),
            _ => Err(odd()),
        },
        (Global::Bytes, &[]) => Ok(Object::Bytes(Bytes::Plain(&[]))),
        _ => Err(odd()),
    }
}

/// The state that `ndarray.__setstate__` takes: version, shape, dtype, whether column-major, bytes.
pub(super) fn array_state(objects: &Objects, state: Id) -> Result<ArrayState, Refusal> {
    let Some(&[_, shape, dtype, fortran, data]) = objects.tuple(state) else {
        return Err(Refusal::damaged("the state of an array has not five parts"));
    };
    let fortran = match *objects.get(fortran) {
        Object::Bool(fortran) => fortran,
        Object::Int(fortran) => fortran != 0,
        _ => return Err(Refusal::damaged("the order of an array is neither True nor False")),
    };
    Ok(ArrayState { shape, dtype, fortran, data })
}

/// The state that `dtype.__setstate__` takes: version, byte order, sub-array, names, fields and more.
pub(super) fn with_order<'a>(objects: &Objects<'a>, dtype: Dtype<'a>, state: Id) -> Result<Dtype<'a>, Refusal> {
    let Some(&[_, order, sub_array, names, fields, ..]) = objects.tuple(state) else {
        return Err(Refusal::damaged("the state of a dtype has too few parts"));
    };
    if [sub_array, names, fields].into_iter().any(|part| !objects.is_none(part)) {
        return Err(Refusal::new("the array is structured", PLAIN));
    }
    let order = objects.text(order).ok_or_else(|| Refusal::damaged("the byte order of a dtype is not text"))?;
    Ok(Dtype { order: Some(order), ..dtype })
}

/// The array of a state; `None` if the file never sets it.
pub(super) fn load<'a>(objects: &Objects<'a>, state: Option<ArrayState>) -> Result<Loaded<'a>, Refusal> {
    let state = state.ok_or_else(|| Refusal::damaged("an array has no content"))?;
    let shape = sizes(objects, state.shape)?;
    elements(objects, state.dtype, shape, state.fortran, state.data)
}

fn elements<'a>(
    objects: &Objects<'a>,
    dtype: Id,
    shape: Vec<usize>,
    fortran: bool,
    data: Id,
) -> Result<Loaded<'a>, Refusal> {
    let header = Header { kind: kind(objects, dtype)?, fortran, shape };
    let data = match *objects.get(data) {
        Object::Bytes(Bytes::Plain(bytes)) => Cow::Borrowed(bytes),
        Object::Bytes(Bytes::Latin1(text)) => Cow::Owned(latin1(text)?),
        ref other => {
            return Err(Refusal::damaged(format!("the content of an array is {}, not bytes", other.kind())));
        }
    };
    if header.data_bytes() != Some(data.len()) {
        return Err(Refusal::new(format!("an array of shape {:?} has {} bytes", header.shape, data.len()), DAMAGED));
    }
    Ok(Loaded { header, data })
}

fn kind(objects: &Objects, dtype: Id) -> Result<Kind, Refusal> {
    let Object::Dtype(Dtype { name, order: Some(order) }) = *objects.get(dtype) else {
        return Err(Refusal::damaged("an array has no dtype"));
    };
    let description: String = order.chars().chain(name.chars()).take(16).collect();
    let advice = if name.starts_with('O') { STACK } else { PLAIN };
    Kind::of(&description).map_err(|why| Refusal::new(format!("the array {why} (dtype `{description}`)"), advice))
}

fn latin1(text: &str) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        let byte = u8::try_from(letter);
        bytes.push(byte.map_err(|_| Refusal::damaged("the bytes of an array hold a character beyond 255"))?);
    }
    Ok(bytes)
}

/// A tuple of sizes, as a shape is.
pub(super) fn sizes(objects: &Objects, tuple: Id) -> Result<Vec<usize>, Refusal> {
    let items = objects.tuple(tuple).ok_or_else(|| Refusal::damaged("the shape of an array is no tuple"))?;
    // numpy has at most 64 dimensions
    if items.len() > 64 {
        return Err(Refusal::damaged(format!("an array has {} dimensions", items.len())));
    }
    items.iter().map(|&item| size(objects, item)).collect()
}

fn size(objects: &Objects, id: Id) -> Result<usize, Refusal> {
    let value = match *objects.get(id) {
        Object::Int(value) => Some(value),
        Object::Scalar { dtype, data } => {
            let one = elements(objects, dtype, Vec::new(), false, data)?;
            one.array().integers().and_then(|values| values.first().copied())
        }
        _ => None,
    };
    value.and_then(|value| usize::try_from(value).ok()).ok_or_else(|| Refusal::damaged("a shape holds no size"))
}

/// A two-dimensional array of floats as `f32`, row-major.
pub(super) fn table(path: &Path, loaded: &Loaded) -> Result<Dense, DataError> {
    let Header { kind, fortran, shape } = &loaded.header;
    let &[rows, width] = shape.as_slice() else {
        return Err(DataError::malformed(
            path,
            format!("the array has {} dimensions", shape.len()),
            "save a table with one row a user or item",
        ));
    };
    if rows == 0 || width == 0 {
        let advice = format!("the table has {rows} rows of width {width}");
        return Err(DataError::Empty { path: path.into(), advice });
    }
    let data = &loaded.data;
    let values: Vec<f32> = match kind {
        Kind::F16 => data.chunks_exact(2).map(|c| half::f16::from_le_bytes(fixed(c)).to_f32()).collect(),
        Kind::F32 => data.chunks_exact(4).map(|c| f32::from_le_bytes(fixed(c))).collect(),
        Kind::F64 => data.chunks_exact(8).map(|c| f64::from_le_bytes(fixed(c)) as f32).collect(),
        other => {
            return Err(DataError::malformed(
                path,
                format!("the values are {other}"),
                "save embeddings as float16, float32 or float64",
            ));
        }
    };
    if let Some(k) = values.iter().position(|v| !v.is_finite()) {
        let (row, column) = if *fortran { (k % rows, k / rows) } else { (k / width, k % width) };
        // a finite f64 may be too large for f32
        let value = match kind {
            Kind::F64 => f64::from_le_bytes(fixed(&data[8 * k..8 * k + 8])),
            _ => f64::from(values[k]),
        };
        return Err(DataError::NotFinite { path: path.into(), row, column, value });
    }
    let values = if *fortran { transposed(&values, rows, width) } else { values };
    Ok(Dense { rows, width, values })
}

fn transposed(values: &[f32], rows: usize, width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        out.extend((0..width).map(|column| values[column * rows + row]));
    }
    out
}
