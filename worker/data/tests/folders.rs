//! Which files of a folder are the dataset: what lies beside them is told, and two readings are refused.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::{Dataset, TextNeed, guess_format, prepared};
use accord_spec::Format;
use files::{Folder, coo};
use std::fs;

const PAIRS: &[u8] = b"user,item\n0,1\n0,2\n1,2\n1,3\n2,3\n2,0\n3,0\n3,1\n";
const MORE: &[u8] = b"user,item\n0,3\n1,0\n2,1\n3,2\n";

fn folder(names: &[&str]) -> Folder {
    let folder = Folder::new();
    names.iter().for_each(|name| folder.put(name, if name.starts_with("test") { MORE } else { PAIRS }));
    folder
}

fn load(folder: &Folder, format: Format) -> Result<Dataset, String> {
    let data = folder.data(format, "");
    Dataset::load(&data, folder.root(), 7, TextNeed::None).map_err(|error| error.to_string())
}

/// The words of the error of reading `folder`.
fn refused(folder: &Folder, format: Format, words: &[&str]) {
    let said = load(folder, format).map(|dataset| dataset.manifest.reading.lines().join("\n")).unwrap_err();
    words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
}

#[test]
fn the_format_is_that_of_files_named_as_interactions() {
    for (names, expected) in [
        (&["ratings.csv", "usr_emb.npz", "itm_emb.npz"][..], Format::Pairs),
        (&["events.csv", "item_sim.npz"], Format::Pairs),
        (&["trn.npz", "tst.npz", "users.txt", "movies.csv"], Format::Npz),
        (&["all.npz", "items.csv", "usr_intents.npz"], Format::Npz),
        (&["trn_mat.pkl", "usr_emb_np.pkl", "notes.csv"], Format::Rlmrec),
        (&["a.inter", "a.item"], Format::Recbole),
        (&["part-0.parquet", "part-1.parquet"], Format::Pairs),
        (&["train-00000-of-00001.parquet"], Format::Pairs),
    ] {
        assert_eq!(guess_format(&folder(names).path()).unwrap(), expected, "{names:?}");
    }
    let parts = folder(&[]);
    for part in ["train", "test"] {
        fs::create_dir(parts.path().join(part)).unwrap();
        parts.put(&format!("{part}/part-0.parquet"), b"");
    }
    assert_eq!(guess_format(&parts.path()).unwrap(), Format::Pairs);
}

#[test]
fn a_format_that_is_not_clear_is_asked_for() {
    for (names, words) in [
        (&["train.txt", "test.txt", "s_pre_adj_mat.npz"][..], &["test.txt", "--format pairs", "adjacency"][..]),
        (&["notes.txt"], &["notes.txt", "--format adjacency"]),
        (&["train.csv", "trn.npz"], &["train.csv", "trn.npz", "--format npz"]),
        (&["ratings.csv", "ml.inter"], &["ratings.csv", "ml.inter", "--format recbole"]),
        (&["a.parquet.gzip"], &["a.parquet.gzip", "end in .parquet"]),
        (&["a.pq"], &["a.pq", "end in .parquet"]),
        (&["a.json"], &["a.json", "as CSV or Parquet"]),
        (&["a.xlsx"], &["a.xlsx", "as CSV"]),
        (&["a.csv.bz2"], &["a.csv.bz2", "unpack it"]),
        (&[], &["a dataset is a folder of .csv"]),
    ] {
        let error = guess_format(&folder(names).path()).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{names:?}: {error}"));
    }
    let file = folder(&["ratings.csv"]);
    let error = guess_format(&file.path().join("ratings.csv")).unwrap_err().to_string();
    assert!(error.contains("this is a file: name the folder"), "{error}");
    let below = folder(&[]);
    fs::create_dir(below.path().join("sub")).unwrap();
    below.put("sub/ratings.csv", PAIRS);
    refused(&below, Format::Pairs, &["`ratings.csv` lies in the folder `sub`"]);
    fs::create_dir(below.path().join("rating=5")).unwrap();
    below.put("rating=5/part-0.parquet", b"");
    refused(&below, Format::Pairs, &["`rating=5` in it is a partition of a table"]);
    refused(&folder(&["a.json"]), Format::Pairs, &["a.json", "as CSV or Parquet"]);
    refused(&folder(&["ratings.csv"]), Format::Npz, &["ratings.csv", "data.format = \"pairs\""]);
}

