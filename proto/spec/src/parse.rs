//! Text of a job file -> [`JobSpec`], with errors that say where and what to do.

use crate::{JobSpec, validate};
use serde::Deserialize as _;
use std::fmt;
use toml::de::{DeTable, DeValue};

/// One `--set key=value` of the command line: `key` is dotted (`loss.kd_weight`), `value` is TOML, or a bare word.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    pub key: String,
    pub value: String,
}

impl std::str::FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Override, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        if !key.contains('.') || key.split('.').any(str::is_empty) {
            return Err(format!("`{key}` is not a dotted key such as loss.kd_weight"));
        }
        Ok(Override { key: key.into(), value: value.into() })
    }
}

/// What is wrong with a job file, where, and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct SpecError {
    /// 1-based line of the file; none when the value came from `--set` or is missing.
    pub line: Option<usize>,
    /// Dotted key, where one is to blame.
    pub field: Option<String>,
    pub message: String,
    pub hint: Option<String>,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl SpecError {
    pub(crate) fn of(field: &str, message: String, hint: &str) -> SpecError {
        SpecError { line: None, field: Some(field.into()), message, hint: Some(hint.into()) }
    }
}

/// Parses and validates a job file; `overrides` replace or add keys after the file itself was found well-formed.
pub fn parse(text: &str, overrides: &[Override]) -> Result<JobSpec, SpecError> {
    let spanned = DeTable::parse(text).map_err(|e| toml_error(text, &e))?;
    // the file by itself first: its errors have lines
    toml::from_str::<JobSpec>(text).map_err(|e| toml_error(text, &e))?;
    let mut table: toml::Table = toml::from_str(text).map_err(|e| toml_error(text, &e))?;
    for set in overrides {
        apply(&mut table, set)?;
    }
    let spec = JobSpec::deserialize(table).map_err(|e| override_error(overrides, &e))?;
    validate::validate(&spec).map_err(|mut error| {
        let set_by = |field: &str| overrides.iter().any(|o| o.key == field);
        error.line = error.field.as_deref().filter(|f| !set_by(f)).and_then(|f| line_of(text, spanned.get_ref(), f));
        error
    })?;
    Ok(spec)
}

fn apply(table: &mut toml::Table, set: &Override) -> Result<(), SpecError> {
    let value = toml::from_str::<toml::Table>(&format!("v = {}", set.value))
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(set.value.clone()));
    let mut keys: Vec<&str> = set.key.split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut inner = table;
    for key in keys {
        let entry = inner.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        inner = entry.as_table_mut().ok_or_else(|| SpecError {
            line: None,
            field: Some(set.key.clone()),
            message: format!("`--set` goes through `{key}`, which is a value, not a section"),
            hint: None,
        })?;
    }
    inner.insert(last.into(), value);
    Ok(())
}

fn toml_error(text: &str, error: &toml::de::Error) -> SpecError {
    let (message, hint) = explain(error.message());
    let span = error.span();
    let line = span.as_ref().map(|s| line_at(text, s.start));
    // the offending line itself is the quickest way to find it
    let quoted = span.and_then(|s| text[..s.start.min(text.len())].rfind('\n').map_or(Some(0), |n| Some(n + 1)));
    let message = match quoted.and_then(|start| text[start..].lines().next()).map(str::trim) {
        Some(source) if !source.is_empty() => format!("{message} in `{source}`"),
        _ => message,
    };
    SpecError { line, field: None, message, hint }
}

fn override_error(overrides: &[Override], error: &toml::de::Error) -> SpecError {
    let (message, hint) = explain(error.message());
    let sets: Vec<String> = overrides.iter().map(|o| format!("--set {}={}", o.key, o.value)).collect();
    SpecError { line: None, field: None, message: format!("{message} (from {})", sets.join(" ")), hint }
}

/// Cuts serde's list of expected names down to the nearest one.
fn explain(message: &str) -> (String, Option<String>) {
    let message = message.trim();
    let quoted = |s: &str| s.split('`').skip(1).step_by(2).map(String::from).collect::<Vec<_>>();
    let unknown = ["unknown field", "unknown variant"].iter().any(|p| message.starts_with(p));
    if unknown && let Some((what, expected)) = message.split_once(", expected") {
        let names = quoted(expected);
        let given = quoted(what).pop().unwrap_or_default();
        let nearest =
            names.iter().max_by(|a, b| strsim::jaro_winkler(a, &given).total_cmp(&strsim::jaro_winkler(b, &given)));
        let hint = match nearest {
            Some(n) if strsim::jaro_winkler(n, &given) > 0.75 => format!("did you mean `{n}`?"),
            Some(_) => format!("expected one of: {}", names.join(", ")),
            None => "this section takes no keys".into(),
        };
        return (what.into(), Some(hint));
    }
    (message.replace('\n', " "), None)
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}

/// Line of a dotted key in the file, if it is there.
fn line_of(text: &str, table: &DeTable<'_>, field: &str) -> Option<usize> {
    let mut table = table;
    let mut keys = field.split('.').peekable();
    while let Some(key) = keys.next() {
        let (name, value) = table.iter().find(|(k, _)| k.get_ref() == key)?;
        match value.get_ref() {
            DeValue::Table(inner) if keys.peek().is_some() => table = inner,
            _ => return Some(line_at(text, name.span().start)),
        }
    }
    None
}
