//! The only printer of the command line: data on stdout, everything else on stderr. Nothing else prints.

use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// One line of data on stdout. A reader that went away (`| head`) is not an error.
pub fn line(text: impl Display) {
    // println! panics on a closed pipe
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// One line for a person on stderr.
pub fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// One JSON document on stdout, for programs.
///
/// # Errors
/// When the value cannot be written as JSON.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A table on stdout: left-aligned columns, two blanks between them, no borders, so that `awk` reads it too.
pub fn table<H: Display>(header: &[H], rows: Vec<Vec<String>>) {
    line(render_table(header, rows));
}

/// The text [`table`] prints.
pub(crate) fn render_table<H: Display>(header: &[H], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().map(H::to_string).collect::<Vec<_>>());
    table.add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Whether a person watches stderr, so that a line may be redrawn.
pub(crate) fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}
