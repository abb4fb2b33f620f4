//! `coordinator recommend`: the best items of one user of a finished run, with titles; or of a new user, by their items.

mod fold_in;
mod lookup;

use crate::cli::export::finished::FinishedRun;
use crate::cli::{Usage, output};
use accord_data::ranking;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Items shown for context.
const CONTEXT: usize = 5;

/// Show the best items for one user of a finished run, or for a new user who has some items
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator recommend runs/ml-100k-irllrec --user 196 --k 5
  coordinator recommend runs/ml-100k-irllrec --user '#0' --json
  coordinator recommend runs/ml-100k-irllrec --items 50,56,64
  coordinator recommend runs/shop --items 'shirt, blue' --items hat

Only the run's export/ is read: the dataset may have changed, or be gone. Items of the user's training part, and the items
given, are left out. Scores are inner products; only their order means something.

--items, for a user who was not in training: the embedding of the user is the sum over the n items given of
e_i / (sqrt(n) sqrt(max(deg_i, 1))), e_i the item's final embedding and deg_i its users in training (one propagation step).
An --items that is an id as a whole is that item; otherwise commas part its ids. Given several times, each is one id.")]
pub struct RecommendArgs {
    /// Run directory of a job that has finished
    #[arg(value_name = "RUN")]
    pub job: PathBuf,
    /// User id of the dataset, or #ROW counted from 0
    #[arg(long, value_name = "U", required_unless_present = "items", conflicts_with = "items")]
    pub user: Option<String>,
    /// Ids of the items that a new user has, between commas; or again for each id
    #[arg(long, value_name = "A,B,C")]
    pub items: Vec<String>,
    /// How many items
    #[arg(long, default_value_t = 20)]
    pub k: usize,
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, PartialEq, Serialize)]
struct Recommendation {
    #[serde(flatten)]
    basis: Basis,
    items: Vec<Ranked>,
}

/// Whom the items are for.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Basis {
    User {
        user: String,
        /// Items of the user's training part, and some of them.
        training_items: usize,
        knows: Vec<Item>,
    },
    /// A user who was not in training.
    Items { given: Vec<Item> },
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
/// [`Usage`] for a folder that is no finished run, or a user or an item that the run does not know.
pub fn run(args: RecommendArgs) -> anyhow::Result<()> {
    if args.k == 0 {
        return Err(Usage("--k 0 asks for no items: give 1 or more".into()).into());
    }
    let run = FinishedRun::open(&args.job)?;
    let found = match &args.user {
        Some(user) => for_user(&run, lookup::user(user, &run.user_ids)?, args.k)?,
        None => for_items(&run, &lookup::items(&args.items, &run.item_ids)?, args.k)?,
    };
    if found.items.len() < args.k {
        output::note(format!("{} items are left to rank: fewer than --k {}", found.items.len(), args.k));
    }
    if args.json {
        return output::json(&found);
    }
    show(&found);
    Ok(())
}

fn for_user(run: &FinishedRun, user: u32, k: usize) -> anyhow::Result<Recommendation> {
    let (train, named) = (run.train()?, Named::of(run)?);
    let known = train.of(user);
    let basis = Basis::User {
        user: run.user_ids[user as usize].clone(),
        training_items: known.len(),
        knows: known.iter().take(CONTEXT).map(|&i| named.item(i)).collect(),
    };
    let best = ranking::best(run.user.row(user as usize), &run.item, known, k);
    Ok(Recommendation { basis, items: named.ranked(best) })
}

/// `given`: ascending, distinct.
fn for_items(run: &FinishedRun, given: &[u32], k: usize) -> anyhow::Result<Recommendation> {
    let (train, named) = (run.train()?, Named::of(run)?);
    let best = ranking::best(&fold_in::fold_in(given, &run.item, &train), &run.item, given, k);
    let basis = Basis::Items { given: given.iter().map(|&i| named.item(i)).collect() };
    Ok(Recommendation { basis, items: named.ranked(best) })
}

/// Ids and titles of the items.
struct Named<'a> {
    ids: &'a [String],
    titles: Option<Vec<String>>,
}

impl Named<'_> {
    fn of(run: &FinishedRun) -> anyhow::Result<Named<'_>> {
        Ok(Named { ids: &run.item_ids, titles: run.item_titles()? })
    }

    fn item(&self, row: u32) -> Item {
        let title = self.titles.as_ref().map(|titles| titles[row as usize].clone());
        Item { item: self.ids[row as usize].clone(), title }
    }

    fn ranked(&self, best: Vec<ranking::Scored>) -> Vec<Ranked> {
        let ranks = best.into_iter().enumerate();
        ranks.map(|(n, s)| Ranked { rank: n + 1, item: self.item(s.item), score: s.score }).collect()
    }
}

