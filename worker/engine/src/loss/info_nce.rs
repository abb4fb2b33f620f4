//! InfoNCE over cosines: sum_b weight_b ( -a_b . k_p(b) / t + log sum_c count_c exp(a_b . k_c / t) ), rows normalised.
//! The positive of every anchor stays in the denominator, as in the official code. No max is subtracted: |cosine| / t is
//! bounded, and the job file's rules keep it at 50 or less.
//!
//! Every rank has all anchors and all keys, and works on its own: its anchors against all keys give the row sums and the
//! anchors' gradients; with every anchor's factor known, its keys against all anchors give the keys'. Both sums run in the
//! order of the whole, so their bits do not depend on the number of ranks; one rank does both in one pass.

use crate::error::EngineError;
use crate::kernels::{Factor, HalfPairs, Kernels, Norm, Pairs, RowFactor};
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
    /// This rank's anchors [k] of the m, and keys [j] of the n
    pub own_anchors: &'a Tensor,
    pub own_keys: &'a Tensor,
    pub positives: Positives<'a>,
    pub temperature: f64,
    /// Multiplies value and gradients.
    pub scale: f64,
}

/// The positives of the own anchors [k].
#[derive(Clone, Copy)]
pub enum Positives<'a> {
    /// [k] among the own keys: an anchor and its positive are rows of one node
    Keys(&'a Tensor),
    /// [k, d] raw rows besides the keys, which are a sample: each is added to its anchor's denominator
    Besides(&'a Tensor),
}

/// This rank's part of the value, and gradients of its raw rows.
pub struct Contrast {
    pub loss: f64,
    /// [k, d]
    pub anchors: Tensor,
    /// [j, d]
    pub keys: Tensor,
    /// [k, d] of [`Positives::Besides`]
    pub positives: Option<Tensor>,
}

impl InfoNce<'_> {
    pub fn run(&self, world: &World, kernels: &dyn Kernels) -> Result<Contrast, EngineError> {
        match self.positives {
            Positives::Keys(places) if world.size() == 1 => Ok(self.in_one_pass(kernels, places)),
            _ => self.in_two(world, kernels),
        }
    }

    fn in_one_pass(&self, kernels: &dyn Kernels, positives: &Tensor) -> Contrast {
        let (anchors, keys) = (kernels.unit_rows(self.anchors, Norm::Root), kernels.unit_rows(self.keys, Norm::Root));
        let weight = self.slope();
        let mut pairs = kernels.all_pairs(&Pairs {
            anchors: &anchors.rows,
            keys: &keys.rows,
            count: self.count,
            inverse_temperature: 1.0 / self.temperature,
            factor: Factor::OfSums(RowFactor { weight: &weight, epsilon: 0.0, diagonal: None }),
            bf16: false,
        });
        let rows = kernels.gather(&keys.rows, positives);
        let loss = self.value(self.weight, &pairs.sums, &self.logits(&anchors.rows, &rows));
        let pull = -weight.unsqueeze(1);
        pairs.anchors += rows * &pull;
        kernels.scatter_add(&mut pairs.keys, positives, &(&anchors.rows * &pull));
        Contrast {
            loss,
            anchors: kernels.unit_rows_backward(&anchors, &pairs.anchors),
            keys: kernels.unit_rows_backward(&keys, &pairs.keys),
            positives: None,
        }
    }

    fn in_two(&self, world: &World, kernels: &dyn Kernels) -> Result<Contrast, EngineError> {
        let inverse_temperature = 1.0 / self.temperature;
        let (anchors, keys) = (kernels.unit_rows(self.anchors, Norm::Root), kernels.unit_rows(self.keys, Norm::Root));
        let own_anchors = kernels.unit_rows(&kernels.gather(self.anchors, self.own_anchors), Norm::Root);
        let own_keys = kernels.unit_rows(&kernels.gather(self.keys, self.own_keys), Norm::Root);
        let (rows, besides) = match self.positives {
            Positives::Keys(places) => (kernels.gather(&own_keys.rows, places), None),
            Positives::Besides(rows) => {
                let unit = kernels.unit_rows(rows, Norm::Root);
                (unit.rows.shallow_clone(), Some(unit))
            }
        };
        let logits = self.logits(&own_anchors.rows, &rows);
        let half = kernels.half_pairs(&HalfPairs {
            anchors: &own_anchors.rows,
            keys: &keys.rows,
            count: self.count,
            inverse_temperature,
        });
        // what a positive besides the keys adds to its denominator
        let added = besides.as_ref().map(|_| logits.exp().to_kind(half.sums.kind()));
        let sums = added.as_ref().map_or_else(|| half.sums.shallow_clone(), |added| &half.sums + added);
        let own_weight = self.slope().index_select(0, self.own_anchors);
        let factor = &own_weight / &sums;
        let factors = world.collect(&factor, self.own_anchors, self.anchors.size()[0])?;
        let own_count = self.count.map(|count| count.index_select(0, self.own_keys));
        let mut d_keys = kernels
            .all_pairs(&Pairs {
                anchors: &anchors.rows,
                keys: &own_keys.rows,
                count: own_count.as_ref(),
                inverse_temperature,
                factor: Factor::Given(&factors),
                bf16: false,
            })
            .keys;
        let loss = self.value(&self.weight.index_select(0, self.own_anchors), &sums, &logits);
        let pull = match &added {
            None => -own_weight,
            Some(added) => &factor * added - own_weight,
        };
        let pull = pull.unsqueeze(1);
        let d_anchors = half.rows * factor.unsqueeze(1) + &rows * &pull;
        let d_positives = &own_anchors.rows * pull;
        if let Positives::Keys(places) = self.positives {
            kernels.scatter_add(&mut d_keys, places, &d_positives);
        }
        Ok(Contrast {
            loss,
            anchors: kernels.unit_rows_backward(&own_anchors, &d_anchors),
            keys: kernels.unit_rows_backward(&own_keys, &d_keys),
            positives: besides.map(|unit| kernels.unit_rows_backward(&unit, &d_positives)),
        })
    }

    /// [m] weight, scale and temperature in one
    fn slope(&self) -> Tensor {
        self.weight * (self.scale / self.temperature)
    }

    /// [k] f64, of unit rows with their positives
    fn logits(&self, anchors: &Tensor, positives: &Tensor) -> Tensor {
        (anchors * positives).sum_dim_intlist(1, false, Kind::Double) / self.temperature
    }

    fn value(&self, weight: &Tensor, sums: &Tensor, logits: &Tensor) -> f64 {
        (weight * (sums.to_kind(Kind::Double).log() - logits)).sum(Kind::Double).double_value(&[]) * self.scale
    }
}
