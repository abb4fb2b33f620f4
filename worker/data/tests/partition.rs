//! Partitions and shards of random graphs: ownership, mirrored lists, and sums that equal the whole graph's.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

use accord_data::Interactions;
use accord_data::partition::report::Report;
use accord_data::partition::{Cost, Method, Partition, PartitionError, Rows, Scheme, Shard};
use proptest::prelude::*;
use std::ops::Range;

const SCHEMES: [Scheme; 3] = [Scheme::Halo, Scheme::Aggregate, Scheme::AllGather];
const COST: Cost = Cost { edge: 1.0, node: 4.0 };

fn shards(train: &Interactions, partition: &Partition, scheme: Scheme) -> Vec<Shard> {
    (0..partition.parts()).map(|rank| Shard::new(train, partition, rank, scheme)).collect()
}

/// Neighbours of every node in the whole graph.
fn adjacency(train: &Interactions) -> Vec<Vec<u32>> {
    let users = train.users();
    let mut of = vec![vec![]; users + train.items()];
    for (user, item) in train.pairs() {
        of[user as usize].push(users as u32 + item);
        of[users + item as usize].push(user);
    }
    of
}

/// Where a group of one peer lies in a list that is grouped by peer.
fn group(of_peers: &[Rows], peer: usize, size: impl Fn(&Rows) -> usize) -> Range<usize> {
    let from: usize = of_peers[..peer].iter().map(&size).sum();
    from..from + size(&of_peers[peer])
}

/// Slots of a shard that come from `peer`: raw ones, then partial ones.
fn slots_from(shard: &Shard, peer: usize) -> (&[u32], &[u32]) {
    let all = group(&shard.received, peer, |r| r.total());
    let raw = shard.received[peer].raw;
    assert!(shard.slots.partial[all.clone()].iter().enumerate().all(|(k, &partial)| partial == (k >= raw)));
    shard.slots.node[all].split_at(raw)
}

fn scale(degree: u32) -> f64 {
    if degree == 0 { 0.0 } else { 1.0 / f64::from(degree).sqrt() }
}

fn check_rows(train: &Interactions, shard: &Shard) {
    let degree: Vec<u32> = adjacency(train).iter().map(|of| of.len() as u32).collect();
    let n = shard.nodes.len() as u32;
    assert!(shard.nodes.is_sorted_by(|a, b| a < b));
    assert_eq!(shard.users, shard.nodes.iter().filter(|&&v| (v as usize) < train.users()).count());
    assert_eq!(shard.degree, shard.nodes.iter().map(|&v| degree[v as usize]).collect::<Vec<_>>());
    assert_eq!(shard.slots.degree, shard.slots.node.iter().map(|&v| degree[v as usize]).collect::<Vec<_>>());
    assert_eq!((shard.slots.degree.len(), shard.slots.partial.len()), (shard.slots.len(), shard.slots.len()));
    assert_eq!((shard.start.len(), shard.split.len()), (n as usize + 1, n as usize));
    assert_eq!(shard.start.last().copied(), Some(shard.neighbours.len() as u32));
    for row in 0..n as usize {
        let [from, split, to] = [shard.start[row], shard.split[row], shard.start[row + 1]].map(|k| k as usize);
        assert!(from <= split && split <= to);
        let (own, remote) = (&shard.neighbours[from..split], &shard.neighbours[split..to]);
        assert!(own.is_sorted_by(|a, b| a < b) && own.iter().all(|&c| c < n));
        assert!(remote.is_sorted_by(|a, b| a < b));
        assert!(remote.iter().all(|&c| c >= n && !shard.slots.partial[(c - n) as usize]));
    }
}

/// What `p` sends to `q` is what `q` has slots for.
fn check_mirror(p: &Shard, q: &Shard) {
    assert_eq!(p.sent[q.rank], q.received[p.rank]);
    let (raw, partial) = slots_from(q, p.rank);
    let rows = &p.send_rows[group(&p.sent, q.rank, |r| r.raw)];
    assert_eq!(rows.iter().map(|&k| p.nodes[k as usize]).collect::<Vec<_>>(), raw);
    let sums = group(&p.sent, q.rank, |r| r.partial);
    assert_eq!(&p.outgoing.node[sums.clone()], partial);
    assert!(raw.is_sorted_by(|a, b| a < b) && partial.is_sorted_by(|a, b| a < b));
    assert!(partial.iter().all(|node| q.nodes.contains(node)));
    for sum in sums {
        let terms = &p.outgoing.neighbours[p.outgoing.start[sum] as usize..p.outgoing.start[sum + 1] as usize];
        assert!(!terms.is_empty() && terms.is_sorted_by(|a, b| a < b));
        assert!(terms.iter().all(|&k| (k as usize) < p.nodes.len()));
    }
}

