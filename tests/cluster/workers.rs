//! Any number of workers trains the same model: losses, metrics and embeddings of real processes over Gloo.

use super::{text, workspace};
use accord_harness::compare::Differences;
use accord_harness::{collect, coordinator, finish, metric_lines, signal, wait_until};
use std::path::Path;
use std::process::Stdio;

const EPOCHS: u32 = 6;

/// (model, how far the loss terms of an epoch may differ, relative). LightGCN's partial sums have an order of their own; the
/// others train the same bits, and only the reported losses are added up rank by rank.
const MODELS: [(&str, f64); 3] = [("lightgcn", 1e-6), ("rlmrec-con", 1e-7), ("irllrec", 1e-7)];

const EVERY_METRIC: &str = r#"["recall", "ndcg", "precision", "hit", "mrr", "map", "coverage"]"#;

fn run(job: &Path, run_dir: &Path, workers: u32) -> Vec<String> {
    let workers = workers.to_string();
    let args = ["run", text(job), "--run-dir", text(run_dir), "--workers", &workers, "--threads", "1"];
    let done = finish(&mut coordinator(&args));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    metric_lines(run_dir)
}

#[test]
fn every_number_of_workers_trains_the_same_model() {
    for (model, tolerance) in MODELS {
        let (folder, job) = workspace(model, EPOCHS);
        let toml = std::fs::read_to_string(&job).unwrap();
        std::fs::write(&job, format!("{toml}\n[eval]\nmetrics = {EVERY_METRIC}\n")).unwrap();
        let alone = run(&job, &folder.path().join("1"), 1);
        for workers in [2, 3] {
            let several = run(&job, &folder.path().join(workers.to_string()), workers);
            let found = Differences::between(&alone, &several);
            println!("{model}, {workers} workers: {found:?}");
            assert!(found.worst_loss() <= tolerance && found.metrics <= 1e-4, "{model}, {workers}: {found:?}");
            let [one, other] = ["1".to_string(), workers.to_string()].map(|name| embeddings(&folder.path().join(name)));
            assert!(model == "lightgcn" || one == other, "{model}, {workers} workers: other embeddings");
            // the same embeddings are ranked to the same numbers, whoever ranks them
            assert!(one != other || found.metrics == 0.0, "{model}, {workers} workers: {found:?}");
        }
    }
}

fn embeddings(run_dir: &Path) -> Vec<u8> {
    std::fs::read(run_dir.join("export/embeddings.safetensors")).unwrap()
}

