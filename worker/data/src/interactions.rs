//! User-item pairs as CSR. Holds no external ids and no ratings.

use crate::error::{DataError, Side};

/// Who has which items, by user: CSR with items ascending and distinct in each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interactions {
    users: usize,
    items: usize,
    /// `users + 1` offsets into `item`.
    start: Vec<u32>,
    item: Vec<u32>,
}

impl Interactions {
    /// Sorts and deduplicates `(user, item)` pairs of any order; the second value counts the duplicates dropped.
    ///
    /// # Errors
    /// An id that is not below `users` or `items`, more than 2^31 - 1 pairs, or 2^32 - 1 nodes or more.
    pub fn from_pairs(users: usize, items: usize, pairs: &[(u32, u32)]) -> Result<(Interactions, u64), DataError> {
        fits(users, items, pairs.len())?;
        let mut next = vec![0u32; users + 1];
        for (entry, &(user, item)) in pairs.iter().enumerate() {
            let out_of_range = |side, id: u32, count| DataError::OutOfRange {
                place: format!("interaction {entry}"),
                side,
                id: u64::from(id),
                count,
            };
            if user as usize >= users {
                return Err(out_of_range(Side::User, user, users));
            }
            if item as usize >= items {
                return Err(out_of_range(Side::Item, item, items));
            }
            next[user as usize + 1] += 1;
        }
        for user in 0..users {
            next[user + 1] += next[user];
        }
        let begin = next.clone();
        let mut scattered = vec![0u32; pairs.len()];
        for &(user, item) in pairs {
            let slot = &mut next[user as usize];
            scattered[*slot as usize] = item;
            *slot += 1;
        }
        let mut start = Vec::with_capacity(users + 1);
        let mut item = Vec::with_capacity(pairs.len());
        start.push(0);
        for user in 0..users {
            let row = &mut scattered[begin[user] as usize..begin[user + 1] as usize];
            row.sort_unstable();
            let from = item.len();
            for &i in row.iter() {
                if item.len() == from || item[item.len() - 1] != i {
                    item.push(i);
                }
            }
            start.push(item.len() as u32);
        }
        let duplicates = (pairs.len() - item.len()) as u64;
        Ok((Interactions { users, items, start, item }, duplicates))
    }

    /// Takes rows as they are made, one a user, each ascending and distinct: 4 bytes an interaction and 4 a user.
    ///
    /// # Errors
    /// A row out of order, an item that is not below `items`, or sizes as in [`from_pairs`](Self::from_pairs).
    pub fn from_rows<R: AsRef<[u32]>>(
        items: usize,
        rows: impl IntoIterator<Item = R>,
    ) -> Result<Interactions, DataError> {
        let (mut start, mut item) = (vec![0], Vec::new());
        for row in rows {
            let (row, user) = (row.as_ref(), start.len() - 1);
            if let Some(pair) = row.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(DataError::Unusable {
                    problem: format!("row {user}: items {} and {} are not ascending", pair[0], pair[1]),
                    advice: "sort each row and drop duplicates".into(),
                });
            }
            if let Some(&last) = row.last().filter(|&&last| last as usize >= items) {
                let (place, id) = (format!("row {user}"), u64::from(last));
                return Err(DataError::OutOfRange { place, side: Side::Item, id, count: items });
            }
            item.extend_from_slice(row);
            fits(user + 1, items, item.len())?;
            start.push(item.len() as u32);
        }
        item.shrink_to_fit();
        fits(start.len() - 1, items, item.len())?;
        Ok(Interactions { users: start.len() - 1, items, start, item })
    }

    pub fn users(&self) -> usize {
        self.users
    }

    pub fn items(&self) -> usize {
        self.items
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.item.len()
    }

    pub fn is_empty(&self) -> bool {
        self.item.is_empty()
    }

    /// `users + 1` offsets: user `u`'s items are `item()[start()[u]..start()[u + 1]]`.
    pub fn start(&self) -> &[u32] {
        &self.start
    }

    /// Items of all users, user by user.
    pub fn item(&self) -> &[u32] {
        &self.item
    }

    /// One user's items, ascending; empty for a user there is not.
    pub fn of(&self, user: u32) -> &[u32] {
        match (self.start.get(user as usize), self.start.get(user as usize + 1)) {
            (Some(&from), Some(&to)) => &self.item[from as usize..to as usize],
            _ => &[],
        }
    }

    pub fn contains(&self, user: u32, item: u32) -> bool {
        self.of(user).binary_search(&item).is_ok()
    }

    /// All pairs, by user, then item.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0..self.users as u32).flat_map(|user| self.of(user).iter().map(move |&item| (user, item)))
    }

    /// The pairs that are not in `other`, and how many were dropped.
    pub(crate) fn without(&self, other: &Interactions) -> (Interactions, u64) {
        let mut start = Vec::with_capacity(self.users + 1);
        let mut item = Vec::with_capacity(self.item.len());
        start.push(0);
        for user in 0..self.users as u32 {
            item.extend(self.of(user).iter().copied().filter(|&i| !other.contains(user, i)));
            start.push(item.len() as u32);
        }
        let dropped = (self.item.len() - item.len()) as u64;
        (Interactions { users: self.users, items: self.items, start, item }, dropped)
    }
}

