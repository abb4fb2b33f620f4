//! Writes a dataset as an npz folder that loads fast and needs no repair: `trn.npz`, `val.npz`, `tst.npz`,
//! `users.txt`, `items.txt`, `item_titles.txt`, the text tables as `.npy` under their default names (f16 where that loses
//! nothing, else f32), and `ids.json`, the digests of the ids that the tables belong to. The folder appears whole or not at
//! all.

use crate::embeddings::{DIGESTS_FILE, IdDigests};
use crate::error::DataError;
use crate::readers::npy;
use crate::{Dataset, Embeddings, Interactions, durable};
use accord_spec::TextFiles;
use half::f16;
use std::fs;
use std::io::{self, BufWriter, Cursor, Write as _};
use std::path::Path;
use zip::ZipWriter;
use zip::result::ZipResult;
use zip::write::SimpleFileOptions;

/// Bytes that are packed at a time.
const BLOCK: usize = 1 << 16;

/// Writes `dataset` to `folder`, in place of an earlier prepared dataset there.
///
/// # Errors
/// A folder that holds something else (nothing is touched), ids that do not fit a line, text tables of another size,
/// values that are not finite, or a failing disk.
pub fn write(folder: &Path, dataset: &Dataset) -> Result<(), DataError> {
    write_checked(folder, dataset, |_| Ok(()))
}

