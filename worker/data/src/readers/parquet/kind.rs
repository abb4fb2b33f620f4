//! What the values of a leaf column are, by its types in the file's schema. Decodes nothing.

use super::Column;
use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{ColumnDescriptor, Type};
use std::fmt;

/// What a column holds, and so which [`Values`](super::Values) a batch has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of any width. A batch with one beyond `i64` has them as texts.
    Integer,
    /// Of any width, as `f64`.
    Float,
    /// Integers over a power of ten, as `f64`.
    Decimal {
        /// How many digits lie behind the point.
        scale: i32,
    },
    /// UTF-8.
    Text,
    Boolean,
    /// Integers in this unit since 1970.
    Timestamp(Unit),
    /// A list of floats in each row.
    FloatList,
    /// In words, what it is; it cannot be read.
    Unsupported(String),
}

/// Unit of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Days,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Days => "days",
            Unit::Milliseconds => "milliseconds",
            Unit::Microseconds => "microseconds",
            Unit::Nanoseconds => "nanoseconds",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Integer => f.write_str("integers"),
            Kind::Float => f.write_str("floats"),
            // columns that differ in nothing but these would be called alike
            Kind::Decimal { scale } => write!(f, "decimals of {scale} places"),
            Kind::Timestamp(unit) => write!(f, "timestamps in {}", unit.name()),
            Kind::Text => f.write_str("strings"),
            Kind::Boolean => f.write_str("booleans"),
            Kind::FloatList => f.write_str("lists of floats"),
            Kind::Unsupported(what) => f.write_str(what),
        }
    }
}

/// Name and kind of a leaf below the schema's field `root`.
pub(super) fn column(leaf: &ColumnDescriptor, root: &Type) -> Column {
    let name = leaf.path().parts().first().cloned().unwrap_or_default();
    Column { name, kind: kind(leaf, root) }
}

fn kind(leaf: &ColumnDescriptor, root: &Type) -> Kind {
    let depth = leaf.path().parts().len();
    let is_list = match leaf.max_rep_level() {
        0 => false,
        1 => depth == 1 || (depth <= 3 && has_list_mark(root)),
        _ => return Kind::Unsupported("nested values".into()),
    };
    if !is_list && depth > 1 {
        return Kind::Unsupported("nested values".into());
    }
    match (is_list, plain(leaf)) {
        (false, kind) => kind,
        (true, Kind::Float) => Kind::FloatList,
        (true, other) => Kind::Unsupported(format!("lists of {other}")),
    }
}

fn has_list_mark(root: &Type) -> bool {
    let info = root.get_basic_info();
    info.logical_type_ref() == Some(&LogicalType::List) || info.converted_type() == ConvertedType::LIST
}

/// Whether a leaf below a repeated field may itself be null.
pub(super) fn has_null_elements(leaf: &ColumnDescriptor) -> bool {
    leaf.self_type().get_basic_info().repetition() == Repetition::OPTIONAL
}

/// Whether integers of a leaf have no sign.
pub(super) fn is_unsigned(leaf: &ColumnDescriptor) -> bool {
    match leaf.logical_type_ref() {
        Some(LogicalType::Integer(integer)) => !integer.is_signed,
        _ => matches!(
            leaf.converted_type(),
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64
        ),
    }
}

/// The kind of the values themselves, lists apart.
fn plain(leaf: &ColumnDescriptor) -> Kind {
    match leaf.logical_type_ref() {
        Some(LogicalType::Decimal(decimal)) => return Kind::Decimal { scale: decimal.scale },
        None if leaf.converted_type() == ConvertedType::DECIMAL => return Kind::Decimal { scale: leaf.type_scale() },
        _ => {}
    }
    match leaf.physical_type() {
        Physical::BOOLEAN => Kind::Boolean,
        Physical::INT32 | Physical::INT64 => integers(leaf),
        Physical::INT96 => Kind::Timestamp(Unit::Nanoseconds),
        Physical::FLOAT | Physical::DOUBLE => Kind::Float,
        Physical::BYTE_ARRAY => match (leaf.logical_type_ref(), leaf.converted_type()) {
            (Some(LogicalType::String | LogicalType::Enum | LogicalType::Json), _)
            | (None, ConvertedType::NONE | ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON) => {
                Kind::Text
            }
            (_, converted) => other(leaf, converted),
        },
        Physical::FIXED_LEN_BYTE_ARRAY => match leaf.logical_type_ref() {
            Some(LogicalType::Float16) if leaf.type_length() == 2 => Kind::Float,
            _ => other(leaf, leaf.converted_type()),
        },
    }
}

fn integers(leaf: &ColumnDescriptor) -> Kind {
    use ConvertedType as C;
    match (leaf.logical_type_ref(), leaf.converted_type()) {
        (Some(LogicalType::Integer(_)), _) => Kind::Integer,
        (Some(LogicalType::Date), _) | (None, C::DATE) => Kind::Timestamp(Unit::Days),
        (Some(LogicalType::Timestamp(time)), _) => Kind::Timestamp(match time.unit {
            TimeUnit::MILLIS => Unit::Milliseconds,
            TimeUnit::MICROS => Unit::Microseconds,
            TimeUnit::NANOS => Unit::Nanoseconds,
        }),
        (None, C::TIMESTAMP_MILLIS) => Kind::Timestamp(Unit::Milliseconds),
        (None, C::TIMESTAMP_MICROS) => Kind::Timestamp(Unit::Microseconds),
        (None, C::NONE | C::INT_8 | C::INT_16 | C::INT_32 | C::INT_64) => Kind::Integer,
        (None, C::UINT_8 | C::UINT_16 | C::UINT_32 | C::UINT_64) => Kind::Integer,
        (_, converted) => other(leaf, converted),
    }
}

fn other(leaf: &ColumnDescriptor, converted: ConvertedType) -> Kind {
    Kind::Unsupported(match (leaf.logical_type_ref(), converted) {
        (Some(LogicalType::Time(_)), _) | (None, ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS) => {
            "times of day".into()
        }
        (Some(LogicalType::Uuid), _) => "UUIDs as bytes".into(),
        (_, _) => format!("{} of a special type", leaf.physical_type()),
    })
}
