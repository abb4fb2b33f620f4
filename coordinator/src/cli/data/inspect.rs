//! `coordinator data inspect`: sizes, degrees and repairs of a dataset, read as a job reads it.

use super::read::ReadArgs;
use crate::cli::output;
use accord_data::{Dataset, DatasetManifest, Interactions};
use clap::Args;
use serde::Serialize;

/// Read a dataset as a job would, and describe it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator data inspect data/ml-100k
  coordinator data inspect logs/ --format pairs --min-rating 4 --json
  coordinator data inspect IRLLRec/data/amazon
  coordinator data inspect logs/ --set data.columns.user=buyer --set data.columns.item=sku
  coordinator data inspect s3://bucket/datasets/ml-100k")]
pub struct InspectArgs {
    #[command(flatten)]
    pub read: ReadArgs,
    #[arg(long)]
    pub json: bool,
}

/// # Errors
/// What could not be read.
pub(super) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let found = describe(&args.read.load()?.dataset);
    if args.json {
        return output::json(&found);
    }
    show(&found);
    Ok(())
}

/// What `data inspect` says.
#[derive(Serialize)]
struct Inspection {
    #[serde(flatten)]
    manifest: DatasetManifest,
    /// Interactions of all parts among all pairs.
    density: f64,
    /// Training interactions of a user, and of an item.
    user_degree: Quantiles,
    item_degree: Quantiles,
    users_without_training: usize,
    items_without_training: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Quantiles {
    min: u32,
    q25: u32,
    median: u32,
    q75: u32,
    q99: u32,
    max: u32,
}

impl Quantiles {
    /// Of nearest ranks; zeros for no values.
    fn of(mut values: Vec<u32>) -> Quantiles {
        values.sort_unstable();
        let at = |percent: usize| {
            let last = values.len().saturating_sub(1);
            values.get((last * percent + 50) / 100).copied().unwrap_or(0)
        };
        Quantiles { min: at(0), q25: at(25), median: at(50), q75: at(75), q99: at(99), max: at(100) }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let cells = [self.min, self.q25, self.median, self.q75, self.q99, self.max].map(|n| n.to_string());
        std::iter::once(name.to_string()).chain(cells).collect()
    }
}

fn describe(dataset: &Dataset) -> Inspection {
    let manifest = dataset.manifest.clone();
    let (user, item) = degrees(&dataset.train);
    let edges = (manifest.train + manifest.validation + manifest.test) as f64;
    Inspection {
        density: edges / (manifest.users as f64 * manifest.items as f64),
        users_without_training: user.iter().filter(|&&d| d == 0).count(),
        items_without_training: item.iter().filter(|&&d| d == 0).count(),
        user_degree: Quantiles::of(user),
        item_degree: Quantiles::of(item),
        manifest,
    }
}

/// Training interactions by user and by item.
fn degrees(train: &Interactions) -> (Vec<u32>, Vec<u32>) {
    let user = (0..train.users() as u32).map(|u| train.of(u).len() as u32).collect();
    let mut item = vec![0; train.items()];
    for &i in train.item() {
        item[i as usize] += 1;
    }
    (user, item)
}

fn show(found: &Inspection) {
    let manifest = &found.manifest;
    let width = |w: Option<u64>| w.map_or("none".to_string(), |w| format!("{w} wide"));
    let pair = |name: &str, value: String| vec![name.to_string(), value];
    output::table(
        &["what", "value"],
        vec![
            pair("users", manifest.users.to_string()),
            pair("items", manifest.items.to_string()),
            pair("training interactions", manifest.train.to_string()),
            pair("validation interactions", manifest.validation.to_string()),
            pair("test interactions", manifest.test.to_string()),
            pair("density", format!("{:.4} %", 100.0 * found.density)),
            pair("users without training items", found.users_without_training.to_string()),
            pair("items without training users", found.items_without_training.to_string()),
            pair("profile text", width(manifest.profile_width)),
            pair("intent text", width(manifest.intent_width)),
            pair("digest", manifest.digest.clone()),
        ],
    );
    output::line("");
    output::table(
        &["training degree", "min", "25 %", "median", "75 %", "99 %", "max"],
        vec![found.user_degree.row("users"), found.item_degree.row("items")],
    );
    super::read::tell_how(manifest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        let found = Quantiles::of(vec![9, 1, 3, 3, 100]);
        assert_eq!(found, Quantiles { min: 1, q25: 3, median: 3, q75: 9, q99: 100, max: 100 });
        assert_eq!(Quantiles::of(vec![]).max, 0);
    }

    #[test]
    fn degrees_count_training_pairs_of_both_sides() {
        let (train, _) = Interactions::from_pairs(3, 2, &[(0, 1), (2, 1), (2, 0)]).unwrap();
        assert_eq!(degrees(&train), (vec![1, 0, 2], vec![1, 2]));
    }
}