/// As [`write`]; `check` is given the written files under a temporary name, before they take their place, and what it
/// returns is returned.
///
/// # Errors
/// Those of [`write`] and of `check`; `folder` is then as it was before.
pub fn write_checked<T, E: From<DataError>>(
    folder: &Path,
    dataset: &Dataset,
    check: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    if folder.exists() && !folder.join("trn.npz").is_file() && !is_empty(folder) {
        return Err(DataError::malformed(
            folder,
            "the folder holds something that is not a prepared dataset",
            "name a new folder, or empty this one",
        )
        .into());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(DataError::write(parent))?;
    let fresh = durable::temporary(folder);
    let filled = fill(&fresh, dataset).map_err(E::from).and_then(|()| check(&fresh));
    let written = filled.and_then(|checked| {
        exchange(&fresh, folder)?;
        Ok(checked)
    });
    if written.is_err() {
        // the error itself says more than a failure to tidy up would
        let _ = fs::remove_dir_all(&fresh);
    }
    let checked = written?;
    durable::sync_folder(parent).map_err(DataError::write(parent))?;
    Ok(checked)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Puts `fresh` in the place of `folder`.
fn exchange(fresh: &Path, folder: &Path) -> Result<(), DataError> {
    if !folder.exists() {
        return fs::rename(fresh, folder).map_err(DataError::write(folder));
    }
    let old = durable::temporary(folder);
    fs::rename(folder, &old).map_err(DataError::write(folder))?;
    fs::rename(fresh, folder).map_err(DataError::write(folder))?;
    fs::remove_dir_all(&old).map_err(DataError::write(&old))
}

fn fill(folder: &Path, dataset: &Dataset) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(DataError::write(folder))?;
    let save = |name: &str, bytes: &[u8]| -> Result<(), DataError> {
        let path = folder.join(name);
        durable::write_synced(&path, bytes).map_err(DataError::write(&path))
    };
    for (name, part) in [("trn.npz", &dataset.train), ("val.npz", &dataset.validation), ("tst.npz", &dataset.test)] {
        save(name, &matrix(&folder.join(name), part)?)?;
    }
    save("users.txt", lines(folder, "user", &dataset.user_ids, dataset.users())?.as_bytes())?;
    save("items.txt", lines(folder, "item", &dataset.item_ids, dataset.items())?.as_bytes())?;
    if let Some(titles) = &dataset.item_titles {
        save("item_titles.txt", title_lines(folder, titles, dataset.items())?.as_bytes())?;
    }
    if let Some(text) = &dataset.text {
        let [user_profile, item_profile, user_intent, item_intent] = TextFiles::DEFAULT;
        let (users, items) = (dataset.users(), dataset.items());
        let mut tables = vec![(user_profile, &text.user_profile, users), (item_profile, &text.item_profile, items)];
        if let Some([user, item]) = &text.intents {
            tables.extend([(user_intent, user, users), (item_intent, item, items)]);
        }
        for (name, table, rows) in tables {
            save(name, &encoded(&folder.join(name), table, rows)?)?;
        }
        let path = folder.join(DIGESTS_FILE);
        let digests = serde_json::to_vec_pretty(&IdDigests::of(&dataset.user_ids, &dataset.item_ids));
        save(DIGESTS_FILE, &digests.map_err(|e| DataError::write(&path)(e.into()))?)?;
    }
    durable::sync_folder(folder).map_err(DataError::write(folder))
}

/// One title a line; line breaks inside of titles become blanks.
pub(crate) fn title_lines(folder: &Path, titles: &[String], expected: usize) -> Result<String, DataError> {
    let flat: Vec<String> = titles.iter().map(|t| t.replace(['\n', '\r'], " ")).collect();
    lines(folder, "item title", &flat, expected)
}

/// One text a line. Ids (any other `what` than `item title`) that are blank or hold a line break are refused.
pub(crate) fn lines(folder: &Path, what: &str, texts: &[String], expected: usize) -> Result<String, DataError> {
    if texts.len() != expected {
        return Err(DataError::malformed(
            folder,
            format!("{} {what}s for {expected} rows", texts.len()),
            "give one for each row",
        ));
    }
    if what != "item title"
        && let Some(bad) = texts.iter().find(|t| t.trim().is_empty() || t.contains(['\n', '\r']))
    {
        return Err(DataError::malformed(folder, format!("{what} id {bad:?} does not fit a line"), "rename it"));
    }
    Ok(texts.iter().flat_map(|t| [t.as_str(), "\n"]).collect())
}

/// `row`, `col` and `shape` as int32.
fn matrix(path: &Path, part: &Interactions) -> Result<Vec<u8>, DataError> {
    let packed = pack(ZipWriter::new(Cursor::new(Vec::new())), part);
    Ok(packed.map_err(|e| DataError::write(path)(io::Error::other(e)))?.into_inner())
}

/// The same archive, to what cannot go back; holds little more of it than a block.
pub(crate) fn write_matrix(out: impl io::Write, part: &Interactions) -> io::Result<()> {
    pack(ZipWriter::new_stream(out), part).map(|_| ()).map_err(io::Error::other)
}

fn pack<W: io::Write + io::Seek>(mut archive: ZipWriter<W>, part: &Interactions) -> ZipResult<W> {
    let shape = [part.users() as u32, part.items() as u32];
    array(&mut archive, "row.npy", part.len(), part.pairs().map(|pair| pair.0))?;
    array(&mut archive, "col.npy", part.len(), part.pairs().map(|pair| pair.1))?;
    array(&mut archive, "shape.npy", 2, shape.into_iter())?;
    archive.finish()
}

fn array<W: io::Write + io::Seek>(
    archive: &mut ZipWriter<W>,
    name: &str,
    len: usize,
    values: impl Iterator<Item = u32>,
) -> ZipResult<()> {
    let is_large = 4 * len as u64 > u64::from(u32::MAX) - npy::HEADER_BYTES;
    let options =
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated).large_file(is_large);
    archive.start_file(name, options)?;
    archive.write_all(&npy::encode("<i4", &[len], &[]))?;
    let mut block = BufWriter::with_capacity(BLOCK, archive);
    for value in values {
        block.write_all(&value.to_le_bytes())?;
    }
    Ok(block.flush()?)
}

/// As f16 where every value is one, else as f32.
fn encoded(path: &Path, table: &Embeddings, rows: usize) -> Result<Vec<u8>, DataError> {
    if table.rows != rows || table.rows.checked_mul(table.width) != Some(table.values.len()) {
        return Err(DataError::WrongShape {
            path: path.into(),
            found: format!("{} rows of width {} in {} values", table.rows, table.width, table.values.len()),
            expected: format!("there are {rows} of them"),
            advice: "encode one text for each".into(),
        });
    }
    if let Some(k) = table.values.iter().position(|value| !value.is_finite()) {
        let (row, column, value) = (k / table.width, k % table.width, f64::from(table.values[k]));
        return Err(DataError::NotFinite { path: path.into(), row, column, value });
    }
    let shape = [table.rows, table.width];
    let is_half = |value: &f32| f16::from_f32(*value).to_f32().to_bits() == value.to_bits();
    if table.values.iter().all(is_half) {
        let data: Vec<u8> = table.values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        return Ok(npy::encode("<f2", &shape, &data));
    }
    let data: Vec<u8> = table.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(npy::encode("<f4", &shape, &data))
}
