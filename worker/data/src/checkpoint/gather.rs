//! Rows of a table, picked from one shard after another: a shard's file can go when its rows are picked.

use super::RowTable;
use super::shard::RowView;

/// The rows a reader wants.
pub(super) enum Wanted {
    /// Those that are there, by id.
    All,
    These {
        ids: Vec<u32>,
        /// (id, its place in `ids`), by id.
        places: Vec<(u32, usize)>,
    },
}

impl Wanted {
    pub(super) fn new(ids: Option<&[u32]>) -> Wanted {
        let Some(ids) = ids else { return Wanted::All };
        let mut places: Vec<(u32, usize)> = ids.iter().enumerate().map(|(place, &id)| (id, place)).collect();
        places.sort_unstable();
        Wanted::These { ids: ids.to_vec(), places }
    }
}

/// Why rows make no table.
pub(super) enum Misfit {
    Damaged(String),
    /// No shard has the row of this node.
    Missing(u32),
}

/// One table, being gathered.
pub(super) struct Gather {
    name: String,
    width: usize,
    /// Of the rows in `values`. While all rows are gathered, in the order they came.
    ids: Vec<u32>,
    values: Vec<f32>,
    /// Which of the wanted rows have come.
    found: Vec<bool>,
}

impl Gather {
    /// `first`: any shard of the table; it is not added.
    pub(super) fn new(first: &RowView<'_>, wanted: &Wanted) -> Gather {
        let ids = match wanted {
            Wanted::All => vec![],
            Wanted::These { ids, .. } => ids.clone(),
        };
        let (values, found) = (vec![0.0; ids.len() * first.width], vec![false; ids.len()]);
        Gather { name: first.name.clone(), width: first.width, ids, values, found }
    }

    /// Takes the wanted rows of a shard; `Err` says what is wrong with it.
    pub(super) fn add(&mut self, shard: &RowView<'_>, wanted: &Wanted) -> Result<(), String> {
        if shard.width != self.width {
            return Err(format!("table `{}` has widths {} and {}", self.name, self.width, shard.width));
        }
        let places = match wanted {
            Wanted::All => {
                self.ids.extend(shard.ids());
                self.values.extend(shard.values(0..shard.rows()));
                return Ok(());
            }
            Wanted::These { places, .. } => places,
        };
        for (row, id) in shard.ids().enumerate() {
            let first = places.partition_point(|&(wanted, _)| wanted < id);
            for &(_, place) in places[first..].iter().take_while(|&&(wanted, _)| wanted == id) {
                if std::mem::replace(&mut self.found[place], true) {
                    return Err(self.twice(id));
                }
                let row = shard.values(row..row + 1);
                let target = &mut self.values[place * self.width..(place + 1) * self.width];
                target.iter_mut().zip(row).for_each(|(target, value)| *target = value);
            }
        }
        Ok(())
    }

    /// The table, when every shard was added.
    pub(super) fn finish(self, wanted: &Wanted) -> Result<RowTable, Misfit> {
        match wanted {
            Wanted::All => self.in_order_of_ids().map_err(Misfit::Damaged),
            Wanted::These { .. } => match self.found.iter().position(|&found| !found) {
                Some(missing) => Err(Misfit::Missing(self.ids[missing])),
                None => Ok(RowTable { name: self.name, ids: self.ids, width: self.width, values: self.values }),
            },
        }
    }

    fn in_order_of_ids(self) -> Result<RowTable, String> {
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        order.sort_unstable_by_key(|&row| self.ids[row]);
        let ids: Vec<u32> = order.iter().map(|&row| self.ids[row]).collect();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.twice(twice[0]));
        }
        let mut values = Vec::with_capacity(self.values.len());
        for row in order {
            values.extend_from_slice(&self.values[row * self.width..(row + 1) * self.width]);
        }
        Ok(RowTable { name: self.name, ids, width: self.width, values })
    }

    fn twice(&self, id: u32) -> String {
        format!("table `{}` has node {id} twice", self.name)
    }
}
