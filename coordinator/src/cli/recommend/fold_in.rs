//! The embedding of a user who was not in training, by the items that they have. Pure.

use accord_data::{Embeddings, Interactions};

/// One propagation step over the final embeddings e of the items: x = sum over `given` of
/// e_i / (sqrt(n) sqrt(max(deg_i, 1))), as LightGCN weighs a new user's edges; n = `given.len()`, deg_i = how many users
/// trained with item i.
///
/// `given`: distinct rows of `item` `[I, d]`; the result has d values. Sums are taken in f64, so that their order does not
/// show.
pub(super) fn fold_in(given: &[u32], item: &Embeddings, train: &Interactions) -> Vec<f32> {
    let mut degree = vec![0u32; item.rows];
    train.item().iter().for_each(|&i| degree[i as usize] += 1);
    let mut x = vec![0f64; item.width];
    for &i in given {
        let weight = 1.0 / ((given.len() as f64).sqrt() * f64::from(degree[i as usize].max(1)).sqrt());
        x.iter_mut().zip(item.row(i as usize)).for_each(|(sum, &e)| *sum += weight * f64::from(e));
    }
    x.into_iter().map(|sum| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_user_is_the_weighted_sum_of_their_items() {
        let item = Embeddings { rows: 4, width: 2, values: vec![1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 5.0, 5.0] };
        // item 0 has four users, item 1 one, item 2 none
        let pairs = [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (2, 3)];
        let (train, _) = Interactions::from_pairs(4, 4, &pairs).unwrap();
        assert_eq!(fold_in(&[0], &item, &train), [0.5, 0.0]);
        assert_eq!(fold_in(&[2], &item, &train), [2.0, 2.0], "an item nobody trained with counts as one of one user");
        let half = 0.5f64.sqrt();
        assert_eq!(fold_in(&[0, 1], &item, &train), [(half / 2.0) as f32, half as f32]);
    }

    #[test]
    fn it_is_the_propagation_of_the_normalised_adjacency() {
        // independently: a dense matrix with a row for the new user, D^-1/2 A D^-1/2 times E, the new user's row
        let (users, items, width) = (7usize, 9usize, 3usize);
        let pairs: Vec<(u32, u32)> = (0..30u32).map(|n| (n % 7, (n * n + 3) % 9)).collect();
        let (train, _) = Interactions::from_pairs(users, items, &pairs).unwrap();
        let values: Vec<f32> = (0..items * width).map(|n| ((n * 37 % 23) as f32 - 11.0) / 7.0).collect();
        let item = Embeddings { rows: items, width, values: values.clone() };
        let given = [1u32, 4, 8];
        for d in 0..width {
            let mut wanted = 0.0f64;
            for i in 0..items {
                let column = (0..users).filter(|&u| train.contains(u as u32, i as u32)).count();
                let entry = f64::from(u8::from(given.contains(&(i as u32))));
                // the new user is not among the users that the item's degree counts
                let degree = if column == 0 { 1.0 } else { column as f64 };
                wanted += entry / (3.0f64.sqrt() * degree.sqrt()) * f64::from(values[i * width + d]);
            }
            let got = f64::from(fold_in(&given, &item, &train)[d]);
            assert!((got - wanted).abs() < 1e-6, "{got} {wanted}");
        }
    }
}
