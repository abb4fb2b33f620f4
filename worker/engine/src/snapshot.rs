//! Tensors <-> checkpoint rows. Rows are keyed by global node id, so a snapshot does not depend on who owned them: it is
//! written by any number of workers and read by any other. Every number is stored as the f32 it is.

use crate::error::EngineError;
use crate::step::ModelState;
use crate::weights::tower_names;
use accord_data::checkpoint::{DenseArray, Progress, RowTable, Snapshot};
use tch::{Kind, Tensor};

const EMBEDS: [&str; 3] = ["embeds", "embeds.adam1", "embeds.adam2"];
const BEST: &str = "best.embeds";
const TEACHER: &str = "int_mlp_m";

fn values(x: &Tensor) -> Vec<f32> {
    let x = x.to_kind(Kind::Float).to(tch::Device::Cpu).contiguous().view([-1]);
    Vec::try_from(x).expect("a contiguous f32 tensor on the CPU")
}

fn rows(name: &str, nodes: &[u32], x: &Tensor) -> RowTable {
    RowTable { name: name.into(), ids: nodes.to_vec(), width: x.size()[1] as usize, values: values(x) }
}

fn dense(name: String, x: &Tensor) -> DenseArray {
    DenseArray { name, shape: x.size().iter().map(|&n| n as usize).collect(), values: values(x) }
}

/// This rank's part: the rows of its `nodes`, and on rank 0 (`dense_too`) what every rank has a copy of.
/// `best`: embeddings of the best validation epoch so far.
pub fn save(state: &ModelState, best: Option<&Tensor>, nodes: &[u32], dense_too: bool, progress: Progress) -> Snapshot {
    let tables = [&state.weights, &state.moments[0], &state.moments[1]];
    let mut snapshot = Snapshot { rows: Vec::new(), dense: Vec::new(), progress };
    for (weights, (embeds, suffix)) in tables.iter().zip(EMBEDS.iter().zip(["", ".adam1", ".adam2"])) {
        snapshot.rows.push(rows(embeds, nodes, &weights.embeds));
        let others = weights.named().into_iter().skip(1).filter(|_| dense_too);
        snapshot.dense.extend(others.map(|(name, x)| dense(name + suffix, x)));
    }
    if let Some(teacher) = state.teacher.as_ref().filter(|_| dense_too) {
        snapshot.dense.extend(tower_names(TEACHER).into_iter().zip(teacher.tensors()).map(|(n, x)| dense(n, x)));
    }
    snapshot.rows.extend(best.map(|best| rows(BEST, nodes, best)));
    snapshot
}

/// Overwrites `state`, whose rows are those of `nodes` (ascending), and returns the best epoch's embeddings, if the
/// snapshot has them. The snapshot may hold other nodes' rows too.
pub fn restore(state: &mut ModelState, nodes: &[u32], snapshot: &Snapshot) -> Result<Option<Tensor>, EngineError> {
    let ModelState { weights, moments: [first, second], teacher, step } = state;
    for (weights, (embeds, suffix)) in
        [weights, first, second].into_iter().zip(EMBEDS.iter().zip(["", ".adam1", ".adam2"]))
    {
        let names: Vec<String> = weights.named().into_iter().skip(1).map(|(name, _)| name + suffix).collect();
        let mut tensors = weights.tensors_mut().into_iter();
        if let Some(table) = tensors.next() {
            load_rows(find_rows(snapshot, embeds)?, nodes, table)?;
        }
        for (name, x) in names.iter().zip(tensors) {
            load_dense(snapshot, name, x)?;
        }
    }
    for (name, x) in tower_names(TEACHER).iter().zip(teacher.iter_mut().flat_map(|t| t.tensors_mut())) {
        load_dense(snapshot, name, x)?;
    }
    *step = snapshot.progress.step;
    match snapshot.rows.iter().find(|table| table.name == BEST) {
        None => Ok(None),
        Some(table) => {
            let mut best = state.weights.embeds.empty_like();
            load_rows(table, nodes, &mut best)?;
            Ok(Some(best))
        }
    }
}

fn find_rows<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a RowTable, EngineError> {
    let table = snapshot.rows.iter().find(|table| table.name == name);
    table.ok_or_else(|| EngineError::Snapshot(format!("table `{name}` is missing")))
}

fn load_rows(table: &RowTable, nodes: &[u32], x: &mut Tensor) -> Result<(), EngineError> {
    let name = &table.name;
    let width = x.size()[1] as usize;
    if table.width != width || table.values.len() != table.ids.len() * table.width {
        let have = (table.ids.len(), table.width);
        return Err(EngineError::Snapshot(format!("table `{name}` has shape {have:?}, the job wants rows of {width}")));
    }
    let mut values = vec![0.0f32; nodes.len() * width];
    let mut missing = nodes.len();
    for (id, row) in table.ids.iter().zip(table.values.chunks_exact(width)) {
        if let Ok(place) = nodes.binary_search(id) {
            values[place * width..][..width].copy_from_slice(row);
            missing -= 1;
        }
    }
    if missing > 0 {
        let wanted = nodes.len();
        return Err(EngineError::Snapshot(format!(
            "table `{name}` lacks {missing} of the {wanted} rows the job wants"
        )));
    }
    x.copy_(&Tensor::from_slice(&values).view([-1, width as i64]));
    Ok(())
}

fn load_dense(snapshot: &Snapshot, name: &str, x: &mut Tensor) -> Result<(), EngineError> {
    let array = snapshot.dense.iter().find(|array| array.name == name);
    let array = array.ok_or_else(|| EngineError::Snapshot(format!("array `{name}` is missing")))?;
    let shape: Vec<i64> = array.shape.iter().map(|&n| n as i64).collect();
    if shape != x.size() {
        return Err(EngineError::Snapshot(format!("array `{name}` has shape {shape:?}, the job wants {:?}", x.size())));
    }
    x.copy_(&Tensor::from_slice(&array.values).view(shape.as_slice()));
    Ok(())
}
