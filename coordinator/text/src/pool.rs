//! Token states to one vector a text. Only tensor arithmetic: no model, no file.

use candle_core::{DType, Result, Tensor};

/// Mean over each text's real tokens, then length 1.
///
/// `hidden` `[batch, tokens, width]` f32, `mask` `[batch, tokens]` 1 for real tokens and 0 for padding (every text
/// has a real one) -> `[batch, width]`.
pub(crate) fn mean_unit(hidden: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
    let mean = hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?;
    mean.broadcast_div(&mean.sqr()?.sum_keepdim(1)?.sqrt()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn padding_does_not_count_and_rows_have_length_one() {
        let hidden =
            Tensor::new(&[[[3f32, 0.], [0., 4.], [9., 9.]], [[2., 0.], [7., 7.], [7., 7.]]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[1u32, 1, 0], [1, 0, 0]], &Device::Cpu).unwrap();
        let rows = mean_unit(&hidden, &mask).unwrap().to_vec2::<f32>().unwrap();
        // mean (1.5, 2) has length 2.5
        for (row, wanted) in rows.iter().zip([[0.6f32, 0.8], [1., 0.]]) {
            assert!(row.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{row:?} is not {wanted:?}");
        }
    }
}
