//! Sentences about films and viewers: profile texts and intents, from a template.
//!
//! The intents are NOT written by a language model. They stand where an LLM's belong (IRLLRec has one read each
//! user's and item's history and say in words what is looked for); they name genres, moods and eras only.
//! Everything said about a viewer's taste comes from the films handed in, so the caller must hand in training
//! interactions alone. No file, model or random draw here.

use std::collections::BTreeMap;

/// Titles a profile names at most: more would be cut by the encoder's token limit.
const NAMED_FILMS: usize = 8;
/// Genres and decades an intent names at most.
const NAMED_GENRES: usize = 4;
const NAMED_DECADES: usize = 2;

/// What is known of a film. Unknown parts are left out of its sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Film {
    /// As a person writes it: `The Postman`, not `Postman, The`.
    pub title: String,
    pub year: Option<u16>,
    pub genres: Vec<String>,
}

impl Film {
    /// `Toy Story (1995)`.
    pub fn label(&self) -> String {
        match self.year {
            Some(year) => format!("{} ({year})", self.title),
            None => self.title.clone(),
        }
    }
}

/// What is known of a viewer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Viewer {
    pub age: Option<u32>,
    /// `man`, `woman` or none.
    pub gender: Option<&'static str>,
    pub occupation: Option<String>,
}

/// Who or what: `Toy Story (1995), an animation, children's and comedy film.`
pub fn item_profile(film: &Film) -> String {
    let genres = lower(&film.genres);
    if genres.is_empty() {
        return format!("{}, a film.", film.label());
    }
    let article = if genres[0].starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{}, {article} {} film.", film.label(), list(&genres))
}

/// What kind of viewer's wish the film serves.
pub fn item_intent(film: &Film) -> String {
    let genres: Vec<&str> = film.genres.iter().map(String::as_str).collect();
    let decades: Vec<u16> = film.year.map(decade).into_iter().collect();
    format!("Serves a viewer who looks for {}.", wish(&genres, &decades))
}

/// Age, gender, occupation, and the training films liked last. `recent`: newest first.
pub fn user_profile(viewer: &Viewer, recent: &[&Film]) -> String {
    let mut text = match viewer.age {
        Some(age) => format!("A {age}-year-old {}", viewer.gender.unwrap_or("viewer")),
        None => format!("A {}", viewer.gender.unwrap_or("viewer")),
    };
    if let Some(occupation) = &viewer.occupation {
        text += &format!(", {occupation} by occupation");
    }
    if !recent.is_empty() {
        let titles: Vec<&str> = recent.iter().take(NAMED_FILMS).map(|f| f.title.as_str()).collect();
        text += &format!(", who liked most recently: {}", titles.join("; "));
    }
    text + "."
}

/// The genres and eras that the viewer's training films show.
pub fn user_intent(liked: &[&Film]) -> String {
    let genres = most_frequent(liked.iter().flat_map(|f| f.genres.iter().map(String::as_str)), NAMED_GENRES);
    let decades = most_frequent(liked.iter().filter_map(|f| f.year.map(decade)), NAMED_DECADES);
    format!("Looks for {}.", wish(&genres, &decades))
}

/// `a laugh and suspense: comedy and thriller films, mostly of the 1990s and 1980s`.
fn wish(genres: &[&str], decades: &[u16]) -> String {
    let mut text = String::new();
    let moods: Vec<String> = genres.iter().filter_map(|g| mood(g)).map(String::from).collect();
    if !moods.is_empty() {
        text += &format!("{}: ", list(&moods));
    }
    text += &match genres.is_empty() {
        true => "films of any genre".to_string(),
        false => format!("{} films", list(&lower(genres))),
    };
    let decades: Vec<String> = decades.iter().map(|d| format!("{d}s")).collect();
    match decades.as_slice() {
        [] => {}
        [one] => text += &format!(" of the {one}"),
        many => text += &format!(", mostly of the {}", list(many)),
    }
    text
}

