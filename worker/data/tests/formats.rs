//! The same content from every format is the same dataset; repairs are counted.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::{Dataset, Embeddings, TextNeed, TextTables, prepared, recbole};
use accord_spec::Format;
use files::{Folder, coo, ints, npy, safetensors, without_reading, zip};
use proptest::prelude::*;

const TRAIN: [(i32, i32); 5] = [(0, 0), (1, 1), (1, 3), (2, 2), (2, 3)];
const VALIDATION: [(i32, i32); 2] = [(0, 1), (1, 2)];
const TEST: [(i32, i32); 2] = [(0, 2), (2, 0)];

fn matrix(pairs: &[(i32, i32)]) -> Vec<u8> {
    let (rows, columns): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
    coo(&rows, &columns, [3, 4])
}

fn lines(pairs: &[(i32, i32)], separator: &str) -> String {
    pairs.iter().rev().map(|(u, i)| format!("{u}{separator}{i}\n")).collect()
}

fn load(folder: &Folder, format: Format, keys: &str) -> Dataset {
    Dataset::load(&folder.data(format, keys), folder.root(), 2023, TextNeed::None).unwrap()
}

/// `(what, count)` of each repair.
fn repairs(dataset: &Dataset) -> Vec<(&str, u64)> {
    dataset.manifest.repairs.iter().map(|r| (r.what.as_str(), r.count)).collect()
}

fn npz() -> Folder {
    let folder = Folder::new();
    for (name, pairs) in [("trn", &TRAIN[..]), ("val", &VALIDATION), ("tst", &TEST)] {
        folder.put(&format!("{name}.npz"), &matrix(pairs));
    }
    folder
}

#[test]
fn every_format_gives_the_same_digest() {
    let expected = load(&npz(), Format::Npz, "");
    assert_eq!(expected.train.pairs().map(|(u, i)| (u as i32, i as i32)).collect::<Vec<_>>(), TRAIN);
    assert_eq!((expected.manifest.users, expected.manifest.items), (3, 4));
    assert_eq!((expected.manifest.train, expected.manifest.validation, expected.manifest.test), (5, 2, 2));
    let same = |what: &str, found: Dataset| {
        assert_eq!(without_reading(&found), without_reading(&expected), "{what}");
        assert_eq!((&found.train, &found.test), (&expected.train, &expected.test), "{what}");
    };
    for (separator, header, names) in [
        (" ", "", ["trn.txt", "val.txt", "tst.txt"]),
        ("\t", "user_id\titem_id\n", ["train.tsv", "valid.tsv", "test.tsv"]),
        (",", "\u{feff}User,Item\n", ["train.csv", "val.csv", "test.csv"]),
        (",\"", "", ["train.csv", "val.csv", "test.csv"]),
    ] {
        let folder = Folder::new();
        for (name, pairs) in names.into_iter().zip([&TRAIN[..], &VALIDATION, &TEST]) {
            let mut text = lines(pairs, separator);
            if separator.ends_with('"') {
                text = text.replace('\n', "\"\r\n");
            }
            folder.put(name, format!("{header}{text}").as_bytes());
        }
        same(separator, load(&folder, Format::Pairs, ""));
    }

    let lists = Folder::new();
    lists.put("train.txt", b"0 0\n1 3 1\n2 2 3\n");
    lists.put("val.txt", b"0 1\n1 2\n2\n");
    lists.put("test.txt", b"2 0\n0 2\n");
    same("adjacency", load(&lists, Format::Adjacency, ""));

    let atomic = Folder::new();
    for (part, pairs) in [("train", &TRAIN[..]), ("valid", &VALIDATION), ("test", &TEST)] {
        let text = format!("user_id:token\titem_id:token\n{}", lines(pairs, "\t"));
        atomic.put(&format!("ml.{part}.inter"), text.as_bytes());
    }
    same("recbole", load(&atomic, Format::Recbole, ""));

    // scipy's CSR and CSC, with values, and stored zeros that are no interactions
    let csr = Folder::new();
    csr.put(
        "trn_mat.npz",
        &zip(&[
            ("indices", ints(&[0, 3, 1, 3, 2, 0])),
            ("indptr", ints(&[0, 1, 3, 6])),
            ("format", npy("|S3", &[], b"csr")),
            ("shape", npy("<i8", &[2], &[3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0])),
            ("data", npy("|b1", &[6], &[1, 1, 1, 1, 1, 0])),
        ]),
    );
    csr.put(
        "val_mat.npz",
        &zip(&[
            ("indices", ints(&[0, 1])),
            ("indptr", ints(&[0, 0, 1, 2, 2])),
            ("format", npy("<U3", &[], b"c\0\0\0s\0\0\0c\0\0\0")),
            ("shape", ints(&[3, 4])),
            ("data", npy("<f8", &[2], &[1.0f64; 2].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())),
        ]),
    );
    csr.put("tst_mat.npz", &matrix(&TEST));
    let found = load(&csr, Format::Npz, "");
    assert_eq!(repairs(&found), [("stored zeros dropped", 1)]);
    assert_eq!(found.manifest.digest, expected.manifest.digest);
}

