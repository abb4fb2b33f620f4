//! Bayesian personalised ranking (Rendle et al. 2009): (1/B) sum_b softplus(x_u . x_n - x_u . x_p).

use crate::batch::BatchRows;
use crate::kernels::Kernels;
use tch::Tensor;

/// x [H, d] of the heads -> the loss, and dx [H, d]. O(B d): every rank does all of it, which is cheaper than adding up
/// parts and leaves one order of sums.
pub fn bpr(kernels: &dyn Kernels, batch: &BatchRows, x: &Tensor) -> (f64, Tensor) {
    let places = &batch.pairs;
    let [user, positive, negative] = places.each_ref().map(|places| kernels.gather(x, places));
    let apart = negative - positive;
    let margin = (&user * &apart).sum_dim_intlist(1, true, x.kind());
    let loss = margin.softplus().mean(tch::Kind::Double).double_value(&[]);
    // d softplus = sigmoid
    let slope = margin.sigmoid() / batch.size as f64;
    let d_negative = user * &slope;
    let mut d_x = x.zeros_like();
    kernels.scatter_add(&mut d_x, &places[0], &(apart * slope));
    kernels.scatter_add(&mut d_x, &places[2], &d_negative);
    kernels.scatter_add(&mut d_x, &places[1], &(-d_negative));
    (loss, d_x)
}
