//! Holding interactions out where the files do not: a pure function of the interactions and the seed.

use super::files::Parts;
use super::records::Records;
use crate::manifest::Repairs;
use crate::random::{Philox, Stream, unit_wide};
use accord_spec::{Data, Split};

type Pairs = Vec<(u32, u32)>;

/// Training, validation and test pairs.
///
/// * Parts that lie apart stay as they are.
/// * One whole is split by `data.split`: at random, each interaction by itself, keyed by (seed, user, item); or by
///   time, each user's oldest interactions training and the newest test (ties by item).
/// * Where only the validation part is missing, `split_ratio[1] / (split_ratio[0] + split_ratio[1])` of the training
///   interactions become validation in the same ways; a user's last training interaction stays. Counted as a repair.
pub(crate) fn into_three(parts: Parts<Records>, data: &Data, seed: u64, repairs: &mut Repairs) -> [Pairs; 3] {
    let total: f64 = data.split_ratio.iter().sum();
    let ratio = data.split_ratio.map(|share| share / total);
    match parts {
        Parts::Apart { train, validation: Some(validation), test } => [train.pairs, validation.pairs, test.pairs],
        Parts::Apart { train, validation: None, test } => {
            let share = ratio[1] / (ratio[0] + ratio[1]);
            let train = distinct(train, "duplicate training interactions dropped", repairs);
            let [mut kept, mut held_out, _] = match data.split {
                Split::Random => at_random(train.pairs, [1.0 - share, share], seed),
                Split::Time => by_time(&train, [share, 0.0]),
            };
            keep_one_each(&mut kept, &mut held_out);
            repairs.add(
                format!(
                    "training interactions moved to the missing validation part (share {share:.3} by data.split_ratio)"
                ),
                held_out.len() as u64,
            );
            [kept, held_out, test.pairs]
        }
        Parts::Whole(whole) => {
            let whole = distinct(whole, "duplicate interactions dropped", repairs);
            match data.split {
                Split::Random => at_random(whole.pairs, [ratio[0], ratio[1]], seed),
                Split::Time => {
                    repairs
                        .add("interactions of users whose times are all equal: split by item id instead", ties(&whole));
                    by_time(&whole, [ratio[1], ratio[2]])
                }
            }
        }
    }
}

/// By user and item; of duplicates the oldest stays.
fn distinct(records: Records, what: &str, repairs: &mut Repairs) -> Records {
    let (records, dropped) = records.distinct();
    repairs.add(what, dropped);
    records
}

/// `shares` of training and validation; the rest is test.
fn at_random(pairs: Pairs, shares: [f64; 2], seed: u64) -> [Pairs; 3] {
    let draws = Philox::new(seed, Stream::Split);
    let mut out = [vec![], vec![], vec![]];
    for (user, item) in pairs {
        let draw = unit_wide(draws.block_wide(u64::from(user), u64::from(item))[0]);
        let part = match () {
            () if draw < shares[0] => 0,
            // the two shares may add up to 1 but for rounding
            () if draw < shares[0] + shares[1] || shares[0] + shares[1] > 1.0 - 1e-9 => 1,
            () => 2,
        };
        out[part].push((user, item));
    }
    out
}

/// Each user's interactions, with their times.
fn by_user(records: &Records) -> impl Iterator<Item = Vec<((u32, u32), f64)>> + '_ {
    let mut from = 0;
    records.pairs.chunk_by(|a, b| a.0 == b.0).map(move |of_user| {
        let times = &records.times[from..from + of_user.len()];
        from += of_user.len();
        of_user.iter().copied().zip(times.iter().copied()).collect()
    })
}

/// Interactions of users who have several, all at one time.
fn ties(records: &Records) -> u64 {
    let tied = |of_user: &Vec<((u32, u32), f64)>| of_user.len() > 1 && of_user.iter().all(|r| r.1 == of_user[0].1);
    by_user(records).filter(tied).map(|of_user| of_user.len() as u64).sum()
}

