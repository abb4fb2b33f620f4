//! The commands around a run: what `run` leaves is what `recommend`, `export`, `verify` and a `serve`d job read.

use super::{text, workspace};
use accord_harness::{coordinator, finish, free_address, metric_lines, wait_until};
use std::process::Stdio;

fn ok(args: &[&str]) -> String {
    let done = finish(&mut coordinator(args));
    assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
    done.stdout
}

#[test]
fn a_finished_run_can_be_recommended_from_exported_and_verified() {
    let (folder, job) = workspace("irllrec", 6);
    let run_dir = folder.path().join("run");
    let run = text(&run_dir);
    ok(&["run", text(&job), "--run-dir", run]);
    for file in [
        "metrics.jsonl",
        "summary.json",
        "dataset.json",
        "job.toml",
        "logs/rank-0.log",
        "export/embeddings.safetensors",
    ] {
        assert!(run_dir.join(file).is_file(), "{file}");
    }
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run_dir.join("summary.json")).unwrap()).unwrap();
    let recall = summary["test"]["recall"]["20"].as_f64().unwrap();
    // 70 items, 20 of them shown: chance is 0.29
    assert!(recall > 0.45, "test Recall@20 is {recall}");

    let shown: serde_json::Value =
        serde_json::from_str(&ok(&["recommend", run, "--user", "3", "--k", "5", "--json"])).unwrap();
    assert_eq!(shown["items"].as_array().map(Vec::len), Some(5), "{shown}");
    for format in ["safetensors", "npy", "parquet"] {
        for what in ["embeddings", "topk"] {
            let out = folder.path().join(format!("{what}-{format}"));
            ok(&["export", run, "--what", what, "--format", format, "--out", text(&out)]);
            assert!(std::fs::read_dir(&out).unwrap().count() > 0, "{what} as {format}");
        }
    }
    ok(&["verify", text(&run_dir.join("checkpoints"))]);
    // training it again shows the result and trains nothing
    let before = metric_lines(&run_dir);
    ok(&["run", text(&job), "--run-dir", run]);
    assert_eq!(metric_lines(&run_dir), before);
    // another job must not overwrite it
    let other = finish(&mut coordinator(&["run", text(&job), "--run-dir", run, "--set", "optim.lr=1e-4"]));
    assert_eq!(other.code, Some(2), "{}", other.stderr);
    assert!(other.stderr.contains("optim.lr"), "{}", other.stderr);
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_found_and_named() {
    let (folder, job) = workspace("lightgcn", 3);
    let run_dir = folder.path().join("run");
    ok(&["run", text(&job), "--run-dir", text(&run_dir)]);
    let newest = std::fs::read_dir(run_dir.join("checkpoints")).unwrap().flatten().map(|e| e.path()).max().unwrap();
    let shard = newest.join("rows-00000.safetensors");
    let mut bytes = std::fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let done = finish(&mut coordinator(&["verify", text(&newest)]));
    assert_eq!(done.code, Some(1));
    assert!((done.stdout + &done.stderr).contains("rows-00000.safetensors"));
}

#[test]
fn a_served_job_equals_a_run_one() {
    let (folder, job) = workspace("lightgcn", 6);
    let run_dir = folder.path().join("run");
    ok(&["run", text(&job), "--run-dir", text(&run_dir)]);
    let state = folder.path().join("state");
    let address = free_address();
    let mut serve = coordinator(&["serve", "--listen", &address, "--state-dir", text(&state)]);
    let mut server = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let at = format!("http://{address}");
    wait_until("the server", || finish(&mut coordinator(&["ps", "--coordinator", &at])).code == Some(0));
    let submit = ["submit", text(&job), "--submission-id", "once", "--coordinator", &at, "--json"];
    let [first, again] = [ok(&submit), ok(&submit)].map(|out| serde_json::from_str::<serde_json::Value>(&out).unwrap());
    assert_eq!(first["job_id"], again["job_id"], "the same submission is the same job");
    let id = first["job_id"].as_str().unwrap().to_owned();
    let status =
        || serde_json::from_str::<serde_json::Value>(&ok(&["status", &id, "--coordinator", &at, "--json"])).unwrap();
    wait_until("the job", || status()["phase"] == "succeeded");
    let served = status()["run_dir"].as_str().unwrap().to_owned();
    assert_eq!(metric_lines(served.as_ref()), metric_lines(&run_dir));
    assert!(ok(&["logs", &id, "--coordinator", &at]).contains("training"));
    server.kill().unwrap();
    server.wait().unwrap();
}
