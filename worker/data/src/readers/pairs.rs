//! `user item [rating [time]]` a line: text, CSV or TSV. Separator and header are detected file by file; ids may be
//! anything without the separator in it.

use super::files::{self, Parts, Record, Wanted};
use super::tables::{Catalog, Names, settle};
use crate::error::{DataError, Side};
use crate::manifest::Repairs;
use std::path::{Path, PathBuf};

pub(crate) const ENDINGS: [&str; 4] = ["txt", "csv", "tsv", "dat"];

pub(crate) fn read(
    folder: &Path,
    wanted: &Wanted,
    repairs: &mut Repairs,
) -> Result<(Catalog, Parts<Vec<Record>>), DataError> {
    let mut sides = [Names::new(folder, Side::User)?, Names::new(folder, Side::Item)?];
    let parts = files::locate(folder, &ENDINGS)?.try_map(|path| {
        let text = files::read_text(&path)?;
        let separator = Separator::of(&text);
        let (columns, skip) = columns(&text, separator);
        records(&Source { path, text, separator, columns, skip }, wanted, &mut sides, repairs)
    })?;
    let [users, items] = sides;
    settle(folder, users, items, parts)
}

/// Where a file's columns are, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) user: usize,
    pub(crate) item: usize,
    pub(crate) rating: Option<usize>,
    pub(crate) time: Option<usize>,
    /// Said by a header, so lines may have more columns.
    pub(crate) named: bool,
}

/// A file with one interaction a line.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) separator: Separator,
    pub(crate) columns: Columns,
    /// Lines before the first interaction.
    pub(crate) skip: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Separator {
    /// Any run of blanks.
    Blank,
    Tab,
    /// Comma or semicolon, with quoted fields.
    Quoted(u8),
    /// MovieLens' `::`.
    Colons,
}

impl Separator {
    /// From the first line that is not a comment.
    fn of(text: &str) -> Separator {
        let line = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#')).unwrap_or_default();
        match () {
            () if line.contains('\t') => Separator::Tab,
            () if line.contains("::") => Separator::Colons,
            () if line.contains(',') => Separator::Quoted(b','),
            () if line.contains(';') => Separator::Quoted(b';'),
            () => Separator::Blank,
        }
    }
}

/// Calls `each` with the number (from 1) and the fields of each line that is not blank.
fn for_each_line(
    path: &Path,
    text: &str,
    separator: Separator,
    mut each: impl FnMut(u64, &[&str]) -> Result<(), DataError>,
) -> Result<(), DataError> {
    if let Separator::Quoted(byte) = separator {
        let mut lines =
            csv::ReaderBuilder::new().delimiter(byte).has_headers(false).flexible(true).from_reader(text.as_bytes());
        let mut record = csv::StringRecord::new();
        loop {
            match lines.read_record(&mut record) {
                Ok(true) => {
                    let line = record.position().map_or(0, csv::Position::line);
                    let fields: Vec<&str> = record.iter().map(str::trim).collect();
                    if fields != [""] {
                        each(line, &fields)?;
                    }
                }
                Ok(false) => return Ok(()),
                Err(e) => return Err(DataError::malformed(path, e.to_string(), "check the quotes and separators")),
            }
        }
    }
    for (line, number) in text.lines().zip(1u64..) {
        if line.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = match separator {
            Separator::Blank => line.split_whitespace().collect(),
            Separator::Tab => line.split('\t').map(str::trim).collect(),
            Separator::Colons => line.split("::").map(str::trim).collect(),
            Separator::Quoted(byte) => line.split(char::from(byte)).collect(),
        };
        each(number, &fields)?;
    }
    Ok(())
}

const USER: [&str; 5] = ["user", "user_id", "userid", "uid", "user_idx"];
const ITEM: [&str; 12] = [
    "item",
    "item_id",
    "itemid",
    "iid",
    "item_idx",
    "movie_id",
    "movieid",
    "book_id",
    "product_id",
    "parent_asin",
    "asin",
    "business_id",
];
const RATING: [&str; 5] = ["rating", "score", "stars", "value", "weight"];
const TIME: [&str; 5] = ["time", "timestamp", "unix_time", "unixreviewtime", "ts"];

