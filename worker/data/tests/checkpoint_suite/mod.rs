//! What a checkpoint store must do wherever its files lie. Run by the tests of each place.
#![allow(dead_code, reason = "each test binary takes what it needs")]
#![allow(clippy::print_stdout, reason = "a test prints which behaviour it is at")]

use accord_data::checkpoint::{
    CheckpointError, CheckpointStore, DenseArray, FileEntry, Found, Manifest, Progress, RowTable, Snapshot,
};

type Behaviour = fn(&CheckpointStore);

/// Runs every behaviour, each with a store of its own that is empty.
pub(crate) fn run(mut fresh: impl FnMut() -> CheckpointStore) {
    let behaviours: &[(&str, Behaviour)] = &[
        ("what is committed is read by any number of ranks", committed_is_read_by_any_number_of_ranks),
        ("shards without a manifest are no checkpoint", shards_without_a_manifest_are_no_checkpoint),
        ("a retried step leaves earlier files alone", retried_step_leaves_earlier_files_alone),
        ("of many committers exactly one wins", of_many_committers_exactly_one_wins),
        ("every kind of damage is named", every_kind_of_damage_is_named),
        ("a manifest that points elsewhere is refused", manifest_that_points_elsewhere_is_refused),
        ("the newest and the best are retained", newest_and_best_are_retained),
        ("what is set aside can be committed again", damaged_checkpoint_set_aside_can_be_committed_again),
        ("snapshots that contradict themselves are not written", contradictions_are_not_written),
        ("a width that no row has is not believed", width_without_rows_is_not_believed),
        ("a file of many parts comes back whole", file_of_many_parts_comes_back_whole),
        ("clearing leaves what is not ours", clearing_leaves_what_is_not_ours),
    ];
    for (name, behaviour) in behaviours {
        println!("{name}");
        behaviour(&fresh());
    }
}

/// What rank `rank` of `world` holds: every `world`-th node of ten.
pub(crate) fn snapshot(step: u64, rank: u32, world: u32) -> Snapshot {
    let ids: Vec<u32> = (0..10).filter(|id| id % world == rank).rev().collect();
    let table = |name: &str, width: usize| RowTable {
        name: name.into(),
        width,
        values: ids.iter().flat_map(|&id| (0..width).map(move |c| value(step, id, c))).collect(),
        ids: ids.clone(),
    };
    Snapshot {
        rows: vec![table("embeds", 3), table("embeds.adam1", 3)],
        dense: vec![
            DenseArray {
                name: "mlp.0.weight".into(),
                shape: vec![2, 2],
                values: vec![1.0, -0.0, f32::MIN_POSITIVE, 1e-42],
            },
            DenseArray { name: "scalar".into(), shape: vec![], values: vec![step as f32] },
        ],
        progress: progress(step),
    }
}

pub(crate) fn value(step: u64, id: u32, column: usize) -> f32 {
    (step as f32 + id as f32 * 0.1) * (column as f32 - 0.7)
}

pub(crate) fn progress(step: u64) -> Progress {
    Progress {
        epoch: 3,
        step,
        step_in_epoch: 7,
        epoch_losses: vec![("bpr".into(), 0.1 + 0.2), ("kd".into(), 1e-320)],
        best: Some(1.0 / 3.0),
        best_epoch: 2,
        evaluations_without_gain: 1,
        finished: false,
    }
}

pub(crate) fn manifest(step: u64, files: Vec<FileEntry>) -> Manifest {
    Manifest {
        version: Manifest::VERSION,
        generation: 1,
        world: 2,
        progress: progress(step),
        config_digest: "c".into(),
        data_digest: "d".into(),
        files,
    }
}

/// Writes and commits a checkpoint of two ranks.
pub(crate) fn checkpoint(store: &CheckpointStore, step: u64) {
    let mut files = Vec::new();
    for rank in 0..2 {
        files.extend(store.write_shard(step, 1, rank, &snapshot(step, rank, 2)).unwrap());
    }
    store.commit(step, &manifest(step, files)).unwrap();
}

