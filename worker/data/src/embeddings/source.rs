//! The text tables that a model needs, from the files of a dataset's folder: located, joined to users and items, their
//! digests taken.

use super::fixed::{self, DIGESTS_FILE, IdDigests, Listed};
use super::join::{Join, Joined, Nodes};
use super::locate::{TableFiles, Which};
use super::series::Series;
use super::table::Table;
use super::{Embeddings, TextNeed, TextTables};
use crate::error::{DataError, Side};
use crate::manifest::{Digest, Repairs};
use crate::reading::TextReading;
use std::path::{Path, PathBuf};

/// Where tables are read from, and what of them.
pub(crate) struct TextSource<'a> {
    pub(crate) files: &'a TableFiles,
    pub(crate) need: TextNeed,
    /// External ids by internal id.
    pub(crate) user_ids: &'a [String],
    pub(crate) item_ids: &'a [String],
    pub(crate) listed: Listed,
    /// Only the rows of these nodes (ascending; item i is node users + i); none: all.
    pub(crate) keep: Option<&'a [u32]>,
}

/// What reading tables tells beside them.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) repairs: Repairs,
    pub(crate) readings: Vec<TextReading>,
}

/// A table, and what its partner on the other side is compared with.
struct Read {
    path: PathBuf,
    series: Option<Series>,
    table: Embeddings,
}

impl TextSource<'_> {
    /// The tables; none where none are needed. The digest takes in every row of them, kept or not.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another shape, and rows that cannot be given to a user or item for certain.
    pub(crate) fn read(&self, digest: &mut Digest, told: &mut Told) -> Result<Option<TextTables>, DataError> {
        let mut pair = |user: Which, item: Which| -> Result<[Embeddings; 2], DataError> {
            let users = self.table(user, Side::User, digest, told)?;
            let items = self.table(item, Side::Item, digest, told)?;
            same_width(&users, &items)?;
            same_columns(&users, &items)?;
            Ok([users.table, items.table])
        };
        let profiles = match self.need {
            TextNeed::None => return Ok(None),
            TextNeed::Profiles | TextNeed::ProfilesAndIntents => pair(Which::UserProfile, Which::ItemProfile)?,
        };
        let intents = match self.need {
            TextNeed::None | TextNeed::Profiles => None,
            TextNeed::ProfilesAndIntents => Some(pair(Which::UserIntent, Which::ItemIntent)?),
        };
        let [user_profile, item_profile] = profiles;
        Ok(Some(TextTables { user_profile, item_profile, intents }))
    }

    fn table(&self, which: Which, side: Side, digest: &mut Digest, told: &mut Told) -> Result<Read, DataError> {
        let path = self.files.locate(which, self.need)?;
        let nodes = self.nodes(side);
        let table = Table::open(&path, side)?;
        self.refuse_unordered(&path, &table, &nodes)?;
        let most = std::fs::metadata(&path).map_err(DataError::read(&path))?.len();
        let has_ids = table.rows_without_ids().is_none();
        let mut join = Join::new(&path, nodes, table.width(), has_ids, most);
        let mut rows = 0;
        table.each_row(&mut |row| {
            rows += 1;
            match join.put(row) {
                None => Ok(()),
                Some(first) => Err(DataError::malformed(
                    &path,
                    format!(
                        "{}: {side} `{}` is already in {}",
                        table.place(row.number),
                        row.id.unwrap_or_default(),
                        table.place(first)
                    ),
                    "give each id one row",
                )),
            }
        })?;
        let Joined { table: joined, digests, surplus, zeros } = join.finish()?;
        digest.table(joined.width, &digests);
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        told.repairs.add(format!("rows of {file} for {side}s that the dataset does not have, ignored"), surplus);
        told.repairs.add(format!("rows of zeros in {file}"), zeros);
        let (id, vector) = table.fields().map(|(id, vector)| (id.to_owned(), vector)).unzip();
        let width = joined.width as u64;
        told.readings.push(TextReading { file, side: side.to_string(), id, vector, rows, width });
        let series = table.series().cloned();
        Ok(Read { path, series, table: joined })
    }

    fn nodes(&self, side: Side) -> Nodes<'_> {
        let users = self.user_ids.len();
        let behind = |nodes: &[u32]| nodes.partition_point(|&node| (node as usize) < users);
        match side {
            Side::User => {
                let keep = self.keep.map(|nodes| &nodes[..behind(nodes)]);
                Nodes { side, ids: self.user_ids, first: 0, keep }
            }
            Side::Item => {
                let keep = self.keep.map(|nodes| &nodes[behind(nodes)..]);
                Nodes { side, ids: self.item_ids, first: users, keep }
            }
        }
    }

    /// A matrix without ids is taken where the order of ids is known, it is that for which the matrix was written, and
    /// there is a row for each of them.
    fn refuse_unordered(&self, path: &Path, table: &Table, nodes: &Nodes) -> Result<(), DataError> {
        let Some(rows) = table.rows_without_ids() else { return Ok(()) };
        let (side, ids) = (nodes.side, nodes.ids);
        fixed::in_known_order(path, side, ids, self.listed)?;
        if let Some(digests) = IdDigests::read(self.files.folder())? {
            fixed::same_ids(path, side, ids, digests.side(side), DIGESTS_FILE)?;
        }
        if let Some(written_for) = table.ids_digest() {
            fixed::same_ids(path, side, ids, written_for, "the table")?;
        }
        if rows == ids.len() {
            return Ok(());
        }
        Err(DataError::WrongShape {
            path: path.into(),
            found: format!("{rows} rows"),
            expected: format!("there are {} {side}s", ids.len()),
            advice: format!(
                "row i belongs to {side} i: list the external ids in {side}s.txt, one for each row, or save the table with \
                 its ids as .npz, .parquet or .jsonl"
            ),
        })
    }

    /// Widths of the profile and intent tables, by the users' files; 0 for those that are not needed.
    ///
    /// # Errors
    /// A file that is missing or whose beginning cannot be read.
    pub(crate) fn widths(files: &TableFiles, need: TextNeed) -> Result<[usize; 2], DataError> {
        let width = |which: Which| -> Result<usize, DataError> {
            Ok(Table::open(&files.locate(which, need)?, Side::User)?.width())
        };
        Ok(match need {
            TextNeed::None => [0, 0],
            TextNeed::Profiles => [width(Which::UserProfile)?, 0],
            TextNeed::ProfilesAndIntents => [width(Which::UserProfile)?, width(Which::UserIntent)?],
        })
    }
}

fn same_width(users: &Read, items: &Read) -> Result<(), DataError> {
    if users.table.width == items.table.width {
        return Ok(());
    }
    Err(DataError::WrongShape {
        path: items.path.clone(),
        found: format!("width {}", items.table.width),
        expected: format!("{} has width {}", file_name(&users.path), users.table.width),
        advice: "encode users and items with the same text model".into(),
    })
}

/// Place k of a user's vector and place k of an item's are one dimension of the text model.
fn same_columns(users: &Read, items: &Read) -> Result<(), DataError> {
    match (&users.series, &items.series) {
        (Some(user), Some(item)) if !user.agrees(item) => Err(DataError::WrongShape {
            path: items.path.clone(),
            found: format!("the vector begins at the column `{}`", item.first_name()),
            expected: format!("in {} it begins at `{}`", file_name(&users.path), user.first_name()),
            advice: "name the columns of both tables alike".into(),
        }),
        _ => Ok(()),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
