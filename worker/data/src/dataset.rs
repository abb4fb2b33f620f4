//! A dataset ready to train on: reads it, repairs what can be repaired and counts it, refuses the rest.

use crate::embeddings::TextSource;
use crate::error::DataError;
use crate::manifest::{Content, DatasetManifest, Digest, Repairs};
use crate::synthetic::Synthetic;
use crate::{Embeddings, Interactions, Reading, TextTables, readers};
use accord_spec::Data;
use std::path::Path;

/// Interactions in three parts that share no pair, external ids, and text where a model needs it.
///
/// Repairs, each counted in the manifest: duplicate pairs are dropped; a held-out pair that is also a training pair,
/// and a validation pair that is also a test pair, are dropped; a missing validation part is taken from training.
/// Users and items without a training interaction stay (they are evaluated with an embedding that only
/// regularisation and text ever touched) and are counted too.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub train: Interactions,
    pub validation: Interactions,
    pub test: Interactions,
    /// Present when `load` was told that the model needs text.
    pub text: Option<TextTables>,
    /// External ids; the index is the internal id.
    pub user_ids: Vec<String>,
    pub item_ids: Vec<String>,
    /// By internal id.
    pub item_titles: Option<Vec<String>>,
    pub manifest: DatasetManifest,
}

impl Dataset {
    /// Reads `data.path`, relative to `root`, the folder of the job file. The seed decides which interactions are
    /// held out where the files do not say. `needs_text`: also read the text tables (models rlmrec-con and irllrec).
    ///
    /// # Errors
    /// A file that is missing, malformed or out of range (with its place), or data that cannot be trained on: no
    /// interaction in a part, or a user who has every item in training and so has no negative.
    pub fn load(data: &Data, root: &Path, seed: u64, needs_text: bool) -> Result<Dataset, DataError> {
        let mut repairs = Repairs::default();
        let (catalog, [train, validation, test], reading) = match &data.synthetic {
            Some(size) => made_up(size)?,
            None => from_files(data, &root.join(&data.path), seed, &mut repairs)?,
        };
        let (users, items) = (train.users(), train.items());
        trainable(&train, &validation, &test, &catalog.user_ids)?;
        count_untrained(&train, &mut repairs);
        let readers::Catalog { user_ids, item_ids, item_titles } = catalog;
        let mut dataset = Dataset {
            manifest: DatasetManifest {
                users: users as u64,
                items: items as u64,
                train: train.len() as u64,
                validation: validation.len() as u64,
                test: test.len() as u64,
                profile_width: None,
                intent_width: None,
                digest: String::new(),
                repairs: repairs.0,
                reading,
            },
            train,
            validation,
            test,
            text: None,
            user_ids,
            item_ids,
            item_titles,
        };
        match needs_text {
            true => dataset.load_text(data, root, None)?,
            false => dataset.set_text(None),
        }
        Ok(dataset)
    }

    /// Reads the text tables of a dataset that was loaded without. `keep`: only the rows of these nodes stay (ascending;
    /// item i is node users + i), in little more memory than they take; the digest is that of the whole tables.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    pub fn load_text(&mut self, data: &Data, root: &Path, keep: Option<&[u32]>) -> Result<(), DataError> {
        let (folder, files) = (root.join(&data.path), data.text_files());
        let mut digest = self.digest();
        digest.text();
        let (users, items) = (self.users(), self.items());
        let text = TextSource { folder: &folder, files: &files, users, items, keep }.read(&mut digest)?;
        self.keep_text(Some(text), digest.finish());
        Ok(())
    }

    /// Widths of the profile and intent tables, by the users' files.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    pub fn text_widths(data: &Data, root: &Path) -> Result<[usize; 2], DataError> {
        let (folder, files) = (root.join(&data.path), data.text_files());
        let width = |file: &str| Embeddings::width_of(&folder.join(file));
        Ok([width(&files.user_profile)?, width(&files.user_intent)?])
    }

    /// Exchanges the text tables; widths and digest of the manifest follow. The tables must have one row a user and
    /// one an item, as [`prepared::write`](crate::prepared::write) checks.
    pub fn set_text(&mut self, text: Option<TextTables>) {
        let mut digest = self.digest();
        let digest = match &text {
            None => digest.without_text(),
            Some(text) => {
                digest.text();
                text.tables().into_iter().for_each(|table| digest.table(table));
                digest.finish()
            }
        };
        self.keep_text(text, digest);
    }

    fn keep_text(&mut self, text: Option<TextTables>, digest: String) {
        self.text = text;
        let widths = self.text.as_ref().map(|t| (t.user_profile.width as u64, t.user_intent.width as u64));
        self.manifest.profile_width = widths.map(|w| w.0);
        self.manifest.intent_width = widths.map(|w| w.1);
        self.manifest.digest = digest;
    }

    fn digest(&self) -> Digest {
        let parts = [&self.train, &self.validation, &self.test];
        Digest::begin(&Content { user_ids: &self.user_ids, item_ids: &self.item_ids, parts })
    }

    pub fn users(&self) -> usize {
        self.train.users()
    }

    pub fn items(&self) -> usize {
        self.train.items()
    }
}

