//! Bad data files, each with the exact message a user sees.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

mod files;

use accord_data::{Dataset, TextNeed};
use accord_spec::Format;
use files::{Folder, coo, npy, safetensors, zip};

struct Case {
    name: &'static str,
    format: Format,
    /// Keys of `[data]` beside path and format.
    keys: &'static str,
    text: TextNeed,
    make: fn(&Folder),
    /// `DIR` stands for the dataset's folder.
    message: &'static str,
}

/// Three users and four items that can be trained on; cases spoil a file of it.
fn good_npz(dir: &Folder) {
    dir.put("trn.npz", &coo(&[0, 1, 2, 2], &[0, 1, 2, 3], [3, 4]));
    dir.put("val.npz", &coo(&[0, 1], &[1, 2], [3, 4]));
    dir.put("tst.npz", &coo(&[0, 2], &[2, 0], [3, 4]));
}

fn good_text(dir: &Folder) {
    good_npz(dir);
    for (name, rows) in [("usr_emb.npy", 3), ("itm_emb.npy", 4), ("usr_intent_emb.npy", 3), ("itm_intent_emb.npy", 4)] {
        dir.put(name, &npy("<f4", &[rows, 2], &floats(&vec![0.5; rows * 2])));
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

const NPZ: Case = Case { name: "", format: Format::Npz, keys: "", text: TextNeed::None, make: good_npz, message: "" };
const TEXT: Case = Case { text: TextNeed::ProfilesAndIntents, make: good_text, ..NPZ };
const PAIRS: Case = Case { format: Format::Pairs, ..NPZ };
const RECBOLE: Case = Case { format: Format::Recbole, ..NPZ };
const RLMREC: Case = Case { format: Format::Rlmrec, ..NPZ };
const LISTS: Case = Case { format: Format::Adjacency, ..NPZ };

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { name: "folder missing", make: |d| d.vanish(),
        message: "DIR is missing: data.path must name a folder; it is relative to the folder of the job file", ..NPZ },
    Case { name: "folder without interactions", make: |_| {},
        message: "DIR/train.npz is missing: the folder has no interaction file ending in .npz: check data.path and data.format", ..NPZ },
    Case { name: "no test part", make: |d| { good_npz(d); d.remove("tst.npz"); },
        message: "DIR/test.npz is missing: the folder has other parts but no test part: add it, or leave one single file to be split", ..NPZ },
    Case { name: "two training files", make: |d| { good_npz(d); d.put("train.npz", b"x"); },
        message: "DIR: more than one file could be the training part (train.npz, trn.npz): keep one of them", ..NPZ },
    Case { name: "empty archive file", make: |d| { good_npz(d); d.put("trn.npz", b""); },
        message: "DIR/trn.npz is empty: write the matrix again", ..NPZ },
    Case { name: "truncated archive", make: |d| { good_npz(d); d.cut("trn.npz", 200); },
        message: "DIR/trn.npz: not a readable .npz archive (invalid Zip archive: Could not find EOCD): the file is truncated or damaged: write it again", ..NPZ },
    Case { name: "archive without shape", make: |d| { good_npz(d); d.put("trn.npz", &zip(&[("row", npy("<i4", &[0], &[]))])); },
        message: "DIR/trn.npz: the archive has no `shape`: save row, col and shape, or use scipy.sparse.save_npz", ..NPZ },
    Case { name: "archive of nothing", make: |d| { good_npz(d); d.put("trn.npz", &zip(&[])); },
        message: "DIR/trn.npz: the archive has no `shape`: save row, col and shape, or use scipy.sparse.save_npz", ..NPZ },
    Case { name: "item out of range", make: |d| { good_npz(d); d.put("tst.npz", &coo(&[0, 2], &[2, 4], [3, 4])); },
        message: "DIR/tst.npz/col.npy, entry 1: item id 4 is out of range: there are 4 items, numbered from 0", ..NPZ },
    Case { name: "negative user in a matrix", make: |d| { good_npz(d); d.put("trn.npz", &coo(&[0, -2], &[2, 3], [3, 4])); },
        message: "DIR/trn.npz/row.npy, entry 1: user id -2 is negative: ids count from 0", ..NPZ },
    Case { name: "parts of different shapes", make: |d| { good_npz(d); d.put("val.npz", &coo(&[0], &[1], [3, 5])); },
        message: "DIR/val.npz: shape [3, 5], but trn.npz has shape [3, 4]: every part has all users as rows and all items as columns", ..NPZ },
    Case { name: "shape of billions", make: |d| { good_npz(d); d.put("trn.npz", &coo(&[0], &[1], [2_000_000_000, 5])); },
        message: "DIR/trn.npz: shape [2000000000, 5] with 1 interactions: the shape is damaged, or over 99.9 % of its rows are unused: renumber the ids", ..NPZ },
    Case { name: "float ids", make: |d| { good_npz(d); d.put("trn.npz", &zip(&[("row", npy("<f4", &[1], &floats(&[0.0]))), ("col", npy("<i4", &[1], &[0; 4])), ("shape", npy("<i4", &[2], &[3, 0, 0, 0, 4, 0, 0, 0]))])); },
        message: "DIR/trn.npz/row.npy: the ids are floats: save ids as integers below 2^31", ..NPZ },
    Case { name: "pickled objects", make: |d| { good_npz(d); d.put("trn.npz", &zip(&[("row", npy("|O", &[1], b"\x80\x04K\x00.")), ("shape", npy("<i4", &[2], &[3, 0, 0, 0, 4, 0, 0, 0])), ("col", npy("<i4", &[1], &[0; 4]))])); },
        message: "DIR/trn.npz/row.npy: the array holds pickled objects, which are not read (dtype `|O`): save it again with numpy.save as a plain little-endian array", ..NPZ },
    Case { name: "offsets that descend", make: |d| d.put("all.npz", &zip(&[("indptr", npy("<i4", &[3], &[0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0])), ("indices", npy("<i4", &[1], &[0; 4])), ("shape", npy("<i4", &[2], &[2, 0, 0, 0, 4, 0, 0, 0]))])),
        message: "DIR/all.npz/indptr.npy: not 2 + 1 ascending offsets from 0 to 1: the matrix is damaged: save it again", ..NPZ },
    Case { name: "unknown sparse format", make: |d| d.put("all.npz", &zip(&[("format", npy("|S3", &[], b"dia")), ("data", npy("<i4", &[1], &[0; 4])), ("shape", npy("<i4", &[2], &[2, 0, 0, 0, 4, 0, 0, 0]))])),
        message: "DIR/all.npz: a `dia` matrix: save matrix.tocoo() or matrix.tocsr()", ..NPZ },
    Case { name: "min_rating without ratings", keys: "min_rating = 4",
        message: "DIR/trn.npz: data.min_rating is set and the matrix has no `data`: remove data.min_rating, or save the ratings as the matrix's values", ..NPZ },
    Case { name: "time split of a matrix", keys: "split = \"time\"", make: |d| d.put("all.npz", &coo(&[0], &[1], [2, 4])),
        message: "DIR/all.npz: data.split = \"time\" and matrices carry no times: use data.split = \"random\", or give training, validation and test files", ..NPZ },
    Case { name: "users.txt of another length", make: |d| { good_npz(d); d.put("users.txt", b"a\nb\n"); },
        message: "DIR/users.txt: 2 lines, but there are 3 users: line i belongs to user i, from 0: write one line a user", ..NPZ },
    Case { name: "user listed twice", make: |d| { good_npz(d); d.put("users.txt", b"a\nb\na\n"); },
        message: "DIR/users.txt:3: user `a` is already on line 1: give each id once", ..NPZ },
    Case { name: "user with every item", make: |d| { good_npz(d); d.put("trn.npz", &coo(&[0, 1, 1, 1, 1], &[0, 0, 1, 2, 3], [3, 4])); },
        message: "user `1` has all 4 items in training, so there is no negative to draw: remove the user, or add the items nobody has to items.txt", ..NPZ },
    Case { name: "test part all in training", make: |d| { good_npz(d); d.put("tst.npz", &coo(&[0], &[0], [3, 4])); },
        message: "all 1 interactions of the test part are in the training part too: hold out interactions that are in no other file, or leave one file to be split", ..NPZ },

    Case { name: "text missing", make: good_npz,
        message: "DIR/usr_emb.npy is missing: the model needs text embeddings in usr_emb, itm_emb, usr_intent_emb and itm_intent_emb: each an .npz, .parquet or .jsonl table with ids, or an .npy or .safetensors matrix with one row for each line of users.txt or items.txt; name other files under data.text, or train model.kind = \"lightgcn\", which needs none", ..TEXT },
    Case { name: "text empty", make: |d| { good_text(d); d.put("itm_emb.npy", b""); },
        message: "DIR/itm_emb.npy is empty: write the embeddings again", ..TEXT },
    Case { name: "text of wrong magic", make: |d| { good_text(d); d.put("itm_emb.npy", b"PK\x03\x04 an archive"); },
        message: "DIR/itm_emb.npy: not an .npy file (wrong magic bytes): save it again with numpy.save as a plain little-endian array", ..TEXT },
    Case { name: "text truncated", make: |d| { good_text(d); d.cut("itm_emb.npy", 150); },
        message: "DIR/itm_emb.npy: the header promises shape [4, 2] (32 bytes), the file holds 22 bytes: the file is truncated or damaged: write it again", ..TEXT },
    Case { name: "text header of terabytes", make: |d| { good_text(d); d.put("itm_emb.npy", &npy("<f4", &[1 << 40, 2], &[])); },
        message: "DIR/itm_emb.npy: the header promises shape [1099511627776, 2] (8796093022208 bytes), the file holds 0 bytes: the file is truncated or damaged: write it again", ..TEXT },
    Case { name: "NaN in text", make: |d| { good_text(d); d.put("itm_emb.npy", &npy("<f4", &[4, 2], &floats(&[0., 0., 0., 0., 0., f32::NAN, 0., 0.]))); },
        message: "DIR/itm_emb.npy: row 2, column 1 is NaN: every embedding must be a finite 32-bit number", ..TEXT },
    Case { name: "infinity in text, f16", make: |d| { good_text(d); d.put("usr_emb.npy", &npy("<f2", &[3, 2], &[0, 0, 0, 0, 0, 0, 0, 0x7c, 0, 0, 0, 0])); },
        message: "DIR/usr_emb.npy: row 1, column 1 is inf: every embedding must be a finite 32-bit number", ..TEXT },
    Case { name: "value beyond f32", make: |d| { good_text(d); d.put("usr_emb.npy", &npy("<f8", &[3, 1], &[0.0f64, -1e300, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())); },
        message: "DIR/usr_emb.npy: row 1, column 0 is -1e300: every embedding must be a finite 32-bit number", ..TEXT },
    Case { name: "NaN in a column-major table", make: |d| { good_text(d); let mut t = npy("<f4", &[3, 2], &floats(&[0., 0., 0., 0., f32::NAN, 0.])); let at = t.windows(5).position(|w| w == b"False").unwrap(); t[at..at + 5].copy_from_slice(b"True "); d.put("usr_emb.npy", &t); },
        message: "DIR/usr_emb.npy: row 1, column 1 is NaN: every embedding must be a finite 32-bit number", ..TEXT },
    Case { name: "text of too few rows", make: |d| { good_text(d); d.put("usr_emb.npy", &npy("<f4", &[2, 2], &[0; 16])); },
        message: "DIR/usr_emb.npy: 2 rows, but there are 3 users: row i belongs to user i: list the external ids in users.txt, one for each row, or save the table with its ids as .npz, .parquet or .jsonl", ..TEXT },
    Case { name: "text of different widths", make: |d| { good_text(d); d.put("itm_intent_emb.npy", &npy("<f4", &[4, 3], &[1; 48])); },
        message: "DIR/itm_intent_emb.npy: width 3, but usr_intent_emb.npy has width 2: encode users and items with the same text model", ..TEXT },
    Case { name: "text of integers", make: |d| { good_text(d); d.put("itm_emb.npy", &npy("<i8", &[4, 2], &[0; 64])); },
        message: "DIR/itm_emb.npy: the values are integers: save embeddings as float16, float32 or float64", ..TEXT },
    Case { name: "big-endian text", make: |d| { good_text(d); d.put("itm_emb.npy", &npy(">f4", &[4, 2], &[0; 32])); },
        message: "DIR/itm_emb.npy: the array is big-endian (dtype `>f4`): save it again with numpy.save as a plain little-endian array", ..TEXT },
    Case { name: "text of one dimension", make: |d| { good_text(d); d.put("itm_emb.npy", &npy("<f4", &[4], &[0; 16])); },
        message: "DIR/itm_emb.npy: the array has 1 dimensions: save a table with one row a user or item", ..TEXT },
    Case { name: "two tensors in a file", keys: "text = { user_profile = \"u.safetensors\" }", make: |d| { good_text(d); d.put("u.safetensors", &safetensors(&[("a", &[1, 1], &[0.]), ("b", &[1, 1], &[0.])])); },
        message: "DIR/u.safetensors: 2 tensors (a, b): save each table in a file of its own", ..TEXT },
    Case { name: "NaN in safetensors", keys: "text = { user_profile = \"u.safetensors\" }", make: |d| { good_text(d); d.put("u.safetensors", &safetensors(&[("a", &[3, 2], &[0., 0., f32::NAN, 0., 0., 0.])])); },
        message: "DIR/u.safetensors: row 1, column 0 is NaN: every embedding must be a finite 32-bit number", ..TEXT },
    Case { name: "safetensors without its last value", keys: "text = { user_profile = \"u.safetensors\" }", make: |d| { good_text(d); d.put("u.safetensors", &safetensors(&[("a", &[3, 2], &[0.; 6])])); d.cut("u.safetensors", 92); },
        message: "DIR/u.safetensors: not a safetensors file (tensor `a` should end at byte 24 of 20): write it again; it may be truncated", ..TEXT },
    Case { name: "truncated safetensors", keys: "text = { user_profile = \"u.safetensors\" }", make: |d| { good_text(d); d.put("u.safetensors", &safetensors(&[("a", &[3, 2], &[0.; 6])])); d.cut("u.safetensors", 70); },
        message: "DIR/u.safetensors: not a safetensors file (a header of 64 bytes in a file of 70): write it again; it may be truncated", ..TEXT },
    Case { name: "unknown ending", keys: "text = { user_profile = \"u.bin\" }", make: |d| { good_text(d); d.put("u.bin", b"0"); },
        message: "DIR/u.bin: the ending is not one of a text table: text tables are read from .npy, .safetensors, .npz, .parquet, .jsonl, .pkl, .pickle", ..TEXT },

    Case { name: "empty pair file", make: |d| d.put("all.txt", b"\n \n"),
        message: "DIR/all.txt is empty: it should hold one entry a line", ..PAIRS },
    Case { name: "header alone", make: |d| d.put("all.csv", b"user_id,item_id\n"),
        message: "DIR/all.csv is empty: the file has a header and no interaction", ..PAIRS },
    Case { name: "line cut short", make: |d| d.put("all.txt", b"0 1\n0 2\n1"),
        message: "DIR/all.txt:3: 1 field, where line 1 has 2 (separated by blanks): every line needs the same fields: the file may be truncated, or a field with the separator in it needs quotation marks; data.separator names another separator", ..PAIRS },
    Case { name: "negative id in text", make: |d| d.put("all.txt", b"0 1\n0 2\n-1 2\n"),
        message: "DIR/all.txt:3: user id -1 is negative: ids count from 0", ..PAIRS },
    Case { name: "lists given as pairs", make: |d| d.put("all.txt", b"0 1 2 3 4 5\n"),
        message: "DIR/all.txt:1: 6 fields without a header that names them: column 1 (0), column 2 (1), column 3 (2), column 4 (3), column 5 (4), column 6 (5): say which places hold them, counted from 1: data.columns = { user = ..., item = ... }; or set data.format = \"adjacency\" for lists of items", ..PAIRS },
    Case { name: "id without text", make: |d| d.put("all.csv", b"a,x\nb,\n"),
        message: "DIR/all.csv:2: the item id is empty: each interaction needs a user and an item; data.missing_ids = \"drop\" leaves such lines out", ..PAIRS },
    Case { name: "rating that is no number", keys: "min_rating = 3", make: |d| d.put("all.csv", b"user,item,rating\na,x,4\na,y,good\n"),
        message: "DIR/all.csv:3: the rating `good` is not a number: give a plain number", ..PAIRS },
    Case { name: "no rating column", keys: "min_rating = 3", make: |d| d.put("all.txt", b"0 1\n"),
        message: "DIR/all.txt: data.min_rating is set and the file has no rating column: remove data.min_rating, or name the column: data.columns = { rating = \"...\" }", ..PAIRS },
    Case { name: "no time column", keys: "split = \"time\"", make: |d| d.put("all.txt", b"0 1\n"),
        message: "DIR/all.txt: data.split = \"time\" is set and the file has no time column: use data.split = \"random\", or name the column: data.columns = { time = \"...\" }", ..PAIRS },
    Case { name: "text of another encoding", make: |d| d.put("all.csv", b"a,x\nb,caf\xe9\n"),
        message: "DIR/all.csv:2: the text is not UTF-8: convert it from the encoding it was written in, such as: iconv -f windows-1252 -t utf-8", ..PAIRS },
    Case { name: "item that the catalog lacks", make: |d| { d.put("all.txt", b"0 1\n0 7\n"); d.put("items.txt", b"1\n2\n"); },
        message: "DIR/all.txt:2: item `7` is not listed in DIR/items.txt: add a line for it or remove that file", ..PAIRS },
    Case { name: "several files, none named as a part", make: |d| { d.put("a.txt", b"0 1\n"); d.put("b.txt", b"0 1\n"); },
        message: "DIR: more than one file could be the interactions (a.txt, b.txt): name the parts train, valid and test, or leave one file to be split", ..PAIRS },
    Case { name: "nothing rated high enough", keys: "min_rating = 9", make: |d| d.put("all.txt", b"0 1 5\n1 1 5\n"),
        message: "no interaction is left for the training part: check the file, data.min_rating and data.split_ratio", ..PAIRS },

    Case { name: "lists without items", make: |d| { d.put("train.txt", b"0\n1\n"); d.put("test.txt", b"0 1\n"); },
        message: "DIR/train.txt is empty: no user has an item", ..LISTS },
    Case { name: "negative item in a list", make: |d| { d.put("train.txt", b"0 1 2\n1 0 -3\n"); d.put("test.txt", b"0 1\n"); },
        message: "DIR/train.txt:2: item id -3 is negative: ids count from 0", ..LISTS },
    Case { name: "ratings of lists", keys: "min_rating = 3", make: |d| d.put("train.txt", b"0 1 2\n"),
        message: "DIR/train.txt: data.min_rating is set and adjacency lists carry neither ratings nor times: remove it, or use data.format = \"pairs\"", ..LISTS },

    Case { name: "header without types", make: |d| d.put("a.inter", b"user_id\titem_id\n1\t2\n"),
        message: "DIR/a.inter:1: the header field `user_id` has no type: RecBole headers read `user_id:token`; set data.format = \"pairs\" for tables without types", ..RECBOLE },
    Case { name: "one column", make: |d| d.put("a.inter", b"user_id:token\trating:float\n1\t2\n"),
        message: "DIR/a.inter:1: fewer than two columns of type token: `user_id:token` (1), `rating:float` (2): an interaction needs user_id:token and item_id:token", ..RECBOLE },
    Case { name: "short row of the item file", make: |d| { d.put("a.inter", b"user_id:token\titem_id:token\n1\t2\n"); d.put("a.item", b"item_id:token\tmovie_title:token_seq\n2\n"); },
        message: "DIR/a.item:2: 1 fields, the header names 2: separate fields by one tab; the file may be truncated", ..RECBOLE },
    Case { name: "no .inter file", make: |d| d.put("a.item", b"item_id:token\n2\n"),
        message: "DIR/NAME.inter is missing: the folder has no RecBole interaction file: check data.path and data.format", ..RECBOLE },

    Case { name: "pickled matrices read as archives", make: pickled_numbers,
        message: "DIR/train.npz is missing: the folder holds trn_mat.pkl, tst_mat.pkl, val_mat.pkl, matrices as RLMRec, IRLLRec and SSLRec ship them: set data.format = \"rlmrec\"", ..NPZ },
    Case { name: "pickled matrices read as pairs", make: |d| { pickled_numbers(d); d.put("usr_emb_np.pkl", b"x"); },
        message: "DIR/train.txt is missing: the folder holds trn_mat.pkl, tst_mat.pkl, val_mat.pkl, matrices as RLMRec, IRLLRec and SSLRec ship them: set data.format = \"rlmrec\"", ..PAIRS },
    Case { name: "pickled texts beside other interactions", make: |d| { good_npz(d); d.put("usr_emb_np.pkl", b"x"); d.put("itm_emb_np.pkl", b"x"); },
        message: "DIR/usr_emb.npy is missing: the folder holds itm_emb_np.pkl, usr_emb_np.pkl, text tables as RLMRec and IRLLRec ship them: name them under data.text, such as user_profile = \"usr_emb_np.pkl\"; data.format = \"rlmrec\" reads them by these names, beside trn_mat.pkl", ..TEXT },
    Case { name: "pickles without a matrix", make: |d| d.put("usr_emb_np.pkl", b"x"),
        message: "DIR/trn_mat.pkl is missing: format \"rlmrec\" reads trn_mat.pkl, val_mat.pkl and tst_mat.pkl (or train_mat, valid_mat, test_mat): check data.path and data.format", ..RLMREC },
    Case { name: "pickles of numbers", make: pickled_numbers,
        message: "DIR/trn_mat.pkl: the pickle holds a number, not a scipy.sparse matrix: save one matrix of users x items, as pickle.dump(scipy.sparse.coo_matrix(...), file) does", ..RLMREC },
    Case { name: "pickle of code", make: |d| { pickled_numbers(d); d.put("trn_mat.pkl", b"cos\nsystem\n(S'true'\ntR."); },
        message: "DIR/trn_mat.pkl: not a pickle of protocol 2 to 5; it may be one of protocol 0 or 1: write it again with pickle.dump(matrix, file, protocol=4)", ..RLMREC },
    Case { name: "pickle of code, protocol 2", make: |d| { pickled_numbers(d); d.put("trn_mat.pkl", b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."); },
        message: "DIR/trn_mat.pkl: the pickle refers to `os.system`, which is neither a matrix nor an array (byte 2): refusing: no code of a pickle is run; save one scipy.sparse matrix or one numpy array", ..RLMREC },
    Case { name: "packed pickle", make: |d| { pickled_numbers(d); d.put("trn_mat.pkl", b"\x1f\x8b\x08\0"); },
        message: "DIR/trn_mat.pkl: the file is compressed by gzip: unpack it: gunzip < OLD > NEW", ..RLMREC },
    Case { name: "empty pickle", make: |d| { pickled_numbers(d); d.put("trn_mat.pkl", b""); },
        message: "DIR/trn_mat.pkl is empty: write it again with pickle.dump", ..RLMREC },
    Case { name: "text table that is a number", keys: "text = { user_profile = \"u.pkl\" }", make: |d| { good_text(d); d.put("u.pkl", b"\x80\x04K\x01."); },
        message: "DIR/u.pkl: the pickle holds a number, not a numpy array: save one table with a row for each user or item, as pickle.dump(numpy.array(...), file) does", ..TEXT },
];

fn pickled_numbers(dir: &Folder) {
    for name in ["trn_mat.pkl", "val_mat.pkl", "tst_mat.pkl"] {
        dir.put(name, b"\x80\x04K\x01.");
    }
}

#[test]
fn each_bad_file_is_told_in_words() {
    let mut wrong = Vec::new();
    for case in CASES {
        let folder = Folder::new();
        (case.make)(&folder);
        let said = match Dataset::load(&folder.data(case.format, case.keys), folder.root(), 1, case.text) {
            Ok(_) => "it was accepted".into(),
            Err(error) => error.to_string().replace(&folder.path().display().to_string(), "DIR"),
        };
        if said != case.message {
            wrong.push(format!("{}:\n  expected {}\n  said     {said}", case.name, case.message));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

#[test]
fn the_unspoiled_files_are_accepted() {
    let folder = Folder::new();
    good_text(&folder);
    let dataset = Dataset::load(&folder.data(Format::Npz, ""), folder.root(), 1, TextNeed::ProfilesAndIntents).unwrap();
    assert_eq!((dataset.users(), dataset.items(), dataset.manifest.profile_width), (3, 4, Some(2)));
    assert_eq!(dataset.manifest.repairs, vec![]);
}

/// Every prefix of a good file is an error; a flipped bit in any byte is an error or a dataset, never a panic.
#[test]
fn cut_and_flipped_files_never_panic() {
    let folder = Folder::new();
    good_text(&folder);
    let data = folder.data(Format::Npz, "");
    for name in ["trn.npz", "usr_emb.npy"] {
        let whole = folder.get(name);
        for len in 0..whole.len() {
            folder.put(name, &whole[..len]);
            Dataset::load(&data, folder.root(), 1, TextNeed::ProfilesAndIntents).unwrap_err();
        }
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << (byte % 8);
            folder.put(name, &flipped);
            let _ = Dataset::load(&data, folder.root(), 1, TextNeed::ProfilesAndIntents);
        }
        folder.put(name, &whole);
    }
}