/// `shares` of validation and test, rounded down for each user; the rest, a user's oldest, is training.
fn by_time(records: &Records, shares: [f64; 2]) -> [Pairs; 3] {
    let mut out = [vec![], vec![], vec![]];
    for mut by_age in by_user(records) {
        by_age.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        // a share such as 0.2 of 5 must not become 0 by rounding
        let [validation, test] = shares.map(|share| (share * by_age.len() as f64 + 1e-9).floor() as usize);
        let train = by_age.len() - validation - test;
        for (k, (pair, _)) in by_age.iter().enumerate() {
            let part = usize::from(k >= train) + usize::from(k >= train + validation);
            out[part].push(*pair);
        }
    }
    out
}

/// Gives users who lost every training interaction their first one back; both lists are by user.
fn keep_one_each(kept: &mut Pairs, held_out: &mut Pairs) {
    let mut last = None;
    let before = kept.len();
    held_out.retain(|&(user, item)| {
        let lost_all = last != Some(user) && kept[..before].binary_search_by_key(&user, |&(u, _)| u).is_err();
        last = Some(user);
        if lost_all {
            kept.push((user, item));
        }
        !lost_all
    });
    kept.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Records {
        let mut records = Records::default();
        (0..400u32).for_each(|k| records.push(k / 10, k % 37, Some(f64::from((k * 7) % 10))));
        records
    }

    fn data(split: &str) -> Data {
        let text = format!(
            "[job]\nname = \"a\"\n[data]\npath = \"d\"\nsplit = \"{split}\"\nsplit_ratio = [3, 1, 1]\n[model]\nkind = \"lightgcn\""
        );
        accord_spec::parse(&text, &[]).unwrap().data
    }

    #[test]
    fn random_split_depends_on_pairs_and_seed_alone() {
        let data = data("random");
        let mut reversed = whole();
        reversed.pairs.reverse();
        reversed.times.reverse();
        let first = into_three(Parts::Whole(whole()), &data, 1, &mut Repairs::default());
        assert_eq!(first, into_three(Parts::Whole(reversed), &data, 1, &mut Repairs::default()));
        assert_ne!(first, into_three(Parts::Whole(whole()), &data, 2, &mut Repairs::default()));
        let sizes = first.map(|p| p.len());
        assert_eq!(sizes.iter().sum::<usize>(), 400);
        assert!(sizes[0].abs_diff(240) < 40 && sizes[1].abs_diff(80) < 30, "{sizes:?}");
    }

    #[test]
    fn time_split_trains_on_the_oldest() {
        let parts = into_three(Parts::Whole(whole()), &data("time"), 1, &mut Repairs::default());
        assert_eq!(parts.each_ref().map(Vec::len), [240, 80, 80]);
        let whole = whole();
        let time = |pair: &(u32, u32)| whole.times[whole.pairs.iter().position(|p| p == pair).unwrap()];
        for user in 0..40 {
            let of = |part: &Pairs| part.iter().filter(|p| p.0 == user).map(time).collect::<Vec<_>>();
            let [train, validation, test] = [of(&parts[0]), of(&parts[1]), of(&parts[2])];
            assert_eq!((train, validation, test), (vec![0., 1., 2., 3., 4., 5.], vec![6., 7.], vec![8., 9.]));
        }
    }

    #[test]
    fn missing_validation_takes_from_training_but_never_a_last_one() {
        let mut train = whole();
        train.push(40, 3, Some(0.0));
        train.push(40, 3, Some(1.0));
        for (split, seed) in [("random", 1), ("random", 2), ("random", 3), ("time", 1)] {
            let mut repairs = Repairs::default();
            let parts = Parts::Apart { train: train.clone(), validation: None, test: Records::default() };
            let [kept, held_out, _] = into_three(parts, &data(split), seed, &mut repairs);
            assert_eq!(kept.len() + held_out.len(), 401);
            assert!(kept.contains(&(40, 3)) && held_out.len().abs_diff(100) < 30);
            assert_eq!(repairs.0[0].count, 1);
            assert_eq!(repairs.0[1].count, held_out.len() as u64);
        }
    }

    #[test]
    fn users_get_their_last_training_interaction_back() {
        let (mut kept, mut held_out) = (vec![(1, 5)], vec![(0, 2), (0, 3), (1, 6), (2, 9)]);
        keep_one_each(&mut kept, &mut held_out);
        assert_eq!((kept, held_out), (vec![(0, 2), (1, 5), (2, 9)], vec![(0, 3), (1, 6)]));
    }
}
