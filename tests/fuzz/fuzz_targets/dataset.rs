//! A dataset's folder of any bytes, in every format. The first byte says which format, the second which options; files
//! follow, one behind the other, between `SEPARATOR`s.
#![no_main]

use accord_data::{Dataset, TextNeed};
use accord_spec::{Data, Format, Split};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

const SEPARATOR: &[u8] = b"\x1e\x1f\x1e";
const LISTS: [&str; 6] = ["train.txt", "test.txt", "users.txt", "items.txt", "item_titles.txt", "val.txt"];
const RECBOLE: [&str; 6] = ["a.train.inter", "a.test.inter", "a.item", "users.txt", "items.txt", "a.valid.inter"];
const TABLES: [&str; 4] = ["usr_emb", "itm_emb", "usr_intent_emb", "itm_intent_emb"];

fuzz_target!(|bytes: &[u8]| {
    let &[kind, options, ref rest @ ..] = bytes else { return };
    let root = tempfile::tempdir().expect("a temporary folder");
    let put = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).expect("a file of the dataset");
    let files = split(rest);
    // without the file beside it, the first one is the whole
    let skip = |names: &[&str]| -> Vec<String> {
        let apart = options & 1 == 0;
        names.iter().enumerate().filter(|(k, _)| apart || *k != 1).map(|(_, name)| name.to_string()).collect()
    };
    let (format, names): (Format, Vec<String>) = match kind % 6 {
        0 => (Format::Pairs, skip(&LISTS)),
        1 => (Format::Adjacency, skip(&LISTS)),
        2 => (Format::Recbole, skip(&RECBOLE)),
        3 => (Format::Npz, skip(&["trn.npz", "tst.npz", "users.txt", "items.txt", "val.npz"])),
        4 => {
            put("all.npz", &archive(&files, options & 2 != 0));
            (Format::Npz, vec![])
        }
        _ => {
            put("train.txt", b"0 0\n1 1\n2 2\n");
            put("test.txt", b"0 1\n1 2\n");
            put("val.txt", b"0 2\n1 3\n");
            let ending = if options & 2 == 0 { "npy" } else { "safetensors" };
            (Format::Pairs, TABLES.iter().map(|name| format!("{name}.{ending}")).collect())
        }
    };
    for (name, bytes) in names.iter().zip(&files) {
        put(name, bytes);
    }
    let data = data(format, options);
    check(&data, root.path());
});

fn split(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut files = Vec::new();
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR) {
        files.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    files.push(rest);
    files
}

/// With right checksums, so that mutated members are read.
fn archive(members: &[&[u8]], compressed_rows: bool) -> Vec<u8> {
    let names = match compressed_rows {
        true => ["indptr", "indices", "shape", "data", "format"],
        false => ["row", "col", "shape", "data", "format"],
    };
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in names.iter().zip(members) {
        archive.start_file(format!("{name}.npy"), stored).expect("a member");
        archive.write_all(bytes).expect("a member's bytes");
    }
    archive.finish().expect("an archive").into_inner()
}

fn data(format: Format, options: u8) -> Data {
    let text = "[job]\nname = \"a\"\n[data]\npath = \".\"\n[model]\nkind = \"lightgcn\"\n";
    let mut data = accord_spec::parse(text, &[]).expect("a job file").data;
    data.format = format;
    data.min_rating = (options & 4 != 0).then_some(3.0);
    data.split = if options & 8 != 0 { Split::Time } else { Split::Random };
    if options & 2 != 0 {
        let file = |k: usize| Some(format!("{}.safetensors", TABLES[k]));
        data.text = accord_spec::TextFiles {
            user_profile: file(0),
            item_profile: file(1),
            user_intent: file(2),
            item_intent: file(3),
        };
    }
    data
}

fn check(data: &Data, root: &Path) {
    // errors are made into text too: that must not fail either
    if let Err(error) = Dataset::load(data, root, 1, TextNeed::ProfilesAndIntents) {
        assert!(!error.to_string().is_empty());
    }
    let Ok(mut dataset) = Dataset::load(data, root, 1, TextNeed::None) else { return };
    let (users, items) = (dataset.users(), dataset.items());
    assert_eq!((dataset.user_ids.len(), dataset.item_ids.len()), (users, items));
    assert!(dataset.item_titles.as_ref().is_none_or(|titles| titles.len() == items));
    for part in [&dataset.validation, &dataset.test] {
        assert_eq!((part.users(), part.items()), (users, items));
        assert!(part.pairs().all(|(user, item)| !dataset.train.contains(user, item)));
    }
    let need = TextNeed::ProfilesAndIntents;
    if dataset.load_text(data, root, need, Some(&[0, 4])).is_ok() {
        let widths = Dataset::text_widths(data, root, need).expect("widths of tables that were read");
        let text = dataset.text.expect("the text");
        let [user_intent, item_intent] = text.intents.expect("the intents");
        assert_eq!([text.user_profile.width, user_intent.width], widths);
        for table in [text.user_profile, text.item_profile, user_intent, item_intent] {
            assert_eq!(table.values.len(), table.rows * table.width);
        }
    }
}
