//! InfoNCE over cosines: sum_b weight_b ( -a_b . k_p(b) / t + log sum_c count_c exp(a_b . k_c / t) ), rows normalised.
//! The positive of every anchor stays in the denominator, as in the official code. No max is subtracted: |cosine| / t is
//! bounded, and the job file's rules keep it at 50 or less.

use crate::error::EngineError;
use crate::kernels::{HalfPairs, Kernels, Norm, Pairs, RowFactor, UnitRows};
use crate::world::World;
use tch::{Kind, Tensor};

pub struct InfoNce<'a> {
    /// [m, d] raw
    pub anchors: &'a Tensor,
    /// [m] occurrences of the anchor in the batch
    pub weight: &'a Tensor,
    /// [n, d] raw
    pub keys: &'a Tensor,
    /// [n] how often each key counts; none: once
    pub count: Option<&'a Tensor>,
    pub temperature: f64,
    /// Multiplies value and gradients.
    pub scale: f64,
}

/// Where the positives of some anchors are.
#[derive(Clone, Copy)]
pub enum Positives<'a> {
    /// [k] among the keys
    Keys(&'a Tensor),
    /// [k, d] raw rows besides the keys, which are a sample: each is added to its anchor's denominator
    Besides(&'a Tensor),
}

/// Value and gradients of the raw rows.
pub struct Contrast {
    pub loss: f64,
    /// [m, d]
    pub anchors: Tensor,
    /// [n, d]
    pub keys: Tensor,
    /// [k, d] of [`Positives::Besides`]
    pub positives: Option<Tensor>,
}

impl InfoNce<'_> {
    /// All keys are here, the anchors' positives [m] among them.
    pub fn run(&self, kernels: &dyn Kernels, positive: &Tensor) -> Contrast {
        let (anchors, keys) = self.unit(kernels);
        let inverse_temperature = 1.0 / self.temperature;
        let weight = self.weight * (self.scale * inverse_temperature);
        let mut pairs = kernels.all_pairs(&Pairs {
            anchors: &anchors.rows,
            keys: &keys.rows,
            count: self.count,
            inverse_temperature,
            factor: RowFactor { weight: &weight, epsilon: 0.0, diagonal: None },
            bf16: false,
        });
        let rows = kernels.gather(&keys.rows, positive);
        let loss = self.value(self.weight, &pairs.sums, &self.logits(&anchors.rows, &rows));
        let pull = -weight.unsqueeze(1);
        pairs.anchors += rows * &pull;
        kernels.scatter_add(&mut pairs.keys, positive, &(&anchors.rows * &pull));
        Contrast {
            loss,
            anchors: kernels.unit_rows_backward(&anchors, &pairs.anchors),
            keys: kernels.unit_rows_backward(&keys, &pairs.keys),
            positives: None,
        }
    }

    /// Keys lie on several ranks, each with its own; every rank has all the anchors, and takes the positives of those that
    /// it owns (`own` [k] of the m). Partial row sums are added over the ranks; the loss and the anchors' gradients are
    /// this rank's part.
    pub fn run_over_ranks(
        &self,
        world: &World,
        kernels: &dyn Kernels,
        own: &Tensor,
        positives: Positives,
    ) -> Result<Contrast, EngineError> {
        let (anchors, keys) = self.unit(kernels);
        let inverse_temperature = 1.0 / self.temperature;
        let half = |anchors: &UnitRows, keys: &UnitRows, count: Option<&Tensor>| {
            kernels.half_pairs(&HalfPairs { anchors: &anchors.rows, keys: &keys.rows, count, inverse_temperature })
        };
        let besides = match positives {
            Positives::Keys(_) => None,
            Positives::Besides(rows) => Some(kernels.unit_rows(rows, Norm::Root)),
        };
        let own_anchors = kernels.gather(&anchors.rows, own);
        let rows = match (positives, &besides) {
            (Positives::Besides(_), Some(unit)) => unit.rows.shallow_clone(),
            (Positives::Keys(places) | Positives::Besides(places), _) => kernels.gather(&keys.rows, places),
        };
        let logits = self.logits(&own_anchors, &rows);
        let to_keys = half(&anchors, &keys, self.count);
        // what a positive besides the keys adds to its denominator
        let added = besides.as_ref().map(|_| logits.exp().to_kind(to_keys.sums.kind()));
        let mut sums = to_keys.sums;
        if let Some(added) = &added {
            let _ = sums.index_add_(0, own, added);
        }
        let sums = world.sum(sums)?;
        let weight = self.weight * (self.scale * inverse_temperature);
        let factor = &weight / &sums;
        let mut d_anchors = to_keys.rows * factor.unsqueeze(1);
        let mut d_keys = half(&keys, &anchors, Some(&factor)).rows;
        if let Some(count) = self.count {
            d_keys *= count.unsqueeze(1);
        }
        let at_own = |x: &Tensor| x.index_select(0, own);
        let loss = self.value(&at_own(self.weight), &at_own(&sums), &logits);
        let pull = match &added {
            None => -at_own(&weight),
            Some(added) => at_own(&factor) * added - at_own(&weight),
        };
        let pull = pull.unsqueeze(1);
        kernels.scatter_add(&mut d_anchors, own, &(rows * &pull));
        let d_positives = own_anchors * pull;
        if let Positives::Keys(places) = positives {
            kernels.scatter_add(&mut d_keys, places, &d_positives);
        }
        Ok(Contrast {
            loss,
            anchors: kernels.unit_rows_backward(&anchors, &d_anchors),
            keys: kernels.unit_rows_backward(&keys, &d_keys),
            positives: besides.map(|unit| kernels.unit_rows_backward(&unit, &d_positives)),
        })
    }

    fn unit(&self, kernels: &dyn Kernels) -> (UnitRows, UnitRows) {
        (kernels.unit_rows(self.anchors, Norm::Root), kernels.unit_rows(self.keys, Norm::Root))
    }

    /// [k] f64, of unit rows with their positives
    fn logits(&self, anchors: &Tensor, positives: &Tensor) -> Tensor {
        (anchors * positives).sum_dim_intlist(1, false, Kind::Double) / self.temperature
    }

    fn value(&self, weight: &Tensor, sums: &Tensor, logits: &Tensor) -> f64 {
        (weight * (sums.to_kind(Kind::Double).log() - logits)).sum(Kind::Double).double_value(&[]) * self.scale
    }
}
