//! The only printer of the command line: data on stdout, everything else on stderr. Nothing else prints. A write to stdout
//! that fails is kept until the end of the command, whose exit code it decides (`finish`).

use anyhow::Context as _;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;

/// The first failure of this process to write to stdout.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// One line of data on stdout.
pub fn line(text: impl Display) {
    // what comes behind a gap would look whole
    if is_open()
        && let Err(error) = write_line(&mut io::stdout().lock(), &text)
    {
        // another thread was first: its failure is as good
        let _ = FAILED.set(error);
    }
}

/// Whether lines still get to stdout. A command that prints as it goes may end when they do not.
pub(super) fn is_open() -> bool {
    FAILED.get().is_none()
}

fn write_line(out: &mut impl Write, text: &impl Display) -> io::Result<()> {
    writeln!(out, "{text}")?;
    out.flush()
}

/// Whether everything that was printed to stdout got there. The command calls it once, at its end.
///
/// # Errors
/// When the output could not be written, as on a full disk. A reader that went away (`| head`) is no error.
pub(super) fn finish() -> anyhow::Result<()> {
    verdict(FAILED.get())
}

fn verdict(failure: Option<&io::Error>) -> anyhow::Result<()> {
    match failure {
        None => Ok(()),
        Some(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Some(error) => Err(anyhow::anyhow!("{error}")).context("the output could not be written"),
    }
}

/// One line for a person on stderr. There is nobody left to tell that it could not be written.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
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

/// A path as one argument of a command that a person copies into a shell. Every command that is printed names its paths
/// through this.
pub fn shell_quote(path: &Path) -> String {
    let text = path.display().to_string();
    // a command would take it for an option
    let text = if text.starts_with('-') { format!("./{text}") } else { text };
    // only a zero byte cannot be quoted, and no path holds one
    shlex::try_quote(&text).map(|quoted| quoted.into_owned()).unwrap_or(text)
}

/// Whether a person watches stderr, so that a line may be redrawn.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails.
    struct Disk {
        room: usize,
        kind: ErrorKind,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(self.kind.into());
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_an_error_and_a_reader_that_went_away_is_none() {
        let written = |room, kind| verdict(write_line(&mut Disk { room, kind }, &"a line").err().as_ref());
        assert!(written(7, ErrorKind::StorageFull).is_ok());
        let error = format!("{:#}", written(3, ErrorKind::StorageFull).unwrap_err());
        assert!(error.starts_with("the output could not be written: "), "{error}");
        assert!(written(0, ErrorKind::BrokenPipe).is_ok());
    }

    #[test]
    fn a_path_in_a_command_is_one_argument_of_a_shell() {
        let shown = |path: &str| shell_quote(Path::new(path));
        assert_eq!(shown("runs/ml-100k"), "runs/ml-100k");
        for path in ["run 1", "it's", "a$HOME", "~x", "a\"b", "x;y", "", "ümlaut ß"] {
            let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", shown(path))]).output();
            assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), path);
        }
        assert_eq!(shown("--json"), "./--json");
    }
}
