//! Some rows of A_hat as a libtorch CSR matrix, and what runs over its entries.

use super::CHUNK;
use crate::graph::{Graph, Lists};
use tch::{Device, Kind, Tensor};

pub(super) struct Sparse {
    place: (Kind, Device),
    columns: i64,
    /// [rows + 1], [entries], [entries]: row starts, rows and columns
    start: Tensor,
    row: Tensor,
    column: Tensor,
    /// [entries] of A_hat
    pub(super) value: Tensor,
}

impl Sparse {
    pub(super) fn new(graph: &Graph, lists: Lists, place: (Kind, Device)) -> Sparse {
        let (kind, device) = place;
        let (mut start, mut row, mut column, mut value) = (vec![0i64], Vec::new(), Vec::new(), Vec::new());
        for v in 0..lists.rows() {
            for &t in lists.of(v) {
                row.push(v as i64);
                column.push(i64::from(t));
                value.push(root(lists.degree[v]) * root(graph.degree[t as usize]));
            }
            start.push(row.len() as i64);
        }
        let ids = |ids: Vec<i64>| Tensor::from_slice(&ids).to(device);
        let value = Tensor::from_slice(&value).to(device).to_kind(kind);
        let columns = graph.columns() as i64;
        Sparse { place, columns, start: ids(start), row: ids(row), column: ids(column), value }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.row.numel() == 0
    }

    /// Product of the matrix that has these entries' places and these values [entries] with x [columns or fewer, d].
    pub(super) fn product(&self, values: &Tensor, x: &Tensor) -> Tensor {
        let rows = self.start.numel() as i64 - 1;
        if rows == 0 || self.is_empty() {
            return Tensor::zeros([rows, x.size()[1]], self.place);
        }
        let size = [rows, x.size()[0].min(self.columns)];
        Tensor::sparse_csr_tensor_crow_col_value_size(&self.start, &self.column, values, size, self.place).mm(x)
    }

    /// a[row] . b[column] of every entry: [entries]; a, b [columns, d]
    pub(super) fn dots(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let entries = self.row.numel() as i64;
        let chunk = (CHUNK / a.size()[1].max(1)).max(1);
        let parts: Vec<Tensor> = (0..entries)
            .step_by(chunk as usize)
            .map(|from| {
                let size = chunk.min(entries - from);
                let (row, column) = (self.row.narrow(0, from, size), self.column.narrow(0, from, size));
                (a.index_select(0, &row) * b.index_select(0, &column)).sum_dim_intlist(1, false, self.place.0)
            })
            .collect();
        if parts.is_empty() { Tensor::zeros([0], self.place) } else { Tensor::cat(&parts, 0) }
    }

    pub(super) fn at_rows(&self, x: &Tensor) -> Tensor {
        x.index_select(0, &self.row)
    }

    pub(super) fn at_columns(&self, x: &Tensor) -> Tensor {
        x.index_select(0, &self.column)
    }
}

/// f64 roots: the f64 reference is held to 1e-10.
fn root(degree: u32) -> f64 {
    if degree > 0 { 1.0 / f64::from(degree).sqrt() } else { 0.0 }
}
