//! The fields of a line: separators and quotation marks. Strict where the usual CSV readers are silent: a quotation mark
//! that is not closed, or text behind a closing one, is an error, so no line is lost in a field that never ends.

use std::fmt;

/// What lies between two fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Separator {
    /// Any run of blanks.
    Blank,
    Text(String),
}

impl Separator {
    /// As `data.separator` names it.
    pub(crate) fn named(name: &str) -> Separator {
        match name {
            "blank" | " " => Separator::Blank,
            "tab" | "\\t" => Separator::Text("\t".into()),
            text => Separator::Text(text.into()),
        }
    }
}

impl fmt::Display for Separator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Separator::Blank => f.write_str("blanks"),
            Separator::Text(text) => match text.as_str() {
                "\t" => f.write_str("tabs"),
                "," => f.write_str("commas"),
                ";" => f.write_str("semicolons"),
                other => write!(f, "{other:?}"),
            },
        }
    }
}

/// The fields of one or, where a quoted field has line breaks, several lines.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    text: String,
    ends: Vec<usize>,
    /// The line it begins on.
    pub(crate) line: u64,
    /// The lines after the first, while a quoted field is open.
    pub(crate) continued: Vec<String>,
}

impl Fields {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, column: usize) -> Option<&str> {
        let end = *self.ends.get(column)?;
        let begin = if column == 0 { 0 } else { self.ends[column - 1] };
        Some(&self.text[begin..end])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|column| self.get(column))
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.continued.clear();
    }

    fn begin(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Ends a field; blanks around its content do not belong to it.
    fn end(&mut self) {
        let begin = self.begin();
        let kept = self.text[begin..].trim_end().len();
        self.text.truncate(begin + kept);
        let leading = kept - self.text[begin..].trim_start().len();
        self.text.drain(begin..begin + leading);
        self.ends.push(self.text.len());
    }
}

/// What is wrong with the quotation marks, and the line of the one that opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuoteProblem {
    NeverClosed { opened: u64 },
    TextBehind { opened: u64, closed: u64 },
}

/// Lines that one quoted field may have.
const MOST_LINES: usize = 10_000;

/// Splits lines into fields.
#[derive(Clone, Debug)]
pub(crate) struct Splitter {
    separator: Separator,
    quotes: bool,
    /// Where the quoted field that is still open began.
    open: Option<u64>,
}

impl Splitter {
    pub(crate) fn new(separator: Separator, quotes: bool) -> Splitter {
        Splitter { separator, quotes, open: None }
    }

    /// Takes in a line; true when `fields` are whole, false when a quoted field goes on in the next line.
    pub(crate) fn take(&mut self, number: u64, line: &str, fields: &mut Fields) -> Result<bool, QuoteProblem> {
        let mut rest = line;
        if let Some(opened) = self.open {
            if fields.continued.len() == MOST_LINES {
                return Err(QuoteProblem::NeverClosed { opened });
            }
            fields.continued.push(line.to_owned());
            fields.text.push('\n');
            match self.quoted(rest, opened, number, fields)? {
                None => return Ok(false),
                Some(behind) => rest = behind,
            }
        } else {
            fields.clear();
            fields.line = number;
        }
        loop {
            if self.open.take().is_none() {
                match self.field(rest, number, fields)? {
                    Field::Open => return Ok(false),
                    Field::Behind(behind) => rest = behind,
                    Field::Last => {
                        fields.end();
                        return Ok(true);
                    }
                }
            }
            fields.end();
            match self.past_separator(rest) {
                Some(next) => rest = next,
                None => return Ok(true),
            }
        }
    }

    /// What ends when the file does while a field is open.
    pub(crate) fn at_end(&self) -> Result<(), QuoteProblem> {
        self.open.map_or(Ok(()), |opened| Err(QuoteProblem::NeverClosed { opened }))
    }

