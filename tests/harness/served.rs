//! Jobs that a coordinator serves, and what the undisturbed run would have been.

use crate::compare::Differences;
use crate::{DEADLINE, TRAINING_DEADLINE, coordinator, finish, finish_training, metric_lines, wait_within};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

fn with_sets<'a>(mut args: Vec<&'a str>, sets: &[&'a str]) -> Vec<&'a str> {
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    args
}

/// The same job by `coordinator run`, of which nothing is disturbed.
///
/// # Panics
/// When it fails.
pub fn undisturbed(job: &Path, run_dir: &Path, sets: &[&str]) {
    let run = vec!["run", text(job), "--run-dir", text(run_dir)];
    let done = finish_training(&mut coordinator(&with_sets(run, sets)));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

/// A job, and where to ask about it.
pub struct Served {
    pub id: String,
    at: String,
    /// Of the commands that ask.
    variables: Vec<(String, String)>,
}

impl Served {
    /// # Panics
    /// When it is refused.
    pub fn submit(job: &Path, at: String, sets: &[&str]) -> Served {
        Served::submit_with(job, at, sets, &[])
    }

    /// To one that asks for what these variables say.
    ///
    /// # Panics
    /// When it is refused.
    pub fn submit_with(job: &Path, at: String, sets: &[&str], variables: &[(&str, &str)]) -> Served {
        let submit = vec!["submit", text(job), "--json", "--coordinator", &at];
        let done = finish(coordinator(&with_sets(submit, sets)).envs(variables.iter().copied()));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let submitted: Value = serde_json::from_str(&done.stdout).expect("as the commands print it");
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Served { id: submitted["job_id"].as_str().expect("as the commands print it").into(), at, variables }
    }

    /// None while nobody leads.
    pub fn status(&self) -> Option<Value> {
        let mut ask = coordinator(&["status", &self.id, "--json", "--coordinator", &self.at]);
        let done = finish(ask.envs(self.variables.iter().cloned()));
        (done.code == Some(0)).then(|| serde_json::from_str(&done.stdout).expect("as the commands print it"))
    }

    /// The status that was waited for.
    ///
    /// # Panics
    /// When it does not come in time, or the job fails.
    pub fn wait_for(&self, what: &str, ready: impl Fn(&Value) -> bool) -> Value {
        self.wait_within(what, DEADLINE, ready)
    }

    /// # Panics
    /// When it is not cancelled in time.
    pub fn cancel(&self) {
        let mut ask = coordinator(&["cancel", &self.id, "--coordinator", &self.at]);
        let done = finish(ask.envs(self.variables.iter().cloned()));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        self.wait_for("the cancellation", |status| status["phase"] == "cancelled");
    }

    fn wait_within(&self, what: &str, deadline: Duration, ready: impl Fn(&Value) -> bool) -> Value {
        wait_within(what, deadline, || {
            let seen = self.status().unwrap_or_default();
            assert_ne!(seen["phase"], "failed", "{seen}");
            ready(&seen).then_some(seen)
        })
    }

    /// Waits until it trains.
    ///
    /// # Panics
    /// As [`Served::wait_for`].
    pub fn trains(&self) -> Value {
        self.wait_for("training", |status| status["phase"] == "running" && status["step"].as_u64().unwrap_or(0) > 30)
    }

    /// Waits for the end of a training, on a busy machine too; the run directory.
    ///
    /// # Panics
    /// When the job fails, or is not over within an hour.
    pub fn succeeds(&self) -> PathBuf {
        let status = self.wait_within("the job", TRAINING_DEADLINE, |status| status["phase"] == "succeeded");
        status["run_dir"].as_str().expect("as the commands print it").into()
    }
}

/// All that a recovery may change.
fn without_generation(line: String) -> Value {
    let mut line: Value = serde_json::from_str(&line).expect("as the commands print it");
    line.as_object_mut().expect("as the commands print it").remove("generation");
    line
}

/// Whether both runs left the same lines and the same embeddings.
///
/// # Panics
/// When they did not.
pub fn same_run(run_dir: &Path, undisturbed: &Path) {
    let [lines, wanted] = [run_dir, undisturbed].map(|dir| metric_lines(dir).into_iter().map(without_generation));
    for (line, wanted) in lines.zip(wanted) {
        assert_eq!(line, wanted);
    }
    assert_eq!(metric_lines(run_dir).len(), metric_lines(undisturbed).len());
    let embeddings = [run_dir, undisturbed]
        .map(|dir| std::fs::read(dir.join("export/embeddings.safetensors")).expect("as the commands print it"));
    assert!(embeddings[0] == embeddings[1], "the embeddings differ");
}

/// Whether a run that was cancelled has the numbers of an undisturbed one of as many epochs, which is trained in the folder
/// `plain`. The numbers of workers may differ, so losses need not be the same bits.
///
/// # Panics
/// When it has not.
pub fn same_epochs(run_dir: &Path, job: &Path, plain: &Path, sets: &[&str]) {
    let lines = metric_lines(run_dir);
    let epochs = lines.iter().filter(|line| line.contains("\"kind\":\"epoch\"")).count();
    undisturbed(job, plain, &[sets, &[&format!("optim.epochs={epochs}")]].concat());
    // a whole run ends with the test metrics, and may have an evaluation before them that was not due
    let wanted = &metric_lines(plain)[..lines.len()];
    let found = Differences::between(&lines, wanted);
    // `reg`, which each worker sums in f32, is the least alike
    assert!(found.worst_loss() < 1e-6 && found.metrics == 0.0, "{found:?}");
}
