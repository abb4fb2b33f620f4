//! Made-up catalogs of any size with the traits that matter for cost: heavy-tailed user degrees, popular items, and
//! communities that a partition can find. Each user's row is a pure function of (seed, user), so any range of users can
//! be made alone. Square roots are the only inexact functions used: every machine makes the same catalog, bit for bit.
#![deny(clippy::disallowed_methods)]

use crate::random::{Philox, Stream, below, mix, unit, unit_wide};
use crate::{DataError, Interactions};

/// Which catalog to make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synthetic {
    users: usize,
    items: usize,
    communities: usize,
    /// Degrees lie between these two before rounding; the lower one sets the mean.
    least: f64,
    most: f64,
    draws: Philox,
    degrees: Shuffle,
    ids: Shuffle,
}

/// One user's interactions, ascending and distinct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    pub train: Vec<u32>,
    /// One validation and one test item, for users with three interactions or more.
    pub held_out: Option<[u32; 2]>,
}

/// Share of draws from the whole catalog, and of the other draws those from a community nearby.
const OUTSIDE: f32 = 0.1;
const NEARBY: f32 = 0.2;
/// Draw 0 is the user itself, later ones are items.
const FIRST_ITEM_DRAW: u64 = 1;
const HOLD_OUT_DRAW: u64 = u64::MAX;

impl Synthetic {
    /// `interactions` are those of all three parts together; from a few hundred users up the made number differs by
    /// less than 2 %. There is a community for each thousand items, between 1 and 1024.
    ///
    /// # Errors
    /// No user or item, fewer interactions than users, more than a quarter of all pairs, or sizes beyond 32 bits.
    pub fn new(users: usize, items: usize, interactions: usize, seed: u64) -> Result<Synthetic, DataError> {
        let fits = users.saturating_add(items) < u32::MAX as usize && interactions < 2_000_000_000;
        let possible = interactions >= users.max(1) && interactions <= users.saturating_mul(items) / 4;
        if !fits || !possible {
            return Err(DataError::Unusable {
                problem: format!("a catalog of {users} users, {items} items and {interactions} interactions"),
                advice: "ask for at least one interaction a user, at most a quarter of all pairs, fewer than 2^32 - 1 \
                         users and items, and fewer than 2 * 10^9 interactions"
                    .into(),
            });
        }
        let mean = interactions as f64 / users as f64;
        let most = (items as f64 / 10.0).min(30.0 * mean).max(3.0 * mean).min(items as f64 / 2.0);
        let draws = Philox::new(seed, Stream::Catalog);
        let shuffle = |size, draw| Shuffle::new(size, draws.block_wide(u64::MAX, draw));
        Ok(Synthetic {
            users,
            items,
            communities: (items / 1000).clamp(1, 1024),
            least: least_degree(users, mean, most),
            most,
            draws,
            degrees: shuffle(users as u64, 0),
            ids: shuffle(items as u64, 1),
        })
    }

    /// Another number of communities, at least 1 and at most one an item.
    #[must_use]
    pub fn with_communities(self, communities: usize) -> Synthetic {
        Synthetic { communities: communities.clamp(1, self.items), ..self }
    }

    pub fn users(&self) -> usize {
        self.users
    }

    pub fn items(&self) -> usize {
        self.items
    }

    /// All items of a user, ascending and distinct; none for a user there is not.
    pub fn user_row(&self, user: u32) -> Vec<u32> {
        let mut row = self.ranked_row(user);
        row.iter_mut().for_each(|item| *item = self.ids.of(u64::from(*item)) as u32);
        row.sort_unstable();
        row
    }

    /// A user's row without the two held-out items.
    pub fn split_row(&self, user: u32) -> UserRow {
        let mut train = self.user_row(user);
        if train.len() < 3 {
            return UserRow { train, held_out: None };
        }
        let words = self.draws.block(u64::from(user), HOLD_OUT_DRAW);
        let mut take = |word| train.remove(below(word, train.len() as u32) as usize);
        let held_out = Some([take(words[0]), take(words[1])]);
        UserRow { train, held_out }
    }

    /// Training interactions of all users, made row by row: 4 bytes an interaction and 4 a user.
    ///
    /// # Errors
    /// None for a catalog that [`new`](Self::new) allowed; the type is that of [`Interactions::from_rows`].
    pub fn train(&self) -> Result<Interactions, DataError> {
        Interactions::from_rows(self.items, (0..self.users as u32).map(|user| self.split_row(user).train))
    }

