//! Bayesian personalised ranking (Rendle et al. 2009): (1/B) sum_b softplus(x_u . x_n - x_u . x_p).

use crate::batch::BatchRows;
use crate::kernels::Kernels;
use tch::Tensor;

/// x [H, d] of the heads; adds to `d_x` [H, d] and returns the part of the loss that this rank's pairs make.
pub fn bpr(kernels: &dyn Kernels, batch: &BatchRows, x: &Tensor, d_x: &mut Tensor) -> f64 {
    let places = &batch.pairs;
    let [user, positive, negative] = places.each_ref().map(|places| kernels.gather(x, places));
    let apart = negative - positive;
    let margin = (&user * &apart).sum_dim_intlist(1, true, x.kind());
    let loss = margin.softplus().sum(tch::Kind::Double).double_value(&[]) / batch.size as f64;
    // d softplus = sigmoid
    let slope = margin.sigmoid() / batch.size as f64;
    let d_negative = user * &slope;
    kernels.scatter_add(d_x, &places[0], &(apart * slope));
    kernels.scatter_add(d_x, &places[2], &d_negative);
    kernels.scatter_add(d_x, &places[1], &(-d_negative));
    loss
}
