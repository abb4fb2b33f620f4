//! Text files of any size, a line at a time. gzip and zstd are told by their first bytes and unpacked on the way; what
//! is no text is refused by its name. Knows nothing of fields.

use crate::error::DataError;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

/// Bytes by which a file's kind and its line ends are told.
const HEAD: u64 = 1 << 16;
/// A longer line is no interaction.
const LONGEST_LINE: u64 = 1 << 24;

/// UTF-8's byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What to do with text that is not UTF-8.
pub(crate) const CONVERT: &str =
    "convert it from the encoding it was written in, such as: iconv -f windows-1252 -t utf-8";

/// An opened text file.
pub(crate) struct TextFile {
    path: PathBuf,
    /// "gzip" or "zstd".
    pub(crate) compression: Option<&'static str>,
    reader: Box<dyn BufRead>,
    /// A line feed, or a carriage return in files that have no line feed.
    terminator: u8,
    /// Lines read so far.
    number: u64,
    line: Vec<u8>,
}

impl TextFile {
    /// # Errors
    /// A file that is missing, empty, or no text; the message says what it is instead.
    pub(crate) fn open(path: &Path) -> Result<TextFile, DataError> {
        let mut file = File::open(path).map_err(DataError::read(path))?;
        let mut raw = Vec::new();
        (&mut file).take(HEAD).read_to_end(&mut raw).map_err(DataError::read(path))?;
        let compression = match raw.as_slice() {
            [0x1f, 0x8b, ..] => Some("gzip"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
            _ => None,
        };
        let whole = BufReader::with_capacity(1 << 18, Cursor::new(raw).chain(file));
        let mut unpacked: Box<dyn Read> = match compression {
            Some("gzip") => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
            Some(_) => Box::new(zstd::stream::read::Decoder::with_buffer(whole).map_err(DataError::read(path))?),
            None => Box::new(whole),
        };
        let mut head = Vec::new();
        let read = (&mut unpacked).take(HEAD).read_to_end(&mut head);
        read.map_err(|error| unreadable(path, compression, 1, error))?;
        if head.iter().all(u8::is_ascii_whitespace) {
            return Err(DataError::Empty { path: path.into(), advice: "it should hold one entry a line".into() });
        }
        if let Some((problem, advice)) = foreign(&head) {
            return Err(DataError::malformed(path, problem, advice));
        }
        let terminator = if head.contains(&b'\r') && !head.contains(&b'\n') { b'\r' } else { b'\n' };
        let start = if head.starts_with(MARK) { MARK.len() as u64 } else { 0 };
        let mut head = Cursor::new(head);
        head.set_position(start);
        let reader = Box::new(BufReader::with_capacity(1 << 18, head.chain(unpacked)));
        Ok(TextFile { path: path.into(), compression, reader, terminator, number: 0, line: Vec::new() })
    }

    /// The next line's number (from 1) and its text without the line end.
    ///
    /// # Errors
    /// Damaged compression, text that is not UTF-8, or a line of more than 16 MiB.
    pub(crate) fn next_line(&mut self) -> Result<Option<(u64, &str)>, DataError> {
        self.line.clear();
        let mut limited = (&mut self.reader).take(LONGEST_LINE + 1);
        let read = limited.read_until(self.terminator, &mut self.line);
        let read = read.map_err(|error| unreadable(&self.path, self.compression, self.number + 1, error))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.line.len() as u64 > LONGEST_LINE {
            return Err(DataError::at_line(
                &self.path,
                self.number,
                "the line is longer than 16 MiB",
                "give one interaction a line",
            ));
        }
        while let [.., b'\n' | b'\r'] = self.line.as_slice() {
            self.line.pop();
        }
        // files that were put together each bring a mark of their own
        let line = self.line.strip_prefix(MARK).unwrap_or(&self.line);
        match std::str::from_utf8(line) {
            Ok(text) => Ok(Some((self.number, text))),
            Err(_) => Err(DataError::at_line(&self.path, self.number, "the text is not UTF-8", CONVERT)),
        }
    }
}

fn unreadable(path: &Path, compression: Option<&'static str>, line: u64, error: std::io::Error) -> DataError {
    match compression {
        None => DataError::read(path)(error),
        Some(name) => DataError::at_line(
            path,
            line,
            format!("the {name} data are damaged ({error})"),
            "the file may be truncated: fetch or pack it again",
        ),
    }
}

/// `[{`, `[[`, `["` or `[1`: no id of a table begins so.
fn is_json_list(start: &[u8]) -> bool {
    let Some(inside) = start.strip_prefix(b"[") else { return false };
    matches!(inside.trim_ascii_start().first(), Some(b'{' | b'[' | b'"' | b'0'..=b'9'))
}

/// What a file is that is no text, and what to do.
fn foreign(head: &[u8]) -> Option<(&'static str, &'static str)> {
    const UNPACK: &str = "unpack it first; gzip and zstd are read as they stand";
    const UTF16: (&str, &str) = ("the text is UTF-16", "convert it: iconv -f utf-16 -t utf-8");
    const UTF32: (&str, &str) = ("the text is UTF-32", "convert it: iconv -f utf-32 -t utf-8");
    const KINDS: [(&[u8], &str, &str); 12] = [
        (b"\xd0\xcf\x11\xe0", "this is an old Excel workbook", "export the sheet as CSV"),
        (b"PAR1", "this is a Parquet file", "let its name end in .parquet"),
        (b"\x93NUMPY", "this is a numpy array", "set data.format = \"npz\" for matrices; text files hold a line each"),
        (b"PK\x03\x04", "this is a zip archive or an Excel workbook", "unpack it, or export the sheet as CSV"),
        (b"BZh", "this is compressed by bzip2", UNPACK),
        (b"\xfd7zXZ\0", "this is compressed by xz", UNPACK),
        (b"7z\xbc\xaf", "this is a 7z archive", UNPACK),
        (b"\x89HDF", "this is an HDF5 file", "export it as CSV or Parquet"),
        (b"SQLite format 3\0", "this is an SQLite database", "export the table as CSV or Parquet"),
        (b"version https://git-lfs", "this is a Git LFS pointer, not the file itself", "run: git lfs pull"),
        (b"%%MatrixMarket", "this is a Matrix Market file", "save the matrix with scipy.sparse.save_npz"),
        (b"{", "this is JSON", "export the interactions as CSV or Parquet, with a user and an item column"),
    ];
    match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Some(UTF32),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some(UTF16),
        [0x80, 2..=5, ..] => {
            return Some(("this is a Python pickle", "set data.format = \"rlmrec\" for pickled matrices"));
        }
        _ => {}
    }
    if let Some((_, problem, advice)) = KINDS.iter().find(|(magic, _, _)| head.starts_with(magic)) {
        return Some((problem, advice));
    }
    let start = head.trim_ascii_start();
    if is_json_list(start) {
        return Some(("this is JSON", "export the interactions as CSV or Parquet, with a user and an item column"));
    }
    let begins = |text: &[u8]| start.get(..text.len()).is_some_and(|s| s.eq_ignore_ascii_case(text));
    if begins(b"<!doctype") || begins(b"<html") {
        return Some(("this is an HTML page", "a download may have failed: fetch the file again"));
    }
    if !head.contains(&0) {
        return None;
    }
    // UTF-16 without its mark: every other byte of plain text is 0
    let zeros = |from: usize| head.iter().skip(from).step_by(2).filter(|&&b| b == 0).count();
    if zeros(0).max(zeros(1)) > head.len() / 4 {
        return Some(UTF16);
    }
    Some(("the file holds zero bytes: it is no text", "give a text file, .parquet, .npz or pickles"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn lines(bytes: &[u8]) -> Result<Vec<(u64, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, bytes).unwrap();
        let read = || -> Result<Vec<(u64, String)>, DataError> {
            let (mut file, mut out) = (TextFile::open(&path)?, Vec::new());
            while let Some((number, line)) = file.next_line()? {
                out.push((number, line.to_owned()));
            }
            Ok(out)
        };
        read().map_err(|e| e.to_string().replace(&path.display().to_string(), "a.csv"))
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn lines_end_in_any_of_the_three_ways_packed_or_not() {
        let expected: Vec<(u64, String)> = vec![(1, "a,b".into()), (2, String::new()), (3, "c,d".into())];
        for text in ["a,b\n\nc,d", "a,b\r\n\r\nc,d\r\n", "a,b\r\rc,d\r", "\u{feff}a,b\n\nc,d\n"] {
            assert_eq!(lines(text.as_bytes()), Ok(expected.clone()), "{text:?}");
            assert_eq!(lines(&gzip(text.as_bytes())), Ok(expected.clone()), "{text:?}");
            assert_eq!(lines(&zstd::encode_all(text.as_bytes(), 1).unwrap()), Ok(expected.clone()), "{text:?}");
        }
        // two members of gzip, one behind the other
        assert_eq!(lines(&[gzip(b"a,b\n\n"), gzip(b"c,d\n")].concat()), Ok(expected));
    }

    #[test]
    fn what_is_no_text_is_named() {
        let utf16: Vec<u8> = "u,i\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, said) in [
            ([b"\xff\xfe".to_vec(), utf16.clone()].concat(), "UTF-16"),
            (utf16, "UTF-16"),
            (b"PAR1....".to_vec(), "Parquet"),
            (b"\x80\x04K\x01.".to_vec(), "pickle"),
            (b"PK\x03\x04..".to_vec(), "zip archive"),
            (b"\xd0\xcf\x11\xe0....".to_vec(), "Excel"),
            (b"[\n {\"user\": 1}]".to_vec(), "JSON"),
            (b"[1, 2]\n".to_vec(), "JSON"),
            (b"\n <!DOCTYPE html>".to_vec(), "HTML"),
            (b"{\"user\": 1}\n".to_vec(), "JSON"),
            (b"version https://git-lfs.x/spec/v1\n".to_vec(), "git lfs pull"),
            (b"0 1\n\0\0 2\n1 1 1 1 1 1 1 1".to_vec(), "zero bytes"),
            (b" \n\t\n".to_vec(), "is empty"),
            (b"a,caf\xe9\n".to_vec(), "a.csv:1: the text is not UTF-8"),
            (gzip(b"0 1\n0 2\n")[..12].to_vec(), "a.csv:1: the gzip data are damaged"),
        ] {
            let error = lines(&bytes).unwrap_err();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[test]
    fn damaged_compression_is_told_with_its_line() {
        let text: String = (0..40_000).map(|k| format!("{k},{}\n", k * 7919 % 10_007)).collect();
        for packed in [gzip(text.as_bytes()), zstd::encode_all(text.as_bytes(), 1).unwrap()] {
            let error = lines(&packed[..packed.len() - 1000]).unwrap_err();
            assert!(error.contains("data are damaged") && error.contains("a.csv:"), "{error}");
        }
    }
}
