//! Text tables with ids, and Parquet columns, of any bytes. The first byte says in which form; members of an archive follow,
//! between `SEPARATOR`s.
#![no_main]

use accord_data::parquet::{Columns, Kind, Values};
use accord_data::{Dataset, TextNeed};
use accord_spec::{Data, Format};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::sync::Once;

const SEPARATOR: &[u8] = b"\x1e\x1f\x1e";
const USERS: usize = 4;
static HOOK: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    HOOK.call_once(let_the_parquet_crate_panic);
    let &[form, ref rest @ ..] = bytes else { return };
    let root = tempfile::tempdir().expect("a temporary folder");
    let put = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).expect("a file of the dataset");
    match form % 5 {
        0 => put("usr_emb.npz", &archive(rest)),
        1 => put("usr_emb.npz", rest),
        2 => put("usr_emb.jsonl", rest),
        3 => put("usr_emb.parquet", rest),
        _ => {
            put("all.parquet", rest);
            columns(&root.path().join("all.parquet"));
            return;
        }
    }
    for (part, shift) in [("train", 0), ("valid", 1), ("test", 2)] {
        let lines: String = (0..USERS).map(|k| format!("u{k},{}\n", (k + shift) % 4)).collect();
        put(&format!("{part}.csv"), lines.as_bytes());
    }
    put("itm_emb.jsonl", b"{\"id\":0,\"emb\":[1,2]}\n{\"id\":1,\"emb\":[1,2]}\n{\"id\":2,\"emb\":[1,2]}\n{\"id\":3,\"emb\":[1,2]}\n");
    table(root.path());
});

/// Panics of the crate `parquet` and of what it slices become errors, so they are no finding. libFuzzer's own hook would
/// abort at them.
fn let_the_parquet_crate_panic() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|place| place.file().to_owned()).unwrap_or_default();
        let caught = place.contains("registry") && (place.contains("/parquet-") || place.contains("/bytes-"));
        if !caught {
            eprintln!("{info}");
            std::process::abort();
        }
    }));
}

/// With right checksums, so that mutated members are read.
fn archive(members: &[u8]) -> Vec<u8> {
    let mut rest = members;
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for name in ["id", "embedding", "arr_2"] {
        let at = rest.windows(SEPARATOR.len()).position(|w| w == SEPARATOR);
        archive.start_file(format!("{name}.npy"), stored).expect("a member");
        archive.write_all(&rest[..at.unwrap_or(rest.len())]).expect("a member's bytes");
        let Some(at) = at else { break };
        rest = &rest[at + SEPARATOR.len()..];
    }
    archive.finish().expect("an archive").into_inner()
}

fn table(root: &Path) {
    let text = "[job]\nname = \"a\"\n[data]\npath = \".\"\n[model]\nkind = \"rlmrec-con\"\n";
    let mut data: Data = accord_spec::parse(text, &[]).expect("a job file").data;
    data.format = Format::Pairs;
    let mut dataset = Dataset::load(&data, root, 1, TextNeed::None).expect("interactions");
    if let Err(error) = dataset.load_text(&data, root, TextNeed::Profiles, Some(&[1, 3, 5])) {
        assert!(!error.to_string().is_empty());
        return;
    }
    let widths = Dataset::text_widths(&data, root, TextNeed::Profiles).expect("widths of tables that were read");
    let own = dataset.text.take().expect("the text").user_profile;
    assert_eq!((own.rows, own.width, own.values.len()), (2, widths[0], 2 * widths[0]));
    let part = dataset.manifest.clone();
    dataset.load_text(&data, root, TextNeed::Profiles, None).expect("what was read before");
    assert_eq!(dataset.manifest, part);
    let whole = dataset.text.take().expect("the text").user_profile;
    assert_eq!([whole.row(1), whole.row(3)].concat(), own.values);
}

fn columns(path: &Path) {
    let columns = match Columns::open(path) {
        Ok(columns) => columns,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for (index, column) in columns.columns().iter().enumerate() {
        let mut rows = 0;
        let read = columns.for_each_batch(&[index], |first, batch| {
            assert_eq!(first, rows);
            rows += batch.rows as u64;
            let cells = &batch.columns[0];
            assert!(cells.nulls() <= batch.rows);
            match (&cells.values, &column.kind) {
                (Values::Integers(v), Kind::Integer | Kind::Timestamp(_)) => assert_eq!(v.len(), batch.rows),
                (Values::Floats(v), Kind::Float | Kind::Decimal { .. }) => assert_eq!(v.len(), batch.rows),
                (Values::Booleans(v), Kind::Boolean) => assert_eq!(v.len(), batch.rows),
                (Values::Texts(_), Kind::Text | Kind::Integer) | (Values::Lists(_), Kind::FloatList) => {}
                (values, kind) => panic!("{kind} gave {values:?}"),
            }
            Ok(())
        });
        match read {
            Ok(()) => assert_eq!(rows, columns.rows()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
