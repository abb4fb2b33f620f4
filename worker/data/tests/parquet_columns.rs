//! Parquet columns of files that pyarrow wrote (`parquet/write.py`), and what is refused.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

use accord_data::parquet::{self, Batch, Cells, Columns, Kind, Unit, Values};
use std::fs;
use std::path::{Path, PathBuf};

const ROWS: usize = 7;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(format!("{name}.parquet"))
}

fn open(name: &str) -> Columns {
    Columns::open(&fixture(name)).unwrap()
}

/// Every cell of every column, in words.
fn shown(columns: &Columns) -> Vec<(String, Vec<String>)> {
    let all: Vec<usize> = (0..columns.columns().len()).collect();
    let mut cells: Vec<_> = columns.columns().iter().map(|c| (c.name.clone(), vec![])).collect();
    let mut next = 0;
    let mut take = |first: u64, batch: &Batch| {
        assert_eq!((first, batch.first_row), (next, next));
        next += batch.rows as u64;
        for (column, (_, to)) in batch.columns.iter().zip(&mut cells) {
            to.extend((0..batch.rows).map(|row| show(column, row)));
        }
        Ok(())
    };
    columns.for_each_batch(&all, &mut take).unwrap();
    assert_eq!(next, columns.rows());
    cells
}

fn show(cells: &Cells, row: usize) -> String {
    match &cells.values {
        _ if cells.is_null(row) => "null".into(),
        Values::Integers(values) => values[row].to_string(),
        Values::Floats(values) => values[row].to_string(),
        Values::Booleans(values) => values[row].to_string(),
        Values::Texts(values) => values.get(row).into(),
        Values::Lists(values) => format!("{:?}", values.get(row)),
    }
}

/// What `write.py` says about a column.
fn expected(column: &str, k: usize) -> String {
    let (number, gap) = (k as f64, k % 3 == 1);
    match column {
        "int32" => (k as i64 - 3).to_string(),
        "int64" => (k as i64 * 1_000_000_000_000).to_string(),
        "uint32" => (4_000_000_000 + k).to_string(),
        "string" => format!("u{k}"),
        "large_string" => format!("ü{k}"),
        "category" => format!("c{}", k % 2),
        "float" => (number / 4.0).to_string(),
        "double" => (number / 8.0).to_string(),
        "half" => (number / 2.0).to_string(),
        "boolean" => k.is_multiple_of(2).to_string(),
        "milliseconds" => (1_600_000_000_000 + k).to_string(),
        "microseconds" => (1_600_000_000_000_000 + k).to_string(),
        "nanoseconds" => (1_600_000_000_000_000_000 + k).to_string(),
        "date" => (18_000 + k).to_string(),
        _ if column.ends_with("_null") && gap => "null".into(),
        "time_null" => (1_600_000_000_000_000_000 + k).to_string(),
        "half_null" => (number / 2.0).to_string(),
        "int64_null" => k.to_string(),
        "string_null" => format!("u{k}"),
        "double_null" => (number / 8.0).to_string(),
        "list" => format!("{:?}", [number, number + 0.5]),
        "fixed" => format!("{:?}", [number, -number]),
        "halves" => format!("{:?}", [number / 2.0]),
        "list_null" if k % 3 == 2 => "[]".into(),
        "list_null" => format!("{:?}", [number, f64::NAN]),
        other => panic!("unknown column {other}"),
    }
}

#[test]
fn every_encoding_and_compression_gives_the_same_cells() {
    for (name, number) in [
        ("snappy-dictionary", 22),
        ("zstd-plain-v2", 22),
        ("gzip-small-pages", 4),
        ("none-split", 22),
        ("required", 22),
        ("int96", 1),
    ] {
        let columns = open(name);
        assert_eq!((columns.columns().len(), columns.rows()), (number, ROWS as u64), "{name}");
        for (column, cells) in shown(&columns) {
            let right: Vec<String> = (0..ROWS).map(|k| expected(&column, k).replace("-0.0", "0.0")).collect();
            let cells: Vec<String> = cells.iter().map(|c| c.replace("-0.0", "0.0")).collect();
            assert_eq!(cells, right, "{name}, {column}");
        }
    }
}

#[test]
fn kinds_and_units_are_named() {
    let columns = open("snappy-dictionary");
    let kind = |name: &str| columns.columns().iter().find(|c| c.name == name).unwrap().kind.clone();
    for (name, expected) in [
        ("int32", Kind::Integer),
        ("uint32", Kind::Integer),
        ("category", Kind::Text),
        ("half", Kind::Float),
        ("boolean", Kind::Boolean),
        ("milliseconds", Kind::Timestamp(Unit::Milliseconds)),
        ("microseconds", Kind::Timestamp(Unit::Microseconds)),
        ("nanoseconds", Kind::Timestamp(Unit::Nanoseconds)),
        ("date", Kind::Timestamp(Unit::Days)),
        ("list", Kind::FloatList),
        ("fixed", Kind::FloatList),
    ] {
        assert_eq!(kind(name), expected, "{name}");
    }
    assert_eq!(
        parquet::describe(open("kinds").columns()),
        "nested (nested values), lists (nested values), integers (lists of integers), decimal (decimals of 2 places), \
         time (times of day), map (nested values), map (nested values), large (integers)"
    );
}

