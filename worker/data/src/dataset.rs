//! A dataset ready to train on: reads it, repairs what can be repaired and counts it, refuses the rest.

use crate::embeddings::{Listed, TableFiles, TextSource, Told};
use crate::error::DataError;
use crate::manifest::{Content, DatasetManifest, Digest, Repairs};
use crate::synthetic::Synthetic;
use crate::{Interactions, Reading, TextNeed, TextTables, readers};
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
    /// Whether files of the folder fix the order of internal ids.
    pub(crate) listed: Listed,
    /// Repairs of the manifest that are not about text.
    pub(crate) repairs_without_text: usize,
}

impl Dataset {
    /// Reads `data.path`, relative to `root`, the folder of the job file. The seed decides which interactions are
    /// held out where the files do not say. `need`: the text tables that are read too.
    ///
    /// # Errors
    /// A file that is missing, malformed or out of range (with its place), or data that cannot be trained on: no
    /// interaction in a part, or a user who has every item in training and so has no negative.
    pub fn load(data: &Data, root: &Path, seed: u64, need: TextNeed) -> Result<Dataset, DataError> {
        let mut repairs = Repairs::default();
        let folder = root.join(&data.path);
        let (listed, (catalog, [train, validation, test], reading)) = match &data.synthetic {
            Some(size) => (Listed::default(), made_up(size)?),
            None => (Listed::in_folder(&folder), from_files(data, &folder, seed, &mut repairs)?),
        };
        let (users, items) = (train.users(), train.items());
        trainable(&train, &validation, &test, &catalog.user_ids)?;
        count_untrained(&train, &mut repairs);
        let readers::Catalog { user_ids, item_ids, item_titles } = catalog;
        let mut dataset = Dataset {
            repairs_without_text: repairs.0.len(),
            listed,
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
        dataset.load_text(data, root, need, None)?;
        Ok(dataset)
    }

    /// Reads the text tables of a dataset that was loaded without. `keep`: only the rows of these nodes stay (ascending;
    /// item i is node users + i), in little more memory than they take; the digest is that of the whole tables. What is
    /// worth knowing about the tables is added to the manifest's repairs, and how they were read to its reading.
    ///
    /// # Errors
    /// As [`Dataset::load`]; and rows that cannot be given to a user or item for certain.
    pub fn load_text(
        &mut self,
        data: &Data,
        root: &Path,
        need: TextNeed,
        keep: Option<&[u32]>,
    ) -> Result<(), DataError> {
        let files = TableFiles::of(data, root);
        let source = TextSource {
            files: &files,
            need,
            user_ids: &self.user_ids,
            item_ids: &self.item_ids,
            listed: self.listed,
            keep,
        };
        let mut digest = self.digest();
        digest.tables(need.tables());
        let mut told = Told::default();
        let text = source.read(&mut digest, &mut told)?;
        self.keep_text(text, digest.finish());
        self.manifest.repairs.extend(told.repairs.0);
        self.manifest.reading.texts = told.readings;
        Ok(())
    }

    /// Widths of the profile and intent tables, by the users' files; 0 for those that are not needed.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    pub fn text_widths(data: &Data, root: &Path, need: TextNeed) -> Result<[usize; 2], DataError> {
        TextSource::widths(&TableFiles::of(data, root), need)
    }

    /// Which text tables a dataset's folder has.
    ///
    /// # Errors
    /// One table of a pair without the other, intents without profiles, or several files for one table.
    pub fn text_found(data: &Data, root: &Path) -> Result<TextNeed, DataError> {
        TableFiles::of(data, root).found()
    }

    /// Exchanges the text tables; widths and digest of the manifest follow. The tables must have one row a user and
    /// one an item, as [`prepared::write`](crate::prepared::write) checks.
    pub fn set_text(&mut self, text: Option<TextTables>) {
        let mut digest = self.digest();
        let tables = text.as_ref().map(TextTables::tables).unwrap_or_default();
        digest.tables(tables.len());
        tables.into_iter().for_each(|table| digest.whole_table(table));
        self.keep_text(text, digest.finish());
    }

    fn keep_text(&mut self, text: Option<TextTables>, digest: String) {
        self.text = text;
        let text = self.text.as_ref();
        self.manifest.profile_width = text.map(|text| text.user_profile.width as u64);
        self.manifest.intent_width = text.and_then(|text| text.intents.as_ref()).map(|[user, _]| user.width as u64);
        self.manifest.digest = digest;
        self.manifest.repairs.truncate(self.repairs_without_text);
        self.manifest.reading.texts.clear();
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
