//! Public bug reports about data files, each as a small dataset: read rightly, or refused in words. `cases/` holds the files;
//! what each one is about stands in its row.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::{Dataset, TextNeed};
use accord_spec::Format;
use std::path::Path;

enum Outcome {
    /// Users, items, and interactions of all parts.
    Reads(u64, u64, u64),
    /// Words of the message.
    Refuses(&'static [&'static str]),
}

use Outcome::{Reads, Refuses};

const PAIRS: Format = Format::Pairs;
const LISTS: Format = Format::Adjacency;
const RECBOLE: Format = Format::Recbole;

#[rustfmt::skip]
const CASES: &[(&str, Format, Outcome)] = &[
    // lists of other forms
    ("adjacency-colon", LISTS, Refuses(&["train.txt:1", "`0:27` joins two values by a colon", "user item item"])),
    ("adjacency-commas", LISTS, Refuses(&["train.txt:1", "separator in it", "data.separator = \",\""])),
    ("adjacency-header", LISTS, Refuses(&["train.txt:1", "header"])),
    ("adjacency-python-list", LISTS, Refuses(&["train.txt:1", "`[27,`", "brackets"])),
    // headers
    ("header-becomes-a-user", PAIRS, Reads(30, 30, 180)),
    ("header-becomes-a-user-tsv", PAIRS, Reads(30, 30, 180)),
    ("header-item-first", PAIRS, Reads(30, 30, 180)),
    ("header-known-user-unknown-item", PAIRS, Reads(30, 30, 180)),
    ("header-names-with-blanks", PAIRS, Reads(30, 30, 180)),
    ("header-of-an-item-table", PAIRS, Refuses(&["movies.csv:1", "`movieId` is the item, and no user column is known", "a table of items"])),
    ("header-of-numbers", PAIRS, Reads(30, 30, 180)),
    // ids of the parts
    ("ids-columns-swapped-in-test", PAIRS, Refuses(&["test.csv", "20 of its 20 users", "`i1`", "training has `u0`", "ids of items", "exchange the columns"])),
    ("ids-int-and-float", PAIRS, Refuses(&["test.csv:2", "`0.0`", "`0` (", "train.csv:2", "one id in two forms"])),
    ("ids-quoted-in-one-file", PAIRS, Reads(30, 30, 180)),
    // files of other kinds
    ("message-carriage-returns", PAIRS, Reads(30, 30, 180)),
    ("message-gzip-named-csv", PAIRS, Reads(30, 30, 180)),
    ("message-hidden-twin", PAIRS, Reads(30, 30, 180)),
    ("message-movielens-folder", PAIRS, Reads(30, 30, 180)),
    ("message-pickled-matrices", Format::Npz, Refuses(&["trn_mat.pkl", "data.format = \"rlmrec\""])),
    ("message-pickled-matrices", Format::Rlmrec, Refuses(&["trn_mat.pkl"])),
    ("message-pickled-texts", PAIRS, Reads(30, 30, 180)),
    ("message-utf16", PAIRS, Refuses(&["all.csv", "UTF-16", "iconv -f utf-16"])),
    ("message-validation-within-training", PAIRS, Refuses(&["all 30 interactions of the validation part are in the training part too"])),
    // missing values
    ("null-items", PAIRS, Refuses(&["all.csv:2", "item id `NULL` stands for a missing value", "data.missing_ids"])),
    ("null-users-nan", PAIRS, Refuses(&["all.csv:2", "user id `nan`", "data.missing_ids"])),
    // quotation marks
    ("quote-alone", PAIRS, Refuses(&["all.csv:41", "is not closed"])),
    ("quote-line-break-in-id", PAIRS, Refuses(&["all.csv:34", "line break"])),
    ("quote-tsv", PAIRS, Reads(30, 30, 180)),
    // ratings that say no
    // one item is rated 0 by all
    ("rating-zero-is-a-like", PAIRS, Reads(30, 29, 90)),
    // RecBole's columns
    ("recbole-blanks", RECBOLE, Reads(30, 30, 180)),
    ("recbole-event-token", RECBOLE, Reads(30, 30, 180)),
    ("recbole-item-before-user", RECBOLE, Reads(30, 30, 180)),
    // separators
    ("separator-colons-in-ids", PAIRS, Reads(30, 30, 180)),
    ("separator-first-line-differs", PAIRS, Refuses(&["all.txt:1", "`0 1` is separated by blanks", "by commas"])),
];

#[test]
fn each_reported_file_is_read_rightly_or_refused_in_words() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut wrong = Vec::new();
    for (name, format, outcome) in CASES {
        let data = files::data(name, *format, "");
        let found = Dataset::load(&data, &cases, 7, TextNeed::None);
        let right = match (&found, outcome) {
            (Ok(found), Reads(users, items, interactions)) => {
                let m = &found.manifest;
                (m.users, m.items, m.train + m.validation + m.test) == (*users, *items, *interactions)
            }
            (Err(error), Refuses(words)) => words.iter().all(|word| error.to_string().contains(word)),
            _ => false,
        };
        if !right {
            let said = found.map(|d| format!("{:?}\n{}", d.manifest, d.manifest.reading.lines().join("\n")));
            wrong.push(format!("{name}: {}", said.unwrap_or_else(|error| error.to_string())));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

/// Text tables: what a model does not read is not asked for, and rows go to the users they belong to.
#[test]
fn texts_are_asked_for_and_joined_as_the_model_needs_them() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let load = |name: &str, need| Dataset::load(&files::data(name, PAIRS, ""), &cases, 7, need);
    let profiles = load("rlmrec-without-intents", TextNeed::Profiles).unwrap();
    assert_eq!((profiles.manifest.profile_width, profiles.manifest.intent_width), (Some(4), None));
    let error = load("text-order-prefixed-ids", TextNeed::Profiles).unwrap_err().to_string();
    let words = ["usr_emb.npy", "`u0`", "`u10`", "users.txt"];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}
