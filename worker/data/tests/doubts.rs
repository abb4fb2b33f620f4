//! Tables that a reader could take for something else without a word: each is read as it is meant, or refused with the line
//! and what decides.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::{Dataset, TextNeed};
use accord_spec::Format;
use files::Folder;

const USERS: [&str; 5] = ["Anna Kate", "Bert", "Cora Lee", "Dan", "Eve Ann"];
const ITEMS: [&str; 6] = ["lamp", "mirror", "chair", "table", "sofa", "rug"];

/// A line for each of 240 interactions of 40 users and 30 items; `line` makes it of user, item and place.
fn table(header: &str, line: impl Fn(usize, usize, usize) -> String) -> String {
    let lines = (0..240).map(|k| line(k / 6, (k / 6 + (k % 6) * (k % 6)) % 30, k) + "\n");
    std::iter::once(header.to_owned()).chain(lines).collect()
}

/// Makes a line of user, item and place.
type Line<'a> = &'a dyn Fn(usize, usize, usize) -> String;

/// Numbers of users and items, or the refusal.
fn load(parts: &[(&str, &str)], keys: &str) -> Result<(usize, usize), String> {
    let folder = Folder::new();
    for (name, text) in parts {
        folder.put(name, text.as_bytes());
    }
    let read = Dataset::load(&folder.data(Format::Pairs, keys), folder.root(), 3, TextNeed::None);
    let read = read.map(|found| (found.user_ids.len(), found.item_ids.len()));
    read.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
}

fn refused(name: &str, text: &str, keys: &str, said: &[&str]) {
    match load(&[(name, text)], keys) {
        Ok(read) => panic!("{said:?} was read as {read:?}: {}", text.lines().next().unwrap()),
        Err(error) => assert!(said.iter().all(|part| error.contains(part)), "{said:?}: {error}"),
    }
}

#[test]
fn names_of_two_words_are_not_split() {
    let words = |separator: &str| table("", |u, i, _| format!("{}{separator}{}", USERS[u % 5], ITEMS[i % 6]));
    for (name, separator) in [("a.tsv", "\t"), ("a.txt", "\t"), ("a.csv", ",")] {
        assert_eq!(load(&[(name, &words(separator))], "header = false"), Ok((5, 6)), "{name}");
    }
    let always_two = table("", |u, i, _| format!("{},{}", ["Anna Kate", "Cora Lee", "Eve Ann"][u % 3], ITEMS[i % 6]));
    let error = load(&[("a.txt", &always_two)], "header = false").unwrap_err();
    assert!(error.contains("data.separator"), "{error}");
    assert_eq!(load(&[("a.csv", &always_two)], "header = false"), Ok((3, 6)));
}

#[test]
fn a_separator_inside_another_is_weighed_or_refused() {
    assert_eq!(load(&[("a.csv", &table("", |u, i, _| format!("{u};{i};0,5")))], ""), Ok((40, 30)));
    let genres = table("", |u, i, _| format!("{u},{i},Action|War"));
    assert_eq!(load(&[("a.csv", &genres)], ""), Ok((40, 30)));
    let accounts = table("", |u, i, _| format!("{}|{u},{i}", ["auth", "mail", "web"][u % 3]));
    assert_eq!(load(&[("a.txt", &accounts)], "separator = \",\""), Ok((40, 30)));
    assert_eq!(load(&[("a.txt", &accounts)], ""), Ok((40, 30)));
}

