//! What a finished run answers: from its own `export/`, whatever has become of the dataset; and how its commands print.

use super::{text, workspace};
use accord_harness::{catalog, collect, coordinator, coordinator_binary, finish, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

fn ok(args: &[&str]) -> String {
    let done = finish(&mut coordinator(args));
    assert_eq!(done.code, Some(0), "{args:?}: {}", done.stderr);
    done.stdout
}

/// Everything that `recommend` and `export` answer of a run, by name.
fn answers(run: &str, folder: &Path, name: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for user in ["0", "17", "89"] {
        let shown = ok(&["recommend", run, "--user", user, "--k", "10", "--json"]);
        all.push((format!("user {user}"), shown.into_bytes()));
    }
    all.push(("items".into(), ok(&["recommend", run, "--items", "3,8,13", "--json"]).into_bytes()));
    for what in ["embeddings", "topk"] {
        let out = folder.join(format!("{name}-{what}"));
        ok(&["export", run, "--what", what, "--format", "npy", "--out", text(&out)]);
        for entry in fs::read_dir(out).unwrap() {
            let path = entry.unwrap().path();
            all.push((path.file_name().unwrap().to_str().unwrap().into(), fs::read(path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_finished_run_answers_without_its_dataset() {
    let (folder, job) = workspace("irllrec", 6);
    let (data, run_dir) = (folder.path().join("data"), folder.path().join("run"));
    let titles: String = (0..catalog::ITEMS).map(|i| format!("Film {i}\n")).collect();
    fs::write(data.join("item_titles.txt"), titles).unwrap();
    let run = text(&run_dir);
    let train = || ["run", text(&job), "--run-dir", run, "--workers", "2"];
    ok(&train());
    let before = answers(run, folder.path(), "before");
    assert!(String::from_utf8_lossy(&before.iter().find(|a| a.0 == "user 0").unwrap().1).contains("Film "));

    // rank 0 alone writes; what it says of the run is what the run says
    let read = |name: &str| serde_json::from_slice::<Value>(&fs::read(run_dir.join(name)).unwrap()).unwrap();
    let (said, summary, dataset) = (read("export/export.json"), read("summary.json"), read("dataset.json"));
    assert_eq!((&said["test"], &said["best_epoch"]), (&summary["test"], &summary["best_epoch"]));
    assert_eq!((&said["data_digest"], &said["users"]), (&dataset["digest"], &dataset["users"]));

    fs::rename(&data, folder.path().join("elsewhere")).unwrap();
    assert_eq!(answers(run, folder.path(), "after"), before);
    let again = finish(&mut coordinator(&train()));
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("data is gone") && again.stdout.contains("recall"), "{}", again.stderr);

    // a run that was killed before its last file has no results
    fs::remove_file(run_dir.join("export/export.json")).unwrap();
    for command in [&["recommend", run, "--user", "0"][..], &["export", run, "--what", "topk"]] {
        let done = finish(&mut coordinator(command));
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains("writes it again from the last checkpoint"), "{}", done.stderr);
    }
    let lost = finish(&mut coordinator(&train()));
    assert_eq!(lost.code, Some(2), "{}", lost.stderr);
    assert!(lost.stderr.contains("export.json is missing"), "{}", lost.stderr);

    // with its data the run goes on from its last checkpoint to the same results
    fs::rename(folder.path().join("elsewhere"), &data).unwrap();
    ok(&train());
    assert_eq!(answers(run, folder.path(), "again"), before);
    fs::write(run_dir.join("export/users.txt"), "0\n").unwrap();
    ok(&train());
    assert_eq!(answers(run, folder.path(), "once more"), before);
}

#[test]
fn starting_over_destroys_nothing_that_could_not_be_made_again() {
    let (folder, job) = workspace("lightgcn", 3);
    let (data, run_dir) = (folder.path().join("data"), folder.path().join("run"));
    let run = text(&run_dir);
    // a job that never trained may be corrected
    let refused = finish(&mut coordinator(&["run", text(&job), "--run-dir", run, "--set", "eval.ks=[5, 5000]"]));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    ok(&["run", text(&job), "--run-dir", run, "--set", "eval.ks=[5, 10]"]);
    let fresh = ["run", text(&job), "--run-dir", run, "--fresh"];
    let refuses = |why: &str| {
        let done = finish(&mut coordinator(&fresh));
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(why), "{}", done.stderr);
        ok(&["recommend", run, "--user", "3"]);
    };
    fs::rename(&data, folder.path().join("elsewhere")).unwrap();
    refuses("--fresh cleared nothing");
    fs::rename(folder.path().join("elsewhere"), &data).unwrap();
    fs::write(run_dir.join("notes.txt"), "mine").unwrap();
    refuses("also holds notes.txt");
    fs::remove_file(run_dir.join("notes.txt")).unwrap();
    // the cut-offs are others now
    ok(&fresh);
    assert!(fs::read_to_string(run_dir.join("summary.json")).unwrap().contains("\"20\""));
}

#[test]
fn a_finished_run_answers_from_the_data_it_was_trained_on() {
    let (folder, job) = workspace("rlmrec-con", 4);
    let (data, run_dir) = (folder.path().join("data"), folder.path().join("run"));
    let run = text(&run_dir);
    let train = ["run", text(&job), "--run-dir", run];
    ok(&train);
    let before = answers(run, folder.path(), "before");
    ok(&train);
    let other_data = |what: &str| {
        assert!(answers(run, folder.path(), what) == before, "{what}");
        let done = finish(&mut coordinator(&train));
        assert_eq!(done.code, Some(2), "{what}: {}", done.stderr);
        assert!(done.stderr.contains("was trained on other data than data holds now"), "{what}: {}", done.stderr);
        assert!(done.stderr.contains("--fresh") && done.stdout.is_empty(), "{what}: {}", done.stderr);
    };

    // the same numbers of users, items and interactions: one user leaves and another comes first
    let good = fs::read_to_string(data.join("train.txt")).unwrap();
    let moved: String = good
        .lines()
        .map(|line| {
            let (user, item) = line.split_once(' ').unwrap();
            format!("{} {item}\n", (user.parse::<usize>().unwrap() + 1) % catalog::USERS)
        })
        .collect();
    fs::write(data.join("train.txt"), moved).unwrap();
    other_data("users");
    fs::write(data.join("train.txt"), good).unwrap();
    ok(&train);

    // the text is part of what this model was trained on
    let mut table = fs::read(data.join("usr_emb.npy")).unwrap();
    let place = table.len() - 4;
    table[place..].copy_from_slice(&0.125f32.to_le_bytes());
    fs::write(data.join("usr_emb.npy"), table).unwrap();
    other_data("text");
    fs::write(data.join("usr_emb.npy"), b"no table").unwrap();
    other_data("spoilt");
}

/// An f32 `.npy` of two dimensions.
fn matrix(path: &Path, rows: usize) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values: Vec<f32> = bytes[header..].as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    values.chunks(values.len() / rows).map(<[f32]>::to_vec).collect()
}

#[test]
fn a_new_user_gets_what_one_propagation_step_gives() {
    let (folder, job) = workspace("lightgcn", 12);
    let run_dir = folder.path().join("run");
    let (run, out) = (text(&run_dir), folder.path().join("out"));
    ok(&["run", text(&job), "--run-dir", run]);
    ok(&["export", run, "--what", "embeddings", "--format", "npy", "--out", text(&out)]);
    // rows in the order of the files, not of the ids
    let ids: Vec<String> = fs::read_to_string(out.join("items.txt")).unwrap().lines().map(String::from).collect();
    let item = matrix(&out.join("item.npy"), ids.len());
    let pairs: BTreeSet<(String, String)> = fs::read_to_string(folder.path().join("data/train.txt"))
        .unwrap()
        .lines()
        .map(|line| line.split_once(' ').map(|(user, item)| (user.into(), item.into())).unwrap())
        .collect();

    let user = "7";
    let given: Vec<&String> = pairs.iter().filter(|pair| pair.0 == user).map(|pair| &pair.1).collect();
    let row = |id: &str| ids.iter().position(|known| known == id).unwrap();
    let mut x = vec![0f64; item[0].len()];
    for id in &given {
        let degree = pairs.iter().filter(|pair| &&pair.1 == id).count().max(1) as f64;
        let weight = 1.0 / ((given.len() as f64).sqrt() * degree.sqrt());
        x.iter_mut().zip(&item[row(id)]).for_each(|(sum, &e)| *sum += weight * f64::from(e));
    }
    let mut wanted: Vec<(f64, &String)> = ids
        .iter()
        .filter(|id| !given.contains(id))
        .map(|id| (x.iter().zip(&item[row(id)]).map(|(a, &b)| a * f64::from(b)).sum(), id))
        .collect();
    wanted.sort_by(|a, b| b.0.total_cmp(&a.0));

    let list = given.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(",");
    let found: Value = serde_json::from_str(&ok(&["recommend", run, "--items", &list, "--k", "10", "--json"])).unwrap();
    assert_eq!(found["given"].as_array().unwrap().len(), given.len());
    for (n, ranked) in found["items"].as_array().unwrap().iter().enumerate() {
        let (score, id) = (ranked["score"].as_f64().unwrap(), ranked["item"].as_str().unwrap());
        assert!((score - wanted[n].0).abs() < 1e-4 && id == wanted[n].1, "{ranked} {:?}", wanted[n]);
    }
    // one at a time is the same
    let singly: Vec<&str> = given.iter().flat_map(|id| ["--items", id]).collect();
    let again = ok(&[&["recommend", run, "--k", "10", "--json"][..], &singly].concat());
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), found);
    // the user of training who has these very items likes much the same
    let trained: Value = serde_json::from_str(&ok(&["recommend", run, "--user", user, "--k", "10", "--json"])).unwrap();
    let items = |found: &Value| -> BTreeSet<String> {
        found["items"].as_array().unwrap().iter().map(|i| i["item"].as_str().unwrap().to_owned()).collect()
    };
    let common = items(&trained).intersection(&items(&found)).count();
    assert!(common >= 5, "{common} of 10 in common: {trained} {found}");

    let done = finish(&mut coordinator(&["recommend", run, "--items", "3,999,1000"]));
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("no item `999`") && done.stderr.contains("no item `1000`"), "{}", done.stderr);
    for wrong in [&["recommend", run][..], &["recommend", run, "--user", "1", "--items", "3"]] {
        assert_eq!(finish(&mut coordinator(wrong)).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn a_hint_works_when_it_is_copied_and_a_full_disk_is_told() {
    let (folder, job) = workspace("lightgcn", 3);
    let run_dir = folder.path().join("run 1");
    let run = text(&run_dir);
    let done = finish(&mut coordinator(&["run", text(&job), "--run-dir", run]));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let hints: Vec<&str> = done.stderr.lines().filter_map(|line| line.trim().strip_prefix("coordinator ")).collect();
    assert_eq!(hints.len(), 2, "{}", done.stderr);
    for hint in hints {
        let command = format!("'{}' {}", coordinator_binary().display(), hint.replace("USER", "3"));
        let done = finish(Command::new("sh").args(["-c", &command]));
        assert_eq!(done.code, Some(0), "{hint}: {}", done.stderr);
    }

    let data = folder.path().join("data");
    let commands: [&[&str]; 5] = [
        &["recommend", run, "--user", "3", "--json"],
        &["export", run, "--what", "topk", "--json"],
        &["data", "inspect", text(&data), "--format", "pairs", "--json"],
        &["render", "configs/amazon-8gpu.toml"],
        &["completions", "bash"],
    ];
    for command in commands {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let child = coordinator(command).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let done = collect(child);
        assert_eq!(done.code, Some(1), "{command:?}: {}", done.stderr);
        let said = "error: the output could not be written: No space left on device";
        assert!(done.stderr.contains(said), "{command:?}: {}", done.stderr);
        // a reader that is gone before the first line
        let mut child = coordinator(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let done = collect(child);
        assert_eq!(done.code, Some(0), "{command:?}: {}", done.stderr);
        assert!(!done.stderr.contains("error"), "{command:?}: {}", done.stderr);
    }
}

#[test]
fn a_run_directory_removed_while_training_is_a_failure() {
    // enough epochs that the run is not over before the folder goes
    let (folder, job) = workspace("lightgcn", 300);
    let run_dir = folder.path().join("run");
    let mut command = coordinator(&["run", text(&job), "--run-dir", text(&run_dir)]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = || fs::read_to_string(run_dir.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    wait_until("metrics", || lines() > 5);
    // a checkpoint may be written in between
    wait_until("the folder to go", || fs::remove_dir_all(&run_dir).is_ok());
    let done = collect(child);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("was removed while the run trained"), "{}", done.stderr);
    assert!(!done.stderr.contains("next:") && !run_dir.join("summary.json").exists(), "{}", done.stderr);
}
