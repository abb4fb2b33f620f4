//! The command line as processes against this control plane: the forms that programs read, which are stable, and what
//! Ctrl-C ends.
#![allow(clippy::unwrap_used, reason = "a failure here is a failing test")]

#[path = "../../../worker/objects/tests/support/mod.rs"]
mod bucket;

use super::stand_in::{JOB, Stage, Worker, within};
use accord_coordinator::job::JobId;
use accord_data::checkpoint::{Manifest, Progress, Snapshot};
use accord_proto::job::{Losses, Phase, Step};
use accord_proto::worker::worker_message::Message;
use bucket::seaweedfs::Server;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

fn coordinator(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    command.args(args).stdin(Stdio::null()).env_remove("ACCORD_TOKEN").kill_on_drop(true);
    command
}

async fn output(args: &[&str]) -> Output {
    within(coordinator(args).output()).await.unwrap()
}

/// What a command that went well printed.
async fn printed(args: &[&str]) -> String {
    let done = output(args).await;
    assert_eq!(done.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

async fn json(args: &[&str]) -> Value {
    let text = printed(args).await;
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?} printed {text}: {e}"))
}

/// `"field": type` of everything in it, on one line; of a list, its first element.
fn form(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(values) => format!("[{}]", values.first().map(form).unwrap_or_default()),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {}", form(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

const METRICS: &str = "{ndcg: {20: number}, recall: {20: number}, users: number}";

/// The form of `status --json`. What is not known yet is null.
fn status(progress: &str, validated: &str, test: &str, workers: &str) -> String {
    let select = if validated == "null" { "null" } else { "string" };
    format!(
        "{{best: {validated}, best_epoch: {validated}, epoch: {progress}, generation: number, job_id: string, \
         loss: {progress}, name: string, phase: string, reason: string, restarts: number, run_dir: string, \
         select: {select}, step: {progress}, submitted_at_unix_ms: number, test: {test}, workers: {workers}, workers_wanted: number}}"
    )
}

fn job_file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.toml");
    std::fs::write(&file, JOB).unwrap();
    (folder, file)
}

#[tokio::test]
async fn what_commands_print_for_programs_keeps_its_form() {
    let (stage, (_folder, file)) = (Stage::new().await, job_file());
    let (url, file) = (stage.url(), file.to_str().unwrap());
    let at = ["--json", "--coordinator", &url];
    let with = |args: &[&'static str], job: &str| -> Vec<String> {
        [args[0], job].into_iter().chain(args[1..].iter().copied()).chain(at).map(String::from).collect()
    };
    let ask = async |args: &[&'static str], job: &str| {
        let args = with(args, job);
        json(&args.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    assert_eq!(json(&["ps", at[0], at[1], at[2]]).await, Value::Array(vec![]));

    let submitted = ask(&["submit", "--submission-id", "once"], file).await;
    assert_eq!(form(&submitted), "{job_id: string, repeated: bool, submission_id: string}");
    let job = submitted["job_id"].as_str().unwrap();
    assert_eq!(ask(&["checkpoints"], job).await, Value::Array(vec![]));
    let launch = stage.launched().await;
    assert_eq!(form(&ask(&["status"], job).await), status("null", "null", "null", "[]"));

    let mut worker = Worker::of(launch).await;
    worker.form().await;
    worker.train_an_epoch(0).await;
    worker.settled(10).await;
    let step = Step { step: 11, losses: Some(Losses::default()), ..Step::default() };
    worker.say(Message::Step(step)).await;
    stage.wait_until(&id(job), |status| status.progress.is_some()).await;
    let rank = "[{exchange: string, host: string, name: string, pid: number, rank: number, step: number}]";
    assert_eq!(form(&ask(&["status"], job).await), status("number", "number", "null", rank));

    let checkpoints = ask(&["checkpoints"], job).await;
    assert_eq!(
        form(&checkpoints),
        "[{address: string, best: null, best_epoch: number, bytes: number, committed_at_unix_ms: number, \
         epoch: number, generation: number, holds_best: bool, step: number, workers: number}]"
    );
    assert_eq!((checkpoints[0]["step"].as_u64(), checkpoints[0]["workers"].as_u64()), (Some(10), Some(1)));
    let address = checkpoints[0]["address"].as_str().unwrap();
    let verified = json(&["verify", address, "--json"]).await;
    assert_eq!(
        form(&verified),
        "[{committed: bool, epoch: number, generation: number, good: bool, good_bytes: number, good_files: number, \
         path: string, problems: []}]"
    );
    assert_eq!((verified[0]["path"].as_str(), &verified[0]["good_bytes"]), (Some(address), &checkpoints[0]["bytes"]));

    let lines = |args: Vec<String>| async move {
        let text = printed(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let said = lines(with(&["logs"], job)).await;
    assert_eq!(said, [serde_json::json!({"rank": 0, "line": "hello from the worker"})]);
    let events = lines(with(&["events"], job)).await;
    assert!(events.iter().all(|e| e["kind"] == "event" && e["at_unix_ms"].is_u64()), "{events:?}");
    assert_eq!(events.iter().filter(|e| e["event"] == "committed" && e["step"] == 10).count(), 1, "{events:?}");

    worker.finish().await;
    stage.wait_for(&id(job), Phase::Succeeded).await;
    let jobs = json(&["ps", at[0], at[1], at[2]]).await;
    assert_eq!(form(&jobs), format!("[{}]", status("number", "number", METRICS, "[]")));
}

fn id(job: &str) -> JobId {
    JobId(job.into())
}

#[tokio::test]
async fn what_steers_a_job_prints_its_status() {
    let stage = Stage::new().await;
    // the first one runs, so that the others can be put aside without a worker
    stage.submit("running").await;
    let job = stage.submit("waiting").await;
    let url = stage.url();
    let steps: [(&[&str], &str); 4] = [
        (&["scale", &job.0, "3"], "queued"),
        (&["suspend", &job.0], "suspended"),
        (&["resume", &job.0], "queued"),
        (&["cancel", &job.0], "cancelled"),
    ];
    for (args, phase) in steps {
        let args: Vec<&str> = args.iter().copied().chain(["--json", "--coordinator", &url]).collect();
        let shown = json(&args).await;
        assert_eq!(form(&shown), status("null", "null", "null", "[]"), "{args:?}");
        assert_eq!((shown["phase"].as_str(), shown["workers_wanted"].as_u64()), (Some(phase), Some(3)), "{args:?}");
    }
}

#[tokio::test]
async fn what_is_read_without_a_coordinator_keeps_its_form() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for (part, text) in [("train", "a 0\na 1\nb 1\nc 2\n"), ("val", "b 2\n"), ("test", "c 0\n")] {
        std::fs::write(data.join(format!("{part}.txt")), text).unwrap();
    }
    let job = folder.path().join("job.toml");
    std::fs::write(&job, JOB.replace("path = \"tiny\"", "path = \"data\"\nformat = \"pairs\"")).unwrap();

    let inspected = json(&["data", "inspect", data.to_str().unwrap(), "--format", "pairs", "--json"]).await;
    let column = "{name: null, place: number, role: string}";
    let file = format!(
        "{{columns: [{column}], compression: null, file: string, first: string, form: string, header_line: null, \
         interactions: number, skipped: [], unused_columns: []}}"
    );
    let reading = format!("{{files: [{file}], items: string, passed_over: [], texts: [], users: string}}");
    let degrees = "{max: number, median: number, min: number, q25: number, q75: number, q99: number}";
    assert_eq!(
        form(&inspected).replace("[{count: number, what: string}]", "[]"),
        format!(
            "{{density: number, digest: string, intent_width: null, item_degree: {degrees}, items: number, \
             items_without_training: number, profile_width: null, reading: {reading}, repairs: [], test: number, train: number, \
             user_degree: {degrees}, users: number, users_without_training: number, validation: number}}"
        )
    );
    let plan = json(&["plan", job.to_str().unwrap(), "--workers", "2", "--json"]).await;
    assert_eq!(plan["ranks"].as_array().map(Vec::len), Some(2));
    let form = form(&plan);
    for part in [
        "{candidates: [{balance: number, chosen: bool, exchange: string, halo_bytes_worst: number, of_all_gather: \
         number, rows_share: number, rows_worst: number, strategy: string}], items: number, partition_digest: string",
        "ranks: [{edges: number, items: number, memory: {",
        "rank: number, received: number, sent: number, step_bytes: {",
        "train: number, users: number, workers: number}",
    ] {
        assert!(form.contains(part), "{part} is not in {form}");
    }
}

#[tokio::test]
async fn ctrl_c_ends_the_watching_and_not_the_job() {
    let (stage, (_folder, file)) = (Stage::new().await, job_file());
    let url = stage.url();
    let submit = ["submit", file.to_str().unwrap(), "--watch", "--submission-id", "once", "--coordinator", &url];
    for signal in ["-INT", "-TERM"] {
        let mut watching = coordinator(&submit).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut job = String::new();
        let mut stdout = BufReader::new(watching.stdout.take().unwrap());
        within(stdout.read_line(&mut job)).await.unwrap();
        let job = job.trim();
        let process = watching.id().unwrap().to_string();
        assert!(within(Command::new("kill").args([signal, &process]).status()).await.unwrap().success());
        assert_eq!(within(watching.wait()).await.unwrap().code(), Some(130));
        let mut said = String::new();
        within(watching.stderr.take().unwrap().read_to_string(&mut said)).await.unwrap();
        for part in ["interrupted: the job goes on", "--submission-id once", &format!("coordinator status {job}")] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        assert_eq!(stage.status(&id(job)).await.phase(), Phase::Starting);
    }

    // as it was told, the same command watches it again, to its end
    let watching = tokio::spawn(coordinator(&submit).output());
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    worker.train_an_epoch(0).await;
    worker.finish().await;
    let done = within(watching).await.unwrap().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("test metrics"));
}

#[test]
fn one_checkpoint_in_a_bucket_is_verified_by_the_address_it_is_listed_with() {
    let Some(server) = Server::start() else {
        eprintln!("SKIPPED: no SeaweedFS in .deps; `make servers` fetches it");
        return;
    };
    let options = server.options();
    let store = accord_objects::open_with("s3://accord/runs/a", Path::new("unused"), &options).unwrap();
    for step in [10, 20] {
        let progress = Progress { step, epoch: step / 10, ..Progress::default() };
        let snapshot = Snapshot { rows: vec![], dense: vec![], progress: progress.clone() };
        let files = store.write_shard(step, 1, 0, &snapshot).unwrap();
        let (config_digest, data_digest) = ("config".into(), "data".into());
        let manifest = Manifest { version: 1, generation: 1, world: 1, progress, config_digest, data_digest, files };
        store.commit(step, &manifest).unwrap();
    }
    let verify = |address: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_coordinator"));
        let done = command.args(["verify", address, "--json"]).envs(options.variables.clone()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let checked: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
        let epochs = checked.as_array().unwrap().iter().map(|c| c["epoch"].as_u64()).collect::<Vec<_>>();
        (done.status.code(), epochs)
    };
    assert_eq!(verify(&store.address(20)), (Some(0), vec![Some(2)]));
    assert_eq!(verify("s3://accord/runs/a/"), (Some(0), vec![Some(1), Some(2)]));
    let shard = store.place().list("step-0000000020").unwrap().into_iter().find(|n| n.starts_with("rows-")).unwrap();
    store.place().remove(&format!("step-0000000020/{shard}")).unwrap();
    assert_eq!(verify(&store.address(20)), (Some(1), vec![Some(2)]));
    // of an absent one there is nothing to read
    assert_eq!(verify(&store.address(30)), (Some(1), vec![None]));
}