#[test]
fn what_cannot_be_meant_is_repaired_and_counted() {
    let folder = npz();
    let spoiled: Vec<_> = TRAIN.into_iter().chain([(1, 1), (1, 1)]).collect();
    folder.put("trn.npz", &matrix(&spoiled));
    folder.put("val.npz", &matrix(&[(0, 1), (1, 2), (1, 2), (2, 3), (2, 0)]));
    folder.put("tst.npz", &matrix(&[(0, 2), (2, 0), (0, 0)]));
    let found = load(&folder, Format::Npz, "");
    assert_eq!(found.manifest.digest, load(&npz(), Format::Npz, "").manifest.digest);
    assert_eq!(
        repairs(&found),
        [
            ("duplicate training interactions dropped", 2),
            ("duplicate validation interactions dropped", 1),
            ("test interactions dropped that are also in training", 1),
            ("validation interactions dropped that are also in training", 1),
            ("validation interactions dropped that are also in test", 1),
        ]
    );
}

#[test]
fn users_and_items_of_the_test_set_alone_are_kept_and_counted() {
    let folder = Folder::new();
    folder.put("train.csv", b"anna,lamp\nbert,chair\nanna,chair\nbert,desk\n");
    folder.put("valid.csv", b"bert,lamp\n");
    folder.put("test.csv", b"carl,lamp\nanna,vase\n");
    let found = load(&folder, Format::Pairs, "");
    assert_eq!(found.user_ids, ["anna", "bert", "carl"]);
    assert_eq!(found.item_ids, ["chair", "desk", "lamp", "vase"]);
    assert_eq!(
        repairs(&found),
        [("users without a training interaction kept", 1), ("items without a training interaction kept", 1)]
    );
    assert_eq!(found.test.of(2), &[2]);
}

#[test]
fn missing_validation_is_taken_from_training() {
    let folder = Folder::new();
    let mut train = String::new();
    for user in 0..30 {
        for k in 0..10 {
            train += &format!("{user} {}\n", (user + k * 3) % 40);
        }
    }
    folder.put("train.txt", train.as_bytes());
    folder.put("test.txt", b"0 39\n1 39\n");
    let found = load(&folder, Format::Pairs, "split_ratio = [0.8, 0.1, 0.1]");
    let moved = found.manifest.validation;
    assert_eq!(
        repairs(&found)[0],
        ("training interactions moved to the missing validation part (share 0.111 by data.split_ratio)", moved)
    );
    assert!((15..55).contains(&moved), "{moved}");
    assert_eq!(found.manifest.train + moved, 300);
}

