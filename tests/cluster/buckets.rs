//! Data and checkpoints in a bucket: the commands read them as they read folders, and train to the same numbers.

use super::objects::seaweedfs::Server;
use super::{text, workspace};
use accord_harness::served::{same_run, undisturbed};
use accord_harness::{Finished, catalog, coordinator, finish};
use std::path::Path;

const DATA: &str = "data.path=s3://accord/sets/small";

/// Puts the files of a folder into the bucket.
pub(crate) fn upload(server: &Server, folder: &Path, address: &str) {
    let store = accord_objects::open_with(address, Path::new("unused"), &server.options()).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        store.place().remove(name).unwrap();
        assert!(store.place().put_new(name, &std::fs::read(&path).unwrap()).unwrap(), "{name}");
    }
}

#[test]
fn data_in_a_bucket_train_to_the_numbers_of_a_folder() {
    let Some(server) = Server::start() else {
        println!("SKIPPED: no SeaweedFS in .deps; `make servers` fetches it");
        return;
    };
    let (folder, job) = workspace("irllrec", 6);
    upload(&server, &folder.path().join("data"), "s3://accord/sets/small");
    let plain = folder.path().join("plain");
    undisturbed(&job, &plain, &["cluster.workers=2"]);

    let cache = folder.path().join("cache");
    let command = |args: &[&str]| -> Finished {
        let mut command = coordinator(args);
        command.envs(server.options().variables).env("XDG_CACHE_HOME", &cache);
        finish(&mut command)
    };
    let ok = |args: &[&str]| {
        let done = command(args);
        assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
        done.stdout
    };
    let run_dir = folder.path().join("run");
    let run = || {
        let sets = ["--set", DATA, "--set", "cluster.workers=2", "--set", "checkpoint.uri=s3://accord/runs/small"];
        command(&[&["run", text(&job), "--run-dir", text(&run_dir)][..], &sets].concat())
    };
    let done = run();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    same_run(&run_dir, &plain);
    let fetched = std::fs::read_dir(cache.join("accord/datasets")).unwrap().map(|entry| entry.unwrap().path());
    let fetched: Vec<_> = fetched.collect();
    assert!(fetched.len() == 1 && fetched[0].join("train.txt").exists(), "{fetched:?}");

    assert!(ok(&["plan", text(&job), "--set", DATA, "--workers", "2"]).contains("halo"));
    let found = ok(&["data", "inspect", "s3://accord/sets/small", "--format", "pairs", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&found).unwrap()["users"], catalog::USERS);
    let shown = ok(&["recommend", text(&run_dir), "--user", "3", "--k", "5"]);
    assert_eq!(shown, ok(&["recommend", text(&plain), "--user", "3", "--k", "5"]));

    // other data in the same place are told, not trained on
    let held_out = folder.path().join("data/val.txt");
    let fewer =
        std::fs::read_to_string(&held_out).unwrap().lines().skip(1).map(|line| format!("{line}\n")).collect::<String>();
    std::fs::write(&held_out, fewer).unwrap();
    upload(&server, &folder.path().join("data"), "s3://accord/sets/small");
    std::fs::remove_file(run_dir.join("summary.json")).unwrap();
    let done = run();
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("holds other data than the checkpoint"), "{}", done.stderr);
}

#[test]
fn a_bucket_that_cannot_be_read_is_said_so() {
    let Some(server) = Server::start() else {
        println!("SKIPPED: no SeaweedFS in .deps; `make servers` fetches it");
        return;
    };
    let (folder, job) = workspace("lightgcn", 2);
    let run = |path: &str, endpoint: Option<&str>| {
        let path = format!("data.path={path}");
        let run_dir = folder.path().join("run");
        let mut command = coordinator(&["run", text(&job), "--run-dir", text(&run_dir), "--set", &path]);
        command.envs(server.options().variables).env("XDG_CACHE_HOME", folder.path().join("cache"));
        command.envs(endpoint.map(|endpoint| ("AWS_ENDPOINT_URL", endpoint)));
        finish(&mut command)
    };
    for (path, endpoint, words) in [
        ("s3://accord/absent", None, "data.path: s3://accord/absent holds no file"),
        ("s3://no-such-bucket/x", None, "data.path: s3://no-such-bucket/x cannot be read"),
        ("s3://accord/x", Some("minio:9000"), "AWS_ENDPOINT_URL is `minio:9000`"),
        ("gs://accord/x", None, "data in gs:// are not read"),
    ] {
        let done = run(path, endpoint);
        assert_eq!(done.code, Some(2), "{path}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
}
