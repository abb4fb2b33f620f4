//! Full-ranking evaluation: every item a candidate but the user's training items, the official definitions of Recall and
//! NDCG (spec section 7).

mod metrics;

pub use metrics::{Metrics, of_rankings};

use crate::kernels::Kernels;
use accord_data::Interactions;
use tch::Tensor;

/// Ranks the items of every user with held-out items. `x` [N, d] are the final embeddings.
pub fn evaluate(
    kernels: &dyn Kernels,
    x: &Tensor,
    train: &Interactions,
    held_out: &Interactions,
    ks: &[usize],
) -> Metrics {
    let users: Vec<u32> = (0..held_out.users() as u32).filter(|&u| !held_out.of(u).is_empty()).collect();
    let k = ks.iter().copied().max().unwrap_or(1);
    let ranked = kernels.top_k(x, &users, train, k);
    of_rankings(&users, &ranked, k, held_out, ks)
}
