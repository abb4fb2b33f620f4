//! `coordinator recommend`: the best items of one user of a finished run, with titles.

use crate::cli::export::{finished::FinishedRun, ranking};
use crate::cli::{Usage, output};
use accord_data::Dataset;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Training items shown for context.
const CONTEXT: usize = 5;

/// Show the best items for one user of a finished run
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator recommend runs/ml-100k --user 196 --k 5
  coordinator recommend runs/ml-100k --user '#0' --json

Items of the user's training part are left out. Scores are inner products; only their order means something.")]
pub struct RecommendArgs {
    /// Run directory of a job that has succeeded
    #[arg(value_name = "JOB")]
    pub job: PathBuf,
    /// User id of the dataset, or #ROW counted from 0
    #[arg(long, value_name = "U")]
    pub user: String,
    /// How many items
    #[arg(long, default_value_t = 20)]
    pub k: usize,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Recommendation {
    user: String,
    /// Items of the user's training part, and how many there are.
    training_items: usize,
    knows: Vec<Item>,
    items: Vec<Ranked>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Item {
    item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Ranked {
    rank: usize,
    #[serde(flatten)]
    item: Item,
    score: f32,
}

/// Prints the recommendations.
///
/// # Errors
/// [`Usage`] for a folder that is no finished run, or a user that the dataset does not have.
pub fn run(args: RecommendArgs) -> anyhow::Result<()> {
    if args.k == 0 {
        return Err(Usage("--k 0 asks for no items: give 1 or more".into()).into());
    }
    let run = FinishedRun::open(&args.job)?;
    let dataset = run.dataset()?;
    let user = find_user(&args.user, &dataset.user_ids)?;
    let found = recommend(&run, &dataset, user, args.k);
    if args.json {
        return output::json(&found);
    }
    show(&found);
    Ok(())
}

fn recommend(run: &FinishedRun, dataset: &Dataset, user: u32, k: usize) -> Recommendation {
    let item = |index: u32| Item {
        item: dataset.item_ids[index as usize].clone(),
        title: dataset.item_titles.as_ref().map(|t| t[index as usize].clone()),
    };
    let known = dataset.train.of(user);
    let best = ranking::top_k(&run.user, &run.item, &dataset.train, &[user], k);
    let items = best.into_iter().flatten().enumerate();
    Recommendation {
        user: dataset.user_ids[user as usize].clone(),
        training_items: known.len(),
        knows: known.iter().take(CONTEXT).map(|&i| item(i)).collect(),
        items: items.map(|(n, s)| Ranked { rank: n + 1, item: item(s.item), score: s.score }).collect(),
    }
}

fn show(found: &Recommendation) {
    let known: Vec<&str> = found.knows.iter().map(|i| i.title.as_deref().unwrap_or(&i.item)).collect();
    let more = found.training_items.saturating_sub(known.len());
    output::note(match (known.is_empty(), more) {
        (true, _) => format!("user {} has no training items: these are no personal recommendations", found.user),
        (false, 0) => format!("user {} trained with: {}", found.user, known.join("; ")),
        (false, _) => format!("user {} trained with: {}; and {more} more", found.user, known.join("; ")),
    });
    let rows = found.items.iter().map(|r| {
        let title = r.item.title.clone().unwrap_or_default();
        vec![r.rank.to_string(), r.item.item.clone(), title, format!("{:.4}", r.score)]
    });
    output::table(&["rank", "item", "title", "score"], rows.collect());
}

/// Row of a user named by external id, or by `#row`.
fn find_user(name: &str, ids: &[String]) -> Result<u32, Usage> {
    if let Some(row) = ids.iter().position(|id| id == name) {
        return Ok(row as u32);
    }
    if let Some(row) = name.strip_prefix('#') {
        return match row.parse::<u32>() {
            Ok(row) if (row as usize) < ids.len() => Ok(row),
            Ok(_) | Err(_) => Err(Usage(format!("there is no user row `{name}`: rows go from {}", rows(ids)))),
        };
    }
    Err(Usage(format!("there is no user `{name}`: {}; rows go from {}", nearest(name, ids), rows(ids))))
}

fn rows(ids: &[String]) -> String {
    format!("#0 to #{}", ids.len().saturating_sub(1))
}

/// Where the unknown name would lie among the known ones.
fn nearest(name: &str, ids: &[String]) -> String {
    let numbers: Option<Vec<u64>> = ids.iter().map(|id| id.parse().ok()).collect();
    if let (Some(mut numbers), Ok(wanted)) = (numbers, name.parse::<u64>()) {
        numbers.sort_unstable();
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            return "the dataset has no users".into();
        };
        let place = numbers.partition_point(|&n| n < wanted);
        return match place.checked_sub(1).and_then(|p| Some((numbers[p], numbers.get(place)?))) {
            Some((below, above)) => {
                format!("ids go from {first} to {last}, and its neighbours are {below} and {above}")
            }
            None => format!("ids go from {first} to {last}"),
        };
    }
    let mut sorted: Vec<&str> = ids.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let place = sorted.partition_point(|id| *id < name);
    let near = &sorted[place.saturating_sub(1)..(place + 1).min(sorted.len())];
    match near {
        [] => "the dataset has no users".into(),
        [one] => format!("the nearest id is `{one}`"),
        [below, above, ..] => format!("the nearest ids are `{below}` and `{above}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn best_items_come_with_titles_and_context() {
        let (_root, folder) = crate::cli::export::finished::fixture::finished_run();
        let run = FinishedRun::open(&folder).unwrap();
        let found = recommend(&run, &run.dataset().unwrap(), 1, 1);
        let item = |item: &str, title: &str| Item { item: item.into(), title: Some(title.into()) };
        let wanted = Recommendation {
            user: "bob".into(),
            training_items: 2,
            knows: vec![item("10", "Ten"), item("11", "Eleven")],
            items: vec![Ranked { rank: 1, item: item("13", "Thirteen"), score: 8.0 }],
        };
        assert_eq!(found, wanted);
        // what programs read
        let form = serde_json::json!({
            "user": "bob",
            "training_items": 2,
            "knows": [{"item": "10", "title": "Ten"}, {"item": "11", "title": "Eleven"}],
            "items": [{"rank": 1, "item": "13", "title": "Thirteen", "score": 8.0}],
        });
        assert_eq!(serde_json::to_value(&found).unwrap(), form);
    }

    #[test]
    fn user_is_found_by_id_and_by_row() {
        let known = ids(&["196", "7", "#x"]);
        assert_eq!(find_user("7", &known).unwrap(), 1);
        assert_eq!(find_user("#0", &known).unwrap(), 0);
        assert_eq!(find_user("#x", &known).unwrap(), 2);
    }

    #[test]
    fn unknown_user_is_told_the_nearest_ones() {
        let message = |name: &str, known: &[&str]| find_user(name, &ids(known)).unwrap_err().0;
        assert_eq!(
            message("10", &["196", "7", "9"]),
            "there is no user `10`: ids go from 7 to 196, and its neighbours are 9 and 196; rows go from #0 to #2"
        );
        assert!(message("900", &["196", "7"]).contains("ids go from 7 to 196; rows"));
        assert!(message("bo", &["carl", "anna", "dora"]).contains("the nearest ids are `anna` and `carl`"));
        assert_eq!(message("#3", &["a", "b", "c"]), "there is no user row `#3`: rows go from #0 to #2");
    }
}
