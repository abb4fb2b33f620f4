//! The hot loops of a step behind one trait: [`cpu`] is hand-written f32, [`torch`] is libtorch operators on any device
//! and precision. Both pass the same behaviour suite (`tests/kernels.rs`).
//!
//! Matrices are row-major tensors, shapes in brackets; n own nodes, h slots of remote rows (0 with one worker), d columns,
//! B batch. Ids are Int64 tensors. No kernel talks to another worker: see [`crate::world`].
//!
//! Sums over all rows come as f64 ([`Bound`]): those of the CPU kernels are the same bits however rows are spread over
//! workers and threads, and libtorch's are not.

mod bounds;
pub mod cpu;
pub mod torch;

pub use bounds::{Bound, TowerBounds, largest, prototype_bound};

use crate::graph::{Dropout, Part};
use crate::weights::Tower;
use accord_data::Interactions;
use tch::Tensor;

/// Marks a missing place in a top-k list.
pub const NONE: u32 = u32::MAX;

/// Arithmetic of the all-nodes translation term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The tensors' own.
    Full,
    /// bf16 products, f32 sums.
    Bf16,
    /// Cubic polynomial of the cosine through moments of the keys: O(n d^3), [`Kernels::moments`].
    Moments,
}

/// The moment form's e^c ~ 1 + SLOPE c + c^2 / 2: the Taylor cubic economised on [-1/2, 1/2] (its c^3 / 6 becomes c / 32).
pub(crate) const MOMENT_SLOPE: f64 = 1.0 + 1.0 / 32.0;

/// Anchors held against keys: rows of length at most 1, logits anchor . key / temperature.
pub struct Pairs<'a> {
    /// [m, d]
    pub anchors: &'a Tensor,
    /// [n, d]
    pub keys: &'a Tensor,
    /// [n] how often each key counts; none: once
    pub count: Option<&'a Tensor>,
    pub inverse_temperature: f64,
    pub factor: Factor<'a>,
    /// bf16 products, where [`Kernels::precision`] grants them; then no counts and temperature 1.
    pub bf16: bool,
}

/// The anchors' half of such a product, without factors.
pub struct HalfPairs<'a> {
    /// [m, d]
    pub anchors: &'a Tensor,
    /// [n, d]
    pub keys: &'a Tensor,
    /// [n] weight of each key; none: 1
    pub count: Option<&'a Tensor>,
    pub inverse_temperature: f64,
}

/// Sums over keys for each anchor; those of several sets of keys add up.
pub struct HalfSums {
    /// [m] sum_c count_c exp(a_b . k_c / t)
    pub sums: Tensor,
    /// [m, d] sum_c count_c e_bc k_c
    pub rows: Tensor,
}

/// The factor of each anchor's softmax row in the loss.
pub enum Factor<'a> {
    OfSums(RowFactor<'a>),
    /// [m] known from elsewhere: the keys are not all here, only their own gradients are of interest
    Given(&'a Tensor),
}

/// Turns the row sum of an anchor into the factor of its softmax row in the loss.
pub struct RowFactor<'a> {
    /// [m]
    pub weight: &'a Tensor,
    /// Added to the sum, and to the diagonal's probability.
    pub epsilon: f64,
    /// [m] logit of the diagonal pair, where the loss is -log(q + epsilon) with q = exp(diagonal) / (sum + epsilon)
    pub diagonal: Option<&'a Tensor>,
}

impl RowFactor<'_> {
    /// weight / (sum + epsilon), times q / (q + epsilon) with a diagonal. `sums` [m] -> [m]
    pub fn of(&self, sums: &Tensor) -> Tensor {
        let sums = sums + self.epsilon;
        let factor = self.weight / &sums;
        match self.diagonal {
            None => factor,
            Some(diagonal) => {
                let q = diagonal.exp() / sums;
                factor * (&q / (&q + self.epsilon))
            }
        }
    }
}

pub struct PairGrads {
    /// [m] sum_c count_c exp(a_b . k_c / t)
    pub sums: Tensor,
    /// [m, d] factor_b sum_c count_c e_bc k_c; of no meaning with given factors
    pub anchors: Tensor,
    /// [n, d] count_c sum_b factor_b e_bc a_b
    pub keys: Tensor,
}

