//! Text tables in every form find their users and items; what cannot be given to them for certain is refused.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::{Dataset, Embeddings, TextNeed, prepared};
use accord_spec::Format;
use files::{Folder, npy, safetensors, zip};
use std::path::Path;

const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];

/// Each user has one item in each part; items are 0 to 3, their table a matrix in that order.
fn dataset(users: &[&str]) -> Folder {
    let folder = Folder::new();
    for (part, shift) in [("train", 0), ("valid", 1), ("test", 2)] {
        let lines: String = users.iter().enumerate().map(|(k, user)| format!("{user},{}\n", (k + shift) % 4)).collect();
        folder.put(&format!("{part}.csv"), lines.as_bytes());
    }
    folder.put("itm_emb.npy", &matrix(&[0.0, 1.0, 2.0, 3.0]));
    folder
}

/// The vector of k is k, k / 2.
fn vectors(numbers: &[f32]) -> Vec<f32> {
    numbers.iter().flat_map(|&k| [k, k / 2.0]).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn matrix(numbers: &[f32]) -> Vec<u8> {
    npy("<f4", &[numbers.len(), 2], &floats(&vectors(numbers)))
}

fn letters(ids: &[&str]) -> Vec<u8> {
    let width = ids.iter().map(|id| id.chars().count()).max().unwrap();
    let codes = ids.iter().flat_map(|id| id.chars().map(u32::from).chain(std::iter::repeat(0)).take(width));
    npy(&format!("<U{width}"), &[ids.len()], &codes.flat_map(u32::to_le_bytes).collect::<Vec<_>>())
}

fn bytes(ids: &[&str]) -> Vec<u8> {
    let width = ids.iter().map(|id| id.len()).max().unwrap();
    let data = ids.iter().flat_map(|id| id.bytes().chain(std::iter::repeat(0)).take(width));
    npy(&format!("|S{width}"), &[ids.len()], &data.collect::<Vec<_>>())
}

fn longs(ids: &[i64]) -> Vec<u8> {
    npy("<i8", &[ids.len()], &ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<_>>())
}

fn archive(ids: Vec<u8>, numbers: &[f32]) -> Vec<u8> {
    zip(&[("user_id", ids), ("embeddings", matrix(numbers))])
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(format!("{name}.parquet"))).unwrap()
}

fn load(folder: &Folder) -> Result<Dataset, String> {
    let data = folder.data(Format::Pairs, "");
    let loaded = Dataset::load(&data, folder.root(), 1, TextNeed::Profiles);
    loaded.map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "DIR"))
}

fn users(dataset: &Dataset) -> &Embeddings {
    &dataset.text.as_ref().unwrap().user_profile
}

fn repairs(dataset: &Dataset) -> Vec<(&str, u64)> {
    dataset.manifest.repairs.iter().map(|r| (r.what.as_str(), r.count)).collect()
}