/// Name of the folder of a step.
pub(crate) fn folder(step: u64) -> String {
    format!("step-{step:010}")
}

fn names(store: &CheckpointStore, folder: &str) -> Vec<String> {
    let mut names = store.place().list(folder).unwrap();
    names.sort();
    names
}

fn bytes_of(store: &CheckpointStore, name: &str) -> Vec<u8> {
    let Found::File(bytes) = store.place().look(name).unwrap() else { panic!("no {name}") };
    store.place().read(name, 0..bytes).unwrap()
}

/// Puts other bytes in the place of a file's.
fn edit(store: &CheckpointStore, name: &str, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = bytes_of(store, name);
    change(&mut bytes);
    store.place().remove(name).unwrap();
    assert!(store.place().put_new(name, &bytes).unwrap());
}

fn committed_is_read_by_any_number_of_ranks(store: &CheckpointStore) {
    assert_eq!(store.list().unwrap(), vec![]);
    assert_eq!(store.newest_good().unwrap().checkpoint, None);
    checkpoint(store, 12);
    assert_eq!(
        names(store, &folder(12)),
        ["dense.safetensors", "manifest.json", "rows-00000.safetensors", "rows-00001.safetensors"]
    );

    let all = store.read(12, None).unwrap();
    assert_eq!(all.progress, progress(12));
    assert_eq!(all.dense, snapshot(12, 0, 1).dense);
    assert_eq!(all.rows[0].ids, (0..10).collect::<Vec<_>>());
    assert_eq!(all.rows[1].name, "embeds.adam1");

    let some = store.read(12, Some(&[7, 0, 4])).unwrap();
    let expected: Vec<f32> = [7, 0, 4].iter().flat_map(|&id| (0..3).map(move |c| value(12, id, c))).collect();
    assert_eq!(some.rows[0].values, expected);

    let error = store.read(12, Some(&[10])).unwrap_err().to_string();
    assert_eq!(error, "checkpoint of step 12 has no row of `embeds` for node 10: it was written for another dataset");
    assert!(matches!(store.read(13, None), Err(CheckpointError::NotCommitted { step: 13, .. })));
}

fn shards_without_a_manifest_are_no_checkpoint(store: &CheckpointStore) {
    checkpoint(store, 1);
    store.write_shard(2, 1, 0, &snapshot(2, 0, 2)).unwrap();
    let newest = store.newest_good().unwrap();
    assert_eq!(newest.checkpoint.map(|c| c.0), Some(1));
    assert!(newest.warnings.is_empty());
    assert_eq!(store.list().unwrap().len(), 1);
}

fn retried_step_leaves_earlier_files_alone(store: &CheckpointStore) {
    let first = store.write_shard(5, 1, 0, &snapshot(5, 0, 1)).unwrap();
    let again = store.write_shard(5, 2, 0, &snapshot(5, 0, 1)).unwrap();
    let third = store.write_shard(5, 2, 0, &snapshot(5, 0, 1)).unwrap();
    let file_names = |files: &[FileEntry]| files.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
    assert_eq!(file_names(&first), ["rows-00000.safetensors", "dense.safetensors"]);
    assert_eq!(file_names(&again), ["rows-00000-g2.safetensors", "dense-g2.safetensors"]);
    assert_eq!(file_names(&third), ["rows-00000-g2-2.safetensors", "dense-g2-2.safetensors"]);

    store.commit(5, &manifest(5, again)).unwrap();
    assert!(matches!(store.commit(5, &manifest(5, first)), Err(CheckpointError::AlreadyCommitted { step: 5, .. })));
    assert!(matches!(
        store.write_shard(5, 3, 0, &snapshot(5, 0, 1)),
        Err(CheckpointError::AlreadyCommitted { step: 5, .. })
    ));
    assert_eq!(store.read(5, None).unwrap().rows[0].ids.len(), 10);
    store.retain(1, None).unwrap();
    assert_eq!(names(store, &folder(5)), ["dense-g2.safetensors", "manifest.json", "rows-00000-g2.safetensors"]);
}

