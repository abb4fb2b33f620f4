//! Are the copies still equal? Dense weights, their moments and the teacher are computed by every rank from the same
//! numbers; a rank whose copy differs (a broken memory, another library) would spoil the others' without a word.

use crate::error::EngineError;
use crate::step::ModelState;
use crate::world::World;
use tch::{Device, Kind, Tensor};

/// Compares digests of the replicated tensors over the ranks.
///
/// # Errors
/// [`EngineError::Diverged`] with the ranks that differ from the majority.
pub fn replicas(world: &World, state: &ModelState, step: u64) -> Result<(), EngineError> {
    if world.size() == 1 {
        return Ok(());
    }
    let mut hasher = blake3::Hasher::new();
    for x in state.replicated() {
        hasher.update(&bytes(x));
    }
    let odd = odd_ranks(world, hasher.finalize())?;
    if odd.is_empty() {
        return Ok(());
    }
    Err(EngineError::Diverged(format!(
        "the replicated weights of rank {} differ from the other ranks' after step {step}: check that machine's memory and \
         libraries",
        names(&odd)
    )))
}

/// Fails where the ranks were not given the same input, before the first step: `digest` stands for job, data and plan.
///
/// # Errors
/// [`EngineError::Diverged`] with the ranks that differ from the majority.
pub fn same_input(world: &World, digest: &str) -> Result<(), EngineError> {
    let odd = odd_ranks(world, blake3::hash(digest.as_bytes()))?;
    if odd.is_empty() {
        return Ok(());
    }
    Err(EngineError::Diverged(format!(
        "rank {} was given another job, dataset or partition than the other ranks: compare data.path and its files on those \
         machines",
        names(&odd)
    )))
}

/// Ranks whose digest is not the most frequent one (the lowest rank's, when several are).
fn odd_ranks(world: &World, digest: blake3::Hash) -> Result<Vec<usize>, EngineError> {
    // 48 bits travel exactly as f64
    let short = digest.as_bytes()[..6].iter().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    let digests: Vec<f64> = world.gather_values(&[short as f64])?.into_iter().flatten().collect();
    let votes = |digest: f64| digests.iter().filter(|&&other| other == digest).count();
    let Some(most) = digests.iter().map(|&digest| votes(digest)).max() else { return Ok(Vec::new()) };
    let usual = digests.iter().copied().find(|&digest| votes(digest) == most);
    Ok((0..digests.len()).filter(|&rank| Some(digests[rank]) != usual).collect())
}

fn names(ranks: &[usize]) -> String {
    ranks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn bytes(x: &Tensor) -> Vec<u8> {
    let x = x.to(Device::Cpu).contiguous();
    let width = if x.kind() == Kind::Double { 8 } else { 4 };
    let mut bytes = vec![0u8; x.numel() * width];
    x.copy_data_u8(&mut bytes, x.numel());
    bytes
}
