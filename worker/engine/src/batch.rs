//! One global batch as the losses need it: node ids of the pairs, and each side's distinct ids with their counts.
//! Duplicates of a batch only change weights, so the contrastive terms run over distinct rows (amazon, B = 4096: 2960
//! users, 3029 positives, 3286 negatives), exactly.

use tch::{Device, Kind, Tensor};

/// Distinct ids of one side of a batch, ascending.
pub struct Distinct {
    /// [m] ids on the side: user ids, or item ids
    pub ids: Tensor,
    /// [m] how often each occurs
    pub count: Tensor,
}

pub struct BatchRows {
    /// B
    pub size: usize,
    /// [B] node ids
    pub users: Tensor,
    pub positives: Tensor,
    pub negatives: Tensor,
    pub distinct_users: Distinct,
    pub distinct_positives: Distinct,
    pub distinct_negatives: Distinct,
    /// Distinct items of both item sides, ascending, and where each side's distinct items lie among them.
    pub items: Tensor,
    pub positive_places: Tensor,
    pub negative_places: Tensor,
    /// Distinct node ids of all three sides: the heads whose intent view is needed.
    pub heads: Tensor,
}

impl BatchRows {
    /// `node_counts`: users and items of the graph; `kind` and `device` are the tables'.
    pub fn new(batch: &accord_data::sampling::Batch, node_counts: [usize; 2], kind: Kind, device: Device) -> BatchRows {
        let [users, items] = node_counts;
        let ids = |ids: &[i64]| Tensor::from_slice(ids).to(device);
        let nodes =
            |side: &[u32], first: usize| ids(&side.iter().map(|&i| i64::from(i) + first as i64).collect::<Vec<_>>());
        let count = |side: &[u32], n: usize| {
            let mut count = vec![0u32; n];
            side.iter().for_each(|&i| count[i as usize] += 1);
            count
        };
        let distinct = |count: &[u32]| {
            let present: Vec<i64> = (0..count.len() as i64).filter(|&i| count[i as usize] > 0).collect();
            let often: Vec<f32> = present.iter().map(|&i| count[i as usize] as f32).collect();
            Distinct { ids: ids(&present), count: Tensor::from_slice(&often).to(device).to_kind(kind) }
        };
        let [user_count, positive_count, negative_count] =
            [count(batch.users, users), count(batch.positives, items), count(batch.negatives, items)];
        let (mut batch_items, mut positive_places, mut negative_places) = (Vec::new(), Vec::new(), Vec::new());
        for item in 0..items {
            let place = batch_items.len() as i64;
            let in_batch = [(positive_count[item], &mut positive_places), (negative_count[item], &mut negative_places)]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(_, places)| places.push(place))
                .count();
            if in_batch > 0 {
                batch_items.push(item as i64);
            }
        }
        let heads: Vec<i64> = (0..users as i64)
            .filter(|&u| user_count[u as usize] > 0)
            .chain(batch_items.iter().map(|i| i + users as i64))
            .collect();
        BatchRows {
            size: batch.users.len(),
            users: nodes(batch.users, 0),
            positives: nodes(batch.positives, users),
            negatives: nodes(batch.negatives, users),
            distinct_users: distinct(&user_count),
            distinct_positives: distinct(&positive_count),
            distinct_negatives: distinct(&negative_count),
            items: ids(&batch_items),
            positive_places: ids(&positive_places),
            negative_places: ids(&negative_places),
            heads: ids(&heads),
        }
    }
}
