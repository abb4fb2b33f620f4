//! numpy's `.npy` format, versions 1 to 3: little-endian booleans, integers and floats, and byte strings.
//! Pickled objects, big-endian and structured arrays are refused. Allocates nothing before the sizes are checked.

use crate::error::DataError;
use std::fmt;
use std::path::Path;

/// Element type of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
    /// Byte string of this many bytes.
    Bytes(usize),
    /// UCS-4 string of this many characters.
    Text(usize),
}

impl Kind {
    pub(crate) fn size(self) -> usize {
        match self {
            Kind::Bool | Kind::I8 | Kind::U8 => 1,
            Kind::I16 | Kind::U16 | Kind::F16 => 2,
            Kind::I32 | Kind::U32 | Kind::F32 => 4,
            Kind::I64 | Kind::U64 | Kind::F64 => 8,
            Kind::Bytes(n) => n,
            Kind::Text(n) => n.saturating_mul(4),
        }
    }

    /// By numpy's name, such as `<f4`; the error completes "the array ...".
    pub(crate) fn of(descr: &str) -> Result<Kind, &'static str> {
        let string = |n: &str| n.parse().map_err(|_| "has an unknown type");
        match descr {
            "|b1" | "?" => Ok(Kind::Bool),
            "|i1" => Ok(Kind::I8),
            "|u1" => Ok(Kind::U8),
            "<i2" => Ok(Kind::I16),
            "<u2" => Ok(Kind::U16),
            "<i4" => Ok(Kind::I32),
            "<u4" => Ok(Kind::U32),
            "<i8" => Ok(Kind::I64),
            "<u8" => Ok(Kind::U64),
            "<f2" => Ok(Kind::F16),
            "<f4" => Ok(Kind::F32),
            "<f8" => Ok(Kind::F64),
            other if other.starts_with("|S") => string(&other[2..]).map(Kind::Bytes),
            other if other.starts_with("<U") => string(&other[2..]).map(Kind::Text),
            other if other.contains('O') => Err("holds pickled objects, which are not read"),
            other if other.starts_with('>') => Err("is big-endian"),
            _ => Err("has an unknown type"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bool => "booleans",
            Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 => "integers",
            Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => "unsigned integers",
            Kind::F16 | Kind::F32 | Kind::F64 => "floats",
            Kind::Bytes(_) | Kind::Text(_) => "strings",
        })
    }
}

/// What an array is, before its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Column-major.
    pub(crate) fortran: bool,
    pub(crate) shape: Vec<usize>,
}

impl Header {
    /// Bytes of the data; none for 2^64 and more.
    pub(crate) fn data_bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.kind.size(), |n, &s| n.checked_mul(s))
    }
}

/// An array whose data have exactly the length its header says.
pub(crate) struct Array<'a> {
    pub(crate) header: Header,
    pub(crate) data: &'a [u8],
}

const MAGIC: &[u8] = b"\x93NUMPY";
const PLAIN: &str = "save it again with numpy.save as a plain little-endian array";

/// Bytes that hold any header numpy writes.
pub(crate) const HEADER_BYTES: u64 = 1 << 16;

/// What a file begins with, and where its data begin; `bytes` may end after the header.
pub(crate) fn parse_header(path: &Path, bytes: &[u8]) -> Result<(Header, usize), DataError> {
    let truncated = || DataError::malformed(path, "the header is cut short", "the file is truncated: write it again");
    if bytes.len() < MAGIC.len() || &bytes[..MAGIC.len()] != MAGIC {
        return Err(DataError::malformed(path, "not an .npy file (wrong magic bytes)", PLAIN));
    }
    let version = *bytes.get(6).ok_or_else(truncated)?;
    let (length, from) = match version {
        1 => (u32::from(u16::from_le_bytes(fixed(bytes.get(8..10).ok_or_else(truncated)?))), 10),
        2 | 3 => (u32::from_le_bytes(fixed(bytes.get(8..12).ok_or_else(truncated)?)), 12),
        other => return Err(DataError::malformed(path, format!("unknown .npy version {other}"), PLAIN)),
    };
    let to = from + length as usize;
    let text = bytes.get(from..to).ok_or_else(truncated)?;
    let text = std::str::from_utf8(text)
        .map_err(|_| DataError::malformed(path, "the header is not text", "the file is damaged: write it again"))?;
    Ok((header(text).map_err(|problem| DataError::malformed(path, problem, PLAIN))?, to))
}