type Parts = (readers::Catalog, [Interactions; 3], Reading);

fn from_files(data: &Data, folder: &Path, seed: u64, repairs: &mut Repairs) -> Result<Parts, DataError> {
    let content = readers::read(data, folder, seed, repairs)?;
    let (users, items) = (content.catalog.user_ids.len(), content.catalog.item_ids.len());
    let mut part = |pairs: &[(u32, u32)], name: &str| -> Result<Interactions, DataError> {
        let (part, duplicates) = Interactions::from_pairs(users, items, pairs)?;
        repairs.add(format!("duplicate {name} interactions dropped"), duplicates);
        Ok(part)
    };
    let train = part(&content.train, "training")?;
    let validation = part(&content.validation, "validation")?;
    let test = part(&content.test, "test")?;
    let (test, from_test) = test.without(&train);
    repairs.add("test interactions dropped that are also in training", from_test);
    let (validation, dropped) = validation.without(&train);
    repairs.add("validation interactions dropped that are also in training", dropped);
    refuse_copy(&validation, dropped, "validation", "training")?;
    refuse_copy(&test, from_test, "test", "training")?;
    let (validation, dropped) = validation.without(&test);
    repairs.add("validation interactions dropped that are also in test", dropped);
    refuse_copy(&validation, dropped, "validation", "test")?;
    Ok((content.catalog, [train, validation, test], content.reading))
}

/// A part of which every interaction is in another part too.
fn refuse_copy(left: &Interactions, dropped: u64, part: &str, other: &str) -> Result<(), DataError> {
    if !left.is_empty() || dropped == 0 {
        return Ok(());
    }
    Err(DataError::Unusable {
        problem: format!("all {dropped} interactions of the {part} part are in the {other} part too"),
        advice: "hold out interactions that are in no other file, or leave one file to be split".into(),
    })
}

fn made_up(size: &accord_spec::Synthetic) -> Result<Parts, DataError> {
    let parts = Synthetic::new(size.users, size.items, size.interactions, size.seed)?.parts()?;
    let ids = |count: usize| (0..count).map(|id| id.to_string()).collect();
    let catalog = readers::Catalog { user_ids: ids(size.users), item_ids: ids(size.items), item_titles: None };
    Ok((catalog, parts, Reading::default()))
}

fn trainable(
    train: &Interactions,
    validation: &Interactions,
    test: &Interactions,
    user_ids: &[String],
) -> Result<(), DataError> {
    for (part, name) in [(train, "training"), (validation, "validation"), (test, "test")] {
        if part.is_empty() {
            return Err(DataError::Unusable {
                problem: format!("no interaction is left for the {name} part"),
                advice: "check the file, data.min_rating and data.split_ratio".into(),
            });
        }
    }
    let saturated = (0..train.users() as u32).find(|&user| train.of(user).len() == train.items());
    match saturated {
        Some(user) => Err(DataError::Unusable {
            problem: format!(
                "user `{}` has all {} items in training, so there is no negative to draw",
                user_ids[user as usize],
                train.items()
            ),
            advice: "remove the user, or add the items nobody has to items.txt".into(),
        }),
        None => Ok(()),
    }
}

fn count_untrained(train: &Interactions, repairs: &mut Repairs) {
    let mut seen = vec![false; train.items()];
    train.item().iter().for_each(|&item| seen[item as usize] = true);
    let users = (0..train.users() as u32).filter(|&user| train.of(user).is_empty()).count();
    repairs.add("users without a training interaction kept", users as u64);
    repairs.add("items without a training interaction kept", seen.iter().filter(|s| !**s).count() as u64);
}
