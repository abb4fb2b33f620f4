//! Which worker owns which node, what each worker then holds, and which rows workers send each other. Pure: depends on
//! the training interactions, the number of parts and the options, so every worker derives the same lists.
//!
//! # Layout
//! * [`Partition`]: the owner of each node; `hash`, or `multilevel` (clusters of `labels` contracted in `level`,
//!   divided by `fennel`, improved by `refine`). `cache` keeps it in a file. `load` weighs nodes.
//! * [`Shard`]: one worker's rows and its exchange lists. `cut`: the edges to its peers. `cover`: which of their ends
//!   must travel.
//! * [`report`]: the same in numbers, for a plan. [`Choice`]: what a job's options mean.
#![deny(clippy::disallowed_methods)]

mod cache;
mod choice;
mod cover;
mod cut;
mod fennel;
mod hash;
mod labels;
mod level;
mod load;
mod multilevel;
mod refine;
pub mod report;
mod shard;

pub use choice::Choice;
pub use shard::{Outgoing, Shard, Slots};

use crate::Interactions;
use report::Report;
use std::io;
use std::path::{Path, PathBuf};

/// What a run directory calls the partition that its next generation takes up again.
pub const KEPT_FILE: &str = "partition.bin";
/// Of the algorithms: a partition kept by another version is made anew.
pub const VERSION: u32 = 1;

/// How nodes are given to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the hash of the node's id: even, and blind to edges.
    Hash,
    /// Few rows between workers: a multilevel partition around Fennel.
    Fennel,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::Hash => "hash",
            Method::Fennel => "fennel",
        }
    }
}

/// Work of a worker that owns a node: `edge` * degree + `node`. Which share of the load a node is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    pub edge: f64,
    pub node: f64,
}

/// How remote rows travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Every remote neighbour's raw row.
    Halo,
    /// Raw rows or partial sums by the minimum vertex cover of each pair's cut graph: exact, never more than `Halo`.
    /// Linear layers only.
    Aggregate,
    /// Every remote row: the reference.
    AllGather,
}

/// Numbers of rows, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub raw: usize,
    pub partial: usize,
}

impl Rows {
    pub fn total(self) -> usize {
        self.raw + self.partial
    }
}

/// The owner of each node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    parts: usize,
    /// [N]
    owner: Vec<u16>,
}

/// Why a partition cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    #[error("a partition into {parts} parts: name from 1 to {} parts", Partition::MOST_PARTS)]
    Parts { parts: usize },
    #[error("node {node} belongs to part {owner}, and there are {parts}: the list was made for more parts")]
    Owner { node: usize, owner: u16, parts: usize },
    #[error("{} cannot be {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
}

/// With fewer nodes a part, structure gives nothing that is worth the imbalance.
const FEWEST_NODES_PER_PART: usize = 64;
/// A partition with more load than this, as a multiple of the mean, is taken only where hashing does no better.
const BALANCE: f64 = 1.1;

impl Partition {
    /// Owners are kept in 16 bits.
    pub const MOST_PARTS: usize = 1 << 16;

    /// Divides the nodes of `train` into `parts` (from 1 to [`MOST_PARTS`](Self::MOST_PARTS), anything else is
    /// brought into that range). `Method::Fennel` falls back to hashing for graphs with fewer than 64 nodes a part or
    /// without an edge, and where it would send no fewer rows. No part holds more than 1.1 times the mean load, unless
    /// single nodes are too heavy for that.
    pub fn new(train: &Interactions, parts: usize, method: Method, cost: Cost) -> Partition {
        let parts = parts.clamp(1, Partition::MOST_PARTS);
        let nodes = train.users() + train.items();
        if parts == 1 {
            return Partition { parts, owner: vec![0; nodes] };
        }
        let degree = load::degrees(train);
        let load = load::loads(&degree, cost);
        let hashed = Partition { parts, owner: hash::partition(&load, parts) };
        if method == Method::Hash || train.is_empty() || nodes < FEWEST_NODES_PER_PART * parts {
            return hashed;
        }
        let level = level::Level::new(train, &degree, load.clone());
        let found = multilevel::partition(train, &level, parts);
        drop(level);
        let balance = |p: &Partition| load::balance(&p.owner, &load, parts);
        let rows = |p: &Partition| Report::new(train, p, Scheme::Halo, cost).rows_worst();
        let balanced = balance(&found) <= BALANCE.max(balance(&hashed));
        if balanced && rows(&found) < rows(&hashed) { found } else { hashed }
    }

    /// Takes the owners as given.
    ///
    /// # Errors
    /// No part, more than [`MOST_PARTS`](Self::MOST_PARTS), or an owner that is not below `parts`.
    pub fn from_owner(parts: usize, owner: Vec<u16>) -> Result<Partition, PartitionError> {
        if !(1..=Partition::MOST_PARTS).contains(&parts) {
            return Err(PartitionError::Parts { parts });
        }
        match owner.iter().position(|&rank| usize::from(rank) >= parts) {
            Some(node) => Err(PartitionError::Owner { node, owner: owner[node], parts }),
            None => Ok(Partition { parts, owner }),
        }
    }

    pub fn parts(&self) -> usize {
        self.parts
    }

    /// [N] rank that owns each node: users, then items.
    pub fn owner(&self) -> &[u16] {
        &self.owner
    }

    /// BLAKE3 (hex) of the number of parts and the owners.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"accord partition 1\n");
        hasher.update(&(self.parts as u64).to_le_bytes());
        hasher.update(&(self.owner.len() as u64).to_le_bytes());
        for chunk in self.owner.chunks(1 << 15) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|rank| rank.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Writes the partition under `key`, which names all it was made from: dataset digest, parts and options. The
    /// folder is made; a file that is there is replaced whole or not at all.
    ///
    /// # Errors
    /// A failing disk.
    pub fn save(&self, path: &Path, key: &str) -> Result<(), PartitionError> {
        cache::save(self, path, key)
    }

    /// The partition that was saved under `key`; none where there is no file, it is damaged, or has another key.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn load(path: &Path, key: &str) -> Result<Option<Partition>, PartitionError> {
        cache::load(path, key)
    }
}