#[test]
fn recbole_ratings_titles_and_splits() {
    let folder = Folder::new();
    let mut inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n".to_owned();
    for user in 1..=20 {
        for k in 0..10 {
            inter += &format!("{user}\t{}\t{}\t{}\n", (user * k) % 23 + 100, 1 + k % 5, 880_000_000 + k);
        }
    }
    folder.put("toy.inter", inter.as_bytes());
    folder.put("toy.item", "item_id:token\tmovie_title:token_seq\tyear:token\n100\tDie Hard\t1988\n".as_bytes());
    folder.put("toy.user", b"user_id:token\tage:token\n1\t24\n");
    let found = load(&folder, Format::Recbole, "min_rating = 4");
    assert_eq!(found.user_ids[..3], ["1", "2", "3"]);
    let titles = found.item_titles.as_ref().unwrap();
    for (id, title) in found.item_ids.iter().zip(titles) {
        assert_eq!(title, if id == "100" { "Die Hard" } else { id });
    }
    assert!(repairs(&found).contains(&("interactions rated below data.min_rating = 4 dropped", 120)));
    let again = load(&folder, Format::Recbole, "min_rating = 4");
    assert_eq!(found.manifest, again.manifest);
    let other =
        Dataset::load(&folder.data(Format::Recbole, "min_rating = 4"), folder.root(), 7, TextNeed::None).unwrap();
    assert_ne!(found.manifest.digest, other.manifest.digest);

    let by_time = load(&folder, Format::Recbole, "min_rating = 4\nsplit = \"time\"\nsplit_ratio = [2, 1, 1]");
    let m = &by_time.manifest;
    assert!(m.train >= 2 * m.test && m.validation == m.test, "{m:?}");

    let table = recbole::Table::read(&folder.path().join("toy.item")).unwrap();
    assert_eq!(table.column("year"), Some(2));
    assert_eq!(table.columns[1].kind, "token_seq");
    assert_eq!(table.rows, [["100", "Die Hard", "1988"]]);
}

fn text_tables(users: usize, items: usize) -> TextTables {
    let table = |rows: usize, width: usize, shift: usize| Embeddings {
        rows,
        width,
        // halves hold these exactly
        values: (0..rows * width).map(|k| ((k + shift) % 61) as f32 / 32.0 - 0.5).collect(),
    };
    TextTables {
        user_profile: table(users, 3, 0),
        item_profile: table(items, 3, 5),
        intents: Some([table(users, 2, 9), table(items, 2, 11)]),
    }
}

#[test]
fn prepared_folder_loads_as_the_dataset_it_was_written_from() {
    let folder = npz();
    folder.put("users.txt", b"anna\nbert\ncarl\n");
    folder.put("items.txt", "lamp\ntable, round\nchair\nvase\n".as_bytes());
    folder.put("item_titles.txt", b"Lamp\n\nChair\nVase\n");
    let mut dataset = load(&folder, Format::Npz, "");
    assert_eq!(dataset.item_titles.as_ref().unwrap()[1], "");
    let without_text = dataset.manifest.digest.clone();
    dataset.set_text(Some(text_tables(3, 4)));
    assert_ne!(dataset.manifest.digest, without_text);

    let target = folder.root().join("out").join("toy");
    for _ in 0..2 {
        prepared::write(&target, &dataset).unwrap();
        let data = files::data("out/toy", Format::Npz, "");
        let back = Dataset::load(&data, folder.root(), 1, TextNeed::ProfilesAndIntents).unwrap();
        assert_eq!(without_reading(&back), without_reading(&dataset));
        assert_eq!(back.text, dataset.text);
        assert_eq!((&back.user_ids, &back.item_ids), (&dataset.user_ids, &dataset.item_ids));
        assert_eq!(back.item_titles, dataset.item_titles);
        assert_eq!(std::fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
    }
}

#[test]
fn foreign_folder_is_not_overwritten() {
    let folder = npz();
    let dataset = load(&folder, Format::Npz, "");
    let target = folder.root().join("home");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("thesis.tex"), "x").unwrap();
    let error = prepared::write(&target, &dataset).unwrap_err().to_string();
    assert!(error.contains("holds something that is not a prepared dataset"), "{error}");
    assert!(target.join("thesis.tex").exists());

    let mut broken = dataset.clone();
    broken.set_text(Some(text_tables(3, 5)));
    prepared::write(&folder.root().join("new"), &broken).unwrap_err();
    assert_eq!(std::fs::read_dir(folder.root()).unwrap().count(), 2, "a failed write leaves nothing");
}

