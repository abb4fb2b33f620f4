//! Made-up catalogs: size, shape, and rows that do not depend on each other.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

use accord_data::Interactions;
use accord_data::partition::report::Report;
use accord_data::partition::{Cost, Method, Partition, Scheme};
use accord_data::synthetic::Synthetic;

fn catalog() -> Synthetic {
    Synthetic::new(10_000, 3_000, 420_000, 7).unwrap().with_communities(30)
}

#[test]
fn the_number_of_interactions_is_the_one_asked_for() {
    for (users, items, asked) in
        [(10_000, 3_000, 420_000), (20_000, 40_000, 540_000), (3_000, 200, 30_000), (500, 5_000, 600), (7, 9, 15)]
    {
        let made: usize =
            Synthetic::new(users, items, asked, 3).unwrap().parts().unwrap().iter().map(|p| p.len()).sum();
        let off = made as f64 / asked as f64 - 1.0;
        eprintln!("{users} users, {items} items, {asked} interactions: {:+.2} %", 100.0 * off);
        // half an interaction a user is rounding, which a handful of users does not even out
        assert!(off.abs() < 0.02 + 0.5 / (users as f64).sqrt(), "{made} of {asked}");
        assert!(users < 10_000 || off.abs() < 0.02, "{made} of {asked}");
    }
}

#[test]
fn each_row_is_the_same_made_alone_or_with_the_others() {
    let catalog = catalog();
    let [train, validation, test] = catalog.parts().unwrap();
    assert_eq!(catalog.train().unwrap(), train);
    for user in (0..10_000).rev().step_by(7) {
        let row = catalog.user_row(user);
        assert!(row.is_sorted_by(|a, b| a < b) && !row.is_empty());
        let mut parts = [train.of(user), validation.of(user), test.of(user)].concat();
        parts.sort_unstable();
        assert_eq!(parts, row);
        let held_out = usize::from(row.len() >= 3);
        assert_eq!((validation.of(user).len(), test.of(user).len()), (held_out, held_out));
    }
    assert!(catalog.user_row(10_000).is_empty());
    assert_ne!(Synthetic::new(10_000, 3_000, 420_000, 8).unwrap().train().unwrap(), train);
}

#[test]
fn degrees_and_popularity_have_heavy_tails_that_ids_do_not_show() {
    let train = catalog().train().unwrap();
    let mut users: Vec<usize> = (0..10_000).map(|user| train.of(user).len()).collect();
    let mut items = vec![0usize; 3_000];
    train.item().iter().for_each(|&item| items[item as usize] += 1);
    let halves = |counts: &[usize]| {
        let (a, b) = counts.split_at(counts.len() / 2);
        a.iter().sum::<usize>() as f64 / b.iter().sum::<usize>() as f64
    };
    assert!((halves(&users) - 1.0).abs() < 0.1 && (halves(&items) - 1.0).abs() < 0.25);
    users.sort_unstable();
    items.sort_unstable();
    let share = |counts: &[usize], top: usize| {
        counts[counts.len() - top..].iter().sum::<usize>() as f64 / counts.iter().sum::<usize>() as f64
    };
    let [users, items] = [share(&users, 100), share(&items, 30)];
    eprintln!("top 1 % of users {users:.3}, of items {items:.3}");
    assert!(users > 0.05 && items > 0.03);
}

#[test]
fn communities_are_there_for_a_partition_to_find() {
    let train = Synthetic::new(20_000, 20_000, 300_000, 1).unwrap().train().unwrap();
    let cost = Cost { edge: 1.0, node: 15.0 };
    let worst = |method| {
        let partition = Partition::new(&train, 4, method, cost);
        Report::new(&train, &partition, Scheme::Aggregate, cost).rows_worst()
    };
    let (hash, fennel) = (worst(Method::Hash), worst(Method::Fennel));
    assert!(fennel * 2 < hash, "{fennel} {hash}");
}

/// A catalog is part of what a measurement means.
#[test]
fn rows_are_pinned() {
    let catalog = Synthetic::new(1000, 500, 6_000, 1).unwrap();
    let rows: Vec<Vec<u32>> = [0, 1, 999].iter().map(|&user| catalog.user_row(user)).collect();
    assert_eq!(rows, PINNED);
}
const PINNED: [&[u32]; 3] = [
    &[70, 91, 103, 110, 138, 141, 198, 204, 205, 253, 284, 295, 318, 331, 345, 414, 442],
    &[34, 162, 178, 252, 345],
    &[15, 43, 87, 91, 92, 110, 178, 188, 266, 292, 345, 346, 349, 420, 430, 480, 488],
];

#[test]
fn catalogs_that_cannot_be_are_refused() {
    for (users, items, interactions) in [(0, 10, 10), (10, 0, 10), (10, 10, 9), (10, 10, 26), (10, usize::MAX, 10)] {
        assert!(Synthetic::new(users, items, interactions, 0).is_err());
    }
    let refused = Synthetic::new(10, 10, 26, 0).unwrap_err().to_string();
    assert!(refused.starts_with("a catalog of 10 users, 10 items and 26 interactions: ask for"), "{refused}");
}

#[test]
fn rows_are_checked() {
    let rows = Interactions::from_rows(4, [vec![0, 3], vec![], vec![2]]).unwrap();
    assert_eq!((rows.users(), rows.start(), rows.item()), (3, &[0, 2, 2, 3][..], &[0, 3, 2][..]));
    for (bad, message) in [
        ([1, 1], "row 1: items 1 and 1 are not ascending: sort each row and drop duplicates"),
        ([3, 4], "row 1: item id 4 is out of range: there are 4 items, numbered from 0"),
    ] {
        let error = Interactions::from_rows(4, [vec![0], bad.to_vec()]).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