/// A_hat x, each shard with the rows its peers send it.
fn exchanged_product(shards: &[Shard], x: &[f64]) -> Vec<f64> {
    let mut y = vec![f64::NAN; x.len()];
    for q in shards {
        let mut column: Vec<f64> = q.nodes.iter().map(|&v| x[v as usize]).collect();
        let mut degree = q.degree.clone();
        let mut added = vec![0.0; q.nodes.len()];
        for p in shards.iter().filter(|p| p.rank != q.rank) {
            for &row in &p.send_rows[group(&p.sent, q.rank, |r| r.raw)] {
                column.push(x[p.nodes[row as usize] as usize]);
                degree.push(p.degree[row as usize]);
            }
            for sum in group(&p.sent, q.rank, |r| r.partial) {
                let terms = p.outgoing.start[sum] as usize..p.outgoing.start[sum + 1] as usize;
                let value: f64 = p.outgoing.neighbours[terms]
                    .iter()
                    .map(|&k| x[p.nodes[k as usize] as usize] * scale(p.degree[k as usize]))
                    .sum();
                let slot = column.len() - q.nodes.len();
                column.push(f64::NAN);
                degree.push(0);
                let row = q.nodes.binary_search(&q.slots.node[slot]).unwrap();
                added[row] += value * scale(p.outgoing.degree[sum]);
            }
        }
        for (row, &node) in q.nodes.iter().enumerate() {
            let columns = &q.neighbours[q.start[row] as usize..q.start[row + 1] as usize];
            let sum: f64 = columns.iter().map(|&c| column[c as usize] * scale(degree[c as usize])).sum();
            y[node as usize] = sum * scale(q.degree[row]) + added[row];
        }
    }
    y
}

fn check_all(train: &Interactions, partition: &Partition) {
    let nodes = train.users() + train.items();
    let x: Vec<f64> = (0..nodes).map(|v| ((v * 37 % 101) as f64 - 50.0) / 7.0).collect();
    let of = adjacency(train);
    let whole: Vec<f64> = of
        .iter()
        .map(|row| {
            row.iter().map(|&t| x[t as usize] * scale(of[t as usize].len() as u32)).sum::<f64>()
                * scale(row.len() as u32)
        })
        .collect();
    let mut received = vec![];
    for scheme in SCHEMES {
        let shards = shards(train, partition, scheme);
        let mut owned: Vec<u32> = shards.iter().flat_map(|s| s.nodes.iter().copied()).collect();
        owned.sort_unstable();
        assert_eq!(owned, (0..nodes as u32).collect::<Vec<_>>());
        for p in &shards {
            check_rows(train, p);
            assert_eq!((p.sent[p.rank], p.received[p.rank]), (Rows::default(), Rows::default()));
            shards.iter().filter(|q| q.rank != p.rank).for_each(|q| check_mirror(p, q));
        }
        for (got, want) in exchanged_product(&shards, &x).iter().zip(&whole) {
            assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{scheme:?}: {got} {want}");
        }
        let report = Report::new(train, partition, scheme, COST);
        for (rank, shard) in report.ranks.iter().zip(&shards) {
            assert_eq!((rank.nodes, rank.users), (shard.nodes.len(), shard.users));
            assert_eq!(rank.items, rank.nodes - rank.users);
            assert_eq!(rank.entries, shard.degree.iter().map(|&d| u64::from(d)).sum::<u64>());
            let sum = |of: &[Rows]| of.iter().fold([0, 0], |s, r| [s[0] + r.raw, s[1] + r.partial]);
            assert_eq!(sum(&shard.received), [rank.received.raw, rank.received.partial]);
            assert_eq!(sum(&shard.sent), [rank.sent.raw, rank.sent.partial]);
        }
        assert_eq!(report.rows_worst(), shards.iter().map(|s| s.slots.len()).max().unwrap());
        received.push(shards.into_iter().flat_map(|s| s.received).collect::<Vec<_>>());
    }
    let [halo, aggregate, gather] = [&received[0], &received[1], &received[2]];
    for ((halo, aggregate), gather) in halo.iter().zip(aggregate).zip(gather) {
        assert!(aggregate.total() <= halo.total() && halo.total() <= gather.total());
    }
}