fn of_many_committers_exactly_one_wins(store: &CheckpointStore) {
    let files = store.write_shard(9, 1, 0, &snapshot(9, 0, 1)).unwrap();
    let won = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u64)
            .map(|generation| {
                let files = files.clone();
                scope.spawn(move || store.commit(9, &Manifest { generation, ..manifest(9, files) }).is_ok())
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|&won| won).count()
    });
    assert_eq!(won, 1);
    assert!(store.verify(9).is_good());
    assert_eq!(names(store, &folder(9)).len(), 3, "no temporary file is left");
}

fn every_kind_of_damage_is_named(store: &CheckpointStore) {
    type Spoil = fn(&CheckpointStore, &str);
    let cases: &[(Spoil, &str)] = &[
        (
            |store, folder| edit(store, &format!("{folder}/rows-00001.safetensors"), |b| b.truncate(100)),
            "rows-00001.safetensors: has 100 bytes, 440 were committed",
        ),
        (
            |store, folder| store.place().remove(&format!("{folder}/dense.safetensors")).unwrap(),
            "dense.safetensors: is missing",
        ),
        (
            |store, folder| edit(store, &format!("{folder}/rows-00000.safetensors"), |b| b[300] ^= 4),
            "rows-00000.safetensors: digest is ",
        ),
        (
            |store, folder| edit(store, &format!("{folder}/manifest.json"), |b| b.truncate(b.len() / 2)),
            "manifest.json: not a manifest (EOF while parsing",
        ),
        (
            |store, folder| edit(store, &format!("{folder}/manifest.json"), Vec::clear),
            "manifest.json: not a manifest (EOF while parsing",
        ),
        (
            |store, folder| {
                edit(store, &format!("{folder}/manifest.json"), |b| {
                    let text = String::from_utf8(b.clone()).unwrap();
                    *b = text.replace("\"epoch\": 3", "\"epoch\": 2").into_bytes();
                });
            },
            "manifest.json: the digest of the manifest itself does not match",
        ),
    ];
    checkpoint(store, 1);
    for (step, (spoil, expected)) in (2..).zip(cases) {
        checkpoint(store, step);
        assert_eq!(store.newest_good().unwrap().checkpoint.map(|c| c.0), Some(step));
        spoil(store, &folder(step));
        let report = store.verify(step);
        assert_eq!((report.problems.len(), report.committed), (1, true), "{expected}");
        let said = report.problems[0].to_string();
        assert!(said.starts_with(expected), "expected {expected}\nsaid     {said}");
        let error = store.read(step, None).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
        let newest = store.newest_good().unwrap();
        assert_eq!((newest.checkpoint.map(|c| c.0), newest.damaged), (Some(1), vec![step]));
        assert_eq!(newest.warnings.len(), 1);
        assert!(newest.warnings[0].contains(expected), "{:?}", newest.warnings);
        let aside = store.set_aside(step).unwrap();
        assert!(aside.ends_with(&format!("damaged-{}", folder(step))), "{aside}");
    }
    let report = store.verify(99);
    assert_eq!((report.is_good(), report.committed), (false, false));
    assert_eq!(report.problems[0].to_string(), "manifest.json: there is none, so nothing was committed here");
}

