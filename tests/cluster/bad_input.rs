//! Twenty bad job files and data files: each ends with exit code 2 and one screen that says what, where and what to do.

use super::{text, workspace};
use accord_harness::{coordinator, finish};
use std::path::Path;

/// What is done to a good workspace, and what the user must then read.
struct Case {
    name: &'static str,
    spoil: fn(&Path),
    says: &'static [&'static str],
}

/// Replaces `from` by `to` in the job file.
fn edit(folder: &Path, from: &str, to: &str) {
    let job = folder.join("job.toml");
    let before = std::fs::read_to_string(&job).unwrap();
    assert!(before.contains(from), "the job file has no {from}");
    std::fs::write(&job, before.replace(from, to)).unwrap();
}

fn write(folder: &Path, file: &str, content: &[u8]) {
    std::fs::write(folder.join("data").join(file), content).unwrap();
}

/// Changes one f32 of an embedding table, counted from its end.
fn poison(folder: &Path, file: &str, value: f32) {
    let path = folder.join("data").join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 40;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

const CASES: &[Case] = &[
    Case { name: "not TOML", spoil: |f| edit(f, "kind = ", "kind "), says: &["line 10"] },
    Case {
        name: "unknown key",
        spoil: |f| edit(f, "epochs = ", "epoch = "),
        says: &["line 18", "unknown field `epoch`", "did you mean `epochs`?"],
    },
    Case {
        name: "unknown section",
        spoil: |f| edit(f, "[optim]", "[optimizer]"),
        says: &["unknown field `optimizer`", "did you mean `optim`?"],
    },
    Case {
        name: "unknown model",
        spoil: |f| edit(f, "\"irllrec\"", "\"irlrec\""),
        says: &["line 10", "unknown variant `irlrec`", "did you mean `irllrec`?"],
    },
    Case {
        name: "wrong type",
        spoil: |f| edit(f, "batch_size = 64", "batch_size = \"64\""),
        says: &["line 17", "invalid type", "batch_size"],
    },
    Case {
        name: "missing section",
        spoil: |f| edit(f, "[data]\npath = \"data\"\nformat = \"pairs\"", ""),
        says: &["missing field `data`"],
    },
    Case {
        name: "zero learning rate",
        spoil: |f| edit(f, "lr = 5e-3", "lr = 0.0"),
        says: &["line 16", "optim.lr", "hint:"],
    },
    Case {
        name: "bad job name",
        spoil: |f| edit(f, "\"small-irllrec\"", "\"Small Job\""),
        says: &["line 2", "job.name", "lower-case"],
    },
    Case {
        name: "no worker",
        spoil: |f| edit(f, "workers = 1", "workers = 0"),
        says: &["cluster.workers", "use 1 to 1024"],
    },
    Case {
        name: "unknown selecting metric",
        spoil: |f| edit(f, "[checkpoint]", "[eval]\nselect = \"recal@20\"\n\n[checkpoint]"),
        says: &["line 27: eval.select", "no metric `recal`", "recall@20"],
    },
    Case {
        name: "cut-off above the number of items",
        spoil: |f| edit(f, "[checkpoint]", "[eval]\nks = [5, 100]\n\n[checkpoint]"),
        says: &["eval.ks", "cut-off 100", "number of items, which is 70", "hint:"],
    },
    Case {
        name: "selecting metric that cannot differ",
        spoil: |f| edit(f, "[checkpoint]", "[eval]\nks = [5, 70]\nselect = \"recall@70\"\n\n[checkpoint]"),
        says: &["eval.select", "recall@70 is the same for every model", "ndcg@70"],
    },
    Case {
        name: "partial sums for the intent view",
        spoil: |f| edit(f, "[checkpoint]", "[partition]\nhalo = \"prepost\"\n\n[checkpoint]"),
        says: &["partition.halo", "linear layers only"],
    },
    Case {
        name: "text file outside",
        spoil: |f| edit(f, "format = \"pairs\"", "format = \"pairs\"\ntext = { user_profile = \"../../etc/passwd\" }"),
        says: &["data.text.user_profile", "leaves the dataset's folder"],
    },
    Case {
        name: "checkpoints outside",
        spoil: |f| edit(f, "[checkpoint]", "[checkpoint]\nuri = \"../elsewhere\""),
        says: &["checkpoint.uri", "inside the run directory"],
    },
    Case { name: "no data folder", spoil: |f| edit(f, "path = \"data\"", "path = \"nowhere\""), says: &["nowhere"] },
    Case { name: "empty file", spoil: |f| write(f, "train.txt", b""), says: &["train.txt", "empty"] },
    Case { name: "not a pair", spoil: |f| write(f, "train.txt", b"0 1\n0\n"), says: &["train.txt:2"] },
    Case {
        name: "user with every item",
        spoil: |f| {
            let all: String =
                (0..70).map(|i| format!("0 {i}\n")).chain((1..90).map(|u| format!("{u} {}\n", u % 70))).collect();
            write(f, "train.txt", all.as_bytes());
            write(f, "val.txt", b"1 3\n");
            write(f, "test.txt", b"2 5\n");
        },
        says: &["user `0` has all 70 items"],
    },
    Case {
        name: "not a number",
        spoil: |f| poison(f, "usr_emb.npy", f32::NAN),
        says: &["usr_emb.npy", "row 89", "NaN"],
    },
    Case {
        name: "infinite",
        spoil: |f| poison(f, "itm_intent_emb.npy", f32::INFINITY),
        says: &["itm_intent_emb.npy", "row 69"],
    },
    Case {
        name: "truncated table",
        spoil: |f| {
            let path = f.join("data/itm_emb.npy");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
        says: &["itm_emb.npy", "truncated"],
    },
    Case {
        name: "wrong magic",
        spoil: |f| write(f, "usr_intent_emb.npy", b"PK\x03\x04 this is no table"),
        says: &["usr_intent_emb.npy", "npy"],
    },
    Case {
        name: "no text tables",
        spoil: |f| {
            for file in ["usr_emb.npy", "itm_emb.npy", "usr_intent_emb.npy", "itm_intent_emb.npy"] {
                std::fs::remove_file(f.join("data").join(file)).unwrap();
            }
        },
        says: &["usr_emb.npy"],
    },
    Case {
        name: "rows of another catalog",
        spoil: |f| {
            std::fs::copy(f.join("data/usr_emb.npy"), f.join("data/itm_emb.npy")).unwrap();
        },
        says: &["itm_emb.npy", "90", "70"],
    },
    Case {
        name: "no CUDA here",
        spoil: |f| edit(f, "device = \"cpu\"", "device = \"cuda\""),
        says: &["cluster.device = \"cuda\""],
    },
];

#[test]
fn bad_job_files_and_data_files_are_explained_on_one_screen() {
    assert!(CASES.len() >= 20);
    for case in CASES {
        if case.name == "no CUDA here" && Path::new("/dev/nvidia0").exists() {
            println!("SKIPPED: {}: this machine has a CUDA device", case.name);
            continue;
        }
        let (folder, job) = workspace("irllrec", 3);
        (case.spoil)(folder.path());
        let run_dir = folder.path().join("run");
        let done = finish(&mut coordinator(&["run", text(&job), "--run-dir", text(&run_dir)]));
        println!("--- {}\n{}", case.name, done.stderr);
        assert_eq!(done.code, Some(2), "{}: {}", case.name, done.stderr);
        for words in case.says {
            assert!(done.stderr.contains(words), "{}: no `{words}` in\n{}", case.name, done.stderr);
        }
        assert!(done.stderr.lines().count() <= 24, "{}: more than a screen\n{}", case.name, done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}: {}", case.name, done.stderr);
        assert!(!run_dir.join("summary.json").exists(), "{}: left a result", case.name);
    }
}

#[test]
fn a_bad_override_names_itself() {
    let (_folder, job) = workspace("lightgcn", 3);
    for (set, words) in
        [("loss.kd_wieght=1", "did you mean `kd_weight`?"), ("optim.lr=-1", "optim.lr"), ("kd_weight=1", "dotted key")]
    {
        let done = finish(&mut coordinator(&["run", text(&job), "--set", set]));
        assert_eq!(done.code, Some(2), "{set}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{set}: {}", done.stderr);
    }
}

#[test]
fn inspecting_a_bad_dataset_is_bad_input_too() {
    let (folder, _job) = workspace("lightgcn", 3);
    write(folder.path(), "train.txt", b"");
    let data = folder.path().join("data");
    let done = finish(&mut coordinator(&["data", "inspect", text(&data), "--format", "pairs"]));
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("train.txt is empty"), "{}", done.stderr);
}