#[test]
fn a_graph_of_all_nodes_is_no_matrix_of_users_and_items() {
    // users 0 and 1, items 2 and 3
    let graph = folder(&[]);
    graph.put("s_pre_adj_mat.npz", &coo(&[0, 0, 1, 2, 3, 3], &[2, 3, 3, 0, 0, 1], [4, 4]));
    refused(&graph, Format::Npz, &["s_pre_adj_mat.npz", "symmetric", "train.npz"]);
    let likeness = folder(&["train.txt"]);
    likeness.put("item_sim.npz", &coo(&[0, 0, 1, 2, 3], &[2, 3, 3, 0, 2], [4, 4]));
    refused(&likeness, Format::Npz, &["item_sim.npz", "beside train.txt"]);
    let (rows, columns) = (0..60).map(|k| (k / 6, (k * 7 + k / 6) % 10)).unzip::<i32, i32, Vec<_>, Vec<_>>();
    let square = folder(&[]);
    square.put("all.npz", &coo(&rows, &columns, [10, 10]));
    assert_eq!(load(&square, Format::Npz).unwrap().users(), 10);
}

/// Each item occurs once: most items that are held out have no training interaction, whoever held them out.
#[test]
fn a_split_of_our_own_is_read_back_whatever_it_holds() {
    let once = folder(&[]);
    let lines: String = (0..300).map(|k| format!("u{},i{k}\n", k % 30)).collect();
    once.put("all.csv", format!("user,item\n{lines}").as_bytes());
    let dataset = load(&once, Format::Pairs).unwrap();
    let own = folder(&[]);
    let read_back = |_: &std::path::Path| {
        Err::<(), _>(accord_data::DataError::Unusable { problem: "no".into(), advice: "no".into() })
    };
    prepared::write_checked(&own.path(), &dataset, read_back).unwrap_err();
    assert_eq!(fs::read_dir(own.root()).unwrap().count(), 1, "nothing is left behind");
    assert_eq!(fs::read_dir(own.path()).unwrap().count(), 0);
    prepared::write(&own.path(), &dataset).unwrap();
    assert_eq!(load(&own, Format::Npz).unwrap().manifest.digest, dataset.manifest.digest);
    // without the lists nothing says whose rows they are
    own.remove("users.txt");
    refused(&own, Format::Npz, &["do not occur in training", "or they are new"]);
}