fn manifest_that_points_elsewhere_is_refused(store: &CheckpointStore) {
    checkpoint(store, 1);
    let outside =
        |name: &str| FileEntry { name: name.into(), bytes: 1, blake3: blake3::hash(b"x").to_hex().to_string() };
    for name in ["../../secret", "/etc/hostname", "..", ".", "", "a/b", "a/", "a/.", "a/./"] {
        let error = store.commit(2, &manifest(2, vec![outside(name)])).unwrap_err().to_string();
        assert_eq!(error, format!("manifest of step 2: file name `{name}` points outside the checkpoint"));
    }
    let files = store.list().unwrap()[0].1.files.clone();
    let error = store.commit(2, &manifest(3, files.clone())).unwrap_err().to_string();
    assert_eq!(error, "manifest of step 2: it says step 3, its folder says 2");
    store.commit(2, &manifest(2, files)).unwrap_err();
    assert_eq!(names(store, &folder(2)), [""; 0]);

    // one that another program wrote, with a right digest, and the file that it points to
    assert!(store.place().put_new("elsewhere/secret", b"x").unwrap());
    for (step, name) in [(3, "../elsewhere/secret"), (4, "a/b")] {
        commit_as_another_program(store, step, &manifest(step, vec![outside(name)]));
        let why = format!("file name `{name}` points outside the checkpoint");
        assert_eq!(store.verify(step).problems[0].why, why);
        assert!(store.read(step, None).unwrap_err().to_string().contains(&why));
    }
    // found by fuzzing: the place failed at such names, and a failing place ends the search for the newest good one
    let long = "n".repeat(256);
    for (step, name) in [(5, "rows-00000/."), (6, "rows\0"), (8, &long)] {
        commit_as_another_program(store, step, &manifest(step, vec![outside(name)]));
        assert!(store.verify(step).problems[0].why.contains("file name"), "{:?}", store.verify(step));
    }
    let newest = store.newest_good().unwrap();
    assert_eq!((newest.checkpoint.unwrap().0, newest.damaged), (1, vec![8, 6, 5, 4, 3]));
    // a copied folder
    for name in names(store, &folder(1)) {
        let bytes = bytes_of(store, &format!("{}/{name}", folder(1)));
        store.place().put_new(&format!("{}/{name}", folder(7)), &bytes).unwrap();
    }
    assert_eq!(store.verify(7).problems[0].why, "it says step 1, its folder says 7");
}

/// With a right digest, and none of the checks of a commit.
fn commit_as_another_program(store: &CheckpointStore, step: u64, manifest: &Manifest) {
    let inner = serde_json::to_string(manifest).unwrap();
    let text = format!("{{\"blake3\":\"{}\",\"manifest\":{inner}}}", blake3::hash(inner.as_bytes()).to_hex());
    assert!(store.place().put_new(&format!("{}/manifest.json", folder(step)), text.as_bytes()).unwrap());
}

fn newest_and_best_are_retained(store: &CheckpointStore) {
    (1..=6).for_each(|step| checkpoint(store, step));
    store.write_shard(3_000, 1, 0, &snapshot(3_000, 0, 1)).unwrap();
    store.place().remove(&format!("{}/dense.safetensors", folder(5))).unwrap();
    store.place().remove(&format!("{}/manifest.json", folder(1))).unwrap();
    assert_eq!(store.retain(2, Some(2)).unwrap(), [3]);
    // 6 and 4 are whole, 5 does not count, 2 is the best; the attempt at 1 is old, that at 3000 may be going on
    assert_eq!(store.steps().unwrap(), [3_000, 6, 5, 4, 2]);
    store.retain(0, None).unwrap();
    assert_eq!(store.steps().unwrap(), [3_000, 6]);
    assert_eq!(names(store, &folder(4)), [""; 0]);
}

fn damaged_checkpoint_set_aside_can_be_committed_again(store: &CheckpointStore) {
    for expected in ["damaged-step-0000000004", "damaged-step-0000000004-1"] {
        checkpoint(store, 4);
        assert!(store.set_aside(4).unwrap().ends_with(expected));
        assert_eq!(store.list().unwrap(), vec![]);
        assert!(names(store, expected).contains(&"manifest.json".into()));
    }
    checkpoint(store, 4);
    assert!(store.verify(4).is_good());
    store.retain(1, None).unwrap();
    assert_eq!(names(store, &folder(4)).len(), 4);
}

