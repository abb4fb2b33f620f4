//! Folders as RLMRec, IRLLRec and SSLRec ship their datasets, pickled by several versions of numpy and scipy
//! (`tests/pickles`).
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::{DataError, Dataset, TextNeed, prepared};
use accord_spec::Format;
use files::{Folder, coo, ints, npy, without_reading, zip};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use zip::ZipArchive;

fn archives() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pickles");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "zip"));
    found.sort();
    assert_eq!(found.len(), 5);
    found
}

fn pickled(archive: &Path, name: &str) -> Vec<u8> {
    let mut archive = ZipArchive::new(File::open(archive).unwrap()).unwrap();
    let mut bytes = Vec::new();
    archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// A folder with the official dataset of an archive.
fn official(archive: &Path) -> Folder {
    let folder = Folder::new();
    let opened = ZipArchive::new(File::open(archive).unwrap()).unwrap();
    for name in opened.file_names().filter_map(|name| name.strip_prefix("official/")) {
        folder.put(name, &pickled(archive, &format!("official/{name}")));
    }
    folder
}

fn load(folder: &Folder, format: Format, keys: &str, text: TextNeed) -> Result<Dataset, DataError> {
    Dataset::load(&folder.data(format, keys), folder.root(), 2023, text)
}

#[test]
fn official_folders_of_every_version_load_as_they_are() {
    let npz = Folder::new();
    npz.put("trn.npz", &coo(&[0, 1, 2, 3], &[0, 1, 2, 0], [4, 3]));
    npz.put("val.npz", &coo(&[0, 1], &[1, 2], [4, 3]));
    npz.put("tst.npz", &coo(&[0, 2, 3], &[2, 0, 1], [4, 3]));
    let expected = without_reading(&load(&npz, Format::Npz, "", TextNeed::None).unwrap());
    let mut digests = Vec::new();
    for archive in archives() {
        let folder = official(&archive);
        assert_eq!(
            without_reading(&load(&folder, Format::Rlmrec, "", TextNeed::None).unwrap()),
            expected,
            "{}",
            archive.display()
        );
        let dataset = load(&folder, Format::Rlmrec, "", TextNeed::ProfilesAndIntents).unwrap();
        assert_eq!(dataset.test.pairs().collect::<Vec<_>>(), [(0, 2), (2, 0), (3, 1)]);
        let text = dataset.text.unwrap();
        assert_eq!(text.user_profile.values, [0.5, 0.0, 1.5, -1.0, 2.5, -2.0, 3.5, -3.0]);
        let [user_intent, item_intent] = text.intents.as_ref().unwrap();
        assert_eq!((text.item_profile.rows, user_intent.rows, item_intent.rows), (3, 4, 3));
        digests.push(dataset.manifest.digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_prepared_copy_is_the_same_dataset() {
    let archive = &archives()[0];
    let folder = official(archive);
    let dataset = load(&folder, Format::Rlmrec, "", TextNeed::ProfilesAndIntents).unwrap();
    prepared::write(&folder.root().join("prepared"), &dataset).unwrap();
    let data = files::data("prepared", Format::Npz, "");
    let copy = Dataset::load(&data, folder.root(), 2023, TextNeed::ProfilesAndIntents).unwrap();
    assert_eq!(without_reading(&copy), without_reading(&dataset));
}

#[test]
fn names_of_sslrec_and_the_longer_ending_are_read() {
    let archive = &archives()[0];
    let expected = without_reading(&load(&official(archive), Format::Rlmrec, "", TextNeed::None).unwrap());
    let folder = Folder::new();
    for (name, part) in [("train_mat.pickle", "trn"), ("valid_mat.pickle", "val"), ("test_mat.pkl", "tst")] {
        folder.put(name, &pickled(archive, &format!("official/{part}_mat.pkl")));
    }
    assert_eq!(without_reading(&load(&folder, Format::Rlmrec, "", TextNeed::None).unwrap()), expected);
    folder.put("trn_mat.pkl", &pickled(archive, "official/trn_mat.pkl"));
    let said = load(&folder, Format::Rlmrec, "", TextNeed::None).unwrap_err().to_string();
    assert!(said.contains("more than one file could be the training part (train_mat.pickle, trn_mat.pkl)"), "{said}");
}

#[test]
fn values_of_a_single_matrix_are_ratings_and_it_is_split() {
    let folder = Folder::new();
    let ratings = |values: [f64; 5]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let bytes = pickled(&archives()[1], "coo_matrix-f8-p3");
    let at = bytes.windows(40).position(|w| w == ratings([5.0, 1.0, 3.0, 2.0, 4.0])).unwrap();
    let with = |values| [&bytes[..at], &ratings(values), &bytes[at + 40..]].concat();
    for (values, min_rating, left, repair) in [
        ([5.0, 1.0, 3.0, 2.0, 4.0], "", 5, None),
        (
            [5.0, 1.0, 3.0, 2.0, 4.0],
            "min_rating = 3",
            3,
            Some(("interactions rated below data.min_rating = 3 dropped", 2)),
        ),
        ([5.0, 0.0, 3.0, -2.0, 4.0], "", 4, Some(("stored zeros dropped", 1))),
    ] {
        folder.put("trn_mat.pkl", &with(values));
        let data = folder.data(Format::Rlmrec, &format!("split_ratio = [1, 1, 1]\n{min_rating}"));
        // so few interactions leave a part empty for most seeds
        let load = |seed| Dataset::load(&data, folder.root(), seed, TextNeed::None).ok();
        let found = (0..1000).find_map(load).unwrap().manifest;
        assert_eq!(found.train + found.validation + found.test, left);
        let dropped = found.repairs.iter().find(|r| r.what.contains("dropped")).map(|r| (r.what.as_str(), r.count));
        assert_eq!(dropped, repair);
    }
    let said = load(&folder, Format::Rlmrec, "split = \"time\"", TextNeed::None).unwrap_err().to_string();
    assert!(said.contains("data.split = \"time\" and matrices carry no times"), "{said}");
}

#[test]
fn parts_of_other_shapes_are_refused() {
    let folder = official(&archives()[0]);
    folder.put("val_mat.pkl", &transposed_shape(&folder.get("val_mat.pkl")));
    let said = load(&folder, Format::Rlmrec, "", TextNeed::None).unwrap_err().to_string();
    assert!(said.contains("val_mat.pkl: shape [4, 4], but trn_mat.pkl has shape [4, 3]"), "{said}");
}

/// 4 x 4 instead of 4 x 3: BININT1 4, BININT1 3, TUPLE2 in protocol 2.
fn transposed_shape(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.windows(5).position(|w| w == b"K\x04K\x03\x86").unwrap();
    bytes[at + 3] = 4;
    bytes
}

#[test]
fn tables_of_a_pickle_serve_any_format() {
    let folder = official(&archives()[4]);
    for part in ["trn", "val", "tst"] {
        folder.remove(&format!("{part}_mat.pkl"));
    }
    folder.put("train.txt", b"0 0\n1 1\n2 2\n3 0\n");
    folder.put("val.txt", b"0 1\n1 2\n");
    folder.put("test.txt", b"0 2\n2 0\n3 1\n");
    let keys = "text = { user_profile = \"usr_emb_np.pkl\", item_profile = \"itm_emb_np.pkl\", \
                user_intent = \"user_intent_emb_3.pkl\", item_intent = \"item_intent_emb_3.pkl\" }";
    let found = without_reading(&load(&folder, Format::Pairs, keys, TextNeed::ProfilesAndIntents).unwrap());
    let expected =
        without_reading(&load(&official(&archives()[0]), Format::Rlmrec, "", TextNeed::ProfilesAndIntents).unwrap());
    assert_eq!(found, expected);
}

fn doubles(values: &[f64]) -> Vec<u8> {
    npy("<f8", &[values.len()], &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

/// As `matrix.tocsr()` has them: +1 and -1 are no interaction, 2 and 2 are a rating of 4.
#[test]
fn entries_of_one_user_and_item_are_their_sum() {
    let mut entries: Vec<(i32, i32, f64)> = (0..18).map(|k| (k % 6, (k % 6 + k / 6) % 5, 5.0)).collect();
    entries.extend([(0, 3, 1.0), (1, 4, 2.0), (0, 3, -1.0), (1, 4, 2.0)]);
    let rows: Vec<i32> = entries.iter().map(|entry| entry.0).collect();
    let columns: Vec<i32> = entries.iter().map(|entry| entry.1).collect();
    let values: Vec<f64> = entries.iter().map(|entry| entry.2).collect();
    let folder = Folder::new();
    let arrays = [("row", ints(&rows)), ("col", ints(&columns)), ("data", doubles(&values)), ("shape", ints(&[6, 5]))];
    folder.put("all.npz", &zip(&arrays));
    for keys in ["", "min_rating = 3"] {
        let found = load(&folder, Format::Npz, keys, TextNeed::None).unwrap();
        let kept: Vec<(u32, u32)> =
            [&found.train, &found.validation, &found.test].iter().flat_map(|p| p.pairs()).collect();
        assert_eq!(kept.len(), 19, "{keys}");
        assert!(kept.contains(&(1, 4)) && !kept.contains(&(0, 3)), "{keys}");
        let summed = found.manifest.repairs.iter().find(|repair| repair.what.contains("added to an earlier one"));
        assert_eq!(summed.map(|repair| repair.count), Some(2), "{keys}");
    }
}

#[test]
fn negative_entries_are_kept_and_counted() {
    let values: Vec<f64> = (0..18).map(|k| if k < 4 { -1.0 } else { 1.0 }).collect();
    let rows: Vec<i32> = (0..18).map(|k| k % 6).collect();
    let columns: Vec<i32> = (0..18).map(|k| (k % 6 + k / 6) % 5).collect();
    let folder = Folder::new();
    let arrays = [("row", ints(&rows)), ("col", ints(&columns)), ("data", doubles(&values)), ("shape", ints(&[6, 5]))];
    folder.put("all.npz", &zip(&arrays));
    let noted = |keys: &str| {
        let found = load(&folder, Format::Npz, keys, TextNeed::None).unwrap();
        let repair = found.manifest.repairs.iter().find(|repair| repair.what.contains("rated below"));
        repair.map(|repair| (repair.what.contains("kept"), repair.count))
    };
    assert_eq!((noted(""), noted("min_rating = 0")), (Some((true, 4)), Some((false, 4))));
}

#[test]
fn matrices_that_could_be_read_two_ways_are_refused() {
    let folder = Folder::new();
    for (offsets, indices, shape, message) in [
        (
            &[0, 1, 2][..],
            &[1, 0][..],
            [2, 2],
            "a matrix of 2 x 2 without `format`, which may be stored by rows or by columns",
        ),
        (&[0, 1, 2], &[1, 0, 2], [2, 3], "the matrix stores 3 entries and its offsets end at 2: call matrix.prune()"),
    ] {
        let data = doubles(&vec![1.0; indices.len()]);
        let arrays = [("indptr", ints(offsets)), ("indices", ints(indices)), ("data", data), ("shape", ints(&shape))];
        folder.put("all.npz", &zip(&arrays));
        let error = load(&folder, Format::Npz, "", TextNeed::None).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
