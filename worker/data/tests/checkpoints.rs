//! The checkpoint store in a folder: every number comes back bit for bit, and nothing that is not as committed is ever used.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

mod checkpoint_suite;

use accord_data::checkpoint::{
    CheckpointError, CheckpointStore, DenseArray, Found, Manifest, Place, Progress, RowTable, Snapshot,
};
use checkpoint_suite::{checkpoint, folder, manifest, snapshot};
use proptest::prelude::*;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_behaviour_holds_in_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let mut number = 0;
    checkpoint_suite::run(|| {
        number += 1;
        CheckpointStore::new(root.path().join(number.to_string()).join("checkpoints"))
    });
}

#[test]
fn no_temporary_file_is_left() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::new(root.path().into());
    checkpoint(&store, 12);
    assert_eq!(
        names(&root.path().join(folder(12))),
        ["dense.safetensors", "manifest.json", "rows-00000.safetensors", "rows-00001.safetensors"]
    );
}

#[cfg(unix)]
#[test]
fn link_or_folder_in_place_of_a_file_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::new(root.path().into());
    checkpoint(&store, 1);
    let dense = root.path().join(folder(1)).join("dense.safetensors");
    let elsewhere = root.path().join("elsewhere");
    fs::rename(&dense, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &dense).unwrap();
    assert_eq!(store.verify(1).problems[0].to_string(), "dense.safetensors: is not a plain file");
    fs::remove_file(&dense).unwrap();
    fs::create_dir(&dense).unwrap();
    assert_eq!(store.verify(1).problems[0].to_string(), "dense.safetensors: is not a plain file");
    assert_eq!(store.newest_good().unwrap().damaged, [1]);
    // set aside as a whole
    store.set_aside(1).unwrap();
    assert_eq!(names(&root.path().join(format!("damaged-{}", folder(1)))).len(), 4);
}

/// A file system of its own in `folder`, 64 KiB large; None where this process may not mount.
struct Mount<'a>(&'a Path);

impl Mount<'_> {
    fn new(folder: &Path) -> Option<Mount<'_>> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(folder).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Mount(folder)),
            Ok(output) => {
                println!("SKIPPED: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("SKIPPED: mount: {error}");
                None
            }
        }
    }

    fn make_read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(self.0).status().unwrap().success());
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn full_or_read_only_disk_is_said_and_the_previous_checkpoint_stays() {
    let root = tempfile::tempdir().unwrap();
    let Some(disk) = Mount::new(root.path()) else { return };
    let store = CheckpointStore::new(root.path().into());
    checkpoint(&store, 1);
    let mut large = snapshot(2, 0, 1);
    let values = vec![0.0; 64 << 10];
    large.dense.push(DenseArray { name: "large".into(), shape: vec![values.len()], values });
    let error = store.write_shard(2, 1, 0, &large).unwrap_err();
    let file = root.path().join(folder(2)).join("dense.safetensors");
    let said = error.to_string();
    assert!(said.starts_with(&format!("{} cannot be written: No space left", file.display())), "{said}");
    assert!(error.is_retryable());
    // what was written of it makes no room for nothing
    assert_eq!(names(file.parent().unwrap()), ["rows-00000.safetensors"]);
    assert_eq!(store.newest_good().unwrap().checkpoint.map(|c| c.0), Some(1));

    disk.make_read_only();
    for said in [
        store.write_shard(3, 1, 0, &snapshot(3, 0, 1)).unwrap_err().to_string(),
        store.set_aside(1).unwrap_err().to_string(),
        store.retain(1, None).map(|_| store.clear()).unwrap().unwrap_err().to_string(),
    ] {
        assert!(said.contains(&*root.path().to_string_lossy()) && said.contains("Read-only file system"), "{said}");
    }
    assert!(store.verify(1).is_good());
}

/// A folder whose rows cannot be read for now.
#[derive(Debug)]
struct Unreadable(Arc<dyn Place>, io::ErrorKind);

impl Place for Unreadable {
    fn address(&self, name: &str) -> String {
        self.0.address(name)
    }
    fn create_limit(&self) -> u64 {
        self.0.create_limit()
    }
    fn put_new(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        self.0.put_new(name, bytes)
    }
    fn look(&self, name: &str) -> io::Result<Found> {
        self.0.look(name)
    }
    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        if name.contains("rows-") { Err(io::Error::new(self.1, "try later")) } else { self.0.read(name, range) }
    }
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.0.list(folder)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn remove_folder(&self, folder: &str) -> io::Result<()> {
        self.0.remove_folder(folder)
    }
    fn set_aside(&self, folder: &str, evidence: &str, aside: &str) -> io::Result<bool> {
        self.0.set_aside(folder, evidence, aside)
    }
}

#[test]
fn checkpoint_that_cannot_be_read_for_now_is_not_damaged() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::new(root.path().into());
    checkpoint(&store, 1);
    let place = |kind| CheckpointStore::at(Arc::new(Unreadable(Arc::clone(store.place()), kind)));
    let gone = place(io::ErrorKind::TimedOut);
    let error = gone.newest_good().unwrap_err();
    assert!(matches!(error, CheckpointError::Io { .. }), "{error}");
    assert!(error.to_string().ends_with("rows-00000.safetensors cannot be read: try later"), "{error}");
    assert_eq!(gone.verify(1).problems[0].to_string(), "rows-00000.safetensors: cannot be read: try later");
    // a sector that is bad for good is damage
    let spoiled = place(io::ErrorKind::InvalidData);
    assert_eq!(spoiled.newest_good().unwrap().damaged, [1]);
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
        let root = tempfile::tempdir().unwrap();
        let store = CheckpointStore::new(root.path().into());
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
