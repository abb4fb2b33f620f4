//! Minimum vertex cover of a bipartite graph: Hopcroft and Karp's maximum matching, then Koenig's theorem. Depends on
//! the order of rows and neighbours and on nothing else, so both workers of a pair find the same cover.

const NONE: u32 = u32::MAX;

/// Rows of neighbours on the right, for nodes on the left.
#[derive(Clone, Copy)]
struct Rows<'a> {
    start: &'a [u32],
    neighbours: &'a [u32],
}

impl Rows<'_> {
    fn left(&self) -> usize {
        self.start.len() - 1
    }

    fn of(&self, left: u32) -> &[u32] {
        &self.neighbours[self.start[left as usize] as usize..self.start[left as usize + 1] as usize]
    }
}

/// Whether each left and each right node is in the cover. `start`: left nodes + 1 offsets into `neighbours`, which are
/// numbers below `right`.
pub(super) fn minimum_vertex_cover(start: &[u32], neighbours: &[u32], right: usize) -> (Vec<bool>, Vec<bool>) {
    let rows = Rows { start, neighbours };
    let mut matching = Matching::greedy(rows, right);
    let mut distance = vec![NONE; rows.left()];
    while matching.layers(rows, &mut distance) {
        matching.augment(rows, &mut distance);
    }
    matching.cover(rows)
}

/// The partner of each node, or `NONE`.
struct Matching {
    of_left: Vec<u32>,
    of_right: Vec<u32>,
}

impl Matching {
    fn greedy(rows: Rows<'_>, right: usize) -> Matching {
        let mut matching = Matching { of_left: vec![NONE; rows.left()], of_right: vec![NONE; right] };
        for l in 0..rows.left() as u32 {
            if let Some(&r) = rows.of(l).iter().find(|&&r| matching.of_right[r as usize] == NONE) {
                matching.pair(l, r);
            }
        }
        matching
    }

    fn pair(&mut self, l: u32, r: u32) {
        self.of_left[l as usize] = r;
        self.of_right[r as usize] = l;
    }