prop_compose! {
    fn graphs()(users in 1usize..24, items in 1usize..24)(
        pairs in proptest::collection::vec((0..users as u32, 0..items as u32), 0..140),
        users in Just(users),
        items in Just(items),
    ) -> Interactions {
        Interactions::from_pairs(users, items, &pairs).unwrap().0
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shards_of_any_owners_hold_the_whole_graph(
        train in graphs(),
        parts in 1usize..=6,
        owners in proptest::collection::vec(any::<u16>(), 48),
    ) {
        let owner = owners[..train.users() + train.items()].iter().map(|o| o % parts as u16).collect();
        check_all(&train, &Partition::from_owner(parts, owner).unwrap());
    }

    #[test]
    fn methods_own_each_node_once_and_repeat_themselves(train in graphs(), parts in 1usize..=6) {
        for method in [Method::Hash, Method::Fennel] {
            let partition = Partition::new(&train, parts, method, COST);
            prop_assert_eq!(partition.parts(), parts);
            check_all(&train, &partition);
            prop_assert_eq!(Partition::new(&train, parts, method, COST).digest(), partition.digest());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Large enough that Fennel does not fall back at once.
    #[test]
    fn fennel_divides_random_graphs(
        pairs in proptest::collection::vec((0u32..500, 0u32..400), 1..3000),
        parts in 2usize..=6,
    ) {
        let (train, _) = Interactions::from_pairs(500, 400, &pairs).unwrap();
        let partition = Partition::new(&train, parts, Method::Fennel, COST);
        check_all(&train, &partition);
        prop_assert_eq!(Partition::new(&train, parts, Method::Fennel, COST), partition.clone());
        let worst = |partition: &Partition| Report::new(&train, partition, Scheme::Halo, COST).rows_worst();
        prop_assert!(worst(&partition) <= worst(&Partition::new(&train, parts, Method::Hash, COST)));
        prop_assert!(Report::new(&train, &partition, Scheme::Halo, COST).balance <= 1.1);
    }
}

/// Blocks of users and items with most edges inside, ids mixed.
fn blocks(blocks: u32, users: u32, items: u32) -> Interactions {
    let mut pairs = vec![];
    for u in 0..users {
        for k in 0..12 {
            let word = u.wrapping_mul(2_654_435_761).wrapping_add(k * 40_503);
            let block = if k == 0 { word % blocks } else { u % blocks };
            pairs.push((u, (word / 7 % (items / blocks)) * blocks + block));
        }
    }
    Interactions::from_pairs(users as usize, items as usize, &pairs).unwrap().0
}

#[test]
fn fennel_finds_blocks_and_keeps_the_balance() {
    let train = blocks(4, 2000, 1200);
    let rows = |method| {
        let partition = Partition::new(&train, 4, method, COST);
        check_all(&train, &partition);
        let report = Report::new(&train, &partition, Scheme::Aggregate, COST);
        assert!(report.balance <= 1.1, "{}", report.balance);
        (report.rows_worst(), partition.digest())
    };
    let (hash, fennel) = (rows(Method::Hash), rows(Method::Fennel));
    assert!(fennel.0 * 2 < hash.0, "{} {}", fennel.0, hash.0);
    assert_eq!(rows(Method::Fennel), fennel);
}

#[test]
fn one_part_is_the_whole_graph() {
    let train = blocks(4, 60, 40);
    let partition = Partition::new(&train, 1, Method::Fennel, COST);
    assert!(partition.owner().iter().all(|&owner| owner == 0));
    let whole = Shard::whole(&train);
    for scheme in SCHEMES {
        assert_eq!(Shard::new(&train, &partition, 0, scheme), whole);
    }
    assert!(whole.slots.is_empty() && whole.send_rows.is_empty() && whole.outgoing.node.is_empty());
    let columns: Vec<Vec<u32>> =
        whole.start.windows(2).map(|w| whole.neighbours[w[0] as usize..w[1] as usize].to_vec()).collect();
    assert_eq!(columns, adjacency(&train));
}

#[test]
fn degenerate_graphs_are_divided_all_the_same() {
    let single = |users, items, pairs: &[(u32, u32)]| Interactions::from_pairs(users, items, pairs).unwrap().0;
    let hub: Vec<(u32, u32)> = (0..900).map(|user| (user, 0)).collect();
    for train in [
        single(0, 0, &[]),
        single(0, 300, &[]),
        single(300, 0, &[]),
        single(1, 1, &[(0, 0)]),
        single(2, 900, &[(0, 5), (1, 899)]),
        single(900, 1, &hub),
        single(900, 900, &hub),
    ] {
        for parts in [1, 2, 3, 40] {
            for method in [Method::Hash, Method::Fennel] {
                check_all(&train, &Partition::new(&train, parts, method, COST));
            }
        }
    }
    let train = single(3, 3, &[(0, 0)]);
    assert_eq!(Partition::new(&train, 0, Method::Hash, COST).parts(), 1);
}

#[test]
fn a_lone_node_has_no_slot_but_is_gathered() {
    let (train, _) = Interactions::from_pairs(2, 2, &[(0, 0)]).unwrap();
    let partition = Partition::from_owner(2, vec![0, 1, 1, 1]).unwrap();
    let slots = |scheme| Shard::new(&train, &partition, 0, scheme).slots.node;
    assert_eq!(slots(Scheme::Halo), [2]);
    assert_eq!(slots(Scheme::Aggregate).len(), 1);
    assert_eq!(slots(Scheme::AllGather), [1, 2, 3]);
}

#[test]
fn a_star_across_a_cut_costs_one_row_each_way() {
    // user 0 at rank 0; items 0, 1, 2 at rank 1
    let (train, _) = Interactions::from_pairs(1, 3, &[(0, 0), (0, 1), (0, 2)]).unwrap();
    let partition = Partition::from_owner(2, vec![0, 1, 1, 1]).unwrap();
    let [p, q] = [0, 1].map(|rank| Shard::new(&train, &partition, rank, Scheme::Aggregate));
    assert_eq!((p.received[1], q.received[0]), (Rows { raw: 0, partial: 1 }, Rows { raw: 1, partial: 0 }));
    assert_eq!((&p.slots.node[..], &p.slots.degree[..], &p.slots.partial[..]), (&[0][..], &[3][..], &[true][..]));
    assert!(p.neighbours.is_empty());
    assert_eq!((&q.outgoing.start[..], &q.outgoing.neighbours[..]), (&[0, 3][..], &[0, 1, 2][..]));
    assert_eq!((&q.neighbours[..], &q.split[..]), (&[3, 3, 3][..], &[0, 1, 2][..]));
}

#[test]
fn owners_beyond_the_parts_are_refused() {
    let error = Partition::from_owner(2, vec![0, 1, 2]).unwrap_err();
    assert_eq!(error.to_string(), "node 2 belongs to part 2, and there are 2: the list was made for more parts");
    assert!(matches!(Partition::from_owner(0, vec![]), Err(PartitionError::Parts { parts: 0 })));
}

#[test]
fn a_cached_partition_comes_back_under_its_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache/partition.bin");
    assert_eq!(Partition::load(&path, "a").unwrap(), None);
    let partition = Partition::from_owner(300, (0..700).map(|k| k % 300).collect()).unwrap();
    partition.save(&path, "a").unwrap();
    assert_eq!(Partition::load(&path, "a").unwrap().as_ref(), Some(&partition));
    for key in ["b", "", "aa"] {
        assert_eq!(Partition::load(&path, key).unwrap(), None);
    }
    let bytes = std::fs::read(&path).unwrap();
    for at in [0, 20, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(Partition::load(&path, "a").unwrap(), None);
        std::fs::write(&path, &bytes[..at]).unwrap();
        assert_eq!(Partition::load(&path, "a").unwrap(), None);
    }
    let other = Partition::from_owner(2, vec![1, 0]).unwrap();
    other.save(&path, "b").unwrap();
    assert_eq!(Partition::load(&path, "b").unwrap(), Some(other.clone()));
    assert_ne!(other.digest(), partition.digest());
    assert_eq!(std::fs::read_dir(folder.path().join("cache")).unwrap().count(), 1);
    assert!(Partition::load(folder.path(), "a").is_err());
}
