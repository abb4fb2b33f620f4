//! One global batch as the losses need it. Duplicates of a batch only change weights, so the contrastive terms run over
//! distinct rows (amazon, B = 4096: 2960 users, 3029 positives, 3286 negatives), exactly. The distinct nodes of all three
//! sides are the batch's heads; every rank has all heads' rows, in one order, and works on its own share of the terms.

use crate::scope::{Draw, Scope};
use crate::world::World;
use accord_data::sampling::Batch;
use tch::{Device, Kind, Tensor};

/// Distinct nodes of one side of a batch, ascending.
pub struct Distinct {
    /// [m] where they lie among the heads
    pub places: Tensor,
    /// [m] how often each occurs in the batch
    pub count: Tensor,
    /// [k] which of the m this rank owns, where these lie among the heads, and among the own heads
    pub own: Tensor,
    pub own_places: Tensor,
    pub own_heads: Tensor,
}

/// This rank's heads, in the order of the heads.
pub struct OwnHeads {
    /// [k] own rows
    pub rows: Tensor,
    /// [k] where they lie among the heads
    pub places: Tensor,
    /// How many are users; they come first.
    pub users: usize,
}

pub struct BatchRows {
    /// B
    pub size: usize,
    /// [H] distinct global nodes, ascending: users first
    pub heads: Vec<u32>,
    pub own: OwnHeads,
    /// Heads of each rank
    pub heads_of: Vec<i64>,
    /// Where each head lies in the ranks' heads, padded to the longest and put one after the other; none with one worker
    pub gathered_places: Option<Tensor>,
    pub users: Distinct,
    pub positives: Distinct,
    pub negatives: Distinct,
    /// [B] places of user, positive and negative of the pairs
    pub pairs: [Tensor; 3],
    pub scope: Scope,
}

impl BatchRows {
    /// `kind` and `device` are the tables'.
    pub fn new(batch: &Batch, world: &World, draw: Draw, kind: Kind, device: Device) -> BatchRows {
        let nodes = |side: &[u32], first: usize| side.iter().map(|&id| id + first as u32).collect::<Vec<_>>();
        let sides = [nodes(batch.users, 0), nodes(batch.positives, world.users), nodes(batch.negatives, world.users)];
        let mut heads = sides.concat();
        heads.sort_unstable();
        heads.dedup();
        let place = |node: u32| heads.partition_point(|&head| head < node) as i64;
        let ids = |ids: &[i64]| Tensor::from_slice(ids).to(device);
        let owners: Vec<usize> = heads.iter().map(|&node| world.owner(node)).collect();
        let is_own = |place: i64| owners[place as usize] == world.rank();

        let own_heads: Vec<i64> = (0..heads.len() as i64).filter(|&place| is_own(place)).collect();
        let counts = |values: &[f32]| Tensor::from_slice(values).to(device).to_kind(kind);
        let distinct = |side: &[u32]| {
            let mut places: Vec<i64> = side.iter().map(|&node| place(node)).collect();
            places.sort_unstable();
            let runs: Vec<&[i64]> = places.chunk_by(|a, b| a == b).collect();
            let places: Vec<i64> = runs.iter().map(|run| run[0]).collect();
            let count: Vec<f32> = runs.iter().map(|run| run.len() as f32).collect();
            let own: Vec<i64> = (0..places.len() as i64).filter(|&i| is_own(places[i as usize])).collect();
            let own_places: Vec<i64> = own.iter().map(|&i| places[i as usize]).collect();
            let among_own = |&place: &i64| own_heads.partition_point(|&own| own < place) as i64;
            Distinct {
                own_heads: ids(&own_places.iter().map(among_own).collect::<Vec<_>>()),
                own_places: ids(&own_places),
                places: ids(&places),
                count: counts(&count),
                own: ids(&own),
            }
        };
        let pairs = sides.each_ref().map(|side| ids(&side.iter().map(|&node| place(node)).collect::<Vec<_>>()));

        let own = &own_heads;
        let rows: Vec<i64> = own.iter().map(|&place| world.row(heads[place as usize]) as i64).collect();
        let own_users = own.iter().filter(|&&place| (heads[place as usize] as usize) < world.users).count();
        let mut heads_of = vec![0i64; world.size()];
        let index: Vec<i64> = owners
            .iter()
            .map(|&owner| {
                heads_of[owner] += 1;
                heads_of[owner] - 1
            })
            .collect();
        let most = heads_of.iter().copied().max().unwrap_or(0);
        let gathered: Vec<i64> = owners.iter().zip(&index).map(|(&owner, i)| owner as i64 * most + i).collect();
        let several = world.size() > 1;
        let rows = ids(&rows);
        BatchRows {
            size: batch.users.len(),
            scope: Scope::new(world, draw, &heads, &rows, (kind, device)),
            own: OwnHeads { rows, places: ids(own), users: own_users },
            heads_of,
            gathered_places: several.then(|| ids(&gathered)),
            users: distinct(&sides[0]),
            positives: distinct(&sides[1]),
            negatives: distinct(&sides[2]),
            pairs,
            heads,
        }
    }
}
