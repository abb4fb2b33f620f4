//! `[data]` of a job file: where a dataset lies and how its files are read. Reads no file itself.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Folder of the dataset, relative to the folder of the job file; or `s3://bucket/prefix`, which each machine
    /// fetches once. Not read for a made-up catalog.
    #[serde(default)]
    pub path: String,
    /// A made-up catalog instead of files: for trying sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthetic>,
    #[serde(default)]
    pub format: Format,
    /// File names inside `path`; those that are not given have default names ([`Data::text_names`]).
    #[serde(default, skip_serializing_if = "TextFiles::is_empty")]
    pub text: TextFiles,
    /// Interactions rated below this are dropped (formats that carry ratings). Without it, interactions rated 0 are
    /// dropped.
    #[serde(default)]
    pub min_rating: Option<f64>,
    /// Which columns of a table mean what, where their names do not say it: `{ user = "buyer", item = "sku" }`.
    #[serde(default, skip_serializing_if = "Columns::is_empty")]
    pub columns: Columns,
    /// What separates the fields of a line in text files: one to eight characters, or "blank" for any run of blanks.
    /// When absent, the separator that gives every line the same number of fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Whether the first line of a text file names its columns. When absent, told from the lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    #[serde(default, skip_serializing_if = "Quoting::is_auto")]
    pub quoting: Quoting,
    #[serde(default, skip_serializing_if = "MissingIds::is_refuse")]
    pub missing_ids: MissingIds,
    /// How one interaction file becomes training, validation and test parts.
    #[serde(default)]
    pub split: Split,
    /// Shares of training, validation and test when one file is split.
    #[serde(default = "default_split_ratio")]
    pub split_ratio: [f64; 3],
}

impl Data {
    /// A dataset at `path`, every other key at its default.
    pub fn at(path: impl Into<String>, format: Format) -> Data {
        Data {
            path: path.into(),
            synthetic: None,
            format,
            text: TextFiles::default(),
            min_rating: None,
            columns: Columns::default(),
            separator: None,
            header: None,
            quoting: Quoting::default(),
            missing_ids: MissingIds::default(),
            split: Split::default(),
            split_ratio: default_split_ratio(),
        }
    }

    /// The file names of the text tables: as [`Data::text`] has them, else the default ones of the format.
    pub fn text_names(&self) -> [&str; 4] {
        let given = self.text.given();
        let default = TextFiles::default_names(self.format);
        std::array::from_fn(|table| given[table].unwrap_or(default[table]))
    }
}

fn default_split_ratio() -> [f64; 3] {
    [0.6, 0.2, 0.2]
}

/// The columns of interaction files, by name or by place. A column that is not given is found by its name, or, in files
/// without a header, by its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Column>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<Column>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rating: Option<Column>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Column>,
}

impl Columns {
    /// Whether no column is given.
    pub fn is_empty(&self) -> bool {
        *self == Columns::default()
    }
}

/// One column: its name in the header, or its place counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a column is named by its header, such as \"user_id\", or by its place counted from 1")]
pub enum Column {
    Place(u16),
    Name(String),
}

/// How quotation marks in text files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quoting {
    /// A field that begins with `"` ends with the next single `"`; `""` inside it stands for one.
    #[default]
    Auto,
    /// Quotation marks are letters like any other.
    None,
}

impl Quoting {
    fn is_auto(&self) -> bool {
        *self == Quoting::Auto
    }
}

/// What becomes of an interaction whose user or item is empty or a token for a missing value (NULL, nan, None, ...).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingIds {
    /// The dataset is refused, with the line.
    #[default]
    Refuse,
    /// The interaction is dropped and counted.
    Drop,
    /// The token is an id like any other; an empty one is still refused.
    Keep,
}

impl MissingIds {
    fn is_refuse(&self) -> bool {
        *self == MissingIds::Refuse
    }
}

/// Size of a made-up catalog with power-law degrees and communities; interactions are those of all three parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    pub users: usize,
    pub items: usize,
    pub interactions: usize,
    #[serde(default)]
    pub seed: u64,
}

/// How interactions lie on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `user item [rating [time]]` a line: text, CSV or TSV, with or without a header, ids of any form.
    Pairs,
    /// LightGCN's lists: `user item item ...` a line.
    Adjacency,
    /// RecBole's atomic files: `.inter`, `.item`, `.user`.
    Recbole,
    /// Sparse matrices as numpy archives: `row`/`col`/`shape`, or scipy's COO and CSR.
    #[default]
    Npz,
    /// The datasets of RLMRec, IRLLRec and SSLRec as they are: pickled scipy matrices `trn_mat.pkl`, `val_mat.pkl` and
    /// `tst_mat.pkl`, with pickled text tables. No code of a pickle is run.
    Rlmrec,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Each interaction by itself, keyed by the job's seed.
    #[default]
    Random,
    /// Each user's interactions in time order: the oldest train.
    Time,
}

/// Frozen text embeddings: tables with ids (`.npz`, `.parquet`, `.jsonl`), or matrices (`.npy`, `.safetensors`, `.pkl`) whose row i
/// belongs to user or item i. Where a file of a default name is absent, another of these endings is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextFiles {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_intent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_intent: Option<String>,
}

impl TextFiles {
    /// Users' profiles, items' profiles, users' intents, items' intents, in the datasets that Accord writes.
    pub const DEFAULT: [&str; 4] = ["usr_emb.npy", "itm_emb.npy", "usr_intent_emb.npy", "itm_intent_emb.npy"];
    /// The same in the datasets of RLMRec and IRLLRec; RLMRec has only the two profile tables.
    const RLMREC: [&str; 4] = ["usr_emb_np.pkl", "itm_emb_np.pkl", "user_intent_emb_3.pkl", "item_intent_emb_3.pkl"];

    /// In the order of [`TextFiles::DEFAULT`].
    pub fn default_names(format: Format) -> [&'static str; 4] {
        match format {
            Format::Rlmrec => Self::RLMREC,
            Format::Pairs | Format::Adjacency | Format::Recbole | Format::Npz => Self::DEFAULT,
        }
    }

    /// The names that a job file gives, in the order of [`TextFiles::DEFAULT`].
    pub fn given(&self) -> [Option<&str>; 4] {
        [&self.user_profile, &self.item_profile, &self.user_intent, &self.item_intent].map(Option::as_deref)
    }

    fn is_empty(&self) -> bool {
        *self == TextFiles::default()
    }
}
