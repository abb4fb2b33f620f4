use super::*;
use crate::{Dataset, DatasetManifest};
use accord_spec::MetricTable;
use std::io::Write as _;

/// Two users, three items of which one has a title of two lines.
fn dataset() -> Dataset {
    let part = |pairs: &[(u32, u32)]| Interactions::from_pairs(2, 3, pairs).unwrap().0;
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    Dataset {
        train: part(&[(0, 2), (1, 0), (1, 2)]),
        validation: part(&[(0, 1)]),
        test: part(&[(1, 1)]),
        text: None,
        user_ids: names(&["ann", " bob "]),
        item_ids: names(&["1", "a,b", "3"]),
        item_titles: Some(names(&["One", "Two\r\nlines", ""])),
        manifest: DatasetManifest {
            users: 2,
            items: 3,
            train: 3,
            validation: 1,
            test: 1,
            profile_width: None,
            intent_width: None,
            digest: "d".into(),
            repairs: Vec::new(),
            reading: crate::Reading::default(),
        },
        listed: Default::default(),
        repairs_without_text: 0,
    }
}

fn manifest(best_epoch: u64) -> ExportManifest {
    let test = TestMetrics {
        users: 1,
        values: MetricTable(vec![("recall".into(), [(5, 0.1 + 0.2)].into()), ("ndcg".into(), [(5, 0.25)].into())]),
    };
    ExportManifest {
        version: ExportManifest::VERSION,
        job: "tiny".into(),
        model: "lightgcn".into(),
        users: 2,
        items: 3,
        dim: 2,
        data_digest: "d".into(),
        config_digest: "c".into(),
        best_epoch,
        select: "recall@5".into(),
        best_validation: 0.5,
        test,
        files: Vec::new(),
    }
}

fn tensors(values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view =
        |shape: [usize; 2], bytes| safetensors::tensor::TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
    let (user, item) = bytes.split_at(16);
    safetensors::serialize([("user", view([2, 2], user)), ("item", view([3, 2], item))], None).unwrap()
}

const VALUES: [f32; 10] = [1.0, -0.0, 3.5, f32::MIN_POSITIVE, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6];

fn begin(folder: &Path, values: &[f32]) -> ExportWriter {
    let mut writer = ExportWriter::begin(folder).unwrap();
    let mut file = writer.embeddings().unwrap();
    file.write_all(&tensors(values)).unwrap();
    writer.keep(file).unwrap();
    writer.dataset(&Catalog::of(&dataset(), Path::new("data")).unwrap(), &dataset().train).unwrap();
    writer
}

fn exported() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("export");
    begin(&folder, &VALUES).commit(manifest(3)).unwrap();
    (root, folder)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_export_is_read_back_as_it_was_written() {
    let (_root, folder) = exported();
    assert_eq!(names(&folder), [EMBEDDINGS, MANIFEST, ITEM_TITLES, ITEMS, TRAIN, USERS]);
    let export = Export::open(&folder).unwrap().unwrap();
    let files = export.manifest.files.clone();
    assert_eq!(export.manifest, ExportManifest { files, ..manifest(3) });
    assert_eq!(export.user_ids().unwrap(), dataset().user_ids);
    assert_eq!(export.item_ids().unwrap(), dataset().item_ids);
    // a break of two characters becomes two blanks; an item without a title keeps its line
    assert_eq!(export.item_titles().unwrap().unwrap(), ["One", "Two  lines", ""]);
    assert_eq!(export.train().unwrap(), dataset().train);
    let (user, item) = export.embeddings().unwrap();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!((user.rows, item.rows, user.width, item.width), (2, 3, 2, 2));
    assert_eq!(bits(&[user.values, item.values].concat()), bits(&VALUES));
}

#[test]
fn an_export_without_titles_has_none() {
    let root = tempfile::tempdir().unwrap();
    let mut writer = ExportWriter::begin(root.path()).unwrap();
    writer.keep(writer.embeddings().unwrap()).unwrap();
    let bare = Dataset { item_titles: None, ..dataset() };
    writer.dataset(&Catalog::of(&bare, Path::new("data")).unwrap(), &bare.train).unwrap();
    writer.commit(manifest(1)).unwrap();
    assert_eq!(Export::open(root.path()).unwrap().unwrap().item_titles().unwrap(), None);
}

#[test]
fn a_worker_killed_before_the_last_file_leaves_no_export() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("export");
    // nothing runs behind a kill, not even what tidies up
    std::mem::forget(begin(&folder, &VALUES));
    assert!(Export::open(&folder).unwrap().is_none());
    assert_eq!(names(&folder).iter().filter(|name| name.ends_with(".partial")).count(), 5);
    // every other file has its name, as between the last rename and export.json
    begin(&folder, &VALUES).commit(manifest(3)).unwrap();
    assert_eq!(names(&folder).len(), 6, "what was left is gone: {:?}", names(&folder));
    fs::remove_file(folder.join(MANIFEST)).unwrap();
    assert!(Export::open(&folder).unwrap().is_none());
}