/// Tables of u0 to u3 whose rows lie in another order than the ids.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let ids = ["u2", "u0", "u3", "u1"];
    let numbers = [2.0, 0.0, 3.0, 1.0];
    let lines = |id: &str, vector: &str| -> Vec<u8> {
        let line =
            |(user, k): (&&str, &f32)| format!("{{\"text\": [1], {id}: \"{user}\", {vector}: [{k}, {}]}}\n", k / 2.0);
        ids.iter().zip(&numbers).map(line).collect::<String>().into_bytes()
    };
    let halves: Vec<u8> = vectors(&numbers).iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    let turned: Vec<f32> = numbers.iter().copied().chain(numbers.iter().map(|k| k / 2.0)).collect();
    let mut by_column = npy("<f4", &[4, 2], &floats(&turned));
    let at = by_column.windows(5).position(|w| w == b"False").unwrap();
    by_column[at..at + 5].copy_from_slice(b"True ");
    vec![
        ("npz", archive(letters(&ids), &numbers)),
        ("npz", archive(bytes(&ids), &numbers)),
        ("npz", zip(&[("arr_0", matrix(&numbers)), ("arr_1", letters(&ids))])),
        ("npz", zip(&[("emb", npy("<f2", &[4, 2], &halves)), ("index", letters(&ids)), ("length", longs(&[9; 4]))])),
        ("npz", zip(&[("emb", by_column), ("id", letters(&ids))])),
        ("jsonl", lines("\"user_id\"", "\"embedding\"")),
        ("jsonl", [b"\xef\xbb\xbf".to_vec(), lines("\"userId\"", "\"emb\""), b"\n".to_vec()].concat()),
        ("parquet", fixture("pandas-lists")),
        ("parquet", fixture("pandas-wide-indexed")),
        // row numbers beside the ids, under the names that interactions have
        ("parquet", fixture("trap-indexed")),
        ("parquet", fixture("trap-index")),
        ("jsonl", lines("\"index\": 0, \"customer\"", "\"embedding\"")),
        (
            "npz",
            zip(&[("index", longs(&[0, 1, 2, 3])), ("customer_id", letters(&ids)), ("embeddings", matrix(&numbers))]),
        ),
        ("npz", zip(&[("arr_0", longs(&[0, 1, 2, 3])), ("arr_1", matrix(&numbers)), ("customer_id", letters(&ids))])),
    ]
}

#[test]
fn a_reading_says_what_was_taken_for_ids_and_vectors() {
    let folder = dataset(&USERS);
    folder.put("usr_emb.parquet", &fixture("trap-indexed"));
    let mut found = load(&folder).unwrap();
    let said = |found: &Dataset| found.manifest.reading.lines().split_off(4);
    let expected = [
        "usr_emb.parquet: id = `customer`, vector = `embedding`, 4 rows of 2 numbers",
        "itm_emb.npy: row i belongs to item i, 4 rows of 2 numbers",
    ];
    assert_eq!(said(&found), expected);
    // a second reading tells the same, once
    found.load_text(&folder.data(Format::Pairs, ""), folder.root(), TextNeed::Profiles, None).unwrap();
    assert_eq!(said(&found), expected);
    found.set_text(None);
    assert_eq!(said(&found), [""; 0]);
}

#[test]
fn columns_of_a_vector_are_ordered_by_number_and_alike_on_both_sides() {
    let folder = dataset(&USERS);
    folder.remove("itm_emb.npy");
    folder.put("usr_emb.parquet", &fixture("wide-by-name"));
    folder.put("itm_emb.parquet", &fixture("wide-items"));
    let found = load(&folder).unwrap();
    let ascending: Vec<f32> = (1..13u8).map(f32::from).collect();
    let text = found.text.as_ref().unwrap();
    assert_eq!((text.user_profile.row(1), text.item_profile.row(1)), (&ascending[..], &ascending[..]));
    let lines = found.manifest.reading.lines();
    assert!(lines.iter().any(|line| line.contains("id = `user_id`, vector = `d0` to `d11`, 4 rows")), "{lines:?}");
    folder.put("itm_emb.parquet", &fixture("wide-items-from-1"));
    assert_eq!(
        load(&folder).unwrap_err(),
        "DIR/itm_emb.parquet: the vector begins at the column `d1`, but in usr_emb.parquet it begins at `d0`: name the \
         columns of both tables alike"
    );
}

#[test]
fn rows_in_any_order_and_form_are_the_same_dataset() {
    let listed = dataset(&USERS);
    listed.put("users.txt", b"u0\nu1\nu2\nu3\n");
    listed.put("usr_emb.npy", &matrix(&[0.0, 1.0, 2.0, 3.0]));
    let expected = load(&listed).unwrap();
    assert_eq!(users(&expected).values, vectors(&[0.0, 1.0, 2.0, 3.0]));
    for (number, (ending, bytes)) in forms().into_iter().enumerate() {
        let folder = dataset(&USERS);
        folder.put(&format!("usr_emb.{ending}"), &bytes);
        let found = load(&folder).unwrap_or_else(|e| panic!("form {number}, {ending}: {e}"));
        assert_eq!(found.text, expected.text, "form {number}, {ending}");
        assert_eq!(found.manifest.digest, expected.manifest.digest, "form {number}, {ending}");
        let widths = Dataset::text_widths(&folder.data(Format::Pairs, ""), folder.root(), TextNeed::Profiles);
        assert_eq!(widths.unwrap(), [2, 0]);
    }
}