    /// One field from the start of `rest`.
    fn field<'a>(&mut self, rest: &'a str, number: u64, fields: &mut Fields) -> Result<Field<'a>, QuoteProblem> {
        let start = self.past_blanks(rest);
        if self.quotes
            && let Some(inside) = start.strip_prefix('"')
        {
            return match self.quoted(inside, number, number, fields)? {
                None => {
                    self.open = Some(number);
                    Ok(Field::Open)
                }
                Some(behind) => Ok(Field::Behind(behind)),
            };
        }
        let end = match &self.separator {
            Separator::Blank => start.find(char::is_whitespace),
            Separator::Text(text) => start.find(text.as_str()),
        };
        match end {
            None => {
                fields.text.push_str(start);
                Ok(Field::Last)
            }
            Some(end) => {
                fields.text.push_str(&start[..end]);
                Ok(Field::Behind(&start[end..]))
            }
        }
    }

    /// The content of a quoted field up to its closing mark; what is behind it, or none when the line ends before.
    fn quoted<'a>(
        &self,
        mut rest: &'a str,
        opened: u64,
        number: u64,
        fields: &mut Fields,
    ) -> Result<Option<&'a str>, QuoteProblem> {
        loop {
            let Some(mark) = rest.find('"') else {
                fields.text.push_str(rest);
                return Ok(None);
            };
            fields.text.push_str(&rest[..mark]);
            rest = &rest[mark + 1..];
            if let Some(behind) = rest.strip_prefix('"') {
                fields.text.push('"');
                rest = behind;
                continue;
            }
            let behind = self.past_blanks(rest);
            let separated = match &self.separator {
                Separator::Blank => behind.is_empty() || behind.len() < rest.len(),
                Separator::Text(text) => behind.is_empty() || behind.starts_with(text.as_str()),
            };
            let place = QuoteProblem::TextBehind { opened, closed: number };
            return if separated { Ok(Some(if behind.is_empty() { behind } else { rest })) } else { Err(place) };
        }
    }

    /// Without leading blanks that are no separator.
    fn past_blanks<'a>(&self, text: &'a str) -> &'a str {
        match &self.separator {
            Separator::Blank => text.trim_start(),
            Separator::Text(separator) => {
                let blanks = |c: char| c.is_whitespace() && !separator.starts_with(c);
                text.trim_start_matches(blanks)
            }
        }
    }

    /// Behind the separator that `rest` begins with, blanks before it left out; none at the end of the line.
    fn past_separator<'a>(&self, rest: &'a str) -> Option<&'a str> {
        match &self.separator {
            Separator::Blank => Some(rest.trim_start()).filter(|next| !next.is_empty()),
            Separator::Text(text) => self.past_blanks(rest).strip_prefix(text.as_str()),
        }
    }
}

enum Field<'a> {
    /// A quoted field that goes on in the next line.
    Open,
    Behind(&'a str),
    Last,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(separator: &str, lines: &[&str]) -> Result<Vec<Vec<String>>, QuoteProblem> {
        let mut splitter = Splitter::new(Separator::named(separator), true);
        let (mut fields, mut out) = (Fields::default(), Vec::new());
        for (line, number) in lines.iter().zip(1..) {
            if splitter.take(number, line, &mut fields)? {
                out.push(fields.iter().map(String::from).collect());
            }
        }
        splitter.at_end().map(|()| out)
    }

    #[test]
    fn fields_of_every_separator() {
        for (separator, line, expected) in [
            (",", "a, b ,,c", &["a", "b", "", "c"][..]),
            (",", "\"a, b\" , \"say \"\"x\"\"\",c\"d", &["a, b", "say \"x\"", "c\"d"]),
            (",", "a,", &["a", ""]),
            ("tab", "\"u 0\"\tSong, 4\t", &["u 0", "Song, 4", ""]),
            ("blank", "  u0   \"Song 4\"\t5 ", &["u0", "Song 4", "5"]),
            ("::", "1::2 x::3", &["1", "2 x", "3"]),
            ("|", "a|b", &["a", "b"]),
        ] {
            assert_eq!(split(separator, &[line]).unwrap(), [expected], "{separator} {line}");
        }
    }

    #[test]
    fn quoted_fields_may_have_line_breaks_and_must_end() {
        assert_eq!(split(",", &["a,\"x", "y\",b", "c,d,e"]).unwrap(), [["a", "x\ny", "b"], ["c", "d", "e"]]);
        assert_eq!(split(",", &["a,b", "c,\"d", "e,f"]), Err(QuoteProblem::NeverClosed { opened: 2 }));
        assert_eq!(split(",", &["\"a\"b,c"]), Err(QuoteProblem::TextBehind { opened: 1, closed: 1 }));
        assert_eq!(split(",", &["\"a,b", "c,\"d,e"]), Err(QuoteProblem::TextBehind { opened: 1, closed: 2 }));
        assert_eq!(split("tab", &["\"Weird\" Al\tx"]), Err(QuoteProblem::TextBehind { opened: 1, closed: 1 }));
    }

    #[test]
    fn marks_are_letters_where_quoting_is_off() {
        let mut splitter = Splitter::new(Separator::named(","), false);
        let mut fields = Fields::default();
        assert_eq!(splitter.take(1, "\"a,b\"", &mut fields), Ok(true));
        assert_eq!(fields.iter().collect::<Vec<_>>(), ["\"a", "b\""]);
    }

    proptest! {
        /// What the csv crate writes is read back, whatever the content.
        #[test]
        fn written_csv_is_read_back(rows in proptest::collection::vec(proptest::collection::vec("[a-c\", \n]{0,6}", 2..4), 1..5)) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            rows.iter().for_each(|row| writer.write_record(row).unwrap());
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let lines: Vec<&str> = text.strip_suffix('\n').unwrap().split('\n').collect();
            let expected: Vec<Vec<String>> =
                rows.iter().map(|row| row.iter().map(|f| f.trim().to_owned()).collect()).collect();
            prop_assert_eq!(split(",", &lines).unwrap(), expected);
        }
    }
}