fn contradictions_are_not_written(store: &CheckpointStore) {
    let mut bad = snapshot(1, 0, 1);
    bad.rows[0].values.pop();
    assert_eq!(
        store.write_shard(1, 1, 0, &bad).unwrap_err().to_string(),
        "row table `embeds` has 29 values for 10 rows of width 3"
    );
    let mut bad = snapshot(1, 0, 1);
    bad.dense[1].name = "mlp.0.weight".into();
    assert_eq!(
        store.write_shard(1, 1, 0, &bad).unwrap_err().to_string(),
        "two tables of a snapshot are named `mlp.0.weight`"
    );
    assert!(store.steps().unwrap().is_empty());

    // two ranks that both claim node 0
    let mut files = store.write_shard(2, 1, 0, &snapshot(2, 0, 1)).unwrap();
    files.extend(store.write_shard(2, 1, 1, &snapshot(2, 0, 2)).unwrap());
    store.commit(2, &manifest(2, files)).unwrap();
    for wanted in [None, Some([0].as_slice())] {
        let error = store.read(2, wanted).unwrap_err().to_string();
        assert!(error.contains("table `embeds` has node 0 twice"), "{error}");
    }
}

/// Found by fuzzing: room was made for as many numbers as the wanted rows would have.
fn width_without_rows_is_not_believed(store: &CheckpointStore) {
    let table = |width: usize| RowTable { name: "embeds".into(), ids: vec![], width, values: vec![] };
    for (step, width) in [(1, 1 << 40), (2, usize::MAX), (3, 64)] {
        let bare = Snapshot { rows: vec![table(width)], dense: vec![], progress: progress(step) };
        let files = store.write_shard(step, 1, 0, &bare).unwrap();
        store.commit(step, &manifest(step, files)).unwrap();
    }
    for step in [1, 2] {
        for wanted in [None, Some([0, 1, 2].as_slice())] {
            let error = store.read(step, wanted).unwrap_err().to_string();
            assert!(error.contains("table `embeds` has rows of"), "{error}");
        }
    }
    assert_eq!(store.read(3, Some(&[])).unwrap().rows, [table(64)]);
}

/// Larger than what an object store takes in one request, twice over.
fn file_of_many_parts_comes_back_whole(store: &CheckpointStore) {
    let large = |first: u32| {
        let ids: Vec<u32> = (0..100_000).collect();
        let values = (0..60 * 100_000).map(|k| (first + k) as f32).collect();
        let rows = vec![RowTable { name: "embeds".into(), width: 60, values, ids }];
        Snapshot { rows, dense: vec![], progress: progress(8) }
    };
    // two that know nothing of each other write the same shard at the same moment, and it is not the same to them
    let written = std::thread::scope(|scope| {
        let write = |first| scope.spawn(move || store.write_shard(8, 1, 0, &large(first)).unwrap());
        [write(0), write(1)].map(|writer| writer.join().unwrap())
    });
    for files in &written {
        let found = blake3::hash(&bytes_of(store, &format!("{}/{}", folder(8), files[0].name)));
        assert_eq!(found.to_hex().as_str(), files[0].blake3);
    }
    let [files, _] = written;
    store.commit(8, &manifest(8, files)).unwrap();
    assert!(store.verify(8).is_good());
    let wanted = [99_999, 0, 50_000];
    let back = store.read(8, Some(&wanted)).unwrap();
    let expected: Vec<f32> = wanted.iter().flat_map(|&id| (0..60).map(move |c| (60 * id + c) as f32)).collect();
    assert_eq!(back.rows[0].values, expected);
}

fn clearing_leaves_what_is_not_ours(store: &CheckpointStore) {
    checkpoint(store, 1);
    checkpoint(store, 2);
    store.set_aside(1).unwrap();
    store.place().put_new("notes/thesis.tex", b"years of work").unwrap();
    store.clear().unwrap();
    assert_eq!((store.steps().unwrap(), names(store, "notes")), (vec![], vec!["thesis.tex".into()]));
    assert_eq!(names(store, "damaged-step-0000000001"), [""; 0]);
    checkpoint(store, 1);
}