/// What reading all columns says; `FILE` stands for the file.
fn failure(path: &Path) -> String {
    let read = || {
        let columns = Columns::open(path)?;
        let all: Vec<usize> = (0..columns.columns().len()).collect();
        columns.for_each_batch(&all, |_, _| Ok(()))
    };
    let name = path.file_name().unwrap().to_string_lossy();
    match read() {
        Ok(()) => "it was read".into(),
        Err(error) => error.to_string().replace(&path.display().to_string(), &name),
    }
}

#[test]
#[rustfmt::skip]
fn what_is_not_read_is_told_in_words() {
    for (name, message) in [
        ("brotli", "column `a` is compressed with brotli: write it with compression snappy, gzip, zstd or none"),
        ("lz4", "column `a` is compressed with lz4: write it with compression snappy, gzip, zstd or none"),
        ("delta-strings", "column `a`, row group 0: the encoding DELTA_BYTE_ARRAY of BYTE_ARRAY is not read: write it with the default encodings of pyarrow, pandas or Spark"),
        ("kinds", "column `nested` holds nested values, which is not read: write it as a plain column of integers, floats, strings or timestamps, or as lists of floats"),
        ("not-utf8", "column `a`, row 1: the string is not UTF-8: write the column as UTF-8 strings, such as frame[column].str.decode(\"utf-8\")"),
        ("encrypted", "the file is encrypted: write it without encryption"),
        ("encrypted-columns", "column `a`, row group 0: a page header has no sizes: the column is damaged or encrypted: write the file again, without encryption"),
    ] {
        assert_eq!(failure(&fixture(name)), format!("{name}.parquet: {message}"));
    }
    let large = open("kinds");
    let last = large.columns().len() - 1;
    let mut said = vec![];
    large
        .for_each_batch(&[last], |_, batch| {
            said.extend((0..batch.rows).map(|row| show(&batch.columns[0], row)));
            Ok(())
        })
        .unwrap();
    assert_eq!(said[0], "18446744073709551615");
}

#[test]
fn parts_may_list_their_columns_in_another_order() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("wide-by-name"), folder.path().join("part-0.parquet")).unwrap();
    fs::copy(fixture("wide-by-number"), folder.path().join("part-1.parquet")).unwrap();
    let parts = parquet::open_parts(folder.path()).unwrap();
    assert_eq!(shown(&parts[0]), shown(&parts[1]));
    assert_eq!(parts[1].columns()[3].name, "d10");
}

#[test]
fn files_of_other_formats_are_called_by_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for (bytes, message) in [
        (&b"\x1f\x8b\x08 and more"[..], "a.parquet: the file is compressed by gzip as a whole: unpack it"),
        (b"ARROW1\0\0", "a.parquet: the file is a Feather file, not Parquet: write it with frame.to_parquet(name)"),
    ] {
        fs::write(&path, bytes).unwrap();
        let said = failure(&path);
        assert!(said.starts_with(message), "{said}");
    }
}

/// A prefix is an error; a flipped bit is an error or cells, never a panic.
#[test]
fn cut_and_flipped_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for name in ["gzip-small-pages", "pandas-lists"] {
        let whole = fs::read(fixture(name)).unwrap();
        for len in (0..whole.len()).step_by(11) {
            fs::write(&path, &whole[..len]).unwrap();
            assert_ne!(failure(&path), "it was read", "{name}, {len}");
        }
        for byte in (0..whole.len()).step_by(3) {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << (byte % 8);
            fs::write(&path, &flipped).unwrap();
            failure(&path);
        }
    }
}

#[test]
fn parts_of_a_folder_are_read_by_name_and_agree_in_their_columns() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, from: &str| fs::copy(fixture(from), folder.path().join(name)).unwrap();
    let error = |folder: &Path| parquet::open_parts(folder).err().unwrap().to_string();
    assert!(error(folder.path()).ends_with("is empty: it should hold part files ending in .parquet"));
    put("part-00001.parquet", "zstd-plain-v2");
    put("part-00000.snappy.parquet", "snappy-dictionary");
    put("_metadata", "int96");
    fs::write(folder.path().join(".part-00000.crc"), "x").unwrap();
    let parts = parquet::open_parts(folder.path()).unwrap();
    let names: Vec<_> = parts.iter().map(|p| p.path().file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["part-00000.snappy.parquet", "part-00001.parquet"]);

    put("part-00002.parquet", "int96");
    let said = error(folder.path());
    assert!(said.contains("part-00002.parquet: time_null (timestamps in nanoseconds), but "), "{said}");
    fs::create_dir(folder.path().join("year=2020")).unwrap();
    let said = error(folder.path());
    assert!(said.contains("the folder `year=2020` in it is not read"), "{said}");
    assert_eq!(parquet::open_parts(&fixture("int96")).unwrap().len(), 1);
}
