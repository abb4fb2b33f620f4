//! Which nodes' texts a step needs: what `loss.negatives` says. With "all", the official behaviour, users are held against
//! all users, and the translation and matching terms run over all nodes. With "batch" or a sample the step costs no more on
//! a larger catalog: they run over the batch's nodes, and the sample.

use crate::world::World;
use accord_data::random::{Philox, Stream, below_wide};
use tch::{Device, Kind, Tensor};

/// What the batch's users are held against.
pub enum Negatives {
    All,
    Batch,
    Sampled(Sample),
}

/// Users drawn with replacement, as many as asked; s are distinct.
pub struct Sample {
    /// [s] how many users of the catalog each stands for
    pub count: Tensor,
    /// [j] which of them this rank owns, and where these lie among its rows in scope
    pub own: Tensor,
    pub rows: Tensor,
}

/// This rank's rows in scope.
pub struct Scope {
    pub negatives: Negatives,
    /// None: every own row
    pub chosen: Option<Chosen>,
    /// How many of the rows are users; they come first.
    pub users: usize,
    /// Where the rows lie among those of all ranks, in the order of their ids; and how many those are
    pub places: Tensor,
    pub total: usize,
    /// Where the own heads lie among the rows
    pub heads: Tensor,
}

/// Own rows, ascending, and their global ids.
pub struct Chosen {
    pub rows: Tensor,
    nodes: Vec<u32>,
}

/// What a job's negatives are in one step.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    pub negatives: accord_spec::Negatives,
    pub seed: u64,
    pub step: u64,
}

impl Scope {
    /// `heads` of the batch and which of them are own rows.
    pub(crate) fn new(world: &World, draw: Draw, heads: &[u32], own_heads: &Tensor, place: (Kind, Device)) -> Scope {
        match draw.negatives {
            accord_spec::Negatives::Auto | accord_spec::Negatives::All => Scope {
                negatives: Negatives::All,
                chosen: None,
                users: world.graph.users,
                places: world.own_ids().shallow_clone(),
                total: world.nodes(),
                heads: own_heads.shallow_clone(),
            },
            accord_spec::Negatives::Batch => Scope::of(world, heads.to_vec(), heads, Negatives::Batch, place.1),
            accord_spec::Negatives::Sampled(size) => Scope::sampled(world, draw, size.max(1), heads, place),
        }
    }

    fn sampled(world: &World, draw: Draw, size: u64, heads: &[u32], (kind, device): (Kind, Device)) -> Scope {
        let generator = Philox::new(draw.seed, Stream::Contrast);
        let mut drawn: Vec<u32> = (0..size)
            .map(|i| below_wide(generator.block_wide(draw.step, i / 2)[(i % 2) as usize], world.users as u64) as u32)
            .collect();
        drawn.sort_unstable();
        let mut all = [heads, &drawn].concat();
        all.sort_unstable();
        all.dedup();
        let scope = Scope::of(world, all, heads, Negatives::Batch, device);
        let runs: Vec<&[u32]> = drawn.chunk_by(|a, b| a == b).collect();
        let share = world.users as f64 / size as f64;
        let count: Vec<f64> = runs.iter().map(|run| run.len() as f64 * share).collect();
        let is_own = |run: &[u32]| world.owner(run[0]) == world.rank();
        let own: Vec<i64> = (0..runs.len() as i64).filter(|&i| is_own(runs[i as usize])).collect();
        let nodes = scope.nodes(world);
        let row = |&i: &i64| nodes.partition_point(|&node| node < runs[i as usize][0]) as i64;
        let rows: Vec<i64> = own.iter().map(row).collect();
        let sample = Sample {
            count: Tensor::from_slice(&count).to(device).to_kind(kind),
            own: Tensor::from_slice(&own).to(device),
            rows: Tensor::from_slice(&rows).to(device),
        };
        Scope { negatives: Negatives::Sampled(sample), ..scope }
    }

    /// `all` nodes in scope, ascending, the heads among them.
    fn of(world: &World, all: Vec<u32>, heads: &[u32], negatives: Negatives, device: Device) -> Scope {
        let ids = |ids: Vec<i64>| Tensor::from_slice(&ids).to(device);
        let total = all.len();
        let own = |node: &u32| world.owner(*node) == world.rank();
        let places: Vec<i64> = (0..total as i64).filter(|&place| own(&all[place as usize])).collect();
        let nodes: Vec<u32> = places.iter().map(|&place| all[place as usize]).collect();
        let own_heads = heads.iter().filter(|node| own(node));
        let head_places = own_heads.map(|&head| nodes.partition_point(|&node| node < head) as i64).collect();
        Scope {
            negatives,
            users: nodes.partition_point(|&node| (node as usize) < world.users),
            chosen: Some(Chosen { rows: ids(nodes.iter().map(|&node| world.row(node) as i64).collect()), nodes }),
            heads: ids(head_places),
            places: ids(places),
            total,
        }
    }

    /// Global ids of the rows.
    pub fn nodes<'a>(&'a self, world: &'a World) -> &'a [u32] {
        self.chosen.as_ref().map_or(world.graph.own(), |chosen| &chosen.nodes)
    }

    /// The rows in scope of a table of own rows [n, w]; the table itself when all are.
    pub(crate) fn of_table(&self, table: &Tensor) -> Tensor {
        self.chosen.as_ref().map_or_else(|| table.shallow_clone(), |chosen| table.index_select(0, &chosen.rows))
    }
}
