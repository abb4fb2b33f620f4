//! Bounds on sums over rows, the same on every rank: from them the CPU kernels choose the grid on which such sums are
//! exact, so that they depend neither on the number of ranks and threads nor on who has which row.

use crate::weights::Tower;
use tch::{Kind, Tensor};

/// At least the magnitude of a sum over the rows of all ranks, and of its parts; not finite: the sum becomes NaN.
#[derive(Clone, Copy, Debug)]
pub struct Bound(pub f64);

impl Bound {
    /// Where an accumulator starts: 1.5 * 2^k with 2^k at least 8 bounds; 0 for a bound of 0. It stays within a third of
    /// that even where rounding took terms a little over their bounds.
    pub(crate) fn bias(self) -> f64 {
        if self.0 == 0.0 {
            return 0.0;
        }
        if self.0 < Self::LARGEST {
            let exponent = self.0.max(1.0 / Self::LARGEST).to_bits() >> 52;
            return 1.5 * f64::from_bits((exponent + 4) << 52);
        }
        f64::NAN
    }

    /// What was added to an accumulator; NaN where it left its range.
    pub(crate) fn without_bias(self, biased: f64) -> f64 {
        let bias = self.bias();
        let sum = biased - bias;
        if sum.abs() <= bias / 3.0 { sum } else { f64::NAN }
    }

    const LARGEST: f64 = 1e300;
}

/// The largest magnitude in `tensors`; 0 when they are empty, infinite when something in them is not a number.
pub fn largest<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> f64 {
    let of = |x: &Tensor| {
        let (low, high) = x.reshape([-1]).aminmax(0, false);
        let largest = high.maximum(&-low).double_value(&[]);
        if largest.is_nan() { f64::INFINITY } else { largest }
    };
    tensors.into_iter().filter(|x| x.numel() > 0).map(of).fold(0.0, f64::max)
}

/// Bounds on the gradients of a text tower. Calls whose gradients are added share them.
#[derive(Clone, Copy, Debug)]
pub struct TowerBounds {
    pub w1: Bound,
    pub b1: Bound,
    pub w2: Bound,
    pub b2: Bound,
}

impl TowerBounds {
    /// `rows` of all ranks and calls; the largest magnitudes in the inputs, the hidden activations and dz.
    pub fn new(tower: &Tower, rows: usize, [x, hidden, dz]: [f64; 3]) -> TowerBounds {
        let rows = rows as f64;
        // |d_hidden_j| = |sum_k dz_k w2_kj|
        let columns = tower.w2.abs().sum_dim_intlist(0, false, Kind::Double);
        let d_hidden = dz * largest([&columns]);
        TowerBounds {
            w1: Bound(rows * d_hidden * x),
            b1: Bound(rows * d_hidden),
            w2: Bound(rows * dz * hidden),
            b2: Bound(rows * dz),
        }
    }
}

/// A bound on the prototypes' gradients dV^T P + E^T dlogits, with P = softmax(E C) and dlogits = P (dV C - ..): `rows` of
/// all ranks and layers, the largest magnitudes in E and dV.
pub fn prototype_bound(prototypes: [&Tensor; 2], rows: usize, [e, d_intents]: [f64; 2]) -> Bound {
    let column = largest(&prototypes.map(|c| c.abs().sum_dim_intlist(0, false, Kind::Double)));
    Bound(rows as f64 * d_intents * (1.0 + 2.0 * e * column))
}
