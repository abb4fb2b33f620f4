//! Which file of a dataset's folder a text table lies in. Opens none.

use super::TextNeed;
use crate::error::DataError;
use crate::readers::{join_names, rlmrec};
use accord_spec::{Data, Format, TextFiles};
use std::fs;
use std::path::{Path, PathBuf};

/// Forms of a table, best known first.
pub(super) const ENDINGS: [&str; 7] = ["npy", "safetensors", "npz", "parquet", "jsonl", "pkl", "pickle"];

/// One of a dataset's tables, in the order of [`TextFiles::DEFAULT`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    UserProfile,
    ItemProfile,
    UserIntent,
    ItemIntent,
}

/// The files that a job's tables may lie in.
pub(crate) struct TableFiles {
    folder: PathBuf,
    /// The names that the job gives.
    given: TextFiles,
    format: Format,
}

impl TableFiles {
    /// `root`: the folder of the job file.
    pub(crate) fn of(data: &Data, root: &Path) -> TableFiles {
        TableFiles { folder: root.join(&data.path), given: data.text.clone(), format: data.format }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn name(&self, which: Which) -> &str {
        let default = TextFiles::default_names(self.format)[which as usize];
        self.given.given()[which as usize].unwrap_or(default)
    }

    /// The file of a table: that which the job names; where that is absent and of a default name, or the job names none, the
    /// one file of a default name with any of the endings.
    ///
    /// # Errors
    /// No file, or several.
    pub(super) fn locate(&self, which: Which, need: TextNeed) -> Result<PathBuf, DataError> {
        self.find(which)?.ok_or_else(|| self.missing(which, need, None))
    }

    /// As [`TableFiles::locate`]; none where there is no file.
    fn find(&self, which: Which) -> Result<Option<PathBuf>, DataError> {
        let given = self.given.given()[which as usize].map(|name| self.folder.join(name)).filter(|path| path.exists());
        let stems = self.default_stems(which);
        if stems.is_empty() || given.is_some() {
            return Ok(given);
        }
        let with_endings = |stem: &String| ENDINGS.map(|ending| self.folder.join(format!("{stem}.{ending}")));
        let there: Vec<PathBuf> = stems.iter().flat_map(with_endings).filter(|path| path.exists()).collect();
        match there.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            several => Err(DataError::Ambiguous {
                folder: self.folder.clone(),
                what: "text table",
                names: join_names(several),
                advice: "keep one of them, or name it under data.text",
            }),
        }
    }

    /// The default names of a table without endings; none where the job gives another name.
    fn default_stems(&self, which: Which) -> Vec<String> {
        let own = TextFiles::default_names(self.format)[which as usize];
        let mut defaults = vec![own, TextFiles::DEFAULT[which as usize]];
        if !defaults.contains(&self.name(which)) {
            return vec![];
        }
        defaults.dedup();
        let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned();
        defaults.into_iter().map(stem).collect()
    }

    /// Which tables the folder has: profiles, or profiles and intents.
    ///
    /// # Errors
    /// One table of a pair without the other, intents without profiles, or several files for one table.
    pub(crate) fn found(&self) -> Result<TextNeed, DataError> {
        let pair = |user: Which, item: Which, need: TextNeed| -> Result<bool, DataError> {
            match (self.find(user)?, self.find(item)?) {
                (Some(_), Some(_)) => Ok(true),
                (None, None) => Ok(false),
                (None, Some(partner)) => Err(self.missing(user, need, Some(&partner))),
                (Some(partner), None) => Err(self.missing(item, need, Some(&partner))),
            }
        };
        let profiles = pair(Which::UserProfile, Which::ItemProfile, TextNeed::Profiles)?;
        match (profiles, pair(Which::UserIntent, Which::ItemIntent, TextNeed::ProfilesAndIntents)?) {
            (false, false) => Ok(TextNeed::None),
            (true, false) => Ok(TextNeed::Profiles),
            (true, true) => Ok(TextNeed::ProfilesAndIntents),
            (false, true) => Err(self.missing(Which::UserProfile, TextNeed::ProfilesAndIntents, None)),
        }
    }

    /// `partner`: the file of the pair's other table.
    fn missing(&self, which: Which, need: TextNeed, partner: Option<&Path>) -> DataError {
        let tables = match need {
            TextNeed::None | TextNeed::Profiles => "usr_emb and itm_emb",
            TextNeed::ProfilesAndIntents => "usr_emb, itm_emb, usr_intent_emb and itm_intent_emb",
        };
        let path = self.folder.join(self.name(which));
        let advice = self.lies_there(which, partner).unwrap_or_else(|| {
            format!(
                "the model needs text embeddings in {tables}: each an .npz, .parquet or .jsonl table with ids, or an .npy or \
                 .safetensors matrix with one row for each line of users.txt or items.txt; name other files under data.text, \
                 or train model.kind = \"lightgcn\", which needs none"
            )
        });
        DataError::Missing { path, advice }
    }

    /// Advice that names files which may have been meant.
    fn lies_there(&self, which: Which, partner: Option<&Path>) -> Option<String> {
        if let Some(foreign) = self.of_other_ending(which) {
            return Some(format!(
                "the folder holds {foreign}, whose ending is not read: write it as .{}, or .{}",
                ENDINGS[..5].join(", ."),
                ENDINGS[5]
            ));
        }
        match partner {
            Some(partner) => Some(format!(
                "{} lies there without it: add the table, or name its file under data.text",
                join_names(&[partner.to_owned()])
            )),
            None if self.format == Format::Rlmrec => None,
            None => rlmrec::instead_of_texts(&self.folder),
        }
    }

    /// A file of one of the default names with an ending that no table has.
    fn of_other_ending(&self, which: Which) -> Option<String> {
        let stems = self.default_stems(which);
        let mut names: Vec<String> = fs::read_dir(&self.folder)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.split_once('.').is_some_and(|(stem, _)| stems.iter().any(|s| s == stem)))
            .collect();
        names.sort();
        names.into_iter().next()
    }
}
