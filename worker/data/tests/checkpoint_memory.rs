//! How much memory reading a checkpoint takes: one file, and the rows that are wanted.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod checkpoint_suite;

use accord_data::checkpoint::{CheckpointStore, RowTable, Snapshot};
use checkpoint_suite::{manifest, progress};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const RANKS: u32 = 8;
const ROWS_PER_RANK: u32 = 20_000;
const WIDTH: usize = 16;

#[test]
fn reading_holds_one_file_and_the_wanted_rows() {
    let root = tempfile::tempdir().unwrap();
    let store = CheckpointStore::new(root.path().into());
    let mut files = Vec::new();
    for rank in 0..RANKS {
        let ids: Vec<u32> = (0..ROWS_PER_RANK).map(|row| row * RANKS + rank).collect();
        let values = ids.iter().flat_map(|&id| [id as f32; WIDTH]).collect();
        let rows = vec![RowTable { name: "embeds".into(), ids, width: WIDTH, values }];
        files.extend(store.write_shard(1, 1, rank, &Snapshot { rows, dense: vec![], progress: progress(1) }).unwrap());
    }
    let file = files.iter().map(|f| f.bytes).max().unwrap() as usize;
    store.commit(1, &manifest(1, files)).unwrap();

    let wanted: Vec<u32> = (0..1_000).map(|k| k * 150).collect();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let back = store.read(1, Some(&wanted)).unwrap();
    let peak = MEMORY.peak_usage() - before;
    assert!(back.rows[0].values.chunks(WIDTH).zip(&wanted).all(|(row, &id)| row == [id as f32; WIDTH]));
    let rows = wanted.len() * (4 * WIDTH + 32);
    assert!(peak < file + rows + (64 << 10), "{peak} bytes for a file of {file} and rows of {rows}");
}