    /// Training, validation and test interactions in one pass.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn parts(&self) -> Result<[Interactions; 3], DataError> {
        let mut held_out = Vec::with_capacity(self.users);
        let train = Interactions::from_rows(
            self.items,
            (0..self.users as u32).map(|user| {
                let row = self.split_row(user);
                held_out.push(row.held_out);
                row.train
            }),
        )?;
        let part = |k: usize| {
            Interactions::from_rows(
                self.items,
                held_out.iter().map(|h| h.as_ref().map_or(&[][..], |h| std::slice::from_ref(&h[k]))),
            )
        };
        Ok([train, part(0)?, part(1)?])
    }

    /// A user's items by popularity rank, in the order they were drawn. Item `r * communities + c` is the `r`-th most
    /// popular of community `c`.
    fn ranked_row(&self, user: u32) -> Vec<u32> {
        if user as usize >= self.users {
            return vec![];
        }
        let words = self.draws.block(u64::from(user), 0);
        let communities = self.communities as u32;
        let home = below(words[0], communities);
        let nearby = (home + 1 + below(words[1], 3)) % communities;
        let quantile = (self.degrees.of(u64::from(user)) as f64 + 0.5) / self.users as f64;
        let degree = (self.least * tail(quantile)).clamp(1.0, self.most);
        let wanted = degree as usize + usize::from(f64::from(unit(words[2])) < degree.fract());
        let mut row: Vec<u32> = Vec::with_capacity(wanted);
        // a community may have fewer items than the user wants
        let last = FIRST_ITEM_DRAW + 50 * (wanted as u64 + 10);
        for draw in FIRST_ITEM_DRAW..last {
            if row.len() == wanted {
                break;
            }
            let words = self.draws.block(u64::from(user), draw);
            let place = unit_wide(u64::from(words[2]) | u64::from(words[3]) << 32);
            let item = if unit(words[0]) < OUTSIDE {
                popular(place, self.items as u32, 8.0)
            } else {
                let community = if unit(words[1]) < NEARBY { nearby } else { home };
                let size = (self.items as u32 - community).div_ceil(communities);
                popular(place, size, 3.0) * communities + community
            };
            if !row.contains(&item) {
                row.push(item);
            }
        }
        row
    }
}

/// Pareto with shape 2 and least value 1, at a quantile counted from the top, in (0, 1]: a tenth of all interactions are
/// those of one user in a hundred, as in the graphs of gowalla, amazon and yelp.
fn tail(quantile: f64) -> f64 {
    1.0 / quantile.sqrt()
}

/// A number below `n` with density proportional to `(x + offset)^(-3/4)`, at `place` in [0, 1).
fn popular(place: f64, n: u32, offset: f64) -> u32 {
    let (low, high) = (offset.sqrt().sqrt(), (f64::from(n) + offset).sqrt().sqrt());
    let root = low + (high - low) * place;
    let square = root * root;
    ((square * square - offset).max(0.0) as u32).min(n - 1)
}

/// The least degree with which degrees up to `most` have the given mean, found by halving.
fn least_degree(users: usize, mean: f64, most: f64) -> f64 {
    let points = users.min(1 << 16);
    let tails: Vec<f64> = (0..points).map(|k| tail((k as f64 + 0.5) / points as f64)).collect();
    let (mut low, mut high) = (0.0, most);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        let sum: f64 = tails.iter().map(|t| (middle * t).clamp(1.0, most)).sum();
        if sum < mean * points as f64 { low = middle } else { high = middle }
    }
    high
}

/// A keyed bijection of the numbers below `size`: a Feistel network over the next power of 4, walked until it is back
/// below `size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shuffle {
    size: u64,
    half_bits: u32,
    keys: [u64; 2],
}

impl Shuffle {
    fn new(size: u64, keys: [u64; 2]) -> Shuffle {
        let bits = u64::BITS - size.saturating_sub(1).leading_zeros();
        Shuffle { size, half_bits: bits.div_ceil(2).max(1), keys }
    }

    /// The place of `number`, which must be below `size`.
    fn of(&self, number: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let mut word = number;
        loop {
            let (mut left, mut right) = (word >> self.half_bits, word & mask);
            for round in 0..4 {
                let key = self.keys[round % 2] ^ (round as u64) << 56;
                (left, right) = (right, left ^ (mix(key ^ right) & mask));
            }
            word = left << self.half_bits | right;
            if word < self.size {
                return word;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn popular_numbers_come_first_and_stay_below() {
        assert_eq!((popular(0.0, 10, 3.0), popular(1.0 - 1e-16, 10, 3.0), popular(0.5, 1, 8.0)), (0, 9, 0));
        let middle = popular(0.5, 10_000, 3.0);
        // the median of that density: ((3^(1/4) + 10003^(1/4)) / 2)^4 - 3
        assert_eq!(middle, 1022);
    }

    proptest! {
        #[test]
        fn shuffles_are_bijections(size in 1u64..3000, keys in any::<[u64; 2]>()) {
            let shuffle = Shuffle::new(size, keys);
            let mut seen = vec![false; size as usize];
            for number in 0..size {
                prop_assert!(!std::mem::replace(&mut seen[shuffle.of(number) as usize], true));
            }
        }
    }
}
