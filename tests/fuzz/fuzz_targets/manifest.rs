//! A checkpoint of any bytes: a manifest as it stands in the file; or one given its right digest, sizes and digests of
//! files, so that everything behind those checks is reached. Files follow the manifest, each behind a `SEPARATOR`.
#![no_main]

use accord_data::checkpoint::{CheckpointStore, Manifest};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::{Component, Path};

const SEPARATOR: u8 = 0x1e;
const STEP: u64 = 7;

fuzz_target!(|bytes: &[u8]| {
    let root = tempfile::tempdir().expect("a temporary folder");
    let folder = root.path().join(format!("step-{STEP:010}"));
    fs::create_dir(&folder).expect("a folder of a checkpoint");
    // files are binary and may hold the byte too: every file is all that follows its separator
    let at: Vec<usize> = (0..bytes.len()).filter(|&k| bytes[k] == SEPARATOR).take(4).collect();
    let text = &bytes[..at.first().copied().unwrap_or(bytes.len())];
    let files: Vec<&[u8]> = at.iter().map(|&k| &bytes[k + 1..]).collect();
    let written = sealed(text, &files, &folder).unwrap_or_else(|| text.to_vec());
    fs::write(folder.join("manifest.json"), written).expect("a manifest");
    read(&CheckpointStore::new(root.path().into()));
});

/// The manifest with right digests, its files being written; none if the text is no manifest.
fn sealed(text: &[u8], files: &[&[u8]], folder: &Path) -> Option<Vec<u8>> {
    let mut manifest: Manifest = serde_json::from_slice(text).ok()?;
    for (entry, bytes) in manifest.files.iter_mut().zip(files) {
        let mut components = Path::new(&entry.name).components();
        if let (Some(Component::Normal(name)), None) = (components.next(), components.next())
            && fs::write(folder.join(name), bytes).is_ok()
        {
            (entry.bytes, entry.blake3) = (bytes.len() as u64, blake3::hash(bytes).to_hex().to_string());
        }
    }
    let digest = blake3::hash(&serde_json::to_vec(&manifest).ok()?).to_hex().to_string();
    serde_json::to_vec(&serde_json::json!({ "blake3": digest, "manifest": manifest })).ok()
}

fn read(store: &CheckpointStore) {
    // a readable disk: whatever is wrong is damage, which is passed over, and no failure of the place
    let listed = store.list().unwrap_or_else(|e| panic!("list: {e}"));
    let newest = store.newest_good().unwrap_or_else(|e| panic!("newest_good: {e}"));
    let report = store.verify(STEP);
    assert_eq!(report.is_good(), newest.checkpoint.is_some(), "{report:?}");
    assert_eq!(report.manifest.is_some(), !listed.is_empty(), "{report:?}");
    for wanted in [None, Some(&[0, 2, 1][..])] {
        let Ok(snapshot) = store.read(STEP, wanted) else { continue };
        assert!(report.is_good(), "a damaged checkpoint was read: {report:?}");
        for table in snapshot.rows {
            assert_eq!(table.values.len(), table.ids.len() * table.width, "{}", table.name);
        }
        for array in snapshot.dense {
            assert_eq!(array.values.len(), array.shape.iter().product::<usize>(), "{}", array.name);
        }
    }
}