/// A_hat, or what edge dropout leaves of it in one step.
pub enum Adjacency {
    Whole,
    /// The CPU's form: each node's kept neighbours stand at the front of its place in the graph's lists.
    Lists(KeptLists),
    /// libtorch's form: values of A_hat by [`Part`], zero where an edge is dropped.
    Values([Tensor; 3]),
}

/// Made by the CPU kernels alone: they trust its ids.
pub struct KeptLists {
    /// Of own rows, and of outgoing partial sums.
    pub(crate) neighbours: [Vec<u32>; 2],
    /// [rows] where each row ends now, by [`Part`].
    pub(crate) ends: [Vec<u32>; 3],
}

/// One layer of the intent view, with what its backward needs.
pub struct IntentLayer {
    /// [n + h, d] n(V), V = softmax(E C) C^T
    pub unit: Tensor,
    /// [n + h] 1 / |V|
    pub inverse_norm: Tensor,
    /// [n] 1 / sum of the head's edge weights; heads only
    pub inverse_sum: Tensor,
    /// [n, d] G of the heads, zero elsewhere
    pub g: Tensor,
}

/// What the backward of one layer is given of the heads among the columns; zero for the others.
pub struct HeadGrads<'a> {
    /// Columns that are heads: own nodes, and slots of other workers' heads
    pub heads: &'a Tensor,
    /// [n + h, d] dG
    pub g: &'a Tensor,
    /// [n + h] dG . G, the row-normalisation term in closed form
    pub q: &'a Tensor,
    /// [n + h] 1 / sum of the head's edge weights
    pub inverse_sum: &'a Tensor,
}

/// What one layer of the intent view receives.
pub struct IntentGrads {
    /// [n, d] through the edges' ends; not yet through V
    pub e: Tensor,
    /// [n, d] dV
    pub intents: Tensor,
}

/// Slope of the text towers' LeakyReLU below zero (torch's default).
pub const LEAKY_SLOPE: f64 = 0.01;

/// Output and hidden activations of some rows of a text tower.
pub struct TowerOutput {
    /// [rows, d]
    pub z: Tensor,
    /// [rows, H] after LeakyReLU, or wider where a kernel set pads it
    pub hidden: Tensor,
}

/// Rows scaled to unit length.
pub struct UnitRows {
    /// [n, d]
    pub rows: Tensor,
    /// [n, 1] the factor each row was multiplied by
    pub inverse: Tensor,
}

/// Row normalisation. The official code has two, which differ in how they avoid dividing by zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// x / sqrt(1e-8 + |x|^2): InfoNCE
    Root,
    /// x / max(|x|, 1e-12): torch's F.normalize, in the translation loss
    Max,
}

/// One Adam update (Kingma and Ba 2015, as torch.optim.Adam orders it); the gradient of `reg |w|^2` is added inside.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// 1-based
    pub step: u64,
    pub lr: f64,
    pub reg: f64,
}

impl AdamStep {
    pub const BETAS: [f64; 2] = [0.9, 0.999];
    pub const EPSILON: f64 = 1e-8;

    /// lr / (1 - beta1^t), and sqrt(1 - beta2^t)
    pub fn corrections(&self) -> (f64, f64) {
        let t = self.step as f64;
        (self.lr / (1.0 - Self::BETAS[0].powf(t)), (1.0 - Self::BETAS[1].powf(t)).sqrt())
    }
}

/// The best items of some users, [m * k], best first; ties to the lower id.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// [`NONE`] where candidates run out
    pub items: Vec<u32>,
    pub scores: Vec<f64>,
}

impl Ranking {
    pub fn empty(users: usize, k: usize) -> Ranking {
        Ranking { items: vec![NONE; users * k], scores: vec![f64::NEG_INFINITY; users * k] }
    }
}

/// Items that users are ranked against.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    /// [items, d]
    pub rows: &'a Tensor,
    /// [items] ascending
    pub ids: &'a [u32],
}

/// The graph is given when the kernels are made.
pub trait Kernels: Send {
    /// The adjacency of one step, for [`Kernels::product`].
    fn adjacency(&self, dropout: Option<Dropout>) -> Adjacency;

