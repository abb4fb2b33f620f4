//! What a worker would hold and send, from the job and a partition's report. The halo exchange is counted exactly; batch
//! rows are expectations; memory counts the tables and lists of a training step, not the libraries.

use accord_data::Interactions;
use accord_data::partition::report::RankReport;
use accord_spec::{JobSpec, ModelKind, Negatives};
use serde::Serialize;

/// Bytes of an f32.
const FLOAT: f64 = 4.0;

/// Sizes that a job and its dataset give.
pub(super) struct Sizes {
    users: f64,
    items: f64,
    pairs: f64,
    d: f64,
    layers: f64,
    model: ModelKind,
    /// Widths of profile and intent texts.
    text: [f64; 2],
    intents: f64,
    negatives: Negatives,
    /// Distinct nodes of a batch, expected.
    heads: f64,
    workers: f64,
}

/// Bytes that a worker sends in one step.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct StepBytes {
    /// Halo rows of propagation, forward and backward: exact.
    pub(super) halo: u64,
    /// Rows of the batch's heads, and users' texts where users are held against all: expected.
    pub(super) heads: u64,
    /// Dense gradients and the teacher.
    pub(super) dense: u64,
}

impl StepBytes {
    pub(super) fn total(self) -> u64 {
        self.halo + self.heads + self.dense
    }
}

/// Bytes that a worker holds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Memory {
    /// Embeddings, their gradient and moments, the best epoch's.
    pub(super) parameters: u64,
    pub(super) text: u64,
    /// Layers and gradients of a step.
    pub(super) work: u64,
    /// Interactions, batch order and adjacency.
    pub(super) graph: u64,
}

impl Memory {
    pub(super) fn total(self) -> u64 {
        self.parameters + self.text + self.work + self.graph
    }
}

impl Sizes {
    /// `text`: widths of the text tables; 0 where there are none.
    pub(super) fn new(spec: &JobSpec, train: &Interactions, text: [usize; 2], workers: usize) -> Sizes {
        Sizes {
            users: train.users() as f64,
            items: train.items() as f64,
            pairs: train.len() as f64,
            d: spec.model.dim as f64,
            layers: spec.model.layers as f64,
            model: spec.model.kind,
            text: text.map(|width| width as f64),
            intents: spec.model.intents as f64,
            negatives: spec.loss.negatives,
            heads: expected_heads(train, spec.optim.batch_size as f64),
            workers: workers as f64,
        }
    }

    fn all_users(&self) -> bool {
        matches!(self.negatives, Negatives::Auto | Negatives::All)
    }

    fn nodes(&self) -> f64 {
        self.users + self.items
    }

    /// Numbers of the dense weights: prototypes and text towers.
    fn dense(&self) -> f64 {
        let tower = |text: f64| {
            let hidden = ((text + self.d) / 2.0).floor();
            hidden * (text + 1.0) + self.d * (hidden + 1.0)
        };
        match self.model {
            ModelKind::Lightgcn => 0.0,
            ModelKind::RlmrecCon => tower(self.text[0]),
            ModelKind::Irllrec => tower(self.text[0]) + tower(self.text[1]) + 2.0 * self.d * self.intents,
        }
    }

    pub(super) fn step_bytes(&self, rank: &RankReport) -> StepBytes {
        let row = self.d * FLOAT;
        let halo = rank.sent.total() as f64 * 2.0 * self.layers * row;
        let peers = self.workers - 1.0;
        // rows of a head: X; with Z; with Z, G and S. Texts of a user: none; Z; Z and S
        let (tables, texts) = match self.model {
            ModelKind::Lightgcn => (1.0, 0.0),
            ModelKind::RlmrecCon => (2.0, 1.0),
            ModelKind::Irllrec => (4.0, 2.0),
        };
        let users = if self.all_users() { rank.users as f64 } else { 0.0 };
        let own = self.heads * rank.nodes as f64 / self.nodes();
        // own heads' rows to each peer, and each own user's texts where users are held against all
        let heads = (own * tables + users * texts) * peers * row;
        // the teacher is a second intent tower; it travels with the gradients
        let replicas = if self.model == ModelKind::Irllrec { 1.5 } else { 1.0 };
        // summed in f64
        let dense = 2.0 * peers / self.workers * self.dense() * replicas * 2.0 * FLOAT;
        StepBytes { halo: halo as u64, heads: heads as u64, dense: dense as u64 }
    }

