//! Pickles of several versions of Python, numpy and scipy (`tests/pickles`), damaged ones, and ones that mean harm.

use super::*;
use std::io::Read as _;
use std::path::PathBuf;
use zip::ZipArchive;

/// Every pickle of `tests/pickles`: archive, name, bytes.
fn goldens() -> Vec<(String, String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pickles");
    let mut archives: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    archives.retain(|path| path.extension().is_some_and(|e| e == "zip"));
    archives.sort();
    let mut found = Vec::new();
    for path in archives {
        let mut archive = ZipArchive::new(fs::File::open(&path).unwrap()).unwrap();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            found.push((path.file_name().unwrap().to_string_lossy().into_owned(), file.name().to_owned(), bytes));
        }
    }
    found
}

fn file() -> &'static Path {
    Path::new("a.pkl")
}

fn as_matrix(bytes: &[u8]) -> Result<Matrix, String> {
    matrix_in(file(), bytes).map_err(|error| error.to_string())
}

fn as_table(bytes: &[u8]) -> Result<Dense, String> {
    dense_in(file(), bytes).map_err(|error| error.to_string())
}

/// The message of a pickle that is refused as a matrix and as a table.
fn refused(bytes: &[u8]) -> String {
    let said = as_matrix(bytes).unwrap_err();
    assert_eq!(as_table(bytes).unwrap_err(), said);
    said
}

/// `protocol 2, parts, STOP`.
fn program(parts: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x02".as_slice(), &parts.concat(), b"."].concat()
}

fn text(value: &str) -> Vec<u8> {
    [b"X".as_slice(), &(value.len() as u32).to_le_bytes(), value.as_bytes()].concat()
}

#[test]
fn matrices_of_every_version_and_protocol_hold_the_same_entries() {
    let mut seen = 0;
    for (archive, name, bytes) in
        goldens().iter().filter(|(_, name, _)| name.contains("_matrix-") || name.contains("_array-"))
    {
        let found = as_matrix(bytes).unwrap_or_else(|error| panic!("{archive}, {name}: {error}"));
        assert_eq!(found.shape, [4, 3], "{archive}, {name}");
        let values = found.values.unwrap();
        let mut entries: Vec<(u32, u32, f64)> = found
            .rows
            .iter()
            .zip(&found.columns)
            .zip(values)
            .map(|((&row, &column), value)| (row, column, value))
            .collect();
        entries.sort_by_key(|&(row, column, _)| (row, column));
        let value = |value: f64| if name.contains("-b1-") { 1.0 } else { value };
        let expected = [(0, 0, 5.0), (0, 2, 1.0), (1, 1, 3.0), (3, 0, 2.0), (3, 2, 4.0)]
            .map(|(row, column, v)| (row, column, value(v)));
        assert_eq!(entries, expected, "{archive}, {name}");
        seen += 1;
    }
    assert_eq!(seen, 108);
}

#[test]
fn tables_of_every_version_and_protocol_hold_the_same_values() {
    let mut seen = 0;
    for (archive, name, bytes) in goldens().iter().filter(|(_, name, _)| name.starts_with("table-")) {
        let found = as_table(bytes).unwrap_or_else(|error| panic!("{archive}, {name}: {error}"));
        let half = |value: f32| if name.contains("-f2-") { half::f16::from_f32(value).to_f32() } else { value };
        let values = [0.5, -1.0, 2.0, 0.1, 0.001, 1024.0].map(half).to_vec();
        assert_eq!(found, Dense { rows: 3, width: 2, values }, "{archive}, {name}");
        seen += 1;
    }
    assert_eq!(seen, 68);
}

#[test]
fn a_matrix_is_no_table_and_a_table_no_matrix() {
    for (_, name, bytes) in goldens().iter().filter(|(_, name, _)| name.ends_with("-p2")) {
        let said = if name.starts_with("table-") { as_matrix(bytes).map(drop) } else { as_table(bytes).map(drop) };
        let said = said.unwrap_err();
        assert!(
            said.contains(
                "the pickle holds a numpy array, not a scipy.sparse matrix: save scipy.sparse.coo_matrix(array)"
            ) || said.contains("the pickle holds a scipy.sparse matrix, not a numpy array: save matrix.toarray()"),
            "{said}"
        );
    }
}