    /// One part of A_hat x: `Own` overwrites out [n, d] (and adds `plus` [n, d]), `Halo` adds to it, `Outgoing` overwrites
    /// out [partial sums, d]. `x` [n + h, d], or [n, d] where the part reads no slots. `total` [n, d] += out.
    fn product(
        &self,
        adjacency: &Adjacency,
        part: Part,
        x: &Tensor,
        plus: Option<&Tensor>,
        out: &mut Tensor,
        total: Option<&mut Tensor>,
    );

    /// `e` [n + h, d], `heads` distinct own rows, `prototypes` [d, K] of users and items
    fn intent_view(&self, e: &Tensor, heads: &Tensor, prototypes: [&Tensor; 2]) -> IntentLayer;

    fn intent_view_backward(
        &self,
        e: &Tensor,
        prototypes: [&Tensor; 2],
        layer: &IntentLayer,
        given: &HeadGrads,
    ) -> IntentGrads;

    /// dV [n, d] through V = softmax(E C) C^T: adds to `d_e` [n, d]; gives the gradients of the users' and items'
    /// prototypes, f64 [d, K] each. `e` [n + h, d].
    fn intents_backward(
        &self,
        e: &Tensor,
        d_intents: &Tensor,
        prototypes: [&Tensor; 2],
        bound: Bound,
        d_e: &mut Tensor,
    ) -> [Tensor; 2];

    fn all_pairs(&self, pairs: &Pairs) -> PairGrads;

    fn half_pairs(&self, half: &HalfPairs) -> HalfSums;

    /// Moments of rows x [n, d] of length at most 1 with weights [n] (none: 1): one f64 vector whose layout is the kernel
    /// set's own. Those of several sets of rows add up. `bound`: on the sum of the weights' magnitudes.
    fn moments(&self, x: &Tensor, weight: Option<&Tensor>, bound: Bound) -> Tensor;

    /// [`Kernels::half_pairs`] of y [m, d] against the rows of the moments, in the moment form; temperature 1.
    fn half_moments(&self, moments: &Tensor, y: &Tensor) -> HalfSums;

    /// x [n, d]
    fn unit_rows(&self, x: &Tensor, norm: Norm) -> UnitRows;

    /// Gradient [n, d] of the unit rows -> gradient of the raw ones: (g - u (u . g)) / |x|.
    fn unit_rows_backward(&self, unit: &UnitRows, grad: &Tensor) -> Tensor;

    /// W2 leaky(W1 x + b1) + b2; x [rows, T]
    fn tower(&self, tower: &Tower, x: &Tensor) -> TowerOutput;

    /// dz [rows, d] -> gradients of the tower's weights, added to `grad`, which is f64.
    fn tower_backward(
        &self,
        tower: &Tower,
        x: &Tensor,
        output: &TowerOutput,
        dz: &Tensor,
        bounds: &TowerBounds,
        grad: &mut Tower,
    );

    /// The arithmetic that `wanted` gets here.
    fn precision(&self, wanted: Precision) -> Precision;

    /// Rows `ids` of `table`.
    fn gather(&self, table: &Tensor, ids: &Tensor) -> Tensor;

    /// table[ids] += rows; repeated ids add up.
    fn scatter_add(&self, table: &mut Tensor, ids: &Tensor, rows: &Tensor);

    /// Updates `w` and its moments in place.
    fn adam(&self, w: &mut Tensor, grad: &Tensor, moments: [&mut Tensor; 2], step: AdamStep);

    /// Sum of squares of all elements, in f64.
    fn sum_of_squares(&self, x: &Tensor) -> f64;

    /// The k best candidates of each of `users` [m] with rows [m, d], their training items left out.
    fn top_k(&self, rows: &Tensor, users: &[u32], candidates: Candidates, train: &Interactions, k: usize) -> Ranking;

    /// 1 + e with e ~ N(0, 1) by counter, keyed by (seed, step, tower, node, column): [nodes, d] of `like`'s width.
    fn noise_factor(&self, noise: &crate::noise::Noise, nodes: &[u32], like: &Tensor) -> Tensor;
}
