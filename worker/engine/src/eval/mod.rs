//! Full-ranking evaluation: every item is a candidate but the user's training items. A worker ranks its own users; the
//! items' rows come around the ring, a rank's at a time.
//!
//! # Layout
//! * [`measures`]: which metrics and cut-offs, and which of them selects the best epoch.
//! * `metrics`: the definitions.

pub mod measures;
mod metrics;

pub use measures::Measures;
pub use metrics::{MetricValues, Metrics, Sums};

use crate::error::EngineError;
use crate::kernels::{Candidates, Kernels, NONE, Ranking};
use crate::world::World;
use accord_data::Interactions;
use tch::Tensor;

/// Ranks the items of every user with held-out items. `x` [n, d] are the final embeddings of the own nodes; every rank
/// gets the metrics of all users.
pub fn evaluate(
    world: &World,
    kernels: &dyn Kernels,
    x: &Tensor,
    train: &Interactions,
    held_out: &Interactions,
    measures: &Measures,
) -> Result<Metrics, EngineError> {
    let k = measures.width();
    let own_users = &world.graph.own()[..world.graph.users];
    let users: Vec<u32> = own_users.iter().copied().filter(|&user| !held_out.of(user).is_empty()).collect();
    let rows: Vec<i64> = users.iter().map(|&user| world.row(user) as i64).collect();
    let rows = kernels.gather(x, &Tensor::from_slice(&rows).to(x.device()));
    let first_item = world.graph.users as i64;
    let items = x.narrow(0, first_item, x.size()[0] - first_item);
    let mut ranking: Option<Ranking> = None;
    world.ring(&items, &world.item_counts(), |rank, block| {
        let ids = world.items_of(rank);
        let found = kernels.top_k(&rows, &users, Candidates { rows: block, ids: &ids }, train, k);
        ranking = Some(match ranking.take() {
            None => found,
            Some(before) => merge(&before, &found, k),
        });
        Ok(())
    })?;
    let ranked = ranking.unwrap_or_else(|| Ranking::empty(users.len(), k)).items;
    let Sums { one, totals, first_places } = Sums::of_rankings(&users, &ranked, k, held_out, measures);
    let (totals, first_places) = (world.sum_counts(totals)?, world.smallest(first_places)?);
    Ok(Sums { one, totals, first_places }.metrics(measures))
}

/// The k best of two rankings of the same users; ties to the lower id.
fn merge(a: &Ranking, b: &Ranking, k: usize) -> Ranking {
    let mut best = Ranking::empty(a.items.len() / k, k);
    for from in (0..a.items.len()).step_by(k) {
        let entry = |ranking: &Ranking, place: usize| (ranking.scores[from + place], ranking.items[from + place]);
        let (mut left, mut right) = (0, 0);
        for place in from..from + k {
            let ((a_score, a_item), (b_score, b_item)) = (entry(a, left), entry(b, right));
            let takes_a =
                b_item == NONE || (a_item != NONE && (a_score > b_score || (a_score == b_score && a_item < b_item)));
            let (score, item) = if takes_a { (a_score, a_item) } else { (b_score, b_item) };
            if item == NONE {
                break;
            }
            (best.scores[place], best.items[place]) = (score, item);
            if takes_a { left += 1 } else { right += 1 }
        }
    }
    best
}

#[cfg(test)]
mod tests;
