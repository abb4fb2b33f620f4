//! The checkpoint store: every number comes back bit for bit, and nothing that is not as committed is ever used.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

use accord_data::checkpoint::{
    CheckpointError, CheckpointStore, DenseArray, FileEntry, Manifest, Progress, RowTable, Snapshot, verify,
};
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// What rank `rank` of `world` holds: every `world`-th node of ten.
fn snapshot(step: u64, rank: u32, world: u32) -> Snapshot {
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

fn value(step: u64, id: u32, column: usize) -> f32 {
    (step as f32 + id as f32 * 0.1) * (column as f32 - 0.7)
}

fn progress(step: u64) -> Progress {
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

fn manifest(step: u64, files: Vec<FileEntry>) -> Manifest {
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
fn checkpoint(store: &CheckpointStore, step: u64) {
    let mut files = Vec::new();
    for rank in 0..2 {
        files.extend(store.write_shard(step, 1, rank, &snapshot(step, rank, 2)).unwrap());
    }
    store.commit(step, &manifest(step, files)).unwrap();
}

fn store() -> (tempfile::TempDir, CheckpointStore) {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::new(root.path().join("checkpoints"));
    (root, store)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_committed_is_read_by_any_number_of_ranks() {
    let (_root, store) = store();
    assert_eq!(store.list().unwrap(), vec![]);
    assert_eq!(store.newest_good().unwrap().checkpoint, None);
    checkpoint(&store, 12);
    assert_eq!(
        names(&store.folder(12)),
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

#[test]
fn shards_without_a_manifest_are_no_checkpoint() {
    let (_root, store) = store();
    checkpoint(&store, 1);
    store.write_shard(2, 1, 0, &snapshot(2, 0, 2)).unwrap();
    let newest = store.newest_good().unwrap();
    assert_eq!(newest.checkpoint.map(|c| c.0), Some(1));
    assert!(newest.warnings.is_empty());
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn retried_step_leaves_earlier_files_alone_and_the_first_commit_stands() {
    let (_root, store) = store();
    let first = store.write_shard(5, 1, 0, &snapshot(5, 0, 1)).unwrap();
    let again = store.write_shard(5, 2, 0, &snapshot(5, 0, 1)).unwrap();
    let third = store.write_shard(5, 2, 0, &snapshot(5, 0, 1)).unwrap();
    let names = |files: &[FileEntry]| files.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&first), ["rows-00000.safetensors", "dense.safetensors"]);
    assert_eq!(names(&again), ["rows-00000-g2.safetensors", "dense-g2.safetensors"]);
    assert_eq!(names(&third), ["rows-00000-g2-2.safetensors", "dense-g2-2.safetensors"]);

    store.commit(5, &manifest(5, again)).unwrap();
    assert!(matches!(store.commit(5, &manifest(5, first)), Err(CheckpointError::AlreadyCommitted { step: 5, .. })));
    assert!(matches!(
        store.write_shard(5, 3, 0, &snapshot(5, 0, 1)),
        Err(CheckpointError::AlreadyCommitted { step: 5, .. })
    ));
    assert_eq!(store.read(5, None).unwrap().rows[0].ids.len(), 10);
    store.retain(1, None).unwrap();
    assert_eq!(self::names(&store.folder(5)), ["dense-g2.safetensors", "manifest.json", "rows-00000-g2.safetensors"]);
}

#[test]
fn of_many_committers_exactly_one_wins() {
    let (_root, store) = store();
    let files = store.write_shard(9, 1, 0, &snapshot(9, 0, 1)).unwrap();
    let won = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u64)
            .map(|generation| {
                let (store, files) = (&store, files.clone());
                scope.spawn(move || store.commit(9, &Manifest { generation, ..manifest(9, files) }).is_ok())
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|&won| won).count()
    });
    assert_eq!(won, 1);
    assert!(verify(&store.folder(9)).is_good());
    assert_eq!(names(&store.folder(9)).len(), 3, "no temporary file is left");
}

#[test]
fn every_kind_of_damage_is_named_and_the_previous_checkpoint_is_used() {
    type Spoil = fn(&Path);
    fn edit(folder: &Path, name: &str, f: impl Fn(&mut Vec<u8>)) {
        let mut bytes = fs::read(folder.join(name)).unwrap();
        f(&mut bytes);
        fs::write(folder.join(name), bytes).unwrap();
    }
    let cases: &[(Spoil, &str)] = &[
        (
            |dir| edit(dir, "rows-00001.safetensors", |b| b.truncate(100)),
            "rows-00001.safetensors: has 100 bytes, 440 were committed",
        ),
        (|dir| fs::remove_file(dir.join("dense.safetensors")).unwrap(), "dense.safetensors: is missing"),
        (
            |dir| {
                fs::remove_file(dir.join("dense.safetensors")).unwrap();
                fs::create_dir(dir.join("dense.safetensors")).unwrap();
            },
            "dense.safetensors: is not a plain file",
        ),
        (|dir| edit(dir, "rows-00000.safetensors", |b| b[300] ^= 4), "rows-00000.safetensors: digest is "),
        (
            |dir| edit(dir, "manifest.json", |b| b.truncate(b.len() / 2)),
            "manifest.json: not a manifest (EOF while parsing",
        ),
        (|dir| edit(dir, "manifest.json", Vec::clear), "manifest.json: not a manifest (EOF while parsing"),
        (
            |dir| {
                let text = fs::read_to_string(dir.join("manifest.json")).unwrap();
                fs::write(dir.join("manifest.json"), text.replace("\"epoch\": 3", "\"epoch\": 2")).unwrap();
            },
            "manifest.json: the digest of the manifest itself does not match",
        ),
    ];
    for (spoil, expected) in cases {
        let (_root, store) = store();
        checkpoint(&store, 1);
        checkpoint(&store, 2);
        spoil(&store.folder(2));
        let report = verify(&store.folder(2));
        assert_eq!(report.problems.len(), 1, "{expected}");
        let said = report.problems[0].to_string();
        assert!(said.starts_with(expected), "expected {expected}\nsaid     {said}");
        let error = store.read(2, None).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
        let newest = store.newest_good().unwrap();
        assert_eq!(newest.checkpoint.map(|c| c.0), Some(1));
        assert_eq!(newest.warnings.len(), 1);
        assert!(newest.warnings[0].contains(expected), "{:?}", newest.warnings);
    }
}

#[test]
fn manifest_that_points_outside_or_elsewhere_is_refused() {
    let (root, store) = store();
    checkpoint(&store, 1);
    fs::write(root.path().join("secret"), b"x").unwrap();
    let outside =
        |name: &str| FileEntry { name: name.into(), bytes: 1, blake3: blake3::hash(b"x").to_hex().to_string() };
    fs::create_dir_all(store.folder(2)).unwrap();
    for name in ["../../secret", "/etc/hostname", "..", ".", "", "a/b", "a/"] {
        let error = store.commit(2, &manifest(2, vec![outside(name)])).unwrap_err().to_string();
        assert_eq!(error, format!("manifest of step 2: file name `{name}` points outside the checkpoint"));
    }
    let files = store.list().unwrap()[0].1.files.clone();
    let error = store.commit(2, &manifest(3, files.clone())).unwrap_err().to_string();
    assert_eq!(error, "manifest of step 2: it says step 3, its folder says 2");
    store.commit(2, &manifest(2, files)).unwrap_err();
    assert!(!store.folder(2).join("manifest.json").exists());

    // one that another program wrote, with a right digest
    let inner = serde_json::to_string(&manifest(2, vec![outside("../../secret")])).unwrap();
    let digest = blake3::hash(inner.as_bytes()).to_hex();
    fs::write(store.folder(2).join("manifest.json"), format!("{{\"blake3\":\"{digest}\",\"manifest\":{inner}}}"))
        .unwrap();
    let report = verify(&store.folder(2));
    assert_eq!(report.problems[0].why, "file name `../../secret` points outside the checkpoint");
    // a copied folder
    fs::rename(store.folder(1), store.folder(7)).unwrap();
    assert_eq!(verify(&store.folder(7)).problems[0].why, "it says step 1, its folder says 7");
}

#[cfg(unix)]
#[test]
fn link_in_place_of_a_file_is_refused() {
    let (_root, store) = store();
    checkpoint(&store, 1);
    let dense = store.folder(1).join("dense.safetensors");
    let elsewhere = store.root().join("elsewhere");
    fs::rename(&dense, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &dense).unwrap();
    assert_eq!(verify(&store.folder(1)).problems[0].to_string(), "dense.safetensors: is not a plain file");
}

#[test]
fn newest_and_best_are_retained() {
    let (_root, store) = store();
    (1..=6).for_each(|step| checkpoint(&store, step));
    store.write_shard(3_000, 1, 0, &snapshot(3_000, 0, 1)).unwrap();
    fs::remove_file(store.folder(5).join("dense.safetensors")).unwrap();
    fs::remove_file(store.folder(1).join("manifest.json")).unwrap();
    assert_eq!(store.retain(2, Some(2)).unwrap(), [3]);
    // 6 and 4 are whole, 5 does not count, 2 is the best; the attempt at 1 is old, that at 3000 may be going on
    assert_eq!(
        names(store.root()),
        ["step-0000000002", "step-0000000004", "step-0000000005", "step-0000000006", "step-0000003000"]
    );
    store.retain(0, None).unwrap();
    assert_eq!(names(store.root()), ["step-0000000006", "step-0000003000"]);
}

#[test]
fn damaged_checkpoint_set_aside_can_be_committed_again() {
    let (_root, store) = store();
    for expected in ["damaged-step-0000000004", "damaged-step-0000000004-1"] {
        checkpoint(&store, 4);
        assert!(store.set_aside(4).unwrap().ends_with(expected));
        assert_eq!(store.list().unwrap(), vec![]);
    }
}

#[test]
fn snapshots_that_contradict_themselves_are_not_written() {
    let (_root, store) = store();
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
    assert!(!store.folder(1).exists());

    // two ranks that both claim node 0
    let mut files = store.write_shard(2, 1, 0, &snapshot(2, 0, 1)).unwrap();
    files.extend(store.write_shard(2, 1, 1, &snapshot(2, 0, 2)).unwrap());
    store.commit(2, &manifest(2, files)).unwrap();
    let error = store.read(2, None).unwrap_err().to_string();
    assert!(error.contains("table `embeds` has node 8 twice"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_bit_of_a_snapshot_comes_back(
        nodes in 0u32..40,
        width in 1usize..5,
        world in 1u32..4,
        bits in proptest::collection::vec(any::<u32>(), 200),
        dense in proptest::collection::vec((0usize..4, 0usize..4), 0..4),
        loss in any::<f64>(),
        step in 0u64..20_000_000_000,
    ) {
        let (_root, store) = store();
        let number = |k: usize| f32::from_bits(bits[k % bits.len()]);
        let progress = Progress { step, epoch_losses: vec![("total".into(), loss)], ..Progress::default() };
        let dense: Vec<DenseArray> = dense
            .iter()
            .enumerate()
            .map(|(k, &(a, b))| DenseArray {
                name: format!("w{k}"),
                shape: vec![a, b],
                values: (0..a * b).map(number).collect(),
            })
            .collect();
        let mut files = Vec::new();
        for rank in 0..world {
            let ids: Vec<u32> = (0..nodes).filter(|id| id % world == rank).collect();
            let values = ids.iter().flat_map(|&id| (0..width).map(move |c| id as usize * width + c)).map(number);
            let rows = vec![RowTable { name: "e".into(), width, values: values.collect(), ids }];
            let part = Snapshot { rows, dense: dense.clone(), progress: progress.clone() };
            files.extend(store.write_shard(step, 1, rank, &part).unwrap());
        }
        store.commit(step, &Manifest { progress: progress.clone(), ..manifest(step, files) }).unwrap();
        let (found, _) = store.newest_good().unwrap().checkpoint.unwrap();
        prop_assert_eq!(found, step);
        let wanted: Vec<u32> = (0..nodes).rev().collect();
        let back = store.read(step, Some(&wanted)).unwrap();
        prop_assert_eq!(&back.progress, &progress);
        let expected = wanted.iter().flat_map(|&id| (0..width).map(move |c| number(id as usize * width + c).to_bits()));
        prop_assert_eq!(
            back.rows[0].values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            expected.collect::<Vec<_>>()
        );
        for (a, b) in back.dense.iter().zip(&dense) {
            prop_assert_eq!((&a.name, &a.shape), (&b.name, &b.shape));
            let bits = |array: &DenseArray| array.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(a), bits(b));
        }
    }
}
