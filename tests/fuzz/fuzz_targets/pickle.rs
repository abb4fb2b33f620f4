//! A pickle of any bytes, as a matrix and as a text table. The first byte says which of them, the rest is the file.
#![no_main]

use accord_data::{Dataset, TextNeed};
use accord_spec::{Data, Format, TextFiles};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let &[kind, ref pickle @ ..] = bytes else { return };
    let root = tempfile::tempdir().expect("a temporary folder");
    let put = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).expect("a file of the dataset");
    if kind & 1 == 0 {
        put("trn_mat.pkl", pickle);
        matrix(root.path(), kind & 2 != 0);
    } else {
        put("train.txt", b"0 0\n1 1\n2 2\n");
        put("val.txt", b"0 2\n1 0\n");
        put("test.txt", b"0 1\n1 2\n");
        put("table.pkl", pickle);
        table(root.path());
    }
});

fn matrix(root: &Path, rated: bool) {
    let data = Data { min_rating: rated.then_some(2.0), ..Data::at(".", Format::Rlmrec) };
    match Dataset::load(&data, root, 1, TextNeed::None) {
        // errors are made into text too: that must not fail either
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(dataset) => {
            let (users, items) = (dataset.users(), dataset.items());
            assert_eq!((dataset.user_ids.len(), dataset.item_ids.len()), (users, items));
            for part in [&dataset.train, &dataset.validation, &dataset.test] {
                assert_eq!((part.users(), part.items()), (users, items));
                assert!(part.pairs().all(|(user, item)| (user as usize) < users && (item as usize) < items));
            }
        }
    }
}

fn table(root: &Path) {
    let file = || Some("table.pkl".to_string());
    let text = TextFiles { user_profile: file(), item_profile: file(), user_intent: file(), item_intent: file() };
    let data = Data { text, ..Data::at(".", Format::Pairs) };
    match Dataset::load(&data, root, 1, TextNeed::ProfilesAndIntents) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(dataset) => {
            let profile = dataset.text.expect("the text").user_profile;
            assert_eq!(profile.rows, 3);
            assert_eq!(profile.values.len(), profile.rows * profile.width);
            assert!(profile.values.iter().all(|value| value.is_finite()));
        }
    }
}
