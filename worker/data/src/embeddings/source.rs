//! The text tables that a model needs, from the files of a dataset's folder: located, joined to users and items, their
//! digests taken.

use super::fixed::{self, DIGESTS_FILE, IdDigests, Listed};
use super::join::{Join, Joined, Nodes};
use super::locate;
use super::table::Table;
use super::{Embeddings, TextNeed, TextTables};
use crate::error::{DataError, Side};
use crate::manifest::{Digest, Repairs};
use accord_spec::TextFiles;
use std::path::{Path, PathBuf};

/// Where tables are read from, and what of them.
pub(crate) struct TextSource<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) files: &'a TextFiles,
    pub(crate) need: TextNeed,
    /// External ids by internal id.
    pub(crate) user_ids: &'a [String],
    pub(crate) item_ids: &'a [String],
    pub(crate) listed: Listed,
    /// Only the rows of these nodes (ascending; item i is node users + i); none: all.
    pub(crate) keep: Option<&'a [u32]>,
}

/// What the repairs call a table.
struct Name<'a> {
    file: &'a str,
    side: Side,
}

impl TextSource<'_> {
    /// The tables; none where none are needed. The digest takes in every row of them, kept or not.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another shape, and rows that cannot be given to a user or item for certain.
    pub(crate) fn read(&self, digest: &mut Digest, repairs: &mut Repairs) -> Result<Option<TextTables>, DataError> {
        let files = self.files;
        let mut pair = |user: &str, item: &str| -> Result<[Embeddings; 2], DataError> {
            let user = Name { file: user, side: Side::User };
            let item = Name { file: item, side: Side::Item };
            let (user_path, users) = self.table(&user, digest, repairs)?;
            let (item_path, items) = self.table(&item, digest, repairs)?;
            same_width(&user_path, users.width, item_path, items.width)?;
            Ok([users, items])
        };
        let profiles = match self.need {
            TextNeed::None => return Ok(None),
            TextNeed::Profiles | TextNeed::ProfilesAndIntents => pair(&files.user_profile, &files.item_profile)?,
        };
        let intents = match self.need {
            TextNeed::None | TextNeed::Profiles => None,
            TextNeed::ProfilesAndIntents => Some(pair(&files.user_intent, &files.item_intent)?),
        };
        let [user_profile, item_profile] = profiles;
        Ok(Some(TextTables { user_profile, item_profile, intents }))
    }

    fn table(
        &self,
        name: &Name,
        digest: &mut Digest,
        repairs: &mut Repairs,
    ) -> Result<(PathBuf, Embeddings), DataError> {
        let path = locate::locate(self.folder, name.file, self.need)?;
        let nodes = self.nodes(name.side);
        let table = Table::open(&path, name.side)?;
        self.refuse_unordered(&path, &table, &nodes)?;
        let most = std::fs::metadata(&path).map_err(DataError::read(&path))?.len();
        let has_ids = table.rows_without_ids().is_none();
        let mut join = Join::new(&path, nodes, table.width(), has_ids, most);
        table.each_row(&mut |row| match join.put(row) {
            None => Ok(()),
            Some(first) => Err(DataError::malformed(
                &path,
                format!(
                    "{}: {} `{}` is already in {}",
                    table.place(row.number),
                    name.side,
                    row.id.unwrap_or_default(),
                    table.place(first)
                ),
                "give each id one row",
            )),
        })?;
        let Joined { table, digests, surplus, zeros } = join.finish()?;
        digest.table(table.width, &digests);
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let side = name.side;
        repairs.add(format!("rows of {file} for {side}s that the dataset does not have, ignored"), surplus);
        repairs.add(format!("rows of zeros in {file}"), zeros);
        Ok((path, table))
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
        if let Some(digests) = IdDigests::read(self.folder)? {
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
    pub(crate) fn widths(folder: &Path, files: &TextFiles, need: TextNeed) -> Result<[usize; 2], DataError> {
        let width = |name: &str| -> Result<usize, DataError> {
            Ok(Table::open(&locate::locate(folder, name, need)?, Side::User)?.width())
        };
        Ok(match need {
            TextNeed::None => [0, 0],
            TextNeed::Profiles => [width(&files.user_profile)?, 0],
            TextNeed::ProfilesAndIntents => [width(&files.user_profile)?, width(&files.user_intent)?],
        })
    }

    /// Which tables a folder has.
    ///
    /// # Errors
    /// One table of a pair without the other, intents without profiles, or several files for one table.
    pub(crate) fn found(folder: &Path, files: &TextFiles) -> Result<TextNeed, DataError> {
        locate::found(folder, files)
    }
}

fn same_width(user_path: &Path, user: usize, item_path: PathBuf, item: usize) -> Result<(), DataError> {
    if user == item {
        return Ok(());
    }
    let user_file = user_path.file_name().unwrap_or_default().to_string_lossy();
    Err(DataError::WrongShape {
        path: item_path,
        found: format!("width {item}"),
        expected: format!("{user_file} has width {user}"),
        advice: "encode users and items with the same text model".into(),
    })
}