#[test]
fn files_that_are_no_part_are_told() {
    for (names, passed_over) in [
        (&["train.csv", "holdout.csv"][..], "holdout.csv"),
        (&["train.csv", "test.csv", "eval.csv"], "eval.csv"),
        (&["ratings.csv", "train.csv"], "ratings.csv"),
    ] {
        let found = load(&folder(names), Format::Pairs).unwrap();
        assert_eq!(found.manifest.reading.passed_over, [passed_over], "{names:?}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_no_missing_part() {
    for (name, format) in
        [("valid.csv", Format::Pairs), ("users.txt", Format::Pairs), ("ml.test.inter", Format::Recbole)]
    {
        let folder = folder(&["train.csv", "test.csv"]);
        std::os::unix::fs::symlink("/nowhere/file", folder.path().join(name)).unwrap();
        refused(&folder, format, &[name, "a link to a file that does not exist"]);
    }
}

#[test]
fn folders_and_pieces_that_are_not_read_are_refused() {
    let programs = folder(&["train.csv", "test.csv"]);
    fs::create_dir(programs.path().join("test")).unwrap();
    programs.put("test/test_a.py", b"");
    assert_eq!(load(&programs, Format::Pairs).unwrap().users(), 4);
    let spark = folder(&["test.csv"]);
    fs::create_dir(spark.path().join("train.csv")).unwrap();
    spark.put("train.csv/part-00000-x.csv", PAIRS);
    refused(&spark, Format::Pairs, &["train.csv", "folder of part files", "one header"]);
    let parts = folder(&["train.csv", "test.csv"]);
    fs::create_dir(parts.path().join("valid")).unwrap();
    parts.put("valid/partners.csv", PAIRS);
    assert_eq!(load(&parts, Format::Pairs).unwrap().manifest.test, 4);
    parts.put("valid/part-00000.csv", PAIRS);
    refused(&parts, Format::Pairs, &["valid", "folder of part files"]);
    refused(&folder(&["part-00000-x.csv", "part-00001-x.csv"]), Format::Pairs, &["pieces of one table"]);
    refused(
        &folder(&["train-00000-of-00002.csv", "train-00001-of-00002.csv"]),
        Format::Pairs,
        &["pieces of one table"],
    );
    refused(&folder(&["train-00001-of-00002.csv"]), Format::Pairs, &["one of 2 pieces"]);
    assert_eq!(load(&folder(&["train-00000-of-00001.csv", "test.csv"]), Format::Pairs).unwrap().manifest.test, 4);
}

#[test]
fn pieces_of_parquet_may_lie_beside_tables_of_other_things() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet_interactions");
    let piece = |number: u32| fs::read(fixtures.join(format!("parts/part-{number:05}.zstd.parquet"))).unwrap();
    let folder = folder(&[]);
    (0..3).for_each(|number| folder.put(&format!("part-{number:05}.parquet"), &piece(number)));
    let alone = load(&folder, Format::Pairs).unwrap();
    for name in ["usr_emb.parquet", "itm_emb.parquet", "items.parquet"] {
        folder.put(name, b"no interactions");
    }
    folder.put("movies.parquet", b"no interactions");
    let found = load(&folder, Format::Pairs).unwrap();
    assert_eq!(found.manifest.digest, alone.manifest.digest);
    assert_eq!(alone.manifest.reading.passed_over, [""; 0]);
    assert_eq!(found.manifest.reading.passed_over, ["movies.parquet"]);
    let lines = found.manifest.reading.lines();
    assert!(lines[0].starts_with("part-00000.parquet and others: 3 files of Parquet, 24 interactions"), "{lines:?}");
    folder.put("ratings.csv", PAIRS);
    refused(&folder, Format::Pairs, &["more than one file could be the interactions", "ratings.csv"]);
    folder.remove("ratings.csv");
    folder.put("part-00003.parquet", &fs::read(fixtures.join("typed.parquet")).unwrap());
    refused(&folder, Format::Pairs, &["part-00003.parquet", "all parts of a table have the same columns"]);
}

#[test]
fn lines_that_are_no_lists_of_items_are_refused() {
    let lines = |line: &dyn Fn(usize, &[String]) -> String| -> String {
        (0..20)
            .map(|user| {
                let items: Vec<String> = (0..2 + user % 4).map(|k| ((user * 3 + k * 5) % 17).to_string()).collect();
                line(user, &items)
            })
            .collect()
    };
    let plain = lines(&|user, items| format!("{user} {}\n", items.join(" ")));
    let read = |text: &str| {
        let folder = folder(&[]);
        folder.put("train.txt", text.as_bytes());
        load(&folder, Format::Adjacency).map(|dataset| dataset.users())
    };
    assert_eq!(read(&plain), Ok(20));
    let words = lines(&|user, items| format!("name{user} thing-{}\n", items.join(" thing-")));
    assert_eq!(read(&words), Ok(20));
    let counted = lines(&|_, items| format!("{} {}\n", items.len(), items.join(" ")));
    let counted_after = lines(&|user, items| format!("{user} {} {}\n", items.len(), items.join(" ")));
    let padded = lines(&|user, items| format!("{user} {} 0 0 0\n", items.join(" ")));
    let filled = lines(&|user, items| format!("{user} PAD PAD {}\n", items.join(" ")));
    let rated =
        |behind: &str| -> String { (0..60).map(|k| format!("{} {} {}{behind}\n", k % 9, k % 17, 1 + k % 5)).collect() };
    for (text, said) in [
        (counted, "counts those that follow"),
        (counted_after, "counts the items that follow"),
        (rated(""), "data.format = \"pairs\""),
        (rated("\t880000000"), "data.format = \"pairs\""),
        (padded, "the item `0` twice"),
        (filled, "the item `PAD` twice"),
        (format!("user items\n{words}"), "train.txt:1: the line names columns"),
        (format!("user_id item_id_1 item_id_2\n{words}"), "train.txt:1: the line names columns"),
        (format!("# user items\n{words}"), "train.txt:1: the line names columns"),
        (format!("20 17\n{plain}"), "train.txt:1: `20` and `17` may be the numbers of users and items"),
        (format!("20 99\n{plain}"), "train.txt:1: `20` and `99` may be the numbers of users and items"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.contains(said), "{said}: {error}");
    }
}

fn inter(names: &[&str]) -> Folder {
    let folder = Folder::new();
    for name in names {
        let text = if name.contains("test") { MORE } else { PAIRS };
        let text = String::from_utf8(text.into()).unwrap().replace("user,item", "user_id:token,item_id:token");
        folder.put(name, text.replace(',', "\t").as_bytes());
    }
    folder
}

#[test]
fn files_of_two_recbole_datasets_are_not_put_together() {
    let read = load(&inter(&["ml.inter", "ml.train.inter", "ml.test.inter"]), Format::Recbole).unwrap();
    assert_eq!(read.manifest.reading.passed_over, ["ml.inter"]);
    assert_eq!(load(&inter(&["ml.train.inter"]), Format::Recbole).unwrap().users(), 4);
    assert_eq!(load(&inter(&["train.inter", "test.inter"]), Format::Recbole).unwrap().manifest.test, 4);
    for (names, said) in [
        (&["amz.train.inter", "ml.test.inter"][..], "could be the dataset"),
        (&["amz.train.inter", "amz.test.inter", "ml.train.inter", "ml.test.inter"], "could be the dataset"),
        (&["amz.inter", "ml.train.inter", "ml.test.inter"], "could be the dataset"),
        (&["ml.train.inter", "ml.train.inter.gz", "ml.test.inter"], "could be the interactions"),
        (&["ml.train.inter", "ml.valid.inter"], "ml.test.inter is missing"),
        (&["ml.inter", "ml.train.inter"], "could be the interactions"),
        (&["ml.test.inter"], "ml.train.inter is missing"),
    ] {
        refused(&inter(names), Format::Recbole, &[said]);
    }
    let titled = inter(&["ml.inter"]);
    titled.put("ml.item", b"item_id:token\tmovie_title:token_seq\n0\tHeat\n");
    titled.put("amz.item", b"item_id:token\ttitle:token_seq\n0\tA lamp\n");
    let found = load(&titled, Format::Recbole).unwrap();
    assert_eq!(found.item_titles.unwrap()[0], "Heat");
    assert_eq!(found.manifest.reading.passed_over, ["amz.item"]);
}

#[test]
fn columns_of_recbole_that_were_left_over_are_no_items() {
    for (header, keys, words) in [
        (
            "user_id:token\tsession_id:token\titem_id_list:token_seq",
            "",
            &["`session_id:token` would be", "sequences"][..],
        ),
        (
            "user_id:token\titem_id:token\titem_id_list:token_seq",
            "",
            &["`item_id_list:token_seq`", "item = \"item_id\""],
        ),
        ("user_id:token\tsession_id:token\tplace:token_seq", "", &["`session_id:token` would be the item"]),
        ("user_id:token\tcategory:token\titem_id:float", "", &["`category:token`", "`item_id:float` is"]),
        ("user_id:token\ttimestamp:token\tplace:float", "", &["`timestamp:token` would be the item"]),
        ("user_id: token\titem_id: token\trating: float", "", &["the type ` token` of the column `user_id`"]),
        ("user_id:Token\titem_id:token\trating:float", "", &["the type `Token` of the column `user_id`"]),
        ("user_id:token\titem_id:token\trating:int", "", &["the type `int` of the column `rating`"]),
        ("user_id:token\tcategory:token\titem_id:float", "columns = { user = \"user_id\", item = \"category\" }", &[]),
        ("user_id:token\twhat:token\trating:float", "", &[]),
    ] {
        let folder = Folder::new();
        let lines: String = (0..40).map(|k| format!("{}\t{}\t{}\n", k % 7, k % 11, 1 + k % 5)).collect();
        folder.put("a.inter", format!("{header}\n{lines}").as_bytes());
        let data = folder.data(Format::Recbole, keys);
        match Dataset::load(&data, folder.root(), 7, TextNeed::None) {
            Ok(found) => assert!(words.is_empty() && found.items() == 11, "{header}"),
            Err(error) => {
                let error = error.to_string();
                assert!(!words.is_empty() && words.iter().all(|word| error.contains(word)), "{header}: {error}");
            }
        }
    }
}

#[test]
fn files_of_every_format_have_the_same_columns() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet_interactions");
    let parquet = fs::read(fixtures.join("parts/part-00000.zstd.parquet")).unwrap();
    let mixed = Folder::new();
    mixed.put("train.parquet", &parquet);
    mixed.put("test.csv", &[b"session_id,item\n".as_slice(), b"u1,3\nu2,4\n"].concat());
    refused(&mixed, Format::Pairs, &["test.csv", "the user is `session_id` here and `user` in train.parquet"]);
    let recbole = Folder::new();
    let lines = "0\t1\n0\t2\n1\t2\n1\t3\n";
    recbole.put("a.train.inter", format!("user_id:token\titem_id:token\n{lines}").as_bytes());
    recbole.put("a.test.inter", format!("session_id:token\titem_id:token\n{lines}").as_bytes());
    refused(&recbole, Format::Recbole, &["a.test.inter", "`session_id:token` here"]);
}