/// Nodes (users and items) and both directions of every pair are counted in u32.
fn fits(users: usize, items: usize, interactions: usize) -> Result<(), DataError> {
    if users.saturating_add(items) < u32::MAX as usize && interactions <= i32::MAX as usize {
        return Ok(());
    }
    Err(DataError::Unusable {
        problem: format!("{users} users, {items} items, {interactions} interactions"),
        advice: "users and items together must stay below 2^32 - 1, interactions below 2^31".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn rows_are_sorted_and_duplicates_counted() {
        let (csr, duplicates) = Interactions::from_pairs(3, 4, &[(2, 3), (0, 1), (2, 0), (2, 3)]).unwrap();
        assert_eq!(duplicates, 1);
        assert_eq!(csr.start(), &[0, 1, 1, 3]);
        assert_eq!(csr.of(2), &[0, 3]);
        assert!(csr.of(1).is_empty() && csr.of(99).is_empty());
        assert!(csr.contains(0, 1) && !csr.contains(0, 0));
    }

    #[test]
    fn ids_beyond_the_sizes_are_refused() {
        let error = Interactions::from_pairs(2, 2, &[(0, 0), (1, 2)]).unwrap_err();
        assert_eq!(error.to_string(), "interaction 1: item id 2 is out of range: there are 2 items, numbered from 0");
    }

    proptest! {
        #[test]
        fn csr_holds_exactly_the_set_of_pairs(
            pairs in proptest::collection::vec((0u32..7, 0u32..9), 0..60),
            others in proptest::collection::vec((0u32..7, 0u32..9), 0..60),
        ) {
            let set: BTreeSet<_> = pairs.iter().copied().collect();
            let (csr, duplicates) = Interactions::from_pairs(7, 9, &pairs).unwrap();
            prop_assert_eq!(csr.pairs().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(duplicates as usize, pairs.len() - set.len());
            prop_assert_eq!(csr.len(), *csr.start().last().unwrap() as usize);
            for user in 0..7 {
                prop_assert!(csr.of(user).is_sorted_by(|a, b| a < b));
                for item in 0..9 {
                    prop_assert_eq!(csr.contains(user, item), set.contains(&(user, item)));
                }
            }
            let (other, _) = Interactions::from_pairs(7, 9, &others).unwrap();
            let (rest, dropped) = csr.without(&other);
            prop_assert_eq!(rest.len() + dropped as usize, csr.len());
            prop_assert!(rest.pairs().all(|(u, i)| csr.contains(u, i) && !other.contains(u, i)));
        }
    }
}
