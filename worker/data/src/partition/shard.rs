//! What one worker holds and exchanges: its rows of the adjacency in local column numbers, and per peer the rows it
//! receives and sends. Each worker derives its own shard; the lists of two workers mirror each other.

use super::cut::{self, Cut, Piece, Raw};
use super::load::degrees;
use super::{Partition, Rows, Scheme};
use crate::Interactions;

/// What one rank holds, receives and sends. Local column numbers: own node k is k (< n), slot k is n + k.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub rank: usize,
    pub parts: usize,
    /// Own users: the first `users` of `nodes`.
    pub users: usize,
    /// [n] own global node ids, ascending (so users first)
    pub nodes: Vec<u32>,
    /// [n] degree of each own node in the whole graph
    pub degree: Vec<u32>,
    /// [n + 1] where each row starts in `neighbours`
    pub start: Vec<u32>,
    /// [n] where the row's own columns end and its slot columns begin
    pub split: Vec<u32>,
    /// [entries] local column numbers, ascending inside each of a row's two parts. Edges that arrive as partial sums
    /// are in no row.
    pub neighbours: Vec<u32>,
    pub slots: Slots,
    /// [parts] rows received from each peer; the own entry is zero
    pub received: Vec<Rows>,
    /// [parts] rows sent to each peer; the own entry is zero
    pub sent: Vec<Rows>,
    /// Own rows to send raw, grouped by peer, in the order of the receiver's slots.
    pub send_rows: Vec<u32>,
    pub outgoing: Outgoing,
}

/// Received rows, [h]: grouped by sending peer ascending; in a group raw rows (ascending node), then partial sums
/// (ascending node).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// Global id: of a raw row the remote node, of a partial sum the own node it is added to.
    pub node: Vec<u32>,
    /// Degree of that node in the whole graph.
    pub degree: Vec<u32>,
    pub partial: Vec<bool>,
}

impl Slots {
    /// h, the number of received rows.
    pub fn len(&self) -> usize {
        self.node.len()
    }

    pub fn is_empty(&self) -> bool {
        self.node.is_empty()
    }

    fn push(&mut self, node: u32, degree: &[u32], partial: bool) {
        self.node.push(node);
        self.degree.push(degree[node as usize]);
        self.partial.push(partial);
    }
}

/// Partial sums to send, [q]: grouped by receiving peer, in the order of the receiver's slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// [q + 1] where each sum's terms start in `neighbours`
    pub start: Vec<u32>,
    /// Own local columns, ascending in each sum.
    pub neighbours: Vec<u32>,
    /// [q] global id of the receiver's node the sum is for
    pub node: Vec<u32>,
    /// [q] degree of that node in the whole graph
    pub degree: Vec<u32>,
}

/// No local column.
const NONE: u32 = u32::MAX;

impl Shard {
    /// The shard of `rank`; empty where the rank owns nothing. Takes a few passes over the interactions, and memory for
    /// the shard, the rank's cut edges (4 bytes each, again under [`Scheme::Aggregate`]) and 8 bytes a node.
    ///
    /// # Panics
    /// If `partition` has not one owner for each user and item of `train`.
    pub fn new(train: &Interactions, partition: &Partition, rank: usize, scheme: Scheme) -> Shard {
        let (parts, owner) = (partition.parts(), partition.owner());
        assert_eq!(owner.len(), train.users() + train.items(), "a partition of another graph");
        let degree = degrees(train);
        let nodes: Vec<u32> =
            (0..owner.len() as u32).filter(|&node| usize::from(owner[node as usize]) == rank).collect();
        let mut column = vec![NONE; owner.len()];
        nodes.iter().enumerate().for_each(|(k, &node)| column[node as usize] = k as u32);
        let mut shard = Shard {
            rank,
            parts,
            users: nodes.partition_point(|&node| (node as usize) < train.users()),
            degree: nodes.iter().map(|&node| degree[node as usize]).collect(),
            nodes,
            start: vec![],
            split: vec![],
            neighbours: vec![],
            slots: Slots::default(),
            received: vec![Rows::default(); parts],
            sent: vec![Rows::default(); parts],
            send_rows: vec![],
            outgoing: Outgoing { start: vec![0], neighbours: vec![], node: vec![], degree: vec![] },
        };
        if parts > 1 {
            match scheme {
                Scheme::AllGather => shard.exchange_all(owner, &degree, &mut column),
                Scheme::Halo | Scheme::Aggregate => {
                    let cut = Cut::new(train, owner, parts, rank, |_| true);
                    for (peer, pieces) in cut.outward.iter().zip(&cut.inward).enumerate() {
                        if peer != rank {
                            shard.exchange_cut(peer, pieces, scheme, &degree, &mut column);
                        }
                    }
                }
            }
        }
        shard.fill(train, &column);
        shard
    }

    /// The whole graph in one shard, without slots.
    pub fn whole(train: &Interactions) -> Shard {
        let partition = Partition { parts: 1, owner: vec![0; train.users() + train.items()] };
        Shard::new(train, &partition, 0, Scheme::Halo)
    }