#[test]
fn own_rows_are_those_of_the_whole_table_in_every_form() {
    for (ending, bytes) in forms() {
        let folder = dataset(&USERS);
        folder.put(&format!("usr_emb.{ending}"), &bytes);
        let data = folder.data(Format::Pairs, "");
        let whole = load(&folder).unwrap();
        let mut own = Dataset::load(&data, folder.root(), 1, TextNeed::None).unwrap();
        own.load_text(&data, folder.root(), TextNeed::Profiles, Some(&[1, 3, 6])).unwrap();
        assert_eq!(own.manifest, whole.manifest, "{ending}");
        assert_eq!(users(&own).values, vectors(&[1.0, 3.0]), "{ending}");
        assert_eq!(own.text.unwrap().item_profile.values, vectors(&[2.0]), "{ending}");
    }
}

#[test]
fn integers_match_ids_by_their_decimals() {
    for (ending, bytes) in [
        ("npz", archive(longs(&[100, 7, 30]), &[100.0, 7.0, 30.0])),
        ("npz", archive(npy("<u8", &[3], &[100u64, 7, 30].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()), &[100.0, 7.0, 30.0])),
        ("parquet", fixture("integer-ids")),
        ("jsonl", b"{\"id\":100,\"vector\":[100,50]}\n\n{\"id\":7,\"vector\":[7,3.5]}\r\n{\"id\":\"30\",\"vector\":[30,15.0]}".to_vec()),
    ] {
        let folder = dataset(&["7", "30", "100"]);
        folder.put(&format!("usr_emb.{ending}"), &bytes);
        let found = load(&folder).unwrap();
        assert_eq!(found.user_ids, ["7", "30", "100"]);
        assert_eq!(users(&found).values, vectors(&[7.0, 30.0, 100.0]), "{ending}");
    }
}

