//! Real data, real processes: the number of workers changes no loss and no metric, and where rows travel raw not a bit of
//! the embeddings; the same workers twice give the same bits. `make test` looks at MovieLens-100K for two epochs; `make invariance` at ten
//! epochs of it and of amazon (data/amazon), with 1, 2 and 4 workers, and prints the table.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints for its reader")]

use accord_harness::compare::Differences;
use accord_harness::{coordinator, finish_training, metric_lines, root};
use std::path::Path;

/// One dataset and model.
struct Subject {
    config: &'static str,
    /// Largest difference of a loss term of any epoch, relative.
    losses: f64,
    /// The embeddings have the same bits.
    same_bits: bool,
}

/// Largest difference of a validation or test metric.
const METRICS: f64 = 1e-4;

fn full() -> bool {
    std::env::var("ACCORD_INVARIANCE").is_ok_and(|value| value == "full")
}

fn train(subject: &Subject, run_dir: &Path, workers: u32, epochs: u32) -> Vec<String> {
    let (config, workers) = (root().join("configs").join(subject.config), workers.to_string());
    let epochs = format!("optim.epochs={epochs}");
    let mut command = coordinator(&["run", config.to_str().unwrap(), "--run-dir", run_dir.to_str().unwrap()]);
    command.args(["--workers", &workers, "--threads", "1", "--set", &epochs, "--set", "job.seed=2023"]);
    let done = finish_training(&mut command);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    metric_lines(run_dir)
}

fn compare(subjects: &[Subject], worlds: &[u32], epochs: u32) {
    for subject in subjects {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, workers| train(subject, &folder.path().join(name), workers, epochs);
        let alone = run("1", 1);
        println!("\n{}, {epochs} epochs, seed 2023, one thread a worker: differences from one worker", subject.config);
        for &workers in worlds {
            let several = run(&workers.to_string(), workers);
            let found = Differences::between(&alone, &several);
            let terms = found.losses.iter().filter(|(_, off)| **off > 0.0);
            let terms: Vec<String> = terms.map(|(term, off)| format!("{term} {off:.1e}")).collect();
            println!("  {workers} workers: losses {}; metrics {:.1e}", terms.join(", "), found.metrics);
            let (losses, metrics) = (found.worst_loss(), found.metrics);
            assert!(losses <= subject.losses && metrics <= METRICS, "{workers} workers: {found:?}");
            let [one, other] = ["1".to_owned(), workers.to_string()]
                .map(|name| std::fs::read(folder.path().join(name).join("export/embeddings.safetensors")).unwrap());
            println!("  {workers} workers: embeddings {}", if one == other { "bitwise equal" } else { "differ" });
            assert!(one == other || !subject.same_bits, "{workers} workers: other embeddings");
        }
        let (again, first) = (run("again", 2), metric_lines(&folder.path().join("2")));
        assert_eq!(again, first, "{}: two workers, twice", subject.config);
        println!("  2 workers twice: bitwise equal");
    }
}

#[test]
fn movielens_does_not_depend_on_the_number_of_workers() {
    let data = root().join("data/ml-100k");
    let fetched = finish_training(&mut coordinator(&["data", "fetch", "ml-100k", "--dest", data.to_str().unwrap()]));
    if fetched.code != Some(0) {
        println!("SKIPPED: MovieLens-100K cannot be had: {}", fetched.stderr);
        return;
    }
    let subjects = [
        Subject { config: "ml-100k-lightgcn.toml", losses: 1e-6, same_bits: false },
        Subject { config: "ml-100k.toml", losses: 1e-7, same_bits: true },
    ];
    if full() { compare(&subjects, &[2, 4], 10) } else { compare(&subjects, &[2, 3], 2) }
}

#[test]
fn amazon_does_not_depend_on_the_number_of_workers() {
    if !full() {
        println!("SKIPPED: amazon takes a quarter of an hour; `make invariance` runs it");
        return;
    }
    if !root().join("data/amazon/trn.npz").exists() {
        println!("SKIPPED: there is no data/amazon");
        return;
    }
    let subjects = [
        Subject { config: "amazon-lightgcn.toml", losses: 1e-6, same_bits: false },
        Subject { config: "amazon.toml", losses: 1e-7, same_bits: true },
    ];
    compare(&subjects, &[2, 4], 10);
}
