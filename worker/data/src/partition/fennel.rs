//! Fennel (Tsourakakis et al., WSDM 2014), restreamed: nodes pass by one at a time, and each joins the part that holds
//! most of its edge weight, less a charge that grows with the part's load.

use super::labels::Orders;
use super::level::Level;

const PASSES: usize = 10;
const UNASSIGNED: u32 = u32::MAX;

/// Part of each node. No part grows beyond `limit` while another has room for the node.
pub(super) fn stream(level: &Level, parts: usize, limit: u64, orders: &mut Orders) -> Vec<u32> {
    let total = level.total_load() as f64;
    // the paper's load charge with gamma = 3/2; square roots alone, which every machine rounds alike
    let charge = 1.5 * (parts as f64).sqrt() * (level.total_weight() / 2.0) / (total * total.sqrt());
    let order = orders.next(level.nodes());
    let mut part = vec![UNASSIGNED; level.nodes()];
    let mut of_part = vec![0u64; parts];
    let mut gain = vec![0f64; parts];
    for pass in 0..PASSES {
        let mut moved = 0;
        for &node in &order {
            let node = node as usize;
            let (old, load) = (part[node], level.load[node]);
            if old != UNASSIGNED {
                of_part[old as usize] -= load;
            }
            for (to, weight) in level.edges(node) {
                if part[to] != UNASSIGNED {
                    gain[part[to] as usize] += f64::from(weight);
                }
            }
            let mut best = None;
            let mut lightest = 0;
            for q in 0..parts {
                let score = std::mem::take(&mut gain[q]) - charge * (of_part[q] as f64).sqrt() * load as f64;
                if of_part[q] + load <= limit && best.is_none_or(|(_, s)| score > s) {
                    best = Some((q, score));
                }
                if of_part[q] < of_part[lightest] {
                    lightest = q;
                }
            }
            let chosen = best.map_or(lightest, |(q, _)| q);
            part[node] = chosen as u32;
            of_part[chosen] += load;
            moved += usize::from(part[node] != old);
        }
        if pass > 0 && moved * 1000 < level.nodes() {
            break;
        }
    }
    part
}