    pub(super) fn memory(&self, rank: &RankReport) -> Memory {
        let n = rank.nodes as f64;
        let columns = n + rank.received.total() as f64;
        let row = self.d * FLOAT;
        // E, its gradient, two moments, the best epoch's, and a copy in a checkpoint being written
        let parameters = n * row * 6.0 + self.dense() * FLOAT * 4.0;
        let text = match self.model {
            ModelKind::Lightgcn => 0.0,
            ModelKind::RlmrecCon => n * self.text[0] * FLOAT,
            ModelKind::Irllrec => n * (self.text[0] + self.text[1]) * FLOAT,
        };
        // X, dX and two layers; the intent view keeps every layer, its unit intents and G, and what they receive
        let work = match self.model {
            ModelKind::Lightgcn => 2.0 * n * row + 2.0 * columns * row,
            ModelKind::RlmrecCon => 4.0 * n * row + 2.0 * columns * row,
            ModelKind::Irllrec => (8.0 + 2.0 * self.layers) * n * row + (2.0 * self.layers + 2.0) * columns * row,
        };
        let text_rows = if self.negatives == Negatives::Batch { self.heads.min(n) } else { n };
        let hidden =
            if self.model == ModelKind::Irllrec { (self.text[1] + self.d) / 2.0 * text_rows * FLOAT } else { 0.0 };
        // every worker has all interactions and the order of all pairs: 4 and 12 bytes a pair, 12 more while it is made
        let graph = self.pairs * 28.0 + self.users * 4.0 + rank.entries as f64 * 4.0 + columns * 12.0;
        Memory { parameters: parameters as u64, text: text as u64, work: (work + hidden) as u64, graph: graph as u64 }
    }
}

/// Users and positives are drawn by their degree, negatives evenly.
fn expected_heads(train: &Interactions, batch: f64) -> f64 {
    let pairs = (train.len() as f64).max(1.0);
    let batch = batch.min(pairs);
    let present = |share: f64| 1.0 - (1.0 - share).powf(batch);
    let users: f64 = (0..train.users() as u32).map(|user| present(train.of(user).len() as f64 / pairs)).sum();
    let mut degree = vec![0u32; train.items()];
    train.item().iter().for_each(|&item| degree[item as usize] += 1);
    let negative = present(1.0 / train.items().max(1) as f64);
    let items = degree.iter().map(|&degree| 1.0 - (1.0 - present(f64::from(degree) / pairs)) * (1.0 - negative));
    users + items.sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_everything_has_every_node_that_has_a_pair() {
        let (train, _) = Interactions::from_pairs(3, 2, &[(0, 0), (1, 1)]).unwrap();
        let heads = expected_heads(&train, 1e6);
        // a batch is no longer than the epoch: two draws of two users, and items by degree or as negatives
        assert!((2.5..=4.0).contains(&heads), "{heads}");
    }

    #[test]
    fn halo_bytes_are_rows_times_width_times_exchanges() {
        let text = "[job]\nname = \"a\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\ndim = 32\nlayers = 3\n";
        let spec = accord_spec::parse(text, &[]).unwrap();
        let (train, _) = Interactions::from_pairs(3, 2, &[(0, 0), (1, 1)]).unwrap();
        let sizes = Sizes::new(&spec, &train, [0, 0], 2);
        let mut rank = RankReport { nodes: 2, ..RankReport::default() };
        rank.sent.raw = 5;
        rank.sent.partial = 2;
        let bytes = sizes.step_bytes(&rank);
        assert_eq!(bytes.halo, 7 * 6 * 32 * 4);
        assert_eq!(bytes.dense, 0);
    }
}