#[test]
fn tables_of_every_kind_hold_the_same_values() {
    let folder = Folder::new();
    let values = [0.5f32, -2.0, 0.25, 1.0, 3.0, -0.125];
    let by_column = [0.5f32, 0.25, 3.0, -2.0, 1.0, -0.125];
    let halves = |v: &[f32]| v.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect::<Vec<_>>();
    folder.put("a.npy", &npy("<f2", &[3, 2], &halves(&values)));
    folder.put("b.npy", &npy("<f4", &[3, 2], &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()));
    let wide: Vec<u8> = values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
    folder.put("c.npy", &npy("<f8", &[3, 2], &wide));
    let mut fortran = npy("<f2", &[3, 2], &halves(&by_column));
    let at = fortran.windows(5).position(|w| w == b"False").unwrap();
    fortran[at..at + 5].copy_from_slice(b"True ");
    folder.put("d.npy", &fortran);
    folder.put("e.safetensors", &safetensors(&[("x", &[3, 2], &values)]));
    for (name, dtype, data) in [
        ("f.safetensors", safetensors::Dtype::F16, halves(&values)),
        (
            "g.safetensors",
            safetensors::Dtype::BF16,
            values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
        ),
    ] {
        let view = safetensors::tensor::TensorView::new(dtype, vec![3, 2], &data).unwrap();
        folder.put(name, &safetensors::serialize([("x", view)], None).unwrap());
    }
    for name in ["a.npy", "b.npy", "c.npy", "d.npy", "e.safetensors", "f.safetensors", "g.safetensors"] {
        let table = Embeddings::read(&folder.path().join(name)).unwrap();
        assert_eq!((table.rows, table.width), (3, 2), "{name}");
        assert_eq!(table.values, values, "{name}");
        assert_eq!(table.row(1), [0.25, 1.0]);
    }
}

#[test]
fn own_rows_are_those_of_the_whole_tables() {
    let folder = npz();
    let mut written = load(&folder, Format::Npz, "");
    // a row is half a block: three rows end in the second one
    let wide =
        |rows: usize| Embeddings { rows, width: 1 << 18, values: (0..rows << 18).map(|k| (k % 251) as f32).collect() };
    let narrow = text_tables(3, 4);
    written.set_text(Some(TextTables { user_profile: wide(3), item_profile: wide(4), ..narrow.clone() }));
    prepared::write(&folder.root().join("out"), &written).unwrap();

    let data = files::data("out", Format::Npz, "");
    let mut own = Dataset::load(&data, folder.root(), 1, TextNeed::None).unwrap();
    // users 0 and 2, items 1 and 3
    own.load_text(&data, folder.root(), TextNeed::ProfilesAndIntents, Some(&[0, 2, 4, 6])).unwrap();
    assert_eq!(own.manifest.digest, written.manifest.digest);
    let (own, whole) = (own.text.unwrap(), written.text.unwrap());
    let [[own_user, own_item], [user, item]] = [own.intents.unwrap(), whole.intents.unwrap()];
    for (side, rows, whole) in [
        (&own.user_profile, [0, 2], &whole.user_profile),
        (&own.item_profile, [1, 3], &whole.item_profile),
        (&own_user, [0, 2], &user),
        (&own_item, [1, 3], &item),
    ] {
        assert_eq!(side.values, [whole.row(rows[0]), whole.row(rows[1])].concat());
        assert_eq!(side.rows, 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Line order and format never matter.
    #[test]
    fn any_order_of_lines_is_the_same_dataset(
        mut pairs in proptest::collection::btree_set((0u32..9, 0u32..30), 60..120).prop_map(|s| s.into_iter().collect::<Vec<_>>()),
        shuffle in any::<u64>(),
    ) {
        let write = |pairs: &[(u32, u32)]| {
            let folder = Folder::new();
            let text: String = pairs.iter().map(|(u, i)| format!("u{u},i{i}\n")).collect();
            folder.put("all.csv", text.as_bytes());
            Dataset::load(&folder.data(Format::Pairs, ""), folder.root(), 5, TextNeed::None).map(|d| without_reading(&d))
        };
        let first = write(&pairs);
        pairs.sort_by_key(|&(u, i)| (u64::from(u * 31 + i) ^ shuffle).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        match (first, write(&pairs)) {
            (Ok(a), Ok(b)) => prop_assert_eq!(a, b),
            (a, b) => prop_assert_eq!(a.map_err(|e| e.to_string()), b.map_err(|e| e.to_string())),
        }
    }
}