/// A natural order of ids that is not the order of internal ids.
#[test]
fn matrix_of_prefixed_ids_is_refused_and_right_with_a_list() {
    let ids: Vec<String> = (0..11).map(|k| format!("u{k}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let numbers: Vec<f32> = (0..11u8).map(f32::from).collect();
    let folder = dataset(&ids);
    folder.put("usr_emb.npy", &matrix(&numbers));
    assert_eq!(
        load(&folder).unwrap_err(),
        "DIR/usr_emb.npy: rows without ids, and the user ids are not 0 to 10, so no row is known to be a user's (row 0 would \
         go to `u0`, row 1 would go to `u1`, row 2 would go to `u10`): list the user ids in users.txt, one a line in the \
         order of the rows, or save the table with its ids as .npz, .parquet or .jsonl"
    );
    folder.put("users.txt", ids.join("\n").as_bytes());
    let listed = load(&folder).unwrap();
    assert_eq!((listed.user_ids[2].as_str(), users(&listed).row(2)), ("u2", &[2.0, 1.0][..]));

    folder.remove("usr_emb.npy");
    folder.put("usr_emb.npz", &archive(letters(&ids), &numbers));
    assert_eq!(load(&folder).unwrap().manifest.digest, listed.manifest.digest);
    folder.remove("users.txt");
    let joined = load(&folder).unwrap();
    assert_eq!((joined.user_ids[2].as_str(), users(&joined).row(2)), ("u10", &[10.0, 5.0][..]));
}

#[test]
fn surplus_rows_and_rows_of_zeros_are_counted() {
    let folder = dataset(&USERS);
    let ids = ["u9", "u2", "u0", "u3", "u8", "u1"];
    folder.put("usr_emb.npz", &archive(letters(&ids), &[9.0, 2.0, 0.0, 3.0, 8.0, 1.0]));
    let mut found = load(&folder).unwrap();
    let told = [
        ("rows of usr_emb.npz for users that the dataset does not have, ignored", 2),
        ("rows of zeros in usr_emb.npz", 1),
        ("rows of zeros in itm_emb.npy", 1),
    ];
    assert_eq!(repairs(&found), told);
    let digest = found.manifest.digest.clone();
    // a second reading tells the same, once
    found.load_text(&folder.data(Format::Pairs, ""), folder.root(), TextNeed::Profiles, None).unwrap();
    assert_eq!((repairs(&found), &found.manifest.digest), (told.to_vec(), &digest));
    let text = found.text.clone();
    found.set_text(text);
    assert_eq!((repairs(&found).len(), &found.manifest.digest), (0, &digest));
}

const ADVICE: &str = "save one list of ids and one matrix: numpy.savez(file, ids=ids, embeddings=matrix)";
const LINE: &str = "write one object a line: {\"id\": ..., \"embedding\": [...]}";

#[test]
#[rustfmt::skip]
fn each_bad_table_is_told_in_words() {
    let numbers = [2.0, 0.0, 3.0, 1.0];
    let ids = letters(&["u2", "u0", "u3", "u1"]);
    let line = |fields: &str| format!("{{\"id\":\"u0\",\"emb\":[1,2]}}\n{{{fields}}}\n").into_bytes();
    let given = "give each user of the interactions one row, its id written as it is there";
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("npz", archive(letters(&["0", "1", "2", "3"]), &numbers),
            format!("no row for 4 of 4 users (`u0`, `u1`); ids in the table are `0`, `1`: {given}")),
        ("npz", archive(letters(&["u2", "u0", "u9", "u1"]), &numbers),
            format!("no row for 1 of 4 users (`u3`); ids in the table are `u9`: {given}")),
        ("npz", archive(letters(&["u2", "u0", "u2", "u1"]), &numbers), "row 2: user `u2` is already in row 0: give each id one row".into()),
        ("npz", archive(letters(&["u2", "u0", "u3"]), &numbers), "/embeddings.npy: 4 rows, but there are 3 ids: save one id for each row".into()),
        ("npz", archive(ids.clone(), &[1.0, f32::NAN, 1.0, 1.0]), "/embeddings.npy: row 1, column 0 is NaN: every embedding must be a finite 32-bit number".into()),
        ("npz", archive(ids.clone(), &[0.0; 4]), "every row is zero: the embeddings were not computed: encode the texts again".into()),
        ("npz", archive(letters(&["u2", "", "u3", "u1"]), &numbers), "/user_id.npy: an id is not text: save ids as integers or as UTF-8".into()),
        ("npz", zip(&[("arr_0", matrix(&numbers))]), format!("no list of user ids (the archive has `arr_0`: 4 x 2 floats): {ADVICE}")),
        ("npz", zip(&[("item_id", ids.clone()), ("emb", matrix(&numbers))]), format!("no list of user ids (the archive has `item_id`: 4 strings; `emb`: 4 x 2 floats): {ADVICE}")),
        ("npz", zip(&[("id", ids.clone()), ("user_id", ids.clone()), ("emb", matrix(&numbers))]), format!("2 lists could be the user ids: `id`, `user_id` (the archive has `id`: 4 strings; `user_id`: 4 strings; `emb`: 4 x 2 floats): {ADVICE}")),
        ("npz", zip(&[("id", ids.clone()), ("a", matrix(&numbers)), ("b", matrix(&numbers))]), format!("2 matrices of floats (the archive has `id`: 4 strings; `a`: 4 x 2 floats; `b`: 4 x 2 floats): {ADVICE}")),
        ("npz", zip(&[]), format!("0 matrices of floats (the archive has no array): {ADVICE}")),
        ("npz", zip(&[("id", npy("|O", &[4], b"\x80\x04K\x00.")), ("emb", matrix(&numbers))]), "/id.npy: the array holds pickled objects, which are not read (dtype `|O`): save ids.astype(str), and vectors as numpy.stack(vectors)".into()),
        ("npz", b"PK\x03\x04 cut".to_vec(), "not a readable .npz archive (invalid Zip archive: Could not find EOCD): the file is truncated or damaged: write it again".into()),

        ("jsonl", b"".to_vec(), " is empty: write one object a line: {\"id\": ..., \"embedding\": [...]}".into()),
        ("jsonl", b"[1, 2]\n".to_vec(), format!("1: invalid type: sequence, expected an object: {LINE}")),
        ("jsonl", line("\"id\":\"u1\",\"emb\":[1,2]"), format!("no row for 2 of 4 users (`u2`, `u3`); ids in the table are `u0`, `u1`: {given}")),
        ("jsonl", line("\"id\":\"u0\",\"emb\":[1,2]"), "line 2: user `u0` is already in line 1: give each id one row".into()),
        ("jsonl", line("\"id\":\"u1\",\"emb\":[1]"), "2: 1 values, the first line has 2: encode all texts with the same model".into()),
        ("jsonl", line("\"id\":\"u1\",\"emb\":[1,NaN]"), format!("2: expected value (column 21): {LINE}")),
        ("jsonl", line("\"id\":\"u1\",\"emb\":[1,null]"), format!("2: invalid type: null, expected f64 (column 24): {LINE}")),
        ("jsonl", line("\"id\":\"u1\",\"emb\":[1,1e300]"), "2: value 1 of the vector is 1e300: every embedding must be a finite 32-bit number".into()),
        ("jsonl", line("\"id\":7.0,\"emb\":[1,2]"), format!("2: invalid type: floating point `7.0`, expected an id, a string or an integer (column 9): {LINE}")),
        ("jsonl", line("\"id\":\"\",\"emb\":[1,2]"), format!("2: the id is empty (column 8): {LINE}")),
        ("jsonl", line("\"item_id\":\"u1\",\"emb\":[1,2]"), format!("2: no field is named `id` or `user_id`, but `item_id` (column 28): {LINE}")),
        ("jsonl", line("\"id\":\"u1\",\"uid\":\"x\",\"emb\":[1,2]"), format!("2: 2 fields could be the user ids: `id`, `uid`; keep one of them, named `user_id` (column 33): {LINE}")),
        ("jsonl", line("\"id\":\"u1\",\"profile\":[1,2]"), format!("2: no field is named `embedding`, but `id`, `profile` (column 27): {LINE}")),
        ("jsonl", line("\"id\":\"u1\",\"emb\":[1,2]}, {"), format!("2: trailing characters (column 24): {LINE}")),

        ("parquet", fixture("bad-null-id"), "row 1: `user_id` is empty: each row needs an id".into()),
        ("parquet", fixture("bad-null-vector"), "row 3: `emb` is null: each row needs a whole vector".into()),
        ("parquet", fixture("bad-null-element"), "row 3, column 1 is NaN: every embedding must be a finite 32-bit number".into()),
        ("parquet", fixture("bad-ragged"), "row 3 has 1 values, but the first row has 2: encode all texts with the same model".into()),
        ("parquet", fixture("bad-stray-integer"), "`d1` is neither the id nor a float (the columns are user_id (strings), d0 (floats), d1 (integers)): write one column of lists of floats, or the id and float columns alone".into()),
        ("parquet", fixture("bad-two-lists"), "several columns could be the vector (the columns are user_id (strings), a (lists of floats), b (lists of floats)): keep one column of lists, or name one `embedding`".into()),
        ("parquet", fixture("bad-other-side"), "no column is named for user ids (the columns are item_id (strings), number (integers), emb (lists of floats)): name one column of integers or strings `user_id`".into()),
        ("parquet", fixture("bad-of-items"), "no column is named for user ids (the columns are item_id (strings), emb (lists of floats)): name one column of integers or strings `user_id`".into()),
        ("parquet", fixture("bad-two-ids"), "2 columns could be the user ids: `id`, `user_id` (the columns are id (strings), user_id (strings), emb (lists of floats)): keep one of them, named `user_id`".into()),
        ("parquet", fixture("bad-float-ids"), "`user_id` holds floats (the columns are user_id (floats), emb (lists of floats)): name one column of integers or strings `user_id`".into()),
        ("parquet", fixture("bad-no-floats"), "no column holds floats (the columns are user_id (strings)): write one column of lists of floats".into()),
        ("parquet", fixture("bad-stray-float"), "the floats are not one numbered series: `mean_rating` (the columns are user_id (strings), mean_rating (floats), d0 (floats), d1 (floats), d2 (floats)): number the vector's columns 0, 1, 2, ... behind one prefix and leave other floats out, or write one column of lists of floats".into()),
        ("parquet", fixture("bad-stray-string"), "`d2` is named for the vector and holds strings (the columns are user_id (strings), d0 (floats), d1 (floats), d2 (strings)): write one column of lists of floats, or the id and float columns alone".into()),
        ("parquet", fixture("bad-string-vector"), "`embedding` holds strings (the columns are user_id (strings), embedding (strings), d0 (floats), d1 (floats), d2 (floats)): write it as a column of lists of floats".into()),
        ("parquet", fixture("bad-gap"), "`d0` is followed by `d2` (the columns are user_id (strings), d0 (floats), d2 (floats)): number the vector's columns 0, 1, 2, ... behind one prefix and leave other floats out, or write one column of lists of floats".into()),
        ("parquet", fixture("bad-blank-id"), "row 1: the id \"u1 \" in `user_id` has a blank or a line break at its end or in it: strip the ids, in the text tables too: frame[\"user_id\"] = frame[\"user_id\"].str.strip()".into()),
        ("parquet", fixture("trap-id"), "2 columns could be the user ids: `customer`, `id` (the columns are customer (strings), embedding (lists of floats), id (integers)): keep one of them, named `user_id`".into()),
        ("parquet", fixture("trap-unknown"), "2 columns could be the user ids: `index`, `shopper` (the columns are index (integers), shopper (strings), embedding (lists of floats)): keep one of them, named `user_id`".into()),
        ("parquet", fixture("trap-rank"), "no column is named for user ids (the columns are embedding (lists of floats), rank (integers)): name one column of integers or strings `user_id`".into()),
        ("npz", zip(&[("index", longs(&[0, 1, 2, 3])), ("shopper", ids.clone()), ("emb", matrix(&numbers))]), format!("2 lists could be the user ids: `index`, `shopper` (the archive has `index`: 4 integers; `shopper`: 4 strings; `emb`: 4 x 2 floats): {ADVICE}")),
        ("jsonl", line("\"user_id\":\"u1\",\"emb\":[1,2]"), "2: the id is `user_id`, in the first line it is `id`: give the id the same name in each line".into()),
        ("parquet", fixture("bad-no-rows"), " is empty: the table has no row".into()),
        ("parquet", fixture("brotli"), "no column is named for user ids (the columns are a (integers)): name one column of integers or strings `user_id`".into()),
    ];
    let mut wrong = Vec::new();
    for (ending, bytes, message) in cases {
        let folder = dataset(&USERS);
        folder.put(&format!("usr_emb.{ending}"), &bytes);
        let said = load(&folder).map(|_| ()).unwrap_err();
        let said = said.strip_prefix(&format!("DIR/usr_emb.{ending}")).unwrap_or(&said);
        let said = said.strip_prefix(": ").or_else(|| said.strip_prefix(":")).unwrap_or(said);
        if said != message {
            wrong.push(format!("  expected {message}\n  said     {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn digests_of_ids_hold_matrices_to_their_list() {
    let folder = dataset(&USERS);
    folder.put("users.txt", b"u0\nu1\nu2\nu3\n");
    folder.put("usr_emb.npy", &matrix(&[0.0, 1.0, 2.0, 3.0]));
    let written = load(&folder).unwrap();
    let out = folder.root().join("out");
    prepared::write(&out, &written).unwrap();
    let data = files::data("out", Format::Npz, "");
    let read = || Dataset::load(&data, folder.root(), 1, TextNeed::Profiles);
    assert_eq!(read().unwrap().manifest.digest, written.manifest.digest);
    let digest = blake3::hash(b"u0\nu1\nu2\nu3\n").to_hex();
    let json = std::fs::read_to_string(out.join("ids.json")).unwrap();
    assert!(json.contains(digest.as_str()), "{json}");

    std::fs::write(out.join("users.txt"), "u1\nu0\nu2\nu3\n").unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("users.txt was changed after the text tables were written"), "{error}");
    std::fs::write(out.join("users.txt"), "u0\nu1\nu2\nu3\n").unwrap();
    std::fs::write(out.join("ids.json"), "{}").unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("ids.json: missing field `users`"), "{error}");

    // a table may say itself for which ids it was written
    folder.remove("usr_emb.npy");
    let table = safetensors(&[("x", &[4, 2], &vectors(&[0.0, 1.0, 2.0, 3.0]))]);
    let put = |table: &[u8], digest: &str| {
        let length = u64::from_le_bytes(table[..8].try_into().unwrap()) as usize;
        let header = String::from_utf8(table[8..8 + length].to_vec()).unwrap();
        let header =
            header.trim_end().replacen('{', &format!("{{\"__metadata__\":{{\"ids_digest\":\"{digest}\"}},"), 1);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &table[8 + length..]].concat();
        folder.put("usr_emb.safetensors", &bytes);
    };
    put(&table, digest.as_str());
    assert_eq!(load(&folder).unwrap().manifest.digest, written.manifest.digest);
    put(&table, &"0".repeat(64));
    let error = load(&folder).unwrap_err();
    assert!(error.contains("the table says 000000000000"), "{error}");
}

#[test]
fn profiles_alone_serve_a_model_without_intents() {
    let folder = dataset(&USERS);
    folder.put("usr_emb.npz", &forms()[0].1);
    let found = load(&folder).unwrap();
    assert_eq!((found.manifest.profile_width, found.manifest.intent_width), (Some(2), None));
    assert!(found.text.unwrap().intents.is_none());
    let data = folder.data(Format::Pairs, "");
    let kinds = [accord_spec::ModelKind::Lightgcn, accord_spec::ModelKind::RlmrecCon, accord_spec::ModelKind::Irllrec];
    assert_eq!(kinds.map(TextNeed::of), [TextNeed::None, TextNeed::Profiles, TextNeed::ProfilesAndIntents]);
    let error = Dataset::load(&data, folder.root(), 1, TextNeed::ProfilesAndIntents).unwrap_err().to_string();
    assert!(error.contains("usr_intent_emb.npy is missing"), "{error}");
}

#[test]
fn tables_of_a_folder_are_found_by_pairs() {
    let folder = Folder::new();
    let found = || {
        let found = Dataset::text_found(&folder.data(Format::Pairs, ""), folder.root());
        found.map_err(|e| e.to_string().replace(&folder.path().display().to_string(), "DIR"))
    };
    assert_eq!(found(), Ok(TextNeed::None));
    folder.put("itm_intent_emb.jsonl", b"x");
    assert!(found().unwrap_err().starts_with("DIR/usr_intent_emb.npy is missing: "));
    folder.put("usr_intent_emb.npy", b"x");
    assert!(found().unwrap_err().starts_with("DIR/usr_emb.npy is missing: "));
    folder.put("usr_emb.npy", b"x");
    assert_eq!(
        found().unwrap_err(),
        "DIR/itm_emb.npy is missing: usr_emb.npy lies there without it: add the table, or name its file under data.text"
    );
    folder.put("itm_emb.csv", b"x");
    assert_eq!(
        found().unwrap_err(),
        "DIR/itm_emb.npy is missing: the folder holds itm_emb.csv, whose ending is not read: write it as .npy, .safetensors, \
         .npz, .parquet, .jsonl, or .pkl"
    );
    folder.remove("itm_emb.csv");
    folder.put("itm_emb.npz", b"x");
    assert_eq!(found(), Ok(TextNeed::ProfilesAndIntents));
    folder.put("itm_emb.parquet", b"x");
    assert_eq!(
        found().unwrap_err(),
        "DIR: more than one file could be the text table (itm_emb.npz, itm_emb.parquet): keep one of them, or name it under \
         data.text"
    );
    // no ending goes before another, unless the job names the file
    folder.remove("itm_emb.parquet");
    folder.put("itm_emb.npy", b"x");
    assert!(found().unwrap_err().contains("(itm_emb.npy, itm_emb.npz): keep one of them, or name it under data.text"));
    let named = folder.data(Format::Pairs, "text = { item_profile = \"itm_emb.npy\" }");
    assert_eq!(Dataset::text_found(&named, folder.root()).unwrap(), TextNeed::ProfilesAndIntents);
    // a name for one table says nothing of another
    let other = folder.data(Format::Pairs, "text = { user_profile = \"usr_emb.npy\" }");
    let refused = Dataset::text_found(&other, folder.root()).unwrap_err().to_string();
    assert!(refused.contains("(itm_emb.npy, itm_emb.npz)"), "{refused}");
    folder.remove("itm_emb.npz");
    folder.remove("usr_intent_emb.npy");
    folder.remove("itm_intent_emb.jsonl");
    assert_eq!(found(), Ok(TextNeed::Profiles));
    // the official folders' texts have two default names
    let found = || Dataset::text_found(&folder.data(Format::Rlmrec, ""), folder.root()).map_err(|e| e.to_string());
    assert_eq!(found(), Ok(TextNeed::Profiles));
    folder.put("usr_emb_np.pkl", b"x");
    assert!(found().unwrap_err().contains("(usr_emb_np.pkl, usr_emb.npy)"));
    folder.remove("usr_emb.npy");
    assert_eq!(found(), Ok(TextNeed::Profiles));
}

#[test]
fn parts_of_a_parquet_folder_are_one_table() {
    let folder = dataset(&USERS);
    let parts = folder.path().join("usr_emb.parquet");
    std::fs::create_dir(&parts).unwrap();
    std::fs::write(parts.join("part-0.parquet"), fixture("pandas-lists")).unwrap();
    assert_eq!(users(&load(&folder).unwrap()).values, vectors(&[0.0, 1.0, 2.0, 3.0]));
    std::fs::write(parts.join("part-1.parquet"), fixture("pandas-lists")).unwrap();
    assert_eq!(
        load(&folder).unwrap_err(),
        "DIR/usr_emb.parquet: part-1.parquet, row 0: user `u2` is already in part-0.parquet, row 0: give each id one row"
    );
}

#[test]
fn values_beyond_f16_are_kept_whole() {
    let folder = dataset(&USERS);
    folder.put("usr_emb.npz", &archive(letters(&USERS), &[0.1, 70_000.0, 1e-9, 3.0]));
    let mut written = load(&folder).unwrap();
    let out = folder.root().join("out");
    prepared::write(&out, &written).unwrap();
    let data = files::data("out", Format::Npz, "");
    let back = Dataset::load(&data, folder.root(), 1, TextNeed::Profiles).unwrap();
    assert_eq!((&back.text, &back.manifest.digest), (&written.text, &written.manifest.digest));
    let size = |name: &str| std::fs::metadata(out.join(name)).unwrap().len();
    assert_eq!((size("usr_emb.npy"), size("itm_emb.npy")), (128 + 8 * 4, 128 + 8 * 2));

    let mut text = written.text.clone().unwrap();
    text.user_profile.round_to_f16();
    assert_eq!(text.user_profile.values[6], 3.0);
    written.set_text(Some(text));
    let error = prepared::write(&out, &written).unwrap_err().to_string();
    assert!(error.contains("usr_emb.npy: row 1, column 0 is inf"), "{error}");
}