/// Neither workers nor their threads: the bits of the model are the job's and the data's.
#[test]
fn threads_and_raw_halos_change_no_bit() {
    for model in ["lightgcn", "irllrec"] {
        let (folder, job) = workspace(model, EPOCHS);
        let mut all = Vec::new();
        for (workers, threads) in [("1", "1"), ("1", "3"), ("3", "2")] {
            let run_dir = folder.path().join(format!("{workers}-{threads}"));
            let args = ["run", text(&job), "--run-dir", text(&run_dir), "--workers", workers, "--threads", threads];
            let mut command = coordinator(&args);
            let done = finish(command.args(["--set", "partition.halo=raw"]));
            assert_eq!(done.code, Some(0), "{}", done.stderr);
            all.push(embeddings(&run_dir));
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{model}: the embeddings differ");
    }
}

/// Fewer negatives, still the same on every rank.
#[test]
fn every_number_of_workers_draws_the_same_negatives() {
    let (folder, job) = workspace("irllrec", 3);
    for negatives in ["\"batch\"", "{ sampled = 40 }"] {
        let toml = std::fs::read_to_string(&job).unwrap();
        let other = job.with_file_name("negatives.toml");
        std::fs::write(&other, format!("{toml}\n[loss]\nnegatives = {negatives}\n")).unwrap();
        let name = negatives.replace(|c: char| !c.is_alphanumeric(), "");
        let [alone, several] = [1, 3].map(|n| run(&other, &folder.path().join(format!("{name}-{n}")), n));
        let found = Differences::between(&alone, &several);
        println!("negatives = {negatives}: {found:?}");
        assert!(found.worst_loss() <= 1e-7 && found.metrics == 0.0, "{negatives}: {found:?}");
        let all = run(&job, &folder.path().join(format!("{name}-all")), 1);
        assert!(Differences::between(&alone, &all).worst_loss() > 1e-3, "{negatives} changes nothing");
    }
}

#[test]
fn the_same_workers_twice_are_bitwise_equal() {
    let (folder, job) = workspace("irllrec", EPOCHS);
    let [first, second] = ["a", "b"].map(|name| run(&job, &folder.path().join(name), 3));
    assert_eq!(first, second);
    let embeddings =
        ["a", "b"].map(|name| std::fs::read(folder.path().join(name).join("export/embeddings.safetensors")).unwrap());
    assert!(embeddings[0] == embeddings[1], "the embeddings differ");
    // all that several workers leave is cleared by --fresh
    let run_dir = folder.path().join("a");
    let args = ["run", text(&job), "--run-dir", text(&run_dir), "--workers", "3", "--threads", "1", "--fresh"];
    let done = finish(&mut coordinator(&args));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(metric_lines(&run_dir), first);
}

/// Saved by three workers, gone on with by one and by two: the same training.
#[test]
fn a_checkpoint_is_read_by_any_number_of_workers() {
    let epochs = 40;
    let (folder, job) = workspace("irllrec", epochs);
    let undisturbed = run(&job, &folder.path().join("undisturbed"), 3);
    let run_dir = folder.path().join("interrupted");
    for workers in [3, 1, 2] {
        let count = || std::fs::read_to_string(run_dir.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
        let before = count();
        let workers = workers.to_string();
        let mut command = coordinator(&["run", text(&job), "--run-dir", text(&run_dir), "--workers", &workers]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("metrics", || count() >= before + 3);
        signal("INT", child.id());
        let done = collect(child);
        assert_eq!(done.code, Some(130), "{}", done.stderr);
    }
    let found = Differences::between(&undisturbed, &run(&job, &run_dir, 3));
    assert!(found.worst_loss() <= 1e-7 && found.metrics == 0.0, "{found:?}");
    assert!(embeddings(&folder.path().join("undisturbed")) == embeddings(&run_dir), "the embeddings differ");
}

#[test]
fn a_killed_worker_is_named_and_the_others_end() {
    let (folder, job) = workspace("irllrec", 5000);
    let run_dir = folder.path().join("run");
    let mut command = coordinator(&["run", text(&job), "--run-dir", text(&run_dir), "--workers", "3"]);
    command.args(["--set", "recovery.max_restarts=0"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = run_dir.join("metrics.jsonl");
    wait_until("metrics", || std::fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() > 2));
    let workers = super::resume::children_of(child.id());
    assert_eq!(workers.len(), 3);
    let named = |id: &u32| {
        let arguments = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        arguments.split('\0').any(|argument| argument == "worker-1")
    };
    let victim = *workers.iter().find(|id| named(id)).unwrap();
    signal("KILL", victim);
    let done = collect(child);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("worker-1") && done.stderr.contains("signal 9"), "{}", done.stderr);
    wait_until("the others to end", || workers.iter().all(|id| !Path::new(&format!("/proc/{id}")).exists()));
}

/// Halo bytes of one step by rank, as the run counted them.
fn halo_bytes(run_dir: &Path) -> Vec<u64> {
    let summary = std::fs::read_to_string(run_dir.join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let ranks = summary["ranks"].as_array().unwrap();
    ranks.iter().map(|rank| rank["step_halo_bytes_sent"].as_u64().unwrap()).collect()
}

#[test]
fn a_plan_says_what_the_run_then_sends() {
    for model in ["lightgcn", "irllrec"] {
        let (folder, job) = workspace(model, 1);
        let planned = finish(&mut coordinator(&["plan", text(&job), "--workers", "3", "--json"]));
        assert_eq!(planned.code, Some(0), "{}", planned.stderr);
        let plan: serde_json::Value = serde_json::from_str(&planned.stdout).unwrap();
        let ranks = plan["ranks"].as_array().unwrap();
        let wanted: Vec<u64> = ranks.iter().map(|rank| rank["step_bytes"]["halo"].as_u64().unwrap()).collect();
        assert!(wanted.iter().all(|&bytes| bytes > 0), "{model}: {wanted:?}");
        run(&job, &folder.path().join("run"), 3);
        assert_eq!(halo_bytes(&folder.path().join("run")), wanted, "{model}");
    }
}

/// What is off by default: fewer bytes or less waiting for a model that is close to the exact one.
#[test]
fn bf16_and_stale_halos_stay_close_and_do_what_they_are_for() {
    let (folder, job) = workspace("lightgcn", EPOCHS);
    let exact = run(&job, &folder.path().join("exact"), 3);
    for (option, of_bytes) in [("partition.halo_precision=bf16", 2), ("partition.halo_stale=true", 1)] {
        let run_dir = folder.path().join(option);
        let args =
            ["run", text(&job), "--run-dir", text(&run_dir), "--workers", "3", "--threads", "1", "--set", option];
        let done = finish(&mut coordinator(&args));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let found = Differences::between(&exact, &metric_lines(&run_dir));
        println!("{option}: {found:?}");
        assert!(found.worst_loss() > 1e-7 && found.worst_loss() < 0.1, "{option}: {found:?}");
        let bytes: Vec<u64> = halo_bytes(&run_dir).iter().map(|bytes| bytes * of_bytes).collect();
        assert_eq!(bytes, halo_bytes(&folder.path().join("exact")), "{option}");
    }
}
