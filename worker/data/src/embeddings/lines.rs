//! Tables with ids as JSON lines: `{"user_id": "u7", "embedding": [0.1, -0.2]}`, one object a line, read a line at a time.
//! Other fields are passed over.

use super::join::Row;
use super::names::{self, Field, Unclear, Values};
use super::table::RowSink;
use crate::error::{DataError, Side};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

const ADVICE: &str = "write one object a line: {\"id\": ..., \"embedding\": [...]}";

pub(super) struct LineTable {
    path: PathBuf,
    side: Side,
    pub(super) width: usize,
    /// Names of the first line's id and vector.
    id: String,
    vector: String,
}

impl LineTable {
    pub(super) fn open(path: &Path, side: Side) -> Result<LineTable, DataError> {
        let mut table = LineTable { path: path.into(), side, width: 0, id: String::new(), vector: String::new() };
        let mut lines = table.lines()?;
        let Some(first) = lines.next_record()? else {
            return Err(DataError::Empty { path: path.into(), advice: ADVICE.into() });
        };
        let line = lines.line;
        table.width = first.vector.len();
        (table.id, table.vector) = (first.id_name, first.vector_name);
        match table.width {
            0 => Err(DataError::at_line(path, line, "the vector is empty", ADVICE)),
            _ => Ok(table),
        }
    }

    pub(super) fn each_row(&self, take: RowSink) -> Result<(), DataError> {
        let mut lines = self.lines()?;
        let mut values = Vec::with_capacity(self.width);
        while let Some(record) = lines.next_record()? {
            let wrong = |problem: String, advice| Err(DataError::at_line(&self.path, lines.line, problem, advice));
            if record.id_name != self.id {
                let problem = format!("the id is `{}`, in the first line it is `{}`", record.id_name, self.id);
                return wrong(problem, "give the id the same name in each line");
            }
            if record.vector.len() != self.width {
                let problem = format!("{} values, the first line has {}", record.vector.len(), self.width);
                return wrong(problem, "encode all texts with the same model");
            }
            values.clear();
            values.extend(record.vector.iter().map(|&value| value as f32));
            if let Some(column) = values.iter().position(|value: &f32| !value.is_finite()) {
                let problem = format!("value {column} of the vector is {:?}", record.vector[column]);
                return wrong(problem, "every embedding must be a finite 32-bit number");
            }
            take(Row { number: lines.line, id: Some(&record.id), values: &values })?;
        }
        Ok(())
    }

    /// What the ids and the vectors are, for the reading.
    pub(super) fn fields(&self) -> (&str, String) {
        (&self.id, format!("`{}`", self.vector))
    }

    fn lines(&self) -> Result<Lines<'_>, DataError> {
        let file = File::open(&self.path).map_err(DataError::read(&self.path))?;
        Ok(Lines { table: self, reader: BufReader::with_capacity(1 << 16, file), text: vec![], line: 0 })
    }
}

/// Lines under way.
struct Lines<'a> {
    table: &'a LineTable,
    reader: BufReader<File>,
    text: Vec<u8>,
    /// Of the record that was read last, from 1.
    line: u64,
}

struct Record {
    id_name: String,
    id: String,
    vector_name: String,
    vector: Vec<f64>,
}

impl Lines<'_> {
    /// The next line that is not blank.
    fn next_record(&mut self) -> Result<Option<Record>, DataError> {
        let path = &self.table.path;
        loop {
            self.text.clear();
            if self.reader.read_until(b'\n', &mut self.text).map_err(DataError::read(path))? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let text = match self.line {
                1 => self.text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.text),
                _ => &self.text,
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            let mut json = serde_json::Deserializer::from_slice(text);
            let record = Fields(self.table.side).deserialize(&mut json).and_then(|record| json.end().map(|()| record));
            return record.map(Some).map_err(|error| {
                // the parser counts lines within this one
                let said = error.to_string();
                let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
                let problem = match error.column() {
                    0 => said.to_owned(),
                    column => format!("{said} (column {column})"),
                };
                DataError::at_line(path, self.line, problem, ADVICE)
            });
        }
    }
}

/// Reads an object whose fields are named for this side.
struct Fields(Side);

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Record;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Record, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Record, A::Error> {
        let side = self.0;
        let (mut others, mut vector): (Vec<(String, Other)>, _) = (vec![], None);
        while let Some(name) = fields.next_key::<String>()? {
            if names::is_vector(&name) {
                if vector.replace((name, fields.next_value::<Vec<f64>>()?)).is_some() {
                    return Err(A::Error::custom("two fields could be the vector"));
                }
            } else if names::is_id(&name, side) {
                let Id(id) = fields.next_value()?;
                others.push((name, Other { values: Values::Texts, text: id }));
            } else {
                let value = fields.next_value()?;
                others.push((name, value));
            }
        }
        let named: Vec<Field> = others.iter().map(|(name, other)| Field { name, values: other.values }).collect();
        let passed = || names::quoted(others.iter().take(8).map(|(name, _)| name.as_str()));
        let id = names::find_id(&named, side).map_err(|unclear| match unclear {
            Unclear::None => A::Error::custom(format!("no field is named `id` or `{side}_id`, but {}", passed())),
            Unclear::Several(found) => {
                let found = names::several("fields", side, found.iter().map(|&k| named[k].name));
                A::Error::custom(format!("{found}; {}", names::advice(side)))
            }
        })?;
        let (vector_name, vector) =
            vector.ok_or_else(|| A::Error::custom(format!("no field is named `embedding`, but {}", passed())))?;
        let (id_name, Other { text, .. }) = others.swap_remove(id);
        match text.is_empty() {
            true => Err(A::Error::custom("the id is empty")),
            false => Ok(Record { id_name, id: text, vector_name, vector }),
        }
    }
}

/// The value of a field whose name does not say that it is an id.
struct Other {
    values: Values,
    text: String,
}

/// A text of more bytes is no id, and not kept.
const MOST_ID: usize = 1024;

impl<'de> Deserialize<'de> for Other {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Other, D::Error> {
        json.deserialize_any(OtherVisitor)
    }
}

struct OtherVisitor;

impl OtherVisitor {
    fn none() -> Other {
        Other { values: Values::Others, text: String::new() }
    }
}

impl<'de> Visitor<'de> for OtherVisitor {
    type Value = Other;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Other, E> {
        Ok(match text.len() {
            0..=MOST_ID => Other { values: Values::Texts, text: text.into() },
            _ => OtherVisitor::none(),
        })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Other, E> {
        Ok(Other { values: Values::Integers, text: value.to_string() })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Other, E> {
        Ok(Other { values: Values::Integers, text: value.to_string() })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Other, E> {
        Ok(OtherVisitor::none())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Other, E> {
        Ok(OtherVisitor::none())
    }

    fn visit_unit<E>(self) -> Result<Other, E> {
        Ok(OtherVisitor::none())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Other, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(OtherVisitor::none())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Other, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(OtherVisitor::none())
    }
}

/// A string, or an integer in decimals.
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Id, D::Error> {
        json.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id, a string or an integer")
    }

    fn visit_str<E: Error>(self, id: &str) -> Result<Id, E> {
        match id.is_empty() {
            true => Err(E::custom("the id is empty")),
            false => Ok(Id(id.into())),
        }
    }

    fn visit_i64<E>(self, id: i64) -> Result<Id, E> {
        Ok(Id(id.to_string()))
    }

    fn visit_u64<E>(self, id: u64) -> Result<Id, E> {
        Ok(Id(id.to_string()))
    }
}