#[test]
fn a_worker_killed_while_it_writes_again_leaves_the_export_before() {
    let (_root, folder) = exported();
    std::mem::forget(begin(&folder, &VALUES.map(|v| v + 1.0)));
    let export = Export::open(&folder).unwrap().unwrap();
    assert_eq!(export.embeddings().unwrap().0.values[0], 1.0);
    begin(&folder, &VALUES.map(|v| v + 1.0)).commit(manifest(4)).unwrap();
    let export = Export::open(&folder).unwrap().unwrap();
    assert_eq!((export.embeddings().unwrap().0.values[0], export.manifest.best_epoch), (2.0, 4));
}

#[test]
fn what_is_given_up_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("export");
    drop(begin(&folder, &VALUES));
    assert!(names(&folder).is_empty(), "{:?}", names(&folder));
    let error = ExportWriter::begin(&root.path().join("not/there")).unwrap_err().to_string();
    assert!(error.contains("not/there cannot be written"), "{error}");
}

#[test]
fn a_file_that_was_changed_is_named_and_the_others_are_read() {
    let read = |export: &Export, name: &str| match name {
        EMBEDDINGS => export.embeddings().map(|_| ()),
        USERS => export.user_ids().map(|_| ()),
        ITEMS => export.item_ids().map(|_| ()),
        ITEM_TITLES => export.item_titles().map(|_| ()),
        _ => export.train().map(|_| ()),
    };
    let all = [EMBEDDINGS, USERS, ITEMS, ITEM_TITLES, TRAIN];
    for name in all {
        let (_root, folder) = exported();
        let (path, export) = (folder.join(name), Export::open(&folder).unwrap().unwrap());
        let good = fs::read(&path).unwrap();
        let told = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = read(&export, name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("repeat the command that trained the run"), "{error}");
            error
        };
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(told(&flipped).contains("digest"));
        assert!(told(&good[1..]).contains("bytes, export.json says"));
        fs::remove_file(&path).unwrap();
        assert!(read(&export, name).unwrap_err().to_string().contains("is missing"));
        for other in all.iter().filter(|other| **other != name) {
            read(&export, other).unwrap();
        }
    }
}

#[test]
fn values_that_are_no_numbers_are_told_with_their_row() {
    let root = tempfile::tempdir().unwrap();
    let mut values = VALUES;
    values[7] = f32::NAN;
    begin(root.path(), &values).commit(manifest(1)).unwrap();
    let error = Export::open(root.path()).unwrap().unwrap().embeddings().unwrap_err().to_string();
    assert!(error.contains("tensor `item` is NaN in row 1"), "{error}");
}

#[test]
fn sizes_that_the_files_do_not_have_are_told() {
    let root = tempfile::tempdir().unwrap();
    let claims = ExportManifest { users: 3, dim: u64::MAX, ..manifest(1) };
    begin(root.path(), &VALUES).commit(claims).unwrap();
    let export = Export::open(root.path()).unwrap().unwrap();
    let error = |result: Result<(), DataError>| result.unwrap_err().to_string();
    assert!(error(export.embeddings().map(|_| ())).contains("tensor `user` is F32 [2, 2]"));
    assert!(error(export.user_ids().map(|_| ())).contains("2 lines, export.json says 3"));
    assert!(error(export.train().map(|_| ())).contains("2 x 3 interactions, export.json says 3 x 3"));
}

#[test]
fn an_export_json_that_lists_other_files_is_refused() {
    let (_root, folder) = exported();
    let path = folder.join(MANIFEST);
    let good = fs::read_to_string(&path).unwrap();
    let told = |text: &str| {
        fs::write(&path, text).unwrap();
        Export::open(&folder).unwrap_err().to_string()
    };
    assert!(told(&good.replace("\"users.txt\"", "\"../users.txt\"")).contains("is not one of an export"));
    assert!(told(&good.replace("\"users.txt\"", "\"items.txt\"")).contains("named twice"));
    assert!(told(&good.replace("\"item_titles.txt\"", "\"/etc/passwd\"")).contains("is not one of an export"));
    assert!(
        told(&good.replace("\"version\": 1", "\"version\": 2")).contains("version 2, this program reads version 1")
    );
    assert!(told("{\"version\": 1, \"fil").contains("no valid export.json"));
    let mut less: ExportManifest = serde_json::from_str(&good).unwrap();
    less.files.retain(|file| file.name != TRAIN);
    assert!(told(&serde_json::to_string(&less).unwrap()).contains("does not list train.npz"));
}

#[test]
fn an_id_that_does_not_fit_a_line_is_refused_before_training() {
    for bad in ["a\nb", "a\r", " ", ""] {
        let mut spoilt = dataset();
        spoilt.item_ids[1] = bad.into();
        let error = Catalog::of(&spoilt, Path::new("data/shop")).unwrap_err().to_string();
        assert!(error.contains("data/shop") && error.contains("item id"), "{error}");
    }
}
