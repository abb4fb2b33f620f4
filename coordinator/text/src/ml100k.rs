//! MovieLens-100K as RecBole's atomic files -> what there is to say about its films and viewers.
//!
//! The split is made elsewhere (accord-data); here only TRAINING interactions are looked at, so that no validation
//! or test interaction leaks into a text. The intents are a template's, not a language model's: see [`crate::template`].

use crate::TextError;
use crate::template::{self, Film, Viewer};
use accord_data::Dataset;
use accord_data::recbole::Table;
use std::collections::HashMap;
use std::path::Path;

/// Articles that a catalog moves behind the title: `Postman, The`.
const ARTICLES: [&str; 17] =
    ["The", "A", "An", "Il", "La", "Le", "Les", "L'", "El", "Los", "Las", "Lo", "Der", "Die", "Das", "Un", "Une"];

/// The four lists of texts that the models need; line i of each is user or item i.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    pub user_profile: Vec<String>,
    pub item_profile: Vec<String>,
    pub user_intent: Vec<String>,
    pub item_intent: Vec<String>,
}

/// The atomic files, by external id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    films: HashMap<String, Film>,
    viewers: HashMap<String, Viewer>,
    /// (user, item) -> seconds since 1970.
    rated_at: HashMap<(String, String), u64>,
}

impl Catalog {
    /// Reads `ml-100k.item`, `ml-100k.user` and `ml-100k.inter` in `folder`.
    pub fn read(folder: &Path) -> Result<Catalog, TextError> {
        let mut catalog = Catalog::default();
        each_row(&folder.join("ml-100k.item"), ["item_id", "movie_title", "release_year", "class"], |row| {
            let [id, title, year, genres] = row;
            let genres = genres.split_whitespace().filter(|g| *g != "unknown").map(String::from).collect();
            let film = Film { title: spoken(title), year: year.parse().ok(), genres };
            catalog.films.insert(id.into(), film);
        })?;
        each_row(&folder.join("ml-100k.user"), ["user_id", "age", "gender", "occupation"], |row| {
            let [id, age, gender, occupation] = row;
            let gender = match gender {
                "M" => Some("man"),
                "F" => Some("woman"),
                _ => None,
            };
            let occupation = (!matches!(occupation, "none" | "other" | "")).then(|| occupation.to_string());
            catalog.viewers.insert(id.into(), Viewer { age: age.parse().ok(), gender, occupation });
        })?;
        each_row(&folder.join("ml-100k.inter"), ["user_id", "item_id", "timestamp"], |row| {
            let [user, item, time] = row;
            // the column's type is float, its values are whole seconds; one that is not a number counts as oldest
            let seconds = time.parse::<f64>().map_or(0, |t| t as u64);
            catalog.rated_at.insert((user.into(), item.into()), seconds);
        })?;
        Ok(catalog)
    }

    /// Title and year of an item, for people.
    pub fn label(&self, item: &str) -> String {
        self.films.get(item).map_or_else(|| format!("item {item}"), Film::label)
    }

    /// Texts of every user and item of `dataset`; only its training part is looked at.
    pub fn texts(&self, dataset: &Dataset) -> Texts {
        let unknown = Film { title: "An unknown film".into(), ..Film::default() };
        let nobody = Viewer::default();
        let film = |id: &str| self.films.get(id).unwrap_or(&unknown);
        let mut texts = Texts { user_profile: vec![], item_profile: vec![], user_intent: vec![], item_intent: vec![] };
        for (index, user) in dataset.user_ids.iter().enumerate() {
            let train = dataset.train.of(index as u32);
            let mut liked: Vec<(u64, u32)> = train
                .iter()
                .map(|&item| {
                    let key = (user.clone(), dataset.item_ids[item as usize].clone());
                    (self.rated_at.get(&key).copied().unwrap_or(0), item)
                })
                .collect();
            // newest first; one viewer rates many films in the same second
            liked.sort_by_key(|&(time, item)| (std::cmp::Reverse(time), item));
            let films: Vec<&Film> = liked.iter().map(|&(_, item)| film(&dataset.item_ids[item as usize])).collect();
            let viewer = self.viewers.get(user).unwrap_or(&nobody);
            texts.user_profile.push(template::user_profile(viewer, &films));
            texts.user_intent.push(template::user_intent(&films));
        }
        for item in &dataset.item_ids {
            texts.item_profile.push(template::item_profile(film(item)));
            texts.item_intent.push(template::item_intent(film(item)));
        }
        texts
    }
}

/// `White Balloon, The (Badkonake sefid, Le)` as one says it: articles in front.
fn spoken(title: &str) -> String {
    let title = title.trim();
    if let Some((main, rest)) = title.split_once(" (") {
        return match rest.strip_suffix(')') {
            Some(other) => format!("{} ({})", spoken(main), spoken(other)),
            None => title.into(),
        };
    }
    match title.rsplit_once(", ") {
        Some((rest, article)) if ARTICLES.contains(&article) => {
            let space = if article.ends_with('\'') { "" } else { " " };
            format!("{article}{space}{rest}")
        }
        _ => title.into(),
    }
}

