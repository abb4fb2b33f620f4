//! A small made-up catalog with communities, so that tests train something real without any download.

use std::fmt::Write as _;
use std::path::Path;

pub const USERS: usize = 90;
pub const ITEMS: usize = 70;
/// Width of its text embeddings.
const WIDTH: usize = 24;

/// Deterministic numbers in [0, 1).
fn number(a: usize, b: usize) -> f64 {
    let x = (a as f64 * 12.9898 + b as f64 * 78.233).sin() * 43758.5453;
    x - x.floor()
}

/// Writes `train.txt`, `val.txt`, `test.txt` as pairs and the four embedding tables as .npy.
///
/// # Panics
/// When the folder cannot be written.
pub fn write(folder: &Path) {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    let mut parts = [String::new(), String::new(), String::new()];
    for user in 0..USERS {
        // one of five communities likes one item in three of its own, and one in twenty of the others'
        for item in 0..ITEMS {
            let likes = if user % 5 == item % 5 { 0.6 } else { 0.05 };
            if number(user, item) < likes || item == user % ITEMS {
                let draw = number(item + 1000, user);
                let part = if draw < 0.7 || item == user % ITEMS {
                    0
                } else if draw < 0.85 {
                    1
                } else {
                    2
                };
                writeln!(parts[part], "{user} {item}").expect("a string grows");
            }
        }
    }
    for (name, pairs) in ["train.txt", "val.txt", "test.txt"].iter().zip(&parts) {
        std::fs::write(folder.join(name), pairs).expect("the file can be written");
    }
    for (name, rows, seed) in [
        ("usr_emb.npy", USERS, 1),
        ("itm_emb.npy", ITEMS, 2),
        ("usr_intent_emb.npy", USERS, 3),
        ("itm_intent_emb.npy", ITEMS, 4),
    ] {
        std::fs::write(folder.join(name), table(rows, seed)).expect("the file can be written");
    }
}

/// An f32 .npy whose rows lean towards their community.
fn table(rows: usize, seed: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {WIDTH}), }}");
    // magic, version and length take 10 bytes; the header ends in a newline at a multiple of 64
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((padded as u16).to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = padded - 1).bytes());
    for row in 0..rows {
        for column in 0..WIDTH {
            let lean = if column % 5 == row % 5 { 0.5 } else { 0.0 };
            let value = (number(row * WIDTH + column, seed) - 0.5 + lean) as f32;
            bytes.extend(value.to_le_bytes());
        }
    }
    bytes
}

/// A job file on the catalog in `data`, of `model`; two threads, so that a test does not depend on the machine.
pub fn job(model: &str, epochs: u32) -> String {
    format!(
        "[job]\nname = \"small-{model}\"\nseed = 7\n\n[data]\npath = \"data\"\nformat = \"pairs\"\n\n\
         [model]\nkind = \"{model}\"\ndim = 16\nlayers = 2\nintents = 8\n\n\
         [optim]\nlr = 5e-3\nbatch_size = 64\nepochs = {epochs}\npatience = 1000\n\n\
         [cluster]\nworkers = 1\ndevice = \"cpu\"\nthreads_per_worker = 2\n\n[checkpoint]\nevery_steps = 10\n"
    )
}