/// The columns of a file and how many lines come before its first interaction: leading `#` lines and a header. A
/// header either names its columns, or has words where the next line has integers.
fn columns(text: &str, separator: Separator) -> (Columns, u64) {
    let comments = text.lines().take_while(|l| l.starts_with('#') || l.trim().is_empty()).count();
    let mut first_two: Vec<Vec<String>> = Vec::new();
    let rest: Vec<&str> = text.lines().skip(comments).filter(|l| !l.trim().is_empty()).take(2).collect();
    // this cannot fail: each closure succeeds, and a quoting error of the two lines shows up when the file is read
    let _ = for_each_line(Path::new(""), &rest.join("\n"), separator, |_, fields| {
        first_two.push(fields.iter().map(|f| f.to_string()).collect());
        Ok(())
    });
    let by_place = |len: usize| Columns {
        user: 0,
        item: 1,
        rating: (len > 2).then_some(2),
        time: (len > 3).then_some(3),
        named: false,
    };
    let Some(first) = first_two.first() else { return (by_place(2), 0) };
    let header: Vec<String> = first.iter().map(|f| f.to_ascii_lowercase()).collect();
    let find = |names: &[&str]| header.iter().position(|h| names.contains(&h.as_str()));
    if let (Some(user), Some(item)) = (find(&USER), find(&ITEM)) {
        let columns = Columns { user, item, rating: find(&RATING), time: find(&TIME), named: true };
        return (columns, comments as u64 + 1);
    }
    let integer = |field: Option<&String>| field.is_some_and(|f| f.parse::<i64>().is_ok());
    let number = |field: Option<&String>| field.is_some_and(|f| f.parse::<f64>().is_ok());
    let header_by_types = first_two.get(1).is_some_and(|second| {
        let ids =
            !integer(first.first()) && !integer(first.get(1)) && integer(second.first()) && integer(second.get(1));
        let values = (2..first.len().min(second.len())).any(|k| !number(first.get(k)) && number(second.get(k)));
        ids || values
    });
    (by_place(first.len()), comments as u64 + u64::from(header_by_types))
}

/// The interactions of one file with provisional ids; those rated too low are dropped and counted.
pub(crate) fn records(
    source: &Source,
    wanted: &Wanted,
    sides: &mut [Names; 2],
    repairs: &mut Repairs,
) -> Result<Vec<Record>, DataError> {
    let Source { path, text, separator, columns, skip } = source;
    let need = |column: Option<usize>, what: &str, key: &str, advice: &str| {
        column.ok_or_else(|| {
            DataError::malformed(path, format!("{key} is set and the file has no {what} column"), advice)
        })
    };
    let rating = match wanted.min_rating {
        Some(least) => Some((need(columns.rating, "rating", "data.min_rating", "remove data.min_rating")?, least)),
        None => None,
    };
    let time = match wanted.time {
        true => Some(need(columns.time, "time", "data.split = \"time\"", "use data.split = \"random\"")?),
        false => None,
    };
    sides.iter_mut().for_each(|s| s.enter(path));
    let mut records = Vec::new();
    let (mut lines, mut low) = (0u64, 0u64);
    for_each_line(path, text, *separator, |line, fields| {
        if line <= *skip {
            return Ok(());
        }
        lines += 1;
        let number = |column: usize, what: &str| -> Result<f64, DataError> {
            let field = fields.get(column).copied().unwrap_or_default();
            field.parse::<f64>().ok().filter(|v| v.is_finite()).ok_or_else(|| {
                DataError::at_line(path, line, format!("the {what} `{field}` is not a number"), "give a plain number")
            })
        };
        let (Some(&user), Some(&item)) = (fields.get(columns.user), fields.get(columns.item)) else {
            return Err(DataError::at_line(
                path,
                line,
                format!("{} field{}", fields.len(), if fields.len() == 1 { "" } else { "s" }),
                "each line needs a user and an item; the file may be truncated",
            ));
        };
        if !columns.named && fields.len() > 4 {
            return Err(DataError::at_line(
                path,
                line,
                format!("{} fields without a header that names them", fields.len()),
                "add a header, or set data.format = \"adjacency\" for lists of items",
            ));
        }
        if let Some((column, least)) = rating
            && number(column, "rating")? < least
        {
            low += 1;
            return Ok(());
        }
        let time = time.map_or(Ok(0.0), |column| number(column, "time"))?;
        let [users, items] = sides;
        records.push(Record { user: users.number(user, line)?, item: items.number(item, line)?, time });
        Ok(())
    })?;
    if lines == 0 {
        let advice = "the file has a header and no interaction".into();
        return Err(DataError::Empty { path: path.clone(), advice });
    }
    if let Some((_, least)) = rating {
        repairs.add(format!("interactions rated below data.min_rating = {least} dropped"), low);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(text: &str) -> (Separator, Columns, u64) {
        let separator = Separator::of(text);
        let (columns, skip) = columns(text, separator);
        (separator, columns, skip)
    }

    #[test]
    fn separators_and_headers_are_detected() {
        let plain = |n: usize| Columns {
            user: 0,
            item: 1,
            rating: (n > 2).then_some(2),
            time: (n > 3).then_some(3),
            named: false,
        };
        assert_eq!(detected("0 5\n1 6\n"), (Separator::Blank, plain(2), 0));
        assert_eq!(detected("# made by hand\n0\t5\t1.5\t99\n"), (Separator::Tab, plain(4), 1));
        assert_eq!(detected("1::1193::5::978300760\n"), (Separator::Colons, plain(4), 0));
        assert_eq!(detected("who,what\n1,2\n"), (Separator::Quoted(b','), plain(2), 1));
        assert_eq!(detected("anna;lamp;stars\nbert;chair;4\n"), (Separator::Quoted(b';'), plain(3), 1));
        assert_eq!(detected("anna;lamp\nbert;chair\n"), (Separator::Quoted(b';'), plain(2), 0));
        let named = Columns { user: 2, item: 0, rating: None, time: Some(1), named: true };
        assert_eq!(detected("Asin,Timestamp,User_Id\nB1,3,u\n"), (Separator::Quoted(b','), named, 1));
    }
}
