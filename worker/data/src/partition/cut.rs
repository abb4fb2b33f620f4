//! The edges between one worker and each of its peers, and which nodes' rows cross them. Between two workers the cut
//! graph falls into two pieces, the users of the one with the items of the other and the reverse; both workers derive
//! each piece alike, row by row, so they agree on its cover without a message.

use super::cover::minimum_vertex_cover;
use super::{Rows, Scheme};
use crate::Interactions;

/// Edges between the users of one worker and the items of another.
#[derive(Default)]
pub(super) struct Piece {
    /// Global ids of the users that have an edge here, ascending, and where each one's row starts (one more).
    pub(super) users: Vec<u32>,
    pub(super) start: Vec<u32>,
    /// Places in `items`, row by row, ascending in each.
    pub(super) neighbours: Vec<u32>,
    /// Global node ids of the items that have an edge here, ascending.
    pub(super) items: Vec<u32>,
}

/// Which nodes of a piece travel raw, in the direction of their edges; under [`Scheme::Aggregate`] the same nodes
/// receive, in the other direction, a partial sum over their neighbours that do not travel raw.
pub(super) struct Raw {
    pub(super) users: Vec<bool>,
    pub(super) items: Vec<bool>,
}

impl Piece {
    fn push(&mut self, user: u32, item: u32) {
        if self.users.last() != Some(&user) {
            self.users.push(user);
            self.start.push(self.neighbours.len() as u32);
        }
        self.neighbours.push(item);
    }

    /// Ends the rows and renumbers items by their place among those of this piece. `place` is all `u32::MAX`.
    fn finish(&mut self, users: u32, place: &mut [u32]) {
        self.start.push(self.neighbours.len() as u32);
        self.neighbours.shrink_to_fit();
        for &item in &self.neighbours {
            if place[item as usize] == u32::MAX {
                place[item as usize] = 0;
                self.items.push(item);
            }
        }
        self.items.sort_unstable();
        self.items.iter().enumerate().for_each(|(k, &item)| place[item as usize] = k as u32);
        self.neighbours.iter_mut().for_each(|item| *item = place[*item as usize]);
        for item in &mut self.items {
            place[*item as usize] = u32::MAX;
            *item += users;
        }
    }

    /// Row of the user at `left`: places in `items`.
    pub(super) fn row(&self, left: usize) -> &[u32] {
        &self.neighbours[self.start[left] as usize..self.start[left + 1] as usize]
    }

    pub(super) fn raw(&self, scheme: Scheme) -> Raw {
        if scheme == Scheme::Aggregate {
            let (users, items) = minimum_vertex_cover(&self.start, &self.neighbours, self.items.len());
            return Raw { users, items };
        }
        Raw { users: vec![true; self.users.len()], items: vec![true; self.items.len()] }
    }
}

/// The pieces of one worker, by peer; those of the worker itself and of peers not asked for are empty.
pub(super) struct Cut {
    /// Own users with the peer's items.
    pub(super) outward: Vec<Piece>,
    /// The peer's users with own items.
    pub(super) inward: Vec<Piece>,
}

impl Cut {
    /// One pass over the interactions. Memory: 4 bytes an edge that is cut, 4 bytes an item.
    pub(super) fn new(
        train: &Interactions,
        owner: &[u16],
        parts: usize,
        rank: usize,
        peers: impl Fn(usize) -> bool,
    ) -> Cut {
        let pieces = || (0..parts).map(|_| Piece::default()).collect::<Vec<_>>();
        let mut cut = Cut { outward: pieces(), inward: pieces() };
        let (of_users, of_items) = owner.split_at(train.users());
        for (user, &at) in of_users.iter().enumerate() {
            let at = usize::from(at);
            if at != rank && !peers(at) {
                continue;
            }
            for &item in train.of(user as u32) {
                let of_item = usize::from(of_items[item as usize]);
                if at == rank && of_item != rank && peers(of_item) {
                    cut.outward[of_item].push(user as u32, item);
                } else if at != rank && of_item == rank {
                    cut.inward[at].push(user as u32, item);
                }
            }
        }
        let mut place = vec![u32::MAX; train.items()];
        for piece in cut.outward.iter_mut().chain(&mut cut.inward) {
            piece.finish(train.users() as u32, &mut place);
        }
        cut
    }
}

/// Rows a worker receives from and sends to a peer, in this order, by the pieces it shares with it.
pub(super) fn rows(outward: &Raw, inward: &Raw, scheme: Scheme) -> (Rows, Rows) {
    let count = |of: &[bool]| of.iter().filter(|&&raw| raw).count();
    let own = count(&outward.users) + count(&inward.items);
    let remote = count(&outward.items) + count(&inward.users);
    let partial = |rows| if scheme == Scheme::Aggregate { rows } else { 0 };
    (Rows { raw: remote, partial: partial(own) }, Rows { raw: own, partial: partial(remote) })
}