/// Parses a whole file; `path` is for messages.
pub(crate) fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Array<'a>, DataError> {
    let (header, from) = parse_header(path, bytes)?;
    let data = &bytes[from..];
    same_size(path, &header, data.len() as u64)?;
    Ok(Array { header, data })
}

/// Whether the data have the length that the header says.
pub(crate) fn same_size(path: &Path, header: &Header, bytes: u64) -> Result<(), DataError> {
    let needed = header.data_bytes();
    if needed.is_some_and(|needed| needed as u64 == bytes) {
        return Ok(());
    }
    Err(DataError::malformed(
        path,
        format!(
            "the header promises shape {:?} ({} bytes), the file holds {bytes} bytes",
            header.shape,
            needed.map_or_else(|| "more than 2^64".into(), |n| n.to_string()),
        ),
        "the file is truncated or damaged: write it again",
    ))
}

/// `{'descr': '<f2', 'fortran_order': False, 'shape': (3, 4), }`
fn header(text: &str) -> Result<Header, String> {
    let value = |key: &str| -> Result<&str, String> {
        let quoted = format!("'{key}':");
        let at = text.find(&quoted).ok_or_else(|| format!("the header has no `{key}`"))?;
        Ok(text[at + quoted.len()..].trim_start())
    };
    let descr = value("descr")?;
    let Some(descr) = descr.strip_prefix('\'').and_then(|d| d.split('\'').next()) else {
        return Err("the array is structured".into());
    };
    let kind = Kind::of(descr).map_err(|why| format!("the array {why} (dtype `{descr}`)"))?;
    let order = value("fortran_order")?;
    let fortran = match () {
        () if order.starts_with("True") => true,
        () if order.starts_with("False") => false,
        () => return Err("the header's `fortran_order` is neither True nor False".into()),
    };
    let shape = value("shape")?.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(inner, _)| inner);
    let shape = shape.ok_or("the header's `shape` is not a tuple")?;
    let sizes = shape
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|size| size.parse::<usize>().map_err(|_| format!("the header's `shape` holds `{size}`")));
    Ok(Header { kind, fortran, shape: sizes.collect::<Result<_, _>>()? })
}

/// The first `N` bytes of a slice that has as many.
#[inline]
pub(crate) fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

impl Array<'_> {
    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.header.shape.iter().product()
    }

    /// Integers in memory order; none if the elements are not integers, or one does not fit.
    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        let d = self.data;
        Some(match self.header.kind {
            Kind::Bool | Kind::U8 => d.iter().map(|&b| i64::from(b)).collect(),
            Kind::I8 => d.iter().map(|&b| i64::from(b as i8)).collect(),
            Kind::I16 => d.chunks_exact(2).map(|c| i64::from(i16::from_le_bytes(fixed(c)))).collect(),
            Kind::U16 => d.chunks_exact(2).map(|c| i64::from(u16::from_le_bytes(fixed(c)))).collect(),
            Kind::I32 => d.chunks_exact(4).map(|c| i64::from(i32::from_le_bytes(fixed(c)))).collect(),
            Kind::U32 => d.chunks_exact(4).map(|c| i64::from(u32::from_le_bytes(fixed(c)))).collect(),
            Kind::I64 => d.chunks_exact(8).map(|c| i64::from_le_bytes(fixed(c))).collect(),
            Kind::U64 => {
                let each = d.chunks_exact(8).map(|c| i64::try_from(u64::from_le_bytes(fixed(c))).ok());
                return each.collect();
            }
            Kind::F16 | Kind::F32 | Kind::F64 | Kind::Bytes(_) | Kind::Text(_) => return None,
        })
    }

    /// Numbers in memory order; none for strings.
    pub(crate) fn numbers(&self) -> Option<Vec<f64>> {
        let d = self.data;
        match self.header.kind {
            Kind::F16 => Some(d.chunks_exact(2).map(|c| half::f16::from_le_bytes(fixed(c)).to_f64()).collect()),
            Kind::F32 => Some(d.chunks_exact(4).map(|c| f64::from(f32::from_le_bytes(fixed(c)))).collect()),
            Kind::F64 => Some(d.chunks_exact(8).map(|c| f64::from_le_bytes(fixed(c))).collect()),
            _ => self.integers().map(|v| v.into_iter().map(|i| i as f64).collect()),
        }
    }

    /// The text of a string scalar (scipy writes its format name so).
    pub(crate) fn text(&self) -> Option<String> {
        match self.header.kind {
            Kind::Bytes(_) => Some(self.data.iter().take_while(|&&b| b != 0).map(|&b| char::from(b)).collect()),
            Kind::Text(_) => {
                let letters = self.data.chunks_exact(4).map(|c| u32::from_le_bytes(fixed(c)));
                letters.take_while(|&c| c != 0).map(char::from_u32).collect()
            }
            _ => None,
        }
    }
}