    fn free(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.of_left.len() as u32).filter(|&l| self.of_left[l as usize] == NONE)
    }

    /// Distance of each left node from the free ones along alternating paths; whether a path ends at a free right node.
    fn layers(&self, rows: Rows<'_>, distance: &mut [u32]) -> bool {
        distance.fill(NONE);
        let mut queue: Vec<u32> = self.free().collect();
        queue.iter().for_each(|&l| distance[l as usize] = 0);
        let (mut head, mut found) = (0, false);
        while let Some(&l) = queue.get(head) {
            head += 1;
            for &r in rows.of(l) {
                let next = self.of_right[r as usize];
                if next == NONE {
                    found = true;
                } else if distance[next as usize] == NONE {
                    distance[next as usize] = distance[l as usize] + 1;
                    queue.push(next);
                }
            }
        }
        found
    }

    /// Follows the layers from each free left node, depth first with a stack of its own, and flips the paths found.
    fn augment(&mut self, rows: Rows<'_>, distance: &mut [u32]) {
        // where each left node's search stands: no edge is tried twice
        let mut next = rows.start[..rows.left()].to_vec();
        let mut path: Vec<u32> = vec![];
        for source in self.free().collect::<Vec<_>>() {
            path.push(source);
            while let Some(&l) = path.last() {
                let Some(&r) = rows.neighbours[..rows.start[l as usize + 1] as usize].get(next[l as usize] as usize)
                else {
                    distance[l as usize] = NONE;
                    path.pop();
                    continue;
                };
                next[l as usize] += 1;
                let partner = self.of_right[r as usize];
                if partner == NONE {
                    for &on_path in &path {
                        self.pair(on_path, rows.neighbours[next[on_path as usize] as usize - 1]);
                    }
                    path.clear();
                } else if distance[partner as usize] == distance[l as usize] + 1 {
                    path.push(partner);
                }
            }
        }
    }

    /// Koenig: left nodes that no alternating path from a free left node reaches, and right nodes that one reaches.
    fn cover(&self, rows: Rows<'_>) -> (Vec<bool>, Vec<bool>) {
        let mut left = vec![true; self.of_left.len()];
        let mut right = vec![false; self.of_right.len()];
        let mut stack: Vec<u32> = self.free().collect();
        stack.iter().for_each(|&l| left[l as usize] = false);
        while let Some(l) = stack.pop() {
            for &r in rows.of(l) {
                if !std::mem::replace(&mut right[r as usize], true) {
                    // a free right node here would be an augmenting path
                    let partner = self.of_right[r as usize];
                    if partner != NONE && std::mem::replace(&mut left[partner as usize], false) {
                        stack.push(partner);
                    }
                }
            }
        }
        (left, right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cover(rows: &[&[u32]], right: usize) -> (Vec<bool>, Vec<bool>) {
        let mut start = vec![0];
        rows.iter().for_each(|row| start.push(start[start.len() - 1] + row.len() as u32));
        minimum_vertex_cover(&start, &rows.concat(), right)
    }

    #[test]
    fn covers_of_known_graphs() {
        // a star is covered by its centre, from either side
        assert_eq!(cover(&[&[0, 1, 2, 3]], 4), (vec![true], vec![false; 4]));
        assert_eq!(cover(&[&[0], &[0], &[0]], 1), (vec![false; 3], vec![true]));
        // two stars joined by an edge: both centres
        assert_eq!(cover(&[&[0, 1, 2, 3], &[3], &[3], &[3]], 4).0, [true, false, false, false]);
        assert_eq!(cover(&[&[0, 1, 2, 3], &[3], &[3], &[3]], 4).1, [false, false, false, true]);
        // a path of five edges needs three nodes, a cycle of six edges three, complete 3 x 2 the smaller side
        for (rows, right, size) in [
            (vec![&[0][..], &[0, 1], &[1, 2]], 3, 3),
            (vec![&[0, 1][..], &[1, 2], &[0, 2]], 3, 3),
            (vec![&[0, 1][..], &[0, 1], &[0, 1]], 2, 2),
        ] {
            let (left, right) = cover(&rows, right);
            assert_eq!(left.iter().chain(&right).filter(|&&c| c).count(), size, "{rows:?}");
        }
        assert_eq!(cover(&[], 0), (vec![], vec![]));
        assert_eq!(cover(&[&[], &[]], 3), (vec![false; 2], vec![false; 3]));
    }

    /// A ladder on which the greedy matching is wrong at every rung, so that one path flips them all.
    #[test]
    fn long_paths_need_no_call_stack() {
        let n = 200_000;
        let mut rows: Vec<Vec<u32>> = (0..n).map(|k| vec![k, k + 1]).collect();
        rows.push(vec![0]);
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let (left, right) = cover(&rows, n as usize + 1);
        assert_eq!(left.iter().chain(&right).filter(|&&c| c).count(), n as usize + 1);
    }

    proptest! {
        #[test]
        fn every_edge_is_covered_by_as_few_nodes_as_there_are_disjoint_edges(
            edges in proptest::collection::btree_set((0u32..9, 0u32..8), 0..40),
        ) {
            let rows: Vec<Vec<u32>> =
                (0..9).map(|l| edges.iter().filter(|e| e.0 == l).map(|e| e.1).collect()).collect();
            let (left, right) = cover(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), 8);
            prop_assert!(edges.iter().all(|&(l, r)| left[l as usize] || right[r as usize]));
            let size = left.iter().chain(&right).filter(|&&c| c).count();
            // the least of all choices of left nodes, each completed by the right nodes it leaves uncovered
            let least = (0u32..1 << 9)
                .map(|chosen| {
                    let uncovered = edges.iter().filter(|e| chosen >> e.0 & 1 == 0).fold(0u32, |set, e| set | 1 << e.1);
                    chosen.count_ones() + uncovered.count_ones()
                })
                .min();
            prop_assert_eq!(Some(size as u32), least);
        }

        /// Large enough to need several rounds of augmenting paths.
        #[test]
        fn covers_are_as_large_as_matchings(edges in proptest::collection::btree_set((0u32..80, 0u32..80), 0..240)) {
            let rows: Vec<Vec<u32>> =
                (0..80).map(|l| edges.iter().filter(|e| e.0 == l).map(|e| e.1).collect()).collect();
            let (left, right) = cover(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), 80);
            prop_assert!(edges.iter().all(|&(l, r)| left[l as usize] || right[r as usize]));
            let mut partner = vec![None; 80];
            let matched = (0..80).filter(|&l| grow(l, &rows, &mut partner, &mut [false; 80])).count();
            prop_assert_eq!(left.iter().chain(&right).filter(|&&c| c).count(), matched);
        }
    }

    /// Kuhn's algorithm: matches one more left node, moving others aside.
    fn grow(l: usize, rows: &[Vec<u32>], partner: &mut [Option<usize>], seen: &mut [bool]) -> bool {
        for &r in &rows[l] {
            let r = r as usize;
            if std::mem::replace(&mut seen[r], true) {
                continue;
            }
            if partner[r].is_none_or(|other| grow(other, rows, partner, seen)) {
                partner[r] = Some(l);
                return true;
            }
        }
        false
    }
}