/// What a person in search of a MovieLens genre wants.
fn mood(genre: &str) -> Option<&'static str> {
    Some(match genre {
        "Action" => "fast action",
        "Adventure" => "an adventure",
        "Animation" => "drawn pictures",
        "Children's" => "something to watch with children",
        "Comedy" => "a laugh",
        "Crime" => "a story of crime",
        "Documentary" => "real events",
        "Drama" => "a moving story",
        "Fantasy" => "other worlds",
        "Film-Noir" => "a dark mood",
        "Horror" => "a scare",
        "Musical" => "song and dance",
        "Mystery" => "a puzzle",
        "Romance" => "a love story",
        "Sci-Fi" => "visions of the future",
        "Thriller" => "suspense",
        "War" => "a story of war",
        "Western" => "the old West",
        _ => return None,
    })
}

fn decade(year: u16) -> u16 {
    year / 10 * 10
}

fn lower<S: AsRef<str>>(words: &[S]) -> Vec<String> {
    words.iter().map(|w| w.as_ref().to_lowercase()).collect()
}

/// `a, b and c`.
fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Most frequent first; ties in ascending order.
fn most_frequent<T: Ord + Copy>(values: impl Iterator<Item = T>, keep: usize) -> Vec<T> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0u32) += 1;
    }
    let mut ranked: Vec<(T, u32)> = counts.into_iter().collect();
    // a stable sort: the map's ascending order stays among equals
    ranked.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    ranked.into_iter().take(keep).map(|(value, _)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn film(title: &str, year: u16, genres: &[&str]) -> Film {
        Film { title: title.into(), year: Some(year), genres: genres.iter().map(|g| g.to_string()).collect() }
    }

    #[test]
    fn film_is_described_by_title_year_and_genres() {
        let toys = film("Toy Story", 1995, &["Animation", "Children's", "Comedy"]);
        assert_eq!(item_profile(&toys), "Toy Story (1995), an animation, children's and comedy film.");
        assert_eq!(
            item_intent(&film("Heat", 1995, &["Action", "Thriller"])),
            "Serves a viewer who looks for fast action and suspense: action and thriller films of the 1990s."
        );
    }

    #[test]
    fn unknown_parts_are_left_out() {
        let nameless = Film { title: "Good Morning".into(), ..Film::default() };
        assert_eq!(item_profile(&nameless), "Good Morning, a film.");
        assert_eq!(item_intent(&nameless), "Serves a viewer who looks for films of any genre.");
        assert_eq!(user_profile(&Viewer::default(), &[]), "A viewer.");
        assert_eq!(user_intent(&[]), "Looks for films of any genre.");
    }

    #[test]
    fn viewer_profile_names_the_first_films_only() {
        let films: Vec<Film> = (0..12).map(|n| film(&format!("Part {n}"), 1990, &["Drama"])).collect();
        let viewer = Viewer { age: Some(24), gender: Some("man"), occupation: Some("technician".into()) };
        let text = user_profile(&viewer, &films.iter().collect::<Vec<_>>());
        assert!(text.starts_with("A 24-year-old man, technician by occupation, who liked most recently: Part 0; "));
        assert!(text.ends_with("; Part 7."));
    }

    #[test]
    fn intent_ranks_genres_and_decades_by_frequency_then_name() {
        let films = [
            film("a", 1972, &["War", "Drama"]),
            film("b", 1985, &["Drama", "Comedy"]),
            film("c", 1989, &["Comedy", "Western"]),
            film("d", 1991, &["Sci-Fi", "War"]),
        ];
        assert_eq!(
            user_intent(&films.iter().collect::<Vec<_>>()),
            "Looks for a laugh, a moving story, a story of war and visions of the future: comedy, drama, war and sci-fi \
             films, mostly of the 1980s and 1970s."
        );
    }
}
