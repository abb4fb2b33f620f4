//! Bayesian personalised ranking (Rendle et al. 2009): (1/B) sum_b softplus(x_u . x_n - x_u . x_p).

use crate::batch::BatchRows;
use crate::kernels::Kernels;
use tch::Tensor;

/// x [N, d]; adds to `d_x` [N, d] and returns the loss.
pub fn bpr(kernels: &dyn Kernels, batch: &BatchRows, x: &Tensor, d_x: &mut Tensor) -> f64 {
    let [user, positive, negative] =
        [&batch.users, &batch.positives, &batch.negatives].map(|ids| kernels.gather(x, ids));
    let apart = negative - positive;
    let margin = (&user * &apart).sum_dim_intlist(1, true, x.kind());
    let loss = margin.softplus().mean(tch::Kind::Double).double_value(&[]);
    // d softplus = sigmoid
    let slope = margin.sigmoid() / batch.size as f64;
    let d_negative = user * &slope;
    kernels.scatter_add(d_x, &batch.users, &(apart * slope));
    kernels.scatter_add(d_x, &batch.negatives, &d_negative);
    kernels.scatter_add(d_x, &batch.positives, &(-d_negative));
    loss
}