    /// Every remote row comes, every own row goes to every peer.
    fn exchange_all(&mut self, owner: &[u16], degree: &[u32], column: &mut [u32]) {
        let n = self.nodes.len() as u32;
        let mut by_owner: Vec<Vec<u32>> = vec![vec![]; self.parts];
        owner.iter().enumerate().for_each(|(node, &rank)| by_owner[usize::from(rank)].push(node as u32));
        for (peer, nodes) in by_owner.iter().enumerate().filter(|(peer, _)| *peer != self.rank) {
            self.received[peer].raw = nodes.len();
            self.sent[peer].raw = self.nodes.len();
            self.send_rows.extend(0..n);
            for &node in nodes {
                column[node as usize] = n + self.slots.len() as u32;
                self.slots.push(node, degree, false);
            }
        }
    }

    /// Rows that cross the pieces (outward, inward) shared with `peer`.
    fn exchange_cut(
        &mut self,
        peer: usize,
        (outward, inward): (&Piece, &Piece),
        scheme: Scheme,
        degree: &[u32],
        column: &mut [u32],
    ) {
        let (out, inn) = (outward.raw(scheme), inward.raw(scheme));
        (self.received[peer], self.sent[peer]) = cut::rows(&out, &inn, scheme);
        for node in chosen(&inward.users, &inn.users).chain(chosen(&outward.items, &out.items)) {
            column[node as usize] = (self.nodes.len() + self.slots.len()) as u32;
            self.slots.push(node, degree, false);
        }
        for node in chosen(&outward.users, &out.users).chain(chosen(&inward.items, &inn.items)) {
            self.send_rows.push(column[node as usize]);
            if scheme == Scheme::Aggregate {
                self.slots.push(node, degree, true);
            }
        }
        if scheme == Scheme::Aggregate {
            self.outgoing.sums_for_users(inward, &inn, degree, column);
            self.outgoing.sums_for_items(outward, &out, degree, column);
        }
    }

    /// The rows: every edge with an own end, where the other end has a column.
    fn fill(&mut self, train: &Interactions, column: &[u32]) {
        let n = self.nodes.len();
        let (of_users, of_items) = column.split_at(train.users());
        let visit = |entry: &mut dyn FnMut(u32, u32)| {
            for (user, &a) in of_users.iter().enumerate().filter(|(_, a)| **a != NONE) {
                for &item in train.of(user as u32) {
                    let b = of_items[item as usize];
                    if (a as usize) < n && b != NONE {
                        entry(a, b);
                    }
                    if (b as usize) < n {
                        entry(b, a);
                    }
                }
            }
        };
        let mut own = vec![0u32; n];
        let mut remote = vec![0u32; n];
        visit(&mut |row, to| {
            let count = if (to as usize) < n { &mut own } else { &mut remote };
            count[row as usize] += 1;
        });
        self.start = Vec::with_capacity(n + 1);
        self.split = Vec::with_capacity(n);
        let mut end = 0;
        for (own, remote) in own.iter_mut().zip(&mut remote) {
            self.start.push(end);
            self.split.push(end + *own);
            end += *own + *remote;
            // from here on: where the row's next entry goes
            (*own, *remote) = (self.start[self.start.len() - 1], self.split[self.split.len() - 1]);
        }
        self.start.push(end);
        let neighbours = &mut self.neighbours;
        neighbours.resize(end as usize, 0);
        visit(&mut |row, to| {
            let next = if (to as usize) < n { &mut own } else { &mut remote };
            neighbours[next[row as usize] as usize] = to;
            next[row as usize] += 1;
        });
        // edges come by ascending global id, and so do own columns; slots are grouped by peer
        for (&from, &to) in self.split.iter().zip(&self.start[1..]) {
            neighbours[from as usize..to as usize].sort_unstable();
        }
    }
}

fn chosen<'a>(nodes: &'a [u32], of: &'a [bool]) -> impl Iterator<Item = u32> + 'a {
    nodes.iter().zip(of).filter(|(_, of)| **of).map(|(&node, _)| node)
}

impl Outgoing {
    fn end(&mut self, node: u32, degree: &[u32]) {
        self.start.push(self.neighbours.len() as u32);
        self.node.push(node);
        self.degree.push(degree[node as usize]);
    }

    /// Sums for the peer's users, over own items that do not travel raw.
    fn sums_for_users(&mut self, inward: &Piece, raw: &Raw, degree: &[u32], column: &[u32]) {
        for (left, &user) in inward.users.iter().enumerate().filter(|(left, _)| raw.users[*left]) {
            let items = inward.row(left).iter().filter(|&&right| !raw.items[right as usize]);
            self.neighbours.extend(items.map(|&right| column[inward.items[right as usize] as usize]));
            self.end(user, degree);
        }
    }

    /// Sums for the peer's items, over own users that do not travel raw.
    fn sums_for_items(&mut self, outward: &Piece, raw: &Raw, degree: &[u32], column: &[u32]) {
        // a user that does not travel has all its items in the cover
        let kept = || (0..outward.users.len()).filter(|&left| !raw.users[left]);
        let mut first = vec![0u32; outward.items.len() + 1];
        kept().flat_map(|left| outward.row(left)).for_each(|&right| first[right as usize + 1] += 1);
        for right in 0..outward.items.len() {
            first[right + 1] += first[right];
        }
        let mut terms = vec![0u32; first[outward.items.len()] as usize];
        let mut next = first.clone();
        for left in kept() {
            for &right in outward.row(left) {
                terms[next[right as usize] as usize] = column[outward.users[left] as usize];
                next[right as usize] += 1;
            }
        }
        for (right, &item) in outward.items.iter().enumerate().filter(|(right, _)| raw.items[*right]) {
            self.neighbours.extend_from_slice(&terms[first[right] as usize..first[right + 1] as usize]);
            self.end(item, degree);
        }
    }
}