#[test]
fn files_cut_at_any_byte_are_refused() {
    for (archive, name, bytes) in goldens() {
        for len in 0..bytes.len() {
            assert!(as_matrix(&bytes[..len]).is_err(), "{archive}, {name}, {len}");
            assert!(as_table(&bytes[..len]).is_err(), "{archive}, {name}, {len}");
        }
    }
}

#[test]
fn files_with_any_byte_changed_never_panic() {
    let mut pickles = goldens();
    pickles.retain(|(archive, name, _)| {
        archive.starts_with("numpy-2") && (name.ends_with("-p2") || name.ends_with("-p5"))
    });
    for (_, _, mut bytes) in pickles {
        for at in 0..bytes.len() {
            let kept = bytes[at];
            for changed in [0, 0xff, kept ^ 1, kept.wrapping_add(1), b'.', b'b', b'('] {
                bytes[at] = changed;
                let _ = (as_matrix(&bytes), as_table(&bytes));
            }
            bytes[at] = kept;
        }
    }
}

#[test]
fn names_of_code_are_refused_before_they_could_be_called() {
    let system = program(&[b"cos\nsystem\n", &text("echo owned"), b"\x85R"]);
    assert_eq!(
        refused(&system),
        "a.pkl: the pickle refers to `os.system`, which is neither a matrix nor an array (byte 2): refusing: no code of a \
         pickle is run; save one scipy.sparse matrix or one numpy array"
    );
    let stacked = program(&[&text("builtins"), &text("eval"), b"\x93", &text("1"), b"\x85R"]);
    assert!(refused(&stacked).contains("refers to `builtins.eval`"));
    let tensor = program(&[b"ctorch._utils\n_rebuild_tensor_v2\n"]);
    assert!(refused(&tensor).ends_with("refusing: a torch tensor is saved with numpy.save(name, tensor.numpy())"));
    let lists = program(&[b"cscipy.sparse._lil\nlil_matrix\n)\x81"]);
    assert!(refused(&lists).ends_with("refusing: save matrix.tocoo() or matrix.tocsr()"));
    let keys = program(&[b"ccopyreg\n_reconstructor\n"]);
    assert!(refused(&keys).ends_with("save matrix.tocoo(), or numpy.asarray(array)"));
    for table in [&b"cpandas\nDataFrame\n"[..], b"ccollections\nOrderedDict\n"] {
        assert!(refused(&program(&[table])).contains("numpy.savez(\"usr_emb.npz\", ids=ids, embeddings=matrix)"));
    }
    for (module, name) in [
        ("numpy.core.multiarray", "fromfile"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("scipy.sparse._coo", "coo_matrix.dot"),
        ("_codecs", "decode"),
        ("builtins", "getattr"),
        ("numpy ", "dtype"),
    ] {
        let said = refused(&program(&[format!("c{module}\n{name}\n").as_bytes(), b")R"]));
        assert!(said.contains(&format!("`{module}.{name}`")), "{said}");
    }
    let long = program(&[b"c", "\u{1b}[2J\u{7}".repeat(500).as_bytes(), b"\nx\n"]);
    let said = refused(&long);
    assert!(said.len() < 1500 && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn what_is_no_matrix_is_named() {
    let array = |(_, name, bytes): &(String, String, Vec<u8>)| {
        (name == "table-f4-C-p4").then(|| bytes[11..bytes.len() - 1].to_vec())
    };
    // the array's opcodes behind PROTO and FRAME
    let array = goldens().iter().find_map(array).unwrap();
    let list = program(&[b"](", &array, b"e"]);
    assert!(
        as_matrix(&list)
            .unwrap_err()
            .ends_with("the pickle holds a list, not a scipy.sparse matrix: save each matrix in a file of its own")
    );
    let dictionary = program(&[b"}(K\x01", &array, b"u"]);
    assert!(as_table(&dictionary).unwrap_err().ends_with(
        "the pickle holds a dictionary, not a numpy array: save it with its ids: numpy.savez(\"usr_emb.npz\", \
         ids=list(d), embeddings=list(d.values()))"
    ));
    for (opcodes, kind) in [
        (&b"K\x01"[..], "a number"),
        (b"N", "None"),
        (b"\x88", "a truth value"),
        (b"U\x01a", "bytes"),
        (b")", "a tuple"),
        (b"G\0\0\0\0\0\0\0\0", "a number"),
        (b"cnumpy\nndarray\n", "the name of a class or function"),
    ] {
        let said = as_matrix(&program(&[opcodes])).unwrap_err();
        assert!(said.contains(&format!("the pickle holds {kind}, not a scipy.sparse matrix")), "{said}");
    }
    let said = as_matrix(b"\x80\x04K\x01.").unwrap_err();
    assert!(said.contains("the pickle holds a number"), "{said}");
}

#[test]
fn other_files_are_told_by_their_first_bytes() {
    for (bytes, says) in [
        (&b"\x1f\x8b\x08\0rest"[..], "compressed by gzip"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x93NUMPY\x01\0", "give it the ending .npy"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"ccopy_reg\n_reconstructor\np0\n", "protocol 0 or 1"),
        (b"<!DOCTYPE html>", "wrong first byte"),
        (b"\x80", "wrong first byte"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\x80\x01N.", "protocol 1"),
        (b"\x80\x02N.N.", "2 bytes follow the end of the pickle"),
    ] {
        let said = as_matrix(bytes).unwrap_err();
        assert!(said.contains(says), "{said}");
        assert!(as_table(bytes).is_err());
    }
}

#[test]
fn opcodes_that_reach_outside_of_the_file_are_refused() {
    for (opcodes, says) in [
        (&b"P0\n"[..], "(PERSID)"),
        (b"K\x01Q", "(BINPERSID)"),
        (b"\x82\x01", "(EXT1)"),
        (b"\x83\x01\0", "(EXT2)"),
        (b"\x84\x01\0\0\0", "(EXT4)"),
        (b"\x97", "(NEXT_BUFFER)"),
        (b"N\x98", "(READONLY_BUFFER)"),
        (b"(ios\nsystem\n", "(INST)"),
        (b"(o", "(OBJ)"),
        (b"N)}\x92", "(NEWOBJ_EX)"),
        (b"\x8f", "(EMPTY_SET)"),
        (b"\x80\x02", "(PROTO)"),
        (b"\x8b\x01\0\0\0\x01", "(LONG4)"),
        (b"I1\n", "byte 0x49"),
        (b"\xff", "byte 0xff"),
    ] {
        let said = refused(&program(&[opcodes]));
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn sizes_beyond_the_file_are_refused_before_they_are_used() {
    for opcodes in [
        &b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x8d\0\0\0\0\0\x01\0\0",
        b"B\xff\xff\xff\xff",
        b"X\xff\xff\xff\x7f",
        b"T\xff\xff\xff\xff",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8a\xff",
        b"C\xff",
        b"U\xff",
        b"\x8c\xff",
    ] {
        refused(&program(&[opcodes]));
    }
    // an array that claims terabytes, one whose size overflows, and one without bytes but with endless rows
    for sizes in [&b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"[..], b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x04\x86"]
    {
        assert!(as_table(&array(b"F", sizes, b"C\0")).unwrap_err().contains("has 0 bytes"));
    }
    let endless = b"\x8a\x06\xff\xff\xff\xff\xff\x7fK\0\x86";
    assert!(as_table(&array(b"F", endless, b"C\0")).unwrap_err().contains("is empty"));
    assert!(as_table(&array(b"C", b"J\xff\xff\xff\xffK\0\x86", b"C\0")).unwrap_err().contains("a shape holds no size"));
}

/// A `_frombuffer` array of f4 in this order, with these opcodes for its shape and its bytes.
fn array(order: &[u8], shape: &[u8], data: &[u8]) -> Vec<u8> {
    let dtype = b"cnumpy\ndtype\nU\x02f4\x89\x88\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb";
    program(&[b"cnumpy.core.numeric\n_frombuffer\n(", data, dtype, shape, b"U\x01", order, b"tR"])
}

#[test]
fn arrays_that_break_their_own_description_are_refused() {
    let good = array(b"C", b"K\x01K\x02\x86", b"C\x08\0\0\0\x3f\0\0\x80\x3f");
    assert_eq!(as_table(&good).unwrap(), Dense { rows: 1, width: 2, values: vec![0.5, 1.0] });
    for (bytes, says) in [
        (array(b"K", b"K\x01K\x02\x86", b"C\x08\0\0\0\0\0\0\0\0"), "uncommon order"),
        (array(b"C", b"K\x01K\x02\x86", b"C\x07\0\0\0\0\0\0\0"), "shape [1, 2] has 7 bytes"),
        (array(b"C", b"K\x02\x85", b"C\x08\0\0\0\0\0\0\0\0"), "1 dimensions"),
        (array(b"C", b"K\x02", b"C\x08\0\0\0\0\0\0\0\0"), "is no tuple"),
        (array(b"C", b"K\x01K\x02\x86", b"]"), "is a list, not bytes"),
        (array(b"C", b"K\x01K\x02\x86", b"X\x08\0\0\0abcdefgh"), "is text, not bytes"),
        (
            array(b"C", b"K\x01K\x01\x86", b"c_codecs\nencode\nX\x05\0\0\0ab\xc4\x80cX\x06\0\0\0latin1\x86R"),
            "beyond 255",
        ),
        (array(b"C", b"K\x01K\x02\x86", b"C\x08\0\0\0\0\0\0\xc0\x7f"), "row 0, column 1 is NaN"),
        (array(b"F", b"K\x02K\x01\x86", b"C\x08\0\0\0\0\0\0\x80\x7f"), "row 1, column 0 is inf"),
    ] {
        let said = as_table(&bytes).unwrap_err();
        assert!(said.contains(says), "{said}");
    }
    let replaced = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|w| w == from).unwrap();
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    for (bytes, says) in [
        (replaced(b"U\x01<", b"U\x01>"), "the array is big-endian (dtype `>f4`)"),
        (replaced(b"U\x02f4", b"U\x02i4"), "the values are integers"),
        (replaced(b"U\x02f4", b"U\x02O8"), "(dtype `<O8`): save vectors as numpy.stack(array)"),
        (replaced(b"U\x02f4", b"U\x02V8"), "unknown type"),
        (replaced(b"U\x01<NNN", b"U\x01<N))"), "the array is structured"),
        (replaced(b"K\0tb", b"K\0t0"), "an array has no dtype"),
        (replaced(b"K\0tb", b"K\0tbNb"), "set twice"),
    ] {
        let said = as_table(&bytes).unwrap_err();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn matrices_that_break_their_own_description_are_refused() {
    let golden = |wanted: &str| -> Vec<u8> {
        goldens().into_iter().find(|(_, name, _)| name == wanted).map(|(_, _, bytes)| bytes).unwrap()
    };
    let coo = golden("coo_matrix-f8-p2");
    let replaced = |from: &[u8], to: &[u8]| {
        let at = coo.windows(from.len()).position(|w| w == from).unwrap_or_else(|| panic!("{from:?}"));
        [&coo[..at], to, &coo[at + from.len()..]].concat()
    };
    for (bytes, says) in [
        (replaced(b"_shape", b"_shade"), "the matrix has no `_shape`"),
        (replaced(b"row", b"rox"), "the matrix has no `row`"),
        (replaced(b"K\x04K\x03\x86", b"K\x03K\x03\x86"), "a.pkl/row, entry 3: user id 3 is out of range"),
        (replaced(b"K\x04K\x03\x86", b"K\x04K\x02\x86"), "a.pkl/col, entry 1: item id 2 is out of range"),
        (replaced(b"K\x04K\x03\x86", b"K\x04\x85"), "the matrix has 1 dimensions"),
        (replaced(b"K\x04K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86"), "shape [2147483647, 3] with 5 interactions"),
        (replaced(b"K\x04K\x03\x86", b"NK\x03\x86"), "a shape holds no size"),
        (program(&[b"cscipy.sparse.coo\ncoo_matrix\n)\x81"]), "the matrix has no `_shape`"),
        (program(&[b"cscipy.sparse.coo\ncoo_matrix\n)\x81Nb"]), "the state of a matrix is None"),
        (program(&[b"cscipy.sparse.coo\ncoo_matrix\n)R"]), "in a way that numpy and scipy do not write"),
    ] {
        let said = as_matrix(&bytes).unwrap_err();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn repetition_and_nesting_cost_no_more_than_their_length() {
    // a tuple of two of the last, a million times over: 2^1000000 leaves, were it ever walked
    let bomb = program(&[b"N", &b"2\x86".repeat(400_000)]);
    assert!(refused_kind(&bomb).contains("a tuple"));
    // the same through the memo
    let bomb = program(&[b"Nq\0", &b"h\0h\0\x86q\0".repeat(150_000)]);
    assert!(refused_kind(&bomb).contains("a tuple"));
    // a list within a list
    let deep = program(&[&b"]".repeat(300_000), &b"a".repeat(299_999)]);
    assert!(refused_kind(&deep).contains("a list"));
    // itself within itself
    assert!(refused_kind(&program(&[b"]q\0h\0a"])).contains("a list"));
    assert!(refused_kind(&program(&[b"}q\0h\0h\0s"])).contains("a dictionary"));
    // marks and objects that nobody takes
    let marks = program(&[&b"(".repeat(900_000), b"N"]);
    assert!(refused_kind(&marks).contains("None"));
    let many = [b"\x80\x02".as_slice(), &b"N".repeat(machine::MOST_OPCODES), b"."].concat();
    assert!(refused(&many).contains("many small objects"));
    // memo entries far apart, and one that is not there
    assert!(refused_kind(&program(&[b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff"])).contains("None"));
    assert!(refused(&program(&[b"j\x05\0\0\0"])).contains("entry 5 of the memo is used before it is set"));
    // a long text that is decoded once, however often it is named
    let long = "\u{ff}".repeat(100_000);
    let named = b"h\0h\x01h\x02\x86R0".repeat(100_000);
    let encode =
        program(&[b"c_codecs\nencode\nq\0", &text(&long), b"q\x01", &text("latin1"), b"q\x02000", &named, b"N"]);
    assert!(refused_kind(&encode).contains("None"));
}

fn refused_kind(bytes: &[u8]) -> String {
    as_matrix(bytes).unwrap_err()
}

#[test]
fn a_stack_without_enough_objects_is_refused() {
    for opcodes in [
        &b""[..],
        b"0",
        b"2",
        b"R",
        b"b",
        b"\x81",
        b"\x85",
        b"N\x86",
        b"(\x85",
        b"t",
        b"1",
        b"a",
        b"e",
        b"s",
        b"u",
        b"q\0",
        b"\x94",
        b"(N(b",
        b"N(0000",
        b"NNb",
        b"N)R",
        b"Na",
        b"NNa",
        b"(NNd0",
        b"}(Nu",
        b"\x93",
        b"NN\x93",
        b"h\0",
        b"cnumpy\n",
        b"X\x02\0\0\0\xff\xff",
    ] {
        let said = refused(&program(&[opcodes]));
        assert!(said.starts_with("a.pkl: "), "{said}");
    }
}