/// Ids and titles come from files: what steers a terminal is not sent to it.
fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn show(found: &Recommendation) {
    let names = |items: &[Item]| -> String {
        let name = |i: &Item| printable(i.title.as_deref().filter(|title| !title.is_empty()).unwrap_or(&i.item));
        let names: Vec<String> = items.iter().take(CONTEXT).map(name).collect();
        names.join("; ")
    };
    let more = |all: usize| match all.saturating_sub(CONTEXT) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    output::note(match &found.basis {
        Basis::User { user, training_items: 0, .. } => {
            format!("user {} has no training items: these are no personal recommendations", printable(user))
        }
        Basis::User { user, training_items, knows } => {
            format!("user {} trained with: {}{}", printable(user), names(knows), more(*training_items))
        }
        Basis::Items { given } => format!("for a new user who has: {}{}", names(given), more(given.len())),
    });
    let rows = found.items.iter().map(|r| {
        let title = printable(r.item.title.as_deref().unwrap_or_default());
        vec![r.rank.to_string(), printable(&r.item.item), title, format!("{:.4}", r.score)]
    });
    output::table(&["rank", "item", "title", "score"], rows.collect());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::export::finished::fixture;
    use accord_data::DataError;

    fn item(item: &str, title: &str) -> Item {
        Item { item: item.into(), title: Some(title.into()) }
    }

    fn args(run: PathBuf) -> RecommendArgs {
        RecommendArgs { job: run, user: None, items: Vec::new(), k: 3, json: false }
    }

    #[test]
    fn best_items_come_with_titles_and_context() {
        let (_root, folder) = fixture::finished_run();
        let found = for_user(&FinishedRun::open(&folder).unwrap(), 1, 1).unwrap();
        let knows = vec![item("10", "Ten"), item("11", "Eleven")];
        let wanted = Recommendation {
            basis: Basis::User { user: "bob".into(), training_items: 2, knows },
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
    fn a_new_user_gets_the_items_that_a_naive_ranking_gives() {
        let (_root, folder) = fixture::finished_run();
        let run = FinishedRun::open(&folder).unwrap();
        let found = for_items(&run, &[0, 3], 3).unwrap();
        assert_eq!(found.basis, Basis::Items { given: vec![item("10", "Ten"), item("13", "Thirteen")] });
        // items 10 = (1, 9) and 13 = (4, 9), of one user each: x = (5, 18) / sqrt 2
        let x = [5.0 / 2f32.sqrt(), 18.0 / 2f32.sqrt()];
        let scores: Vec<(&str, f32)> = found.items.iter().map(|r| (r.item.item.as_str(), r.score)).collect();
        let wanted = [("12", 3.0 * x[0] + 9.0 * x[1]), ("11", 2.0 * x[0] + 9.0 * x[1])];
        assert_eq!(scores.len(), 2, "the items given are left out");
        for ((item, score), (wanted_item, wanted)) in scores.iter().zip(wanted) {
            assert!(*item == wanted_item && (score - wanted).abs() < 1e-4, "{scores:?}");
        }
        let form = serde_json::to_value(&found).unwrap();
        assert_eq!(form["given"][0], serde_json::json!({"item": "10", "title": "Ten"}));
        assert_eq!(form["items"][0]["item"], "12");
        assert!(form.get("user").is_none());
    }

    #[test]
    fn a_user_and_items_exclude_each_other_and_one_is_needed() {
        use clap::{CommandFactory as _, Parser};
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: RecommendArgs,
        }
        Line::command().debug_assert();
        let parse = |words: &[&str]| Line::try_parse_from([&["recommend", "run"], words].concat());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--user", "a", "--items", "b"]).is_err());
        assert_eq!(parse(&["--user", "a"]).unwrap().args.user.as_deref(), Some("a"));
        assert_eq!(parse(&["--items", "a,b", "--items", "c"]).unwrap().args.items, ["a,b", "c"]);
        assert!(parse(&["--items"]).is_err());
    }

    #[test]
    fn what_the_run_does_not_know_is_bad_input() {
        let (_root, folder) = fixture::finished_run();
        let refused = |args| {
            let error = run(args).unwrap_err();
            assert!(error.is::<Usage>(), "{error:#}");
            error.to_string()
        };
        let said = refused(RecommendArgs { user: Some("anna".into()), ..args(folder.clone()) });
        assert!(said.contains("there is no user `anna`: the nearest id is `ann`"), "{said}");
        let said = refused(RecommendArgs { items: vec!["10,99,98".into()], ..args(folder.clone()) });
        assert!(said.contains("no item `99`: ids go from 10 to 13") && said.contains("no item `98`"), "{said}");
        assert!(refused(RecommendArgs { k: 0, ..args(folder.clone()) }).contains("--k 0"));
        std::fs::write(folder.join("export/item_titles.txt"), "Ten\n").unwrap();
        let error = run(RecommendArgs { user: Some("ann".into()), ..args(folder) }).unwrap_err();
        assert!(error.is::<DataError>() && error.to_string().contains("item_titles.txt"), "{error}");
    }
}
