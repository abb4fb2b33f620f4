//! The interactions of one file: pairs of ids, and times where they are asked for. 8 bytes an interaction, 16 with times.

/// Interactions in the order of the file; ids are provisional until [`settle`](super::tables::settle) numbers them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Records {
    pub(crate) pairs: Vec<(u32, u32)>,
    /// One for each pair, in the file's unit; empty where no times are asked for.
    pub(crate) times: Vec<f64>,
}

impl Records {
    pub(crate) fn push(&mut self, user: u32, item: u32, time: Option<f64>) {
        self.pairs.push((user, item));
        self.times.extend(time);
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Sorted by user and item, without duplicates (of several the oldest stays), and how many were dropped.
    pub(crate) fn distinct(mut self) -> (Records, u64) {
        let before = self.len();
        if self.times.is_empty() {
            self.pairs.sort_unstable();
            self.pairs.dedup();
        } else {
            let mut timed: Vec<_> =
                std::mem::take(&mut self.pairs).into_iter().zip(std::mem::take(&mut self.times)).collect();
            timed.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            timed.dedup_by_key(|(pair, _)| *pair);
            (self.pairs, self.times) = timed.into_iter().unzip();
        }
        let dropped = (before - self.len()) as u64;
        (self, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_duplicates_the_oldest_stays() {
        let mut records = Records::default();
        for (user, item, time) in [(1, 0, 5.0), (0, 3, 2.0), (1, 0, 4.0)] {
            records.push(user, item, Some(time));
        }
        let (records, dropped) = records.distinct();
        assert_eq!((records.pairs, records.times, dropped), (vec![(0, 3), (1, 0)], vec![2.0, 4.0], 1));
    }
}
