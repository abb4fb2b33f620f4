//! Which nodes each worker owns, and how their rows travel. Rank 0 makes the partition (or finds it from an earlier
//! generation in the run directory) and sends it to the others: they need no common disk, and cannot differ.

use accord_collective::{Collective, CollectiveError};
use accord_data::Dataset;
use accord_data::partition::{Choice, KEPT_FILE, Partition, PartitionError, VERSION};
use accord_engine::world::{HaloOptions, World};
use accord_spec::{HaloPrecision, JobSpec};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The world of this rank. `digest`: of the dataset, so that a kept partition is of the same data.
///
/// # Errors
/// When another worker is gone, or late.
pub fn world(
    spec: &JobSpec,
    dataset: &Dataset,
    collective: Box<dyn Collective>,
    run_dir: &Path,
    device: Device,
) -> Result<World, CollectiveError> {
    if collective.size() == 1 {
        return Ok(World::alone(&dataset.train, device));
    }
    let partition = shared_partition(spec, dataset, collective.as_ref(), run_dir, device)?;
    let scheme = Choice::of(spec).scheme;
    let nodes = partition.owner().iter().filter(|&&owner| owner as usize == collective.rank()).count();
    tracing::info!(nodes, partition = partition.digest(), ?scheme, "own nodes");
    let options =
        HaloOptions { bf16: spec.partition.halo_precision == HaloPrecision::Bf16, stale: spec.partition.halo_stale };
    Ok(World::new(collective, &dataset.train, partition, scheme, options, device))
}

fn shared_partition(
    spec: &JobSpec,
    dataset: &Dataset,
    collective: &dyn Collective,
    run_dir: &Path,
    device: Device,
) -> Result<Partition, CollectiveError> {
    let size = collective.size();
    let owner = if collective.rank() == 0 {
        let partition = made_or_kept(spec, dataset, size, run_dir);
        let owner: Vec<i32> = partition.owner().iter().map(|&owner| i32::from(owner)).collect();
        Tensor::from_slice(&owner).to_kind(Kind::Int64).to(device)
    } else {
        Tensor::empty([(dataset.users() + dataset.items()) as i64], (Kind::Int64, device))
    };
    collective.broadcast(&owner, 0)?.wait()?;
    let owner: Vec<i64> = Vec::try_from(owner.to(Device::Cpu)).expect("Int64 on the CPU");
    let owner = owner.into_iter().map(|owner| u16::try_from(owner).unwrap_or(u16::MAX)).collect();
    // another rank's word, but rank 0 checked it
    let broken = |e: PartitionError| CollectiveError::Shape { operation: "broadcast", reason: e.to_string() };
    Partition::from_owner(size, owner).map_err(broken)
}

fn made_or_kept(spec: &JobSpec, dataset: &Dataset, size: usize, run_dir: &Path) -> Partition {
    let Choice { method, cost, .. } = Choice::of(spec);
    let key = format!("{VERSION} {} {size} {} {cost:?}", dataset.manifest.digest, method.name());
    let path = run_dir.join(KEPT_FILE);
    if let Ok(Some(kept)) = Partition::load(&path, &key) {
        tracing::info!("the partition is kept from an earlier generation");
        return kept;
    }
    let partition = Partition::new(&dataset.train, size, method, cost);
    if let Err(error) = partition.save(&path, &key) {
        tracing::warn!(%error, "the partition is not kept for the next generation");
    }
    partition
}
