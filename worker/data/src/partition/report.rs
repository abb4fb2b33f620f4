//! What a partition costs: nodes, edges and rows exchanged of each worker, for one way of exchanging rows. In the
//! memory of one worker's cut edges, whatever the number of workers.

use super::cut::{self, Cut};
use super::load::{balance, degrees, loads};
use super::{Cost, Partition, Rows, Scheme};
use crate::Interactions;

/// One partition under one scheme.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub scheme: Scheme,
    /// By rank.
    pub ranks: Vec<RankReport>,
    /// Load of the most loaded worker as a multiple of the mean.
    pub balance: f64,
}

/// One worker's share. Rows are those of one layer exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankReport {
    pub users: usize,
    pub items: usize,
    /// Users and items.
    pub nodes: usize,
    /// Edges at its nodes: what one propagation sums up. An edge between two own nodes counts at both.
    pub entries: u64,
    pub received: Rows,
    pub sent: Rows,
}

impl Report {
    /// `partition` must be one of `train`'s nodes, as for [`Shard::new`](super::Shard::new).
    pub fn new(train: &Interactions, partition: &Partition, scheme: Scheme, cost: Cost) -> Report {
        let (parts, owner) = (partition.parts(), partition.owner());
        let degree = degrees(train);
        let mut ranks = vec![RankReport::default(); parts];
        for (node, &rank) in owner.iter().enumerate() {
            let report = &mut ranks[usize::from(rank)];
            report.nodes += 1;
            report.users += usize::from(node < train.users());
            report.items += usize::from(node >= train.users());
            report.entries += u64::from(degree[node]);
        }
        if scheme == Scheme::AllGather {
            for report in &mut ranks {
                report.received.raw = owner.len() - report.nodes;
                report.sent.raw = report.nodes * (parts - 1);
            }
        } else {
            for rank in 0..parts.saturating_sub(1) {
                let cut = Cut::new(train, owner, parts, rank, |peer| peer > rank);
                for peer in rank + 1..parts {
                    let raw = [cut.outward[peer].raw(scheme), cut.inward[peer].raw(scheme)];
                    let (received, sent) = cut::rows(&raw[0], &raw[1], scheme);
                    ranks[rank].exchange(received, sent);
                    ranks[peer].exchange(sent, received);
                }
            }
        }
        Report { scheme, ranks, balance: balance(owner, &loads(&degree, cost), parts) }
    }

    /// Rows that the worker who receives most receives in one layer exchange.
    pub fn rows_worst(&self) -> usize {
        self.ranks.iter().map(|rank| rank.received.total()).max().unwrap_or(0)
    }

    /// Rows all workers receive in one layer exchange.
    pub fn rows_total(&self) -> usize {
        self.ranks.iter().map(|rank| rank.received.total()).sum()
    }
}

impl RankReport {
    fn exchange(&mut self, received: Rows, sent: Rows) {
        for (sum, rows) in [(&mut self.received, received), (&mut self.sent, sent)] {
            sum.raw += rows.raw;
            sum.partial += rows.partial;
        }
    }
}