/// An `.npy` file, version 1: `descr` is numpy's name of the elements of `data`.
pub(crate) fn encode(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let tuple = if sizes.len() == 1 { format!("({},)", sizes[0]) } else { format!("({})", sizes.join(", ")) };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {tuple}, }}");
    // the data begin at a multiple of 64 bytes
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
    text.push('\n');
    let mut out = Vec::with_capacity(10 + padded + data.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[1, 0]);
    out.extend_from_slice(&(padded as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(data);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_parsed() {
        let bytes = encode("<i4", &[3], &[1, 0, 0, 0, 255, 255, 255, 255, 7, 0, 0, 0]);
        assert_eq!(bytes.len() % 64, 12);
        let array = parse(Path::new("a.npy"), &bytes).unwrap();
        assert_eq!(array.header, Header { kind: Kind::I32, fortran: false, shape: vec![3] });
        assert_eq!(array.integers(), Some(vec![1, -1, 7]));
        assert_eq!(array.numbers(), Some(vec![1.0, -1.0, 7.0]));
    }

    #[test]
    fn every_element_type_is_read() {
        for (descr, data, value) in [
            ("|b1", &[1u8][..], 1.0),
            ("|i1", &[255], -1.0),
            ("|u1", &[255], 255.0),
            ("<i2", &[254, 255], -2.0),
            ("<u2", &[254, 255], 65534.0),
            ("<u4", &[1, 0, 0, 128], 2_147_483_649.0),
            ("<i8", &[255; 8], -1.0),
            ("<u8", &[9, 0, 0, 0, 0, 0, 0, 0], 9.0),
            ("<f2", &[0, 60], 1.0),
            ("<f4", &[0, 0, 128, 63], 1.0),
            ("<f8", &[0, 0, 0, 0, 0, 0, 240, 63], 1.0),
        ] {
            let bytes = encode(descr, &[1], data);
            let array = parse(Path::new("a.npy"), &bytes).unwrap();
            assert_eq!(array.numbers(), Some(vec![value]), "{descr}");
        }
        let too_large = encode("<u8", &[1], &[255; 8]);
        assert_eq!(parse(Path::new("a.npy"), &too_large).unwrap().integers(), None);
    }

    #[test]
    fn strings_of_both_kinds_are_read() {
        let bytes = encode("|S3", &[], b"csr");
        assert_eq!(parse(Path::new("f"), &bytes).unwrap().text().as_deref(), Some("csr"));
        let bytes = encode("<U3", &[], b"c\0\0\0o\0\0\0o\0\0\0");
        assert_eq!(parse(Path::new("f"), &bytes).unwrap().text().as_deref(), Some("coo"));
    }

    #[test]
    fn sizes_that_overflow_are_refused_before_they_are_used() {
        let bytes = encode("<f8", &[usize::MAX, 16], &[]);
        let error = parse(Path::new("a.npy"), &bytes).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("more than 2^64"), "{error}");
    }
}
