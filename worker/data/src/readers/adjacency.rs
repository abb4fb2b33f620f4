//! LightGCN's lists: `user item item ...` a line. A user may have no item, or several lines.

use super::files::{self, Parts, Record, Wanted};
use super::tables::{Catalog, Names, settle};
use crate::error::{DataError, Side};
use std::path::Path;

pub(crate) const ENDINGS: [&str; 1] = ["txt"];

pub(crate) fn read(folder: &Path, wanted: &Wanted) -> Result<(Catalog, Parts<Vec<Record>>), DataError> {
    let mut users = Names::new(folder, Side::User)?;
    let mut items = Names::new(folder, Side::Item)?;
    let parts = files::locate(folder, &ENDINGS)?.try_map(|path| {
        if wanted.min_rating.is_some() || wanted.time {
            let key = if wanted.time { "data.split = \"time\"" } else { "data.min_rating" };
            return Err(DataError::malformed(
                &path,
                format!("{key} is set and adjacency lists carry neither ratings nor times"),
                "remove it, or use data.format = \"pairs\"",
            ));
        }
        let text = files::read_text(&path)?;
        users.enter(&path);
        items.enter(&path);
        let mut records = Vec::new();
        for (line, number) in text.lines().zip(1u64..) {
            let mut fields = line.split_whitespace();
            let Some(user) = fields.next() else { continue };
            let user = users.number(user, number)?;
            for item in fields {
                records.push(Record { user, item: items.number(item, number)?, time: 0.0 });
            }
        }
        if records.is_empty() {
            return Err(DataError::Empty { path, advice: "no user has an item".into() });
        }
        Ok(records)
    })?;
    settle(folder, users, items, parts)
}