/// Hands the wanted columns of each row of an atomic file to `take`.
fn each_row<const N: usize>(file: &Path, wanted: [&str; N], mut take: impl FnMut([&str; N])) -> Result<(), TextError> {
    let table = Table::read(file)?;
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(wanted) {
        *place = table.column(name).ok_or_else(|| TextError::Column { path: file.into(), column: name.to_string() })?;
    }
    for row in &table.rows {
        take(places.map(|place| row[place].as_str()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use accord_spec::{Data, Format};
    use std::fs;

    /// Twenty viewers' ratings of six films, and a catalog of them; four of the viewers are known.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "ml-100k.item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n\
             1\tPostman, The (Postino, Il)\t1994\tDrama Romance\n2\tHeat\t1995\tAction Thriller\n\
             3\tunkonwn\tunkonwn\tunknown\n4\tAlien\t1979\tSci-Fi\n5\tFargo\t1996\tCrime\n6\tBig\t1988\tComedy\n",
        );
        write(
            "ml-100k.user",
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n\
             7\t24\tM\ttechnician\t85711\n8\t53\tF\tother\t94043\n9\t33\tF\tnone\t1\n10\t20\tM\twriter\t2\n",
        );
        let mut ratings = String::from("user_id:token\titem_id:token\trating:float\ttimestamp:float\n");
        for user in 7..27 {
            for item in 1..7 {
                // each viewer disliked one or two
                let rating = if item % 4 == user % 4 { 3 } else { 5 };
                ratings += &format!("{user}\t{item}\t{rating}\t{}\n", 881_250_000 + 10 * item + user);
            }
        }
        write("ml-100k.inter", &ratings);
        folder
    }

    fn dataset(folder: &Path) -> Dataset {
        let data = Data { min_rating: Some(4.0), split_ratio: [3.0, 1.0, 1.0], ..Data::at(".", Format::Recbole) };
        Dataset::load(&data, folder, 2023, accord_data::TextNeed::None).unwrap()
    }

    #[test]
    fn titles_read_as_spoken_and_unknown_parts_are_left_out() {
        let folder = folder();
        let catalog = Catalog::read(folder.path()).unwrap();
        assert_eq!(catalog.label("1"), "The Postman (Il Postino) (1994)");
        assert_eq!(catalog.label("3"), "unkonwn");
        assert_eq!(catalog.label("99"), "item 99");
        assert_eq!(spoken("L.A. Confidential"), "L.A. Confidential");
        assert_eq!(spoken("Eau, L' (x"), "Eau, L' (x");
        assert_eq!(catalog.viewers["8"], Viewer { age: Some(53), gender: Some("woman"), occupation: None });
    }

    #[test]
    fn texts_name_training_films_only_newest_first() {
        let folder = folder();
        let dataset = dataset(folder.path());
        assert!(!dataset.validation.is_empty() && !dataset.test.is_empty(), "the split must hold films out");
        let texts = Catalog::read(folder.path()).unwrap().texts(&dataset);
        // titles and genres by internal id: items are numbered by value
        let titles = ["The Postman (Il Postino)", "Heat", "unkonwn", "Alien", "Fargo", "Big"];
        let genres = ["drama", "thriller", "\0", "sci-fi", "crime", "comedy"];
        for user in 0..20u32 {
            let (profile, intent) = (&texts.user_profile[user as usize], &texts.user_intent[user as usize]);
            let mut place = usize::MAX;
            for item in 0..6u32 {
                let found = profile.find(titles[item as usize]);
                assert_eq!(found.is_some(), dataset.train.contains(user, item), "item {item} in `{profile}`");
                // a later rating has a higher item number here
                if let Some(found) = found {
                    assert!(found < place, "`{profile}` does not go from new to old");
                    place = found;
                }
                if item != 2 {
                    let named = intent.contains(&format!("{} ", genres[item as usize]))
                        || intent.contains(&format!("{},", genres[item as usize]));
                    assert!(dataset.train.contains(user, item) || !named, "`{intent}` names a held-out film's genre");
                }
            }
        }
        assert_eq!(texts.item_profile.len(), 6);
        assert_eq!(texts.item_profile[1], "Heat (1995), an action and thriller film.");
    }

    #[test]
    fn missing_column_is_named() {
        let folder = folder();
        fs::write(folder.path().join("ml-100k.user"), "user_id:token\tage:token\n1\t2\n").unwrap();
        let message = Catalog::read(folder.path()).unwrap_err().to_string();
        assert!(message.ends_with("ml-100k.user has no column `gender`: it is not MovieLens-100K's file"), "{message}");
    }
}