#[test]
fn a_header_of_words_in_every_part_is_no_interaction() {
    let words = |pairs: &[(usize, usize)]| -> String {
        let lines = pairs.iter().map(|&(user, item)| format!("{},{}\n", ITEMS[user], ITEMS[item]));
        std::iter::once("kunde,artikel\n".to_owned()).chain(lines).collect()
    };
    let train = words(&[(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (3, 5)]);
    let test = words(&[(0, 3), (1, 4), (2, 5), (3, 1)]);
    let parts = [("train.csv", train.as_str()), ("test.csv", test.as_str())];
    let error = load(&parts, "").unwrap_err();
    assert!(error.contains("kunde") && error.contains("data.header"), "{error}");
    assert_eq!(load(&parts, "header = true\ncolumns = { user = 1, item = 2 }"), Ok((4, 5)));
}

#[test]
fn places_that_hold_times_row_numbers_or_ratings_are_refused() {
    let day = |k: usize| format!("2014-04-{:02}", 1 + k % 28);
    let cases: &[(&str, Line)] = &[
        ("column 1 looks like times", &|u, i, k| format!("{} 10:00:09,{u},{i}", day(k))),
        ("column 2 looks like times", &|u, i, k| format!("{u},{}T10:00:09.277Z,{i},0", day(k))),
        ("column 2 looks like times", &|u, _, k| format!("{u},{}", day(k))),
        ("column 1 counts the lines", &|u, i, k| format!("{},{u},{i},{}", (k * 7919) % 10_007, 1 + k % 5)),
        ("column 1 looks like ratings", &|u, i, k| format!("{},{u},{i}", k % 2)),
        ("ASINs", &|u, i, k| format!("B0{:08},A{u},{}", i * 37, 1 + k % 5)),
        ("ASINs", &|u, i, k| format!("{:09}X,A2SUAM1J3GN{u:03},{}", i * 37, 1 + k % 5)),
        ("ASINs", &|u, i, k| format!("T{:09},A2SUAM1J3GN{u:03},{}", i * 37, 1 + k % 5)),
    ];
    for (said, line) in cases {
        refused("a.csv", &table("", line), "", &[said, "data.columns"]);
    }
    // a few rows say more than a part of many
    let few =
        (0..30).map(|k| format!("{},{},{},{}\n", (k * 7919) % 10_007, k % 5, k % 4, 1 + k % 5)).collect::<String>();
    refused("a.csv", &few, "", &["column 1 counts the lines"]);
    let many = |k: usize| format!("{},{},{}\n", (k * 7919) % 10_007, k % 30, 1 + k % 5);
    let many = (0..6000).map(|k| many(k % 3000)).collect::<String>();
    assert!(load(&[("a.csv", &many)], "").is_ok(), "users occur again behind what is looked at");
    refused("a.csv", &table("0,1,2,3\n", |u, i, k| format!("{u},{i},5,{}", 900_000_000 + k)), "", &["data.header"]);
}

#[test]
fn a_fourth_column_behind_names_is_no_time() {
    let plays = table("", |u, i, k| format!("{u:08x}\tm{i}\tBand {i}\t{}", 1 + k * 7 % 400));
    refused("plays.tsv", &plays, "split = \"time\"", &["data.split = \"time\""]);
    assert_eq!(load(&[("plays.tsv", &plays)], ""), Ok((40, 30)));
    let counted = table("", |u, i, k| format!("{u}\t{i}\t{}\t{k}", 1 + k % 5));
    assert_eq!(load(&[("ratings.tsv", &counted)], "split = \"time\""), Ok((40, 30)), "as in MovieLens' u.data");
}

#[test]
fn lists_of_items_are_no_items() {
    let cases: &[(&str, &str, Line)] = &[
        ("a.tsv", "", &|u, i, _| format!("{u}\t{i},{},{}", i + 1, i + 2)),
        ("a.tsv", "", &|u, i, _| format!("{u}\t{i} {} {}", i + 1, i + 2)),
        ("a.csv", "user_id,item_id\n", &|u, i, _| format!("{u},\"[{i}, {}]\"", i + 1)),
        ("a.csv", "user_id,item_id\n", &|u, i, _| format!("{u},{i}|{}", i + 1)),
    ];
    for (name, header, line) in cases {
        refused(name, &table(header, line), "", &["holds lists, not ids"]);
    }
    refused("a.txt", &table("", |u, i, _| format!("{u} {i}:1")), "", &["libFM"]);
}

#[test]
fn lines_that_are_no_interactions_are_told() {
    let plain = table("user_id,item_id\n", |u, i, _| format!("{u},{i}"));
    for (tail, said) in [
        ("Total,240\n", &["a.csv:242", "`Total`", "users.txt"][..]),
        ("item_id,user_id\n3,4\n", &["a.csv:242", "names of columns"]),
        ("# second part,7\n", &["a.csv:242", "`# second part`"]),
    ] {
        refused("a.csv", &(plain.clone() + tail), "", said);
    }
    for tail in ["\u{feff}user_id,item_id\n1,2\n", "User_ID,Item ID\n1,2\n", "\u{feff}1,2\n"] {
        assert_eq!(load(&[("a.csv", &(plain.clone() + tail))], ""), Ok((40, 30)), "{tail:?}");
    }
}

#[test]
fn one_id_in_two_forms_is_refused() {
    refused("a.csv", &table("", |u, i, k| format!("{u}{},{i}", [".0", ""][k % 2])), "", &["one id in two forms"]);
    refused("a.csv", &table("", |u, i, k| format!("{u},{}{i}", ["0", ""][k % 2])), "", &["one id in two forms"]);
    let hashes = table("", |u, i, _| format!("{},{i}", (u as i64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64)));
    assert_eq!(load(&[("a.csv", &hashes)], ""), Ok((40, 30)));
}

#[test]
fn parts_have_the_same_columns() {
    let all = table("", |u, i, _| format!("{u},{i}"));
    let part = |header: &str, is_test: bool| -> String {
        let lines = all.lines().enumerate().filter(|(k, _)| (k % 6 == 5) == is_test);
        std::iter::once(header.to_owned()).chain(lines.map(|(_, line)| format!("{line}\n"))).collect()
    };
    let read =
        |train: &str, test: &str| load(&[("train.csv", &part(train, false)), ("test.csv", &part(test, true))], "");
    for (train, test) in [("item,user\n", ""), ("user_id,item\n", "session_id,item\n"), ("", "item,user\n")] {
        let error = read(train, test).unwrap_err();
        assert!(error.contains("test.csv") && error.contains("same columns"), "{train} {test}: {error}");
    }
    for (train, test) in [("user,item\n", ""), ("user_id,item_id\n", "User_ID,Item_ID\n")] {
        assert_eq!(read(train, test), Ok((40, 30)), "{train} {test}");
    }
}

#[test]
fn ratings_that_say_no_are_dropped_and_others_counted() {
    for no in ["no", "N", "f", "0,0", "0%", "fAlse"] {
        let text = table("user;item;liked\n", |u, i, k| format!("{u};{i};{}", if k % 6 == 0 { no } else { "1" }));
        let folder = Folder::new();
        folder.put("a.csv", text.as_bytes());
        let found = Dataset::load(&folder.data(Format::Pairs, ""), folder.root(), 3, TextNeed::None).unwrap();
        let dropped = found.manifest.repairs.iter().find(|r| r.what.contains("rated 0")).map(|r| r.count);
        assert_eq!(dropped, Some(40), "{no}");
    }
    let folder = Folder::new();
    let words = table("user,item,rating\n", |u, i, k| format!("{u},{i},{}", ["good", "dislike"][k % 2]));
    folder.put("a.csv", words.as_bytes());
    let found = Dataset::load(&folder.data(Format::Pairs, ""), folder.root(), 3, TextNeed::None).unwrap();
    assert!(found.manifest.repairs.iter().any(|r| r.what.contains("neither a number") && r.count == 240));
    let rejected = table("user,item,rating\n", |u, i, k| format!("{u},{i},{}", if k % 6 == 0 { -1 } else { 1 }));
    folder.put("a.csv", rejected.as_bytes());
    let noted = |keys: &str| {
        let found = Dataset::load(&folder.data(Format::Pairs, keys), folder.root(), 3, TextNeed::None).unwrap();
        found
            .manifest
            .repairs
            .iter()
            .find(|r| r.what.contains("rated below"))
            .map(|r| (r.what.contains("kept"), r.count))
    };
    assert_eq!((noted(""), noted("min_rating = 0")), (Some((true, 40)), Some((false, 40))));
}

#[test]
fn several_columns_for_one_role_are_refused() {
    let clicks = table("user_id,item_id,click,like\n", |u, i, k| format!("{u},{i},1,{}", k % 2));
    refused("a.csv", &clicks, "", &["2 columns could be the rating", "data.columns"]);
    assert!(load(&[("a.csv", &clicks)], "columns = { rating = \"click\" }").is_ok());
    let log = table("event_id,user,product\n", |u, i, k| format!("{k},{u},{i}"));
    refused("a.csv", &log, "", &["could be the item", "`event_id`", "`product`"]);
}

#[test]
fn a_header_behind_a_comment_mark_is_read() {
    let exchanged = |header: &str| table(header, |u, i, _| format!("{i} {u} 5"));
    assert_eq!(load(&[("a.txt", &exchanged("# item user rating\n"))], ""), Ok((40, 30)));
    assert_eq!(load(&[("a.txt", &exchanged("# made by numpy\n"))], ""), Ok((30, 40)));
    let tags = table("", |u, i, _| format!("#{u} {i} 5"));
    refused("a.txt", &(tags + "u 1 2\n"), "", &["skipped as comments"]);
}
