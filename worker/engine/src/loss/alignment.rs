//! Alignment of a graph view with a text view (spec 5.3 profile alignment, 5.4 pairwise intent alignment):
//! weight / B * [ InfoNCE(users, against ALL users' texts) + InfoNCE(positives, in batch) + InfoNCE(negatives, in batch) ].

use crate::batch::BatchRows;
use crate::kernels::Kernels;
use crate::loss::info_nce::InfoNce;
use tch::Tensor;

/// Text rows of the items a step needs: all of them, or just the batch's.
pub struct ItemRows<'a> {
    /// [rows, d]
    pub z: &'a Tensor,
    /// Where the batch's distinct positives and negatives lie in `z`.
    pub positives: &'a Tensor,
    pub negatives: &'a Tensor,
}

pub struct Alignment<'a> {
    pub batch: &'a BatchRows,
    /// U
    pub users: i64,
    pub weight: f64,
    pub temperature: f64,
    /// [N, d] graph view: X or G
    pub graph_view: &'a Tensor,
    /// [U, d]
    pub user_text: &'a Tensor,
    pub item_text: ItemRows<'a>,
}

impl Alignment<'_> {
    /// Adds to the gradients of the graph view [N, d], the users' texts [U, d] and the items' text rows.
    pub fn run(&self, kernels: &dyn Kernels, d_graph: &mut Tensor, d_user: &mut Tensor, d_item: &mut Tensor) -> f64 {
        let batch = self.batch;
        let scale = self.weight / batch.size as f64;
        let users = &batch.distinct_users;
        let contrast = InfoNce {
            anchors: &kernels.gather(self.graph_view, &users.ids),
            weight: &users.count,
            positive: &users.ids,
            keys: self.user_text,
            count: None,
            temperature: self.temperature,
            scale,
        }
        .run(kernels);
        kernels.scatter_add(d_graph, &users.ids, &contrast.anchors);
        *d_user += contrast.keys;
        let mut loss = contrast.loss;
        let sides = [
            (&batch.distinct_positives, self.item_text.positives),
            (&batch.distinct_negatives, self.item_text.negatives),
        ];
        for (side, places) in sides {
            let nodes = &side.ids + self.users;
            let own = Tensor::arange(side.ids.size()[0], (tch::Kind::Int64, nodes.device()));
            let contrast = InfoNce {
                anchors: &kernels.gather(self.graph_view, &nodes),
                weight: &side.count,
                positive: &own,
                keys: &kernels.gather(self.item_text.z, places),
                count: Some(&side.count),
                temperature: self.temperature,
                scale,
            }
            .run(kernels);
            kernels.scatter_add(d_graph, &nodes, &contrast.anchors);
            kernels.scatter_add(d_item, places, &contrast.keys);
            loss += contrast.loss;
        }
        loss
    }
}
