//! Text files of interactions in the forms that people bring: what is read, what is said of it, and what is refused.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::{Dataset, TextNeed};
use accord_spec::Format;
use files::Folder;
use std::collections::BTreeSet;

/// Six users with five of seven items each, every item with several users.
fn interactions() -> Vec<(usize, usize)> {
    (0..6)
        .flat_map(|user| (0..5).map(move |k| (user, (user + k * k) % 7)))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// Makes a line of user, item and place.
type Line<'a> = &'a dyn Fn(usize, usize, usize) -> String;

/// One line an interaction; `line` makes it of user, item and the line's place.
fn table(header: &str, line: impl Fn(usize, usize, usize) -> String) -> String {
    let lines = interactions().into_iter().enumerate().map(|(place, (user, item))| line(user, item, place) + "\n");
    std::iter::once(header.to_owned()).chain(lines).collect()
}

fn load(name: &str, text: &[u8], keys: &str) -> Result<Dataset, String> {
    let folder = Folder::new();
    folder.put(name, text);
    folder_load(&folder, Format::Pairs, keys)
}

fn folder_load(folder: &Folder, format: Format, keys: &str) -> Result<Dataset, String> {
    let read = Dataset::load(&folder.data(format, keys), folder.root(), 3, TextNeed::None);
    read.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
}

/// All pairs of external ids.
fn pairs(dataset: &Dataset) -> BTreeSet<(String, String)> {
    let parts = [&dataset.train, &dataset.validation, &dataset.test];
    let name =
        |(user, item): (u32, u32)| (dataset.user_ids[user as usize].clone(), dataset.item_ids[item as usize].clone());
    parts.into_iter().flat_map(|part| part.pairs()).map(name).collect()
}

fn expected(user: &str, item: &str) -> BTreeSet<(String, String)> {
    interactions().into_iter().map(|(u, i)| (format!("{user}{u}"), format!("{item}{i}"))).collect()
}

#[test]
fn columns_are_found_by_name_in_any_order_and_form() {
    let cases: &[(&str, &str, Line)] = &[
        ("a.csv", "userId,movieId,rating,timestamp\n", &|u, i, k| format!("U{u},I{i},4.5,{}", 900_000_000 + k)),
        ("a.csv", "ts,customer_id,product_id,stars\n", &|u, i, k| format!("{},U{u},I{i},3", 1_500_000_000 + k)),
        ("a.csv", "\"User-ID\";\"ISBN\";\"Book-Rating\"\n", &|u, i, _| format!("\"U{u}\";\"I{i}\";\"5\"")),
        ("a.csv", ",user,item\n", &|u, i, k| format!("{k},U{u},I{i}")),
        ("a.csv", "Unnamed: 0,customer,product\n", &|u, i, k| format!("{k},U{u},I{i}")),
        ("a.tsv", "item_id:token\tuser_id:token\n", &|u, i, _| format!("I{i}\tU{u}")),
        ("a.txt", "timestamp visitorid event itemid\n", &|u, i, k| format!("{k} U{u} view I{i}")),
        ("a.csv", "InvoiceNo,StockCode,Quantity,CustomerID,Country\n", &|u, i, k| {
            format!("{k},I{i},2,U{u},\"UK, of GB\"")
        }),
        ("a.csv", "user_id,parent_asin,text,rating\n", &|u, i, _| format!("U{u},I{i},\"good, \"\"very\"\"\ngood\",5")),
        ("a.txt", "", &|u, i, _| format!("U{u}|I{i}")),
        ("a.txt", "", &|u, i, _| format!("U{u}\u{1}I{i}")),
        ("a.txt", "", &|u, i, _| format!("U{u}; I{i};3,5")),
        ("a.dat", "", &|u, i, k| format!("U{u}::I{i}::5::{}", 978_300_000 + k)),
        ("a.txt", "% bip unweighted\n% 30 6 7\n", &|u, i, _| format!("U{u} I{i}")),
    ];
    for (name, header, line) in cases {
        let found = load(name, table(header, line).as_bytes(), "").unwrap_or_else(|error| panic!("{header}: {error}"));
        assert_eq!(pairs(&found), expected("U", "I"), "{header}");
    }
}

#[test]
fn commas_may_belong_to_items_that_blanks_separate() {
    // with commas nearly every line would have a user of its own
    let found =
        load("a.txt", table("", |u, i, _| format!("U{u} I{i},{}", u % 2)).as_bytes(), "").map(|d| d.user_ids.len());
    assert_eq!(found, Ok(6));
    let either = table("", |u, i, _| format!("U{u} I,{i}"));
    let error = load("a.txt", either.as_bytes(), "").map(|_| ()).unwrap_err();
    assert!(error.contains("commas give user `U0 I` and item `0`, blanks give user `U0` and item `I,0`"), "{error}");
    assert_eq!(pairs(&load("a.txt", either.as_bytes(), "separator = \"blank\"").unwrap()), expected("U", "I,"));
    let found = load("a.csv", table("", |u, i, _| format!("U{u},Song {i}")).as_bytes(), "").unwrap();
    assert_eq!(pairs(&found), expected("U", "Song "));
}

#[test]
fn the_job_says_what_the_file_does_not() {
    let plain = |header: &str| table(header, |u, i, k| format!("{},U{u},I{i},{}", 5 + k * k, 1 + k % 5));
    for (header, keys) in [
        ("nr,kunde,artikel,note\n", "columns = { user = \"kunde\", item = \"artikel\" }"),
        ("", "columns = { user = 2, item = 3 }"),
        ("nr,kunde,artikel,note\n", "columns = { user = 2, item = 3 }"),
        ("nr,user_id,customer,artikel\n", "columns = { user = \"user_id\", item = 3 }"),
    ] {
        let found = load("a.csv", plain(header).as_bytes(), keys).unwrap_or_else(|error| panic!("{header}: {error}"));
        assert_eq!(pairs(&found), expected("U", "I"), "{header} {keys}");
    }
    let rated = load(
        "a.csv",
        plain("nr,kunde,artikel,note\n").as_bytes(),
        "min_rating = 2\ncolumns = { user = 2, item = 3, rating = \"note\" }",
    )
    .unwrap();
    assert_eq!(pairs(&rated).len(), interactions().iter().enumerate().filter(|(k, _)| 1 + k % 5 >= 2).count());
    let odd = table("", |u, i, _| format!("U{u}~~I{i}"));
    assert_eq!(pairs(&load("a.txt", odd.as_bytes(), "separator = \"~~\"").unwrap()), expected("U", "I"));
    let marks = table("", |u, i, _| format!("U{u}\t\"I\"{i}"));
    assert!(load("a.tsv", marks.as_bytes(), "").unwrap_err().contains("data.quoting = \"none\""));
    assert_eq!(pairs(&load("a.tsv", marks.as_bytes(), "quoting = \"none\"").unwrap()), expected("U", "\"I\""));
    let words = "anna,lamp\nbert,vase\ncarl,desk\n";
    assert!(load("a.csv", words.as_bytes(), "").unwrap_err().contains("data.header = true"));
    let words = format!("{words}{}", table("", |u, i, _| format!("U{u},I{i}")));
    assert_eq!(pairs(&load("a.csv", words.as_bytes(), "header = false").unwrap()).len(), interactions().len() + 3);
}

#[test]
fn what_could_be_two_things_is_refused() {
    let u = |user: usize| format!("U{user}");
    let cases: &[(&str, Line, &[&str])] = &[
        (
            "user_id,customer_id,item\n",
            &|a, i, _| format!("{},C{a},I{i}", u(a)),
            &["2 columns could be the user", "`customer_id` (C0, C1)"],
        ),
        (
            "order_id,product_id\n",
            &|a, i, _| format!("{a},I{i}"),
            &["`product_id` is the item, and no user column is known", "`order_id` (0, 1)"],
        ),
        (
            "wann,wer,was\n",
            &|a, i, k| format!("{k},{},I{i}", u(a)),
            &["no name of the header is known", "`wer` (U0, U1)", "data.columns = {"],
        ),
        ("user,item,user\n", &|a, i, _| format!("{},I{i},{}", u(a), u(a)), &["2 columns could be the user"]),
        ("", &|a, i, k| format!("{k},{a},{i}"), &["column 1 counts the lines", "user = 2, item = 3"]),
        ("", &|a, i, k| format!("{},{a},{i}", 1_400_000_000 + k * 7), &["column 1 looks like times"]),
        ("", &|a, i, k| format!("{a},{},{i}", 1_400_000_000 + k * 7), &["column 2 looks like times"]),
        ("", &|a, i, k| format!("{a},{i},{k},x,y"), &["5 fields without a header"]),
        ("6 7 24\n", &|a, i, _| format!("{a} {i} 1"), &["a.csv:1", "may count what follows"]),
        ("0,1,2\n", &|a, i, k| format!("{},{},{}", a + 100, i + 200, k + 3), &["data.header"]),
        (",0,1\n", &|a, i, k| format!("{k},{a},{i}"), &["data.columns"]),
        ("x;y\n", &|a, i, _| format!("{},I{i}", u(a)), &["separated by"]),
    ];
    for (header, line, words) in cases {
        let error = load("a.csv", table(header, line).as_bytes(), "").map(|d| d.manifest.reading.lines()).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{header}: {error}");
        assert!(error.starts_with("DIR/a.csv:"), "{error}");
    }
}

#[test]
fn no_line_is_lost_in_a_quoted_field() {
    let line = |u: usize, i: usize, k: usize| match k {
        7 => format!("U{u},I{i},\"fine,5"),
        15 => format!("U{u},I{i},good\",5"),
        _ => format!("U{u},I{i},well,5"),
    };
    let error = load("a.csv", table("user,item,text,rating\n", line).as_bytes(), "").map(|_| ()).unwrap_err();
    assert!(error.starts_with("DIR/a.csv:9:") && error.contains("takes in line 10"), "{error}");
    // a mark that takes in more than is looked at
    let all = format!("\"U0,I0\n{}", "U1,I1,5\n".repeat(200_000));
    let error = load("a.csv", all.as_bytes(), "").map(|_| ()).unwrap_err();
    assert!(error.starts_with("DIR/a.csv:1:") && error.contains("is not closed"), "{error}");
    let review = |u: usize, i: usize, k: usize| match k {
        7 => format!("U{u},I{i},\"one, two, three\nU9,I9,no,user\nend\",5"),
        _ => format!("U{u},I{i},well,5"),
    };
    let found = load("a.csv", table("user,item,text,rating\n", review).as_bytes(), "").unwrap();
    assert_eq!(pairs(&found), expected("U", "I"));
    assert!(found.manifest.reading.lines()[0].contains("quoted fields of several lines: 1"));
}

#[test]
fn missing_values_are_dropped_or_kept_where_the_job_says_so() {
    let line = |u: usize, i: usize, k: usize| if k == 4 { format!("U{u},None") } else { format!("U{u},I{i}") };
    let text = table("user,item\n", line);
    let dropped = load("a.csv", text.as_bytes(), "missing_ids = \"drop\"").unwrap();
    assert_eq!(pairs(&dropped).len(), interactions().len() - 1);
    let counted = dropped.manifest.repairs.iter().find(|r| r.what.contains("missing user or item")).unwrap();
    assert_eq!(counted.count, 1);
    let kept = load("a.csv", text.as_bytes(), "missing_ids = \"keep\"").unwrap();
    assert!(kept.item_ids.contains(&"None".to_owned()));
    for token in ["NULL", "\\N", "nan", "NaN", "NA", "N/A", "<NA>", "null", "", "None"] {
        let text = text.replace("None", token);
        let error = load("a.csv", text.as_bytes(), "").map(|_| ()).unwrap_err();
        assert!(error.starts_with("DIR/a.csv:6: the item id"), "{token}: {error}");
    }
}

#[test]
fn packed_parts_and_files_put_together_are_read() {
    use std::io::Write as _;
    let folder = Folder::new();
    let all = table("", |u, i, _| format!("U{u},I{i}"));
    let lines: Vec<&str> = all.lines().collect();
    let part = |place: usize| -> String {
        let own = lines
            .iter()
            .enumerate()
            .filter(|(k, _)| (k % 3 == 2, k % 6 == 2) == [(false, false), (true, false), (true, true)][place]);
        std::iter::once("user_id,item_id\n".to_owned()).chain(own.map(|(_, line)| format!("{line}\n"))).collect()
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // with the header once more in the middle
    let train = part(0).replacen("\nU3", "\nuser_id,item_id\nU3", 1);
    gzip.write_all(train.as_bytes()).unwrap();
    folder.put("train.csv.gz", &gzip.finish().unwrap());
    folder.put("valid.csv.zst", &zstd::encode_all(part(1).as_bytes(), 1).unwrap());
    folder.put("test.csv", part(2).as_bytes());
    let found = folder_load(&folder, Format::Pairs, "").unwrap();
    assert_eq!(pairs(&found), expected("U", "I"));
    assert_eq!(
        found.manifest.reading.lines(),
        [
            "train.csv.gz: separated by commas, gzip, header on line 1, 16 interactions; user = `user_id`; item = `item_id`; \
             the first is user `U0`, item `I0`; lines that repeat the header skipped: 1",
            "valid.csv.zst: separated by commas, zstd, header on line 1, 4 interactions; user = `user_id`; item = `item_id`; \
             the first is user `U1`, item `I2`",
            "test.csv: separated by commas, header on line 1, 4 interactions; user = `user_id`; item = `item_id`; the first \
             is user `U0`, item `I2`",
            "users: 6, numbered by their bytes; items: 7, numbered by their bytes",
        ]
    );
}

#[test]
fn movielens_folders_are_taken_as_they_are_unpacked() {
    let films: String = (0..7).map(|i| format!("{i}::Film {i} \u{e9}::Drama\n")).collect();
    let latin1 = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<u8>>();
    let hundred = Folder::new();
    hundred.put("u.data", table("", |u, i, k| format!("{u}\t{i}\t4\t{}", 880_000_000 + k)).as_bytes());
    hundred.put("u.item", &latin1(&films.replace("::", "|")));
    hundred.put("u.user", b"0|24|M\n");
    let million = Folder::new();
    million.put("ratings.dat", table("", |u, i, k| format!("{u}::{i}::4::{}", 970_000_000 + k)).as_bytes());
    million.put("movies.dat", &latin1(&films));
    million.put("users.dat", b"0::M::1\n");
    let recent = Folder::new();
    let ratings = table("userId,movieId,rating,timestamp\n", |u, i, k| format!("{u},{i},4.0,{}", 970_000_000 + k));
    recent.put("ratings.csv", ratings.as_bytes());
    recent.put("movies.csv", format!("movieId,title,genres\n{}", films.replace("::", ",")).as_bytes());
    recent.put("tags.csv", b"userId,movieId,tag,timestamp\n0,1,good,970000000\n");
    for folder in [hundred, million, recent] {
        let found = folder_load(&folder, Format::Pairs, "").unwrap();
        assert_eq!(pairs(&found), expected("", ""));
        assert_eq!(found.item_titles.unwrap()[3], "Film 3 \u{e9}");
    }
}

#[test]
fn one_rule_for_ratings_of_zero() {
    let text = table("user,item,rating\n", |u, i, k| format!("U{u},I{i},{}", k % 3));
    let zeros = (0..interactions().len()).filter(|k| k % 3 == 0).count();
    let found = load("a.csv", text.as_bytes(), "").unwrap();
    assert_eq!(pairs(&found).len(), interactions().len() - zeros);
    assert_eq!(found.manifest.repairs[0].count, zeros as u64);
    assert_eq!(pairs(&load("a.csv", text.as_bytes(), "min_rating = 0").unwrap()).len(), interactions().len());
    let flags = table("user,item,is_recommended\n", |u, i, k| {
        format!("U{u},I{i},{}", if k % 3 == 0 { "False" } else { "True" })
    });
    assert_eq!(pairs(&load("a.csv", flags.as_bytes(), "").unwrap()).len(), interactions().len() - zeros);
}

#[test]
fn lists_of_items_may_have_prefixed_ids_and_other_separators() {
    let lists = |separator: &str, user: &str, item: &str| -> String {
        (0..6)
            .map(|u| {
                let items: Vec<String> =
                    interactions().iter().filter(|p| p.0 == u).map(|p| format!("{item}{}", p.1)).collect();
                format!("{user}{u}{separator}{}\n", items.join(separator))
            })
            .collect()
    };
    for (separator, user, item, keys) in
        [(" ", "", "", ""), ("\t", "u", "i", ""), (" ", "ns:u", "ns:i", ""), (",", "u", "i", "separator = \",\"")]
    {
        let folder = Folder::new();
        folder.put("train.txt", lists(separator, user, item).as_bytes());
        let found =
            folder_load(&folder, Format::Adjacency, keys).unwrap_or_else(|error| panic!("{separator:?}: {error}"));
        assert_eq!(pairs(&found), expected(user, item));
    }
    for (line, words) in [
        ("0 1:5.0 2:3.0\n", "joins two values"),
        ("0 (1 2)\n", "brackets"),
        ("0 {1,2}\n", "brackets"),
        ("0 1;2;3\n", "separator in it"),
    ] {
        let folder = Folder::new();
        folder.put("train.txt", line.as_bytes());
        let error = folder_load(&folder, Format::Adjacency, "").map(|_| ()).unwrap_err();
        assert!(error.starts_with("DIR/train.txt:1:") && error.contains(words), "{line}: {error}");
    }
}

fn parquet(name: &str, keys: &str) -> Result<Dataset, String> {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet_interactions");
    let folder = Folder::new();
    let source = fixtures.join(name);
    let files = if source.is_dir() {
        std::fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path()).collect()
    } else {
        vec![source]
    };
    for file in files {
        folder.put(&file.file_name().unwrap().to_string_lossy(), &std::fs::read(&file).unwrap());
    }
    folder_load(&folder, Format::Pairs, keys)
}

#[test]
fn parquet_tables_are_read_by_the_names_of_their_columns() {
    let found = parquet("typed.parquet", "").unwrap();
    assert_eq!(pairs(&found), expected("U", ""));
    assert_eq!(
        found.manifest.reading.lines(),
        [
            "typed.parquet: Parquet, 24 interactions; user = `customer_id`; item = `product_id`; rating = `stars`; time = \
             `timestamp`; not read: when, note; the first is user `U0`, item `0`",
            "users: 6, numbered by their bytes; items: 7, numbered by value",
        ]
    );
    let rated = parquet("typed.parquet", "min_rating = 2").unwrap();
    assert_eq!(pairs(&rated).len(), 24 - 5);
    let by_time = parquet("typed.parquet", "split = \"time\"\nsplit_ratio = [2, 1, 1]").unwrap();
    assert_eq!((by_time.manifest.train, by_time.manifest.test), (12, 6));
    assert!(by_time.test.pairs().all(|(user, item)| by_time.train.of(user).iter().all(|before| *before != item)));
    let parts = parquet("parts", "").unwrap();
    assert_eq!(pairs(&parts), expected("U", ""));
    assert!(parts.manifest.reading.lines()[0].contains("3 files of Parquet, 24 interactions"));
    let named = parquet("unknown.parquet", "columns = { user = \"wer\", item = 2 }").unwrap();
    assert_eq!(pairs(&named), expected("U", ""));
    assert_eq!(pairs(&parquet("null-user.parquet", "missing_ids = \"drop\"").unwrap()).len(), 23);
}

#[test]
fn parquet_ratings_of_every_kind_are_read() {
    for kind in ["decimal", "decimal32", "decimal64", "string", "category"] {
        let name = format!("rated-{kind}.parquet");
        for (keys, count) in [("", 19), ("min_rating = 2", 14)] {
            assert_eq!(pairs(&parquet(&name, keys).unwrap()).len(), count, "{name} {keys}");
        }
    }
    let error = parquet("rated-date.parquet", "").map(|_| ()).unwrap_err();
    assert!(
        error.contains("the rating column `stars` holds timestamps in microseconds: write it as numbers"),
        "{error}"
    );
}

#[test]
fn parquet_columns_that_nobody_asks_for_may_hold_anything() {
    let found = parquet("unread.parquet", "").unwrap();
    assert_eq!(pairs(&found), expected("U", ""));
    assert!(found.manifest.reading.lines()[0].contains("not read: raw, body, hash, delta"));
    assert_eq!(parquet("large-users.parquet", "").unwrap().user_ids[1], "9223372036854775809");
    let error = parquet("blank-user.parquet", "").map(|_| ()).unwrap_err();
    assert!(error.contains("row 1: the id \"U0 \" in `user` has a blank"), "{error}");
}

#[test]
fn text_tables_beside_the_interactions_are_none() {
    let folder = Folder::new();
    folder.put("all.csv", table("", |u, i, _| format!("U{u},I{i}")).as_bytes());
    folder.put("usr_emb.parquet", b"PAR1");
    folder.put("itm_emb.parquet", b"PAR1");
    assert_eq!(pairs(&folder_load(&folder, Format::Pairs, "").unwrap()), expected("U", "I"));
}

#[test]
fn parquet_columns_that_are_no_ids_are_refused() {
    for (name, words) in [
        ("null-user.parquet", &["null-user.parquet:24", "the user id is empty"][..]),
        ("float-items.parquet", &["the item column `item` holds floats", "integers or strings"]),
        ("unknown.parquet", &["no name of the header is known", "`wer` (U0, U1)", "data.columns"]),
    ] {
        let error = parquet(name, "").map(|_| ()).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{name}: {error}");
    }
}

#[test]
fn a_part_may_be_a_folder_of_part_files() {
    let folder = Folder::new();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet_interactions/parts");
    for (part, files) in [("train.parquet", &[0, 1][..]), ("test", &[2])] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
        for file in files {
            let name = format!("part-{file:05}.zstd.parquet");
            folder.put(&format!("{part}/{name}"), &std::fs::read(fixtures.join(&name)).unwrap());
        }
    }
    // users of the last part are those of no other
    let error = folder_load(&folder, Format::Pairs, "").map(|_| ()).unwrap_err();
    assert!(error.contains("users do not occur in training"), "{error}");
    std::fs::copy(fixtures.join("part-00002.zstd.parquet"), folder.path().join("train.parquet/part-2.parquet"))
        .unwrap();
    let found = folder_load(&folder, Format::Pairs, "").unwrap();
    let lines = found.manifest.reading.lines();
    assert!(lines[0].starts_with("train.parquet: 3 files of Parquet, 24 interactions"), "{lines:?}");
    assert!(lines[1].starts_with("test: Parquet, 8 interactions"), "{lines:?}");
}
