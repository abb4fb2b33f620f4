//! Real datasets, where the folder `shared` lies beside the repository.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::sampling::EpochPlan;
use accord_data::{Dataset, TextNeed, prepared};
use accord_spec::Format;
use files::without_reading;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// None, said aloud, where the data are not on this machine.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: {name} is not in ../shared/data");
    None
}

fn load(folder: &Path, format: Format, keys: &str, text: TextNeed) -> Dataset {
    let data = files::data(folder.to_str().unwrap(), format, keys);
    Dataset::load(&data, Path::new(""), 2023, text).unwrap()
}

#[test]
fn matrices_and_text_files_of_real_sets_agree() {
    for (name, sizes) in [
        ("amazon", [11_000, 9_332, 120_464, 40_290, 40_106]),
        ("yelp", [11_091, 11_010, 166_620, 55_479, 55_436]),
        ("ml100k", [942, 1_447, 33_316, 11_032, 11_027]),
    ] {
        let Some(folder) = shared(name) else { continue };
        let from_npz = load(&folder, Format::Npz, "", TextNeed::None);
        let m = &without_reading(&from_npz);
        eprintln!("{name}: {m:?}");
        assert_eq!([m.users, m.items, m.train, m.validation, m.test], sizes, "{name}");
        assert_eq!(without_reading(&load(&folder, Format::Pairs, "", TextNeed::None)), *m, "{name}");
    }
}

#[test]
fn amazon_with_text_loads_and_is_prepared_without_loss() {
    let Some(folder) = shared("amazon") else { return };
    let started = Instant::now();
    let dataset = load(&folder, Format::Npz, "", TextNeed::ProfilesAndIntents);
    eprintln!("amazon with text: {:?}", started.elapsed());
    assert_eq!((dataset.manifest.profile_width, dataset.manifest.intent_width), (Some(384), Some(384)));
    let started = Instant::now();
    let plan = EpochPlan::new(&dataset.train, 2023, 0);
    eprintln!("epoch plan of {} pairs: {:?}", plan.len(), started.elapsed());
    assert_eq!(plan.steps(4096), 30);

    let target = tempfile::tempdir().unwrap();
    let path = target.path().join("amazon");
    prepared::write(&path, &dataset).unwrap();
    assert_eq!(without_reading(&load(&path, Format::Npz, "", TextNeed::ProfilesAndIntents)), without_reading(&dataset));
}

#[test]
fn single_matrices_in_rows_are_read_and_split() {
    let Some(folder) = shared("graphs") else { return };
    let target = files::Folder::new();
    for (name, file) in [("gowalla.npz", "trn.npz"), ("gowalla_test.npz", "tst.npz")] {
        target.put(file, &std::fs::read(folder.join(name)).unwrap());
    }
    let dataset = load(&target.path(), Format::Npz, "", TextNeed::None);
    let m = &dataset.manifest;
    eprintln!("gowalla: {m:?}");
    assert_eq!((m.users, m.items, m.train + m.validation, m.test), (29_858, 40_981, 810_128, 217_242));
    target.put("trn.npz", &std::fs::read(folder.join("ml1m.npz")).unwrap());
    target.remove("tst.npz");
    let m = load(&target.path(), Format::Npz, "", TextNeed::None).manifest;
    assert_eq!(m.train + m.validation + m.test, 895_699);
}
