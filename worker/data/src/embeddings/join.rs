//! Puts the rows of a table in the order of internal ids, whatever their order in the file, and keeps those that are
//! wanted.

use super::Embeddings;
use super::names::quoted;
use crate::error::{DataError, Side};
use crate::manifest::row_digest;
use std::collections::HashMap;
use std::path::Path;

/// A row of a table. Rows count from 0, lines of text from 1: `Table::place` says it in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) number: u64,
    /// None in a matrix without ids.
    pub(super) id: Option<&'a str>,
    /// Finite.
    pub(super) values: &'a [f32],
}

/// The nodes of one side: external ids by internal id, and which nodes' rows are kept.
#[derive(Clone, Copy)]
pub(super) struct Nodes<'a> {
    pub(super) side: Side,
    pub(super) ids: &'a [String],
    /// Number of the side's first node.
    pub(super) first: usize,
    /// Of this side alone, ascending; none: all.
    pub(super) keep: Option<&'a [u32]>,
}

impl Nodes<'_> {
    pub(super) fn kept(&self) -> usize {
        self.keep.map_or(self.ids.len(), <[u32]>::len)
    }

    /// Which of the kept rows an internal id is.
    fn slot(&self, internal: usize) -> Option<usize> {
        match self.keep {
            None => Some(internal),
            Some(nodes) => nodes.binary_search_by_key(&(internal + self.first), |&node| node as usize).ok(),
        }
    }
}

/// Rows that have arrived. Memory: the kept rows, and 40 bytes for each user or item.
pub(super) struct Join<'a> {
    path: &'a Path,
    nodes: Nodes<'a>,
    width: usize,
    internal: HashMap<&'a str, usize>,
    /// By internal id: one more than the number of its row; 0 before it came.
    row_of: Vec<u64>,
    digests: Vec<[u8; 32]>,
    /// Kept rows in the order in which they came, and which slot each belongs to.
    values: Vec<f32>,
    slots: Vec<usize>,
    surplus: u64,
    zeros: u64,
    /// First ids of the table, and first ids that the dataset does not have.
    seen: Vec<String>,
    foreign: Vec<String>,
}

/// A table in order.
pub(super) struct Joined {
    pub(super) table: Embeddings,
    /// By internal id, kept or not.
    pub(super) digests: Vec<[u8; 32]>,
    /// Rows of ids that the dataset does not have.
    pub(super) surplus: u64,
    /// Rows of zeros.
    pub(super) zeros: u64,
}

const EXAMPLES: usize = 2;

impl<'a> Join<'a> {
    /// `most`: a table of this file has no more values.
    pub(super) fn new(path: &'a Path, nodes: Nodes<'a>, width: usize, has_ids: bool, most: u64) -> Join<'a> {
        let count = nodes.ids.len();
        let internal = match has_ids {
            true => nodes.ids.iter().map(String::as_str).zip(0..).collect(),
            false => HashMap::new(),
        };
        let capacity = nodes.kept().saturating_mul(width).min(usize::try_from(most).unwrap_or(usize::MAX));
        Join {
            path,
            nodes,
            width,
            internal,
            row_of: vec![0; count],
            digests: vec![[0; 32]; count],
            values: Vec::with_capacity(capacity),
            slots: Vec::with_capacity(nodes.kept()),
            surplus: 0,
            zeros: 0,
            seen: vec![],
            foreign: vec![],
        }
    }

    /// The row that already came for this one's id, if it is a second one. A row without an id belongs to the internal id
    /// of its number.
    pub(super) fn put(&mut self, row: Row) -> Option<u64> {
        let internal = match row.id {
            None => row.number as usize,
            Some(id) => {
                remember(&mut self.seen, id);
                let Some(&internal) = self.internal.get(id) else {
                    remember(&mut self.foreign, id);
                    self.surplus += 1;
                    return None;
                };
                internal
            }
        };
        let row_of = self.row_of.get_mut(internal)?;
        if *row_of > 0 {
            return Some(*row_of - 1);
        }
        *row_of = row.number + 1;
        self.digests[internal] = row_digest(row.values);
        self.zeros += u64::from(row.values.iter().all(|&v| v == 0.0));
        if let Some(slot) = self.nodes.slot(internal) {
            self.values.extend_from_slice(row.values);
            self.slots.push(slot);
        }
        None
    }

    /// # Errors
    /// Users or items without a row, or a table of zeros.
    pub(super) fn finish(mut self) -> Result<Joined, DataError> {
        self.refuse_missing()?;
        let count = self.nodes.ids.len();
        if self.zeros == count as u64 {
            return Err(DataError::malformed(
                self.path,
                "every row is zero",
                "the embeddings were not computed: encode the texts again",
            ));
        }
        sort_rows(&mut self.values, &mut self.slots, self.width);
        let table = Embeddings { rows: self.slots.len(), width: self.width, values: self.values };
        Ok(Joined { table, digests: self.digests, surplus: self.surplus, zeros: self.zeros })
    }

    fn refuse_missing(&self) -> Result<(), DataError> {
        let lacking =
            || self.nodes.ids.iter().zip(&self.row_of).filter(|(_, row)| **row == 0).map(|(id, _)| id.as_str());
        let missing = lacking().count();
        if missing == 0 {
            return Ok(());
        }
        let side = self.nodes.side;
        let theirs = if self.foreign.is_empty() { &self.seen } else { &self.foreign };
        Err(DataError::malformed(
            self.path,
            format!(
                "no row for {missing} of {} {side}s ({}); ids in the table are {}",
                self.nodes.ids.len(),
                quoted(lacking().take(EXAMPLES)),
                quoted(theirs.iter().map(String::as_str)),
            ),
            format!("give each {side} of the interactions one row, its id written as it is there"),
        ))
    }
}

fn remember(examples: &mut Vec<String>, id: &str) {
    if examples.len() < EXAMPLES {
        examples.push(id.to_owned());
    }
}

/// Moves each row to its slot, in place; every slot from 0 on is taken once.
fn sort_rows(values: &mut [f32], slots: &mut [usize], width: usize) {
    for row in 0..slots.len() {
        while slots[row] != row {
            let to = slots[row];
            let (low, high) = (row.min(to) * width, row.max(to) * width);
            let (before, behind) = values.split_at_mut(high);
            before[low..low + width].swap_with_slice(&mut behind[..width]);
            slots.swap(row, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_any_order_are_sorted() {
        let mut values = [3.0, 3.5, 1.0, 1.5, 0.0, 0.5, 2.0, 2.5];
        let mut slots = [3, 1, 0, 2];
        sort_rows(&mut values, &mut slots, 2);
        assert_eq!(values, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
        assert_eq!(slots, [0, 1, 2, 3]);
    }
}
