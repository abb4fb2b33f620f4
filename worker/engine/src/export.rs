//! The whole table of final embeddings, a block at a time: rank 0 never holds more of the others' rows than one block.

use crate::error::EngineError;
use crate::world::World;
use tch::{Device, Kind, Tensor};

/// Global nodes a block.
const BLOCK: usize = 1 << 14;

/// Gives `sink`, on rank 0, the rows of all nodes in the order of their global ids: [block, d] values at a time. Every
/// rank must call it; `x` [n, d] are its own rows.
pub fn each_block<E: From<EngineError>>(
    world: &World,
    x: &Tensor,
    mut sink: impl FnMut(&[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let d = x.size()[1];
    for first in (0..world.nodes()).step_by(BLOCK) {
        let block = first as u32..(first + BLOCK).min(world.nodes()) as u32;
        let owners: Vec<usize> = block.clone().map(|node| world.owner(node)).collect();
        let from = world.row(block.start) as i64;
        let count = |rank: usize| owners.iter().filter(|&&owner| owner == rank).count() as i64;
        let rows: Vec<i64> = (0..world.size()).map(count).collect();
        let own = x.narrow(0, from, rows[world.rank()]).contiguous();
        let parts: Vec<Vec<f32>> = world.gather_on_first(own, &rows)?.iter().map(values).collect();
        if world.rank() > 0 {
            continue;
        }
        if let [all] = &parts[..] {
            sink(all)?;
            continue;
        }
        let mut next: Vec<_> = parts.iter().map(|part| part.chunks_exact(d as usize)).collect();
        let rows: Vec<f32> = owners.iter().filter_map(|&owner| next[owner].next()).flatten().copied().collect();
        sink(&rows)?;
    }
    Ok(())
}

fn values(x: &Tensor) -> Vec<f32> {
    let x = x.to_kind(Kind::Float).to(Device::Cpu).contiguous().view([-1]);
    Vec::try_from(x).expect("a contiguous f32 tensor on the CPU")
}
