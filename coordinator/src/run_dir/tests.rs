use super::metrics::{Event, MetricsFile, ResumePoint, rewind};
use super::*;
use accord_data::checkpoint::{CheckpointStore, Manifest, Progress, Snapshot};
use accord_proto::job::{AtK, Epoch, Eval, Losses, MetricValues, Split};

fn epoch(epoch: u64, step: u64) -> Epoch {
    let losses = Losses { total: 0.1 + 0.2, bpr: 1.0 / 3.0, ..Losses::default() };
    Epoch { epoch, step, losses: Some(losses), seconds: 0.5, ..Epoch::default() }
}

fn eval(epoch: u64, split: Split) -> Eval {
    let at = |k, value| AtK { k, value };
    Eval {
        epoch,
        split: split.into(),
        metrics: vec![
            MetricValues { name: "recall".into(), at: vec![at(5, 0.1), at(10, 0.2), at(20, 0.30000000000000004)] },
            MetricValues { name: "ndcg".into(), at: vec![at(5, 0.05)] },
        ],
        ..Eval::default()
    }
}

/// Two epochs, a checkpoint inside the second, then a third epoch.
fn written(dir: &Path) -> PathBuf {
    let path = dir.join(METRICS_FILE);
    let mut file = MetricsFile::append_to(&path).unwrap();
    file.epoch(&epoch(1, 10), 1, 1).unwrap();
    file.eval(&eval(1, Split::Validation)).unwrap();
    file.event(&Event::Checkpoint { step: 15, generation: 1, stall_seconds: 0.25 }).unwrap();
    file.epoch(&epoch(2, 20), 1, 1).unwrap();
    file.event(&Event::CheckpointFailed { step: 15, generation: 1, reason: "disk full".into() }).unwrap();
    file.eval(&eval(2, Split::Validation)).unwrap();
    file.event(&Event::Checkpoint { step: 25, generation: 1, stall_seconds: 0.0 }).unwrap();
    path
}

fn kinds(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let word = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["event"].as_str().or(value["kind"].as_str()).unwrap().to_string()
    };
    text.lines().map(word).collect()
}

#[test]
fn lines_have_the_stable_form_and_shortest_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(written(dir.path())).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"kind":"epoch","epoch":1,"step":10,"loss":{"total":0.30000000000000004,"bpr":0.3333333333333333,"reg":0.0,"kd":0.0,"kd_int":0.0,"translation":0.0,"itm":0.0},"seconds":0.5,"generation":1,"world":1}"#
    );
    assert_eq!(
        lines[1],
        r#"{"kind":"eval","epoch":1,"split":"val","recall":{"5":0.1,"10":0.2,"20":0.30000000000000004},"ndcg":{"5":0.05}}"#
    );
    let (head, tail) =
        (r#"{"kind":"event","at_unix_ms":"#, r#","event":"checkpoint","step":15,"generation":1,"stall_seconds":0.25}"#);
    let time = lines[2].strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
    assert!(time.is_some_and(|time| time.parse::<u64>().is_ok()), "{}", lines[2]);
}

#[test]
fn a_resumed_run_keeps_what_was_said_before_its_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    let kept = rewind(&path, Some(ResumePoint { step: 15, step_in_epoch: 5 })).unwrap();
    // the failure is history, the rest will be said again
    assert_eq!(kinds(&path), ["epoch", "eval", "checkpoint", "checkpoint_failed"]);
    assert_eq!((kept.epochs, kept.seconds), (1, 0.5));
}

#[test]
fn without_a_checkpoint_only_history_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    rewind(&path, None).unwrap();
    assert_eq!(kinds(&path), ["checkpoint_failed"]);
}

#[test]
fn a_torn_last_line_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"kind\":\"epo");
    std::fs::write(&path, text).unwrap();
    rewind(&path, Some(ResumePoint { step: 25, step_in_epoch: 5 })).unwrap();
    assert_eq!(kinds(&path).len(), 7);
    assert!(std::fs::read_to_string(&path).unwrap().ends_with('\n'));
}

#[test]
fn without_its_marker_a_checkpoint_cuts_by_steps() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    // the last step of epoch 2, before that epoch was reported
    rewind(&path, Some(ResumePoint { step: 20, step_in_epoch: 10 })).unwrap();
    assert_eq!(kinds(&path), ["epoch", "eval", "checkpoint_failed"]);
    // and after
    let path = written(&{
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        other
    });
    rewind(&path, Some(ResumePoint { step: 20, step_in_epoch: 0 })).unwrap();
    assert_eq!(kinds(&path), ["epoch", "eval", "checkpoint", "epoch", "checkpoint_failed", "eval"]);
}

#[test]
fn without_its_marker_a_test_line_does_not_decide_where_to_cut() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path());
    // of the best epoch, said at the end
    MetricsFile::append_to(&path).unwrap().eval(&eval(1, Split::Test)).unwrap();
    rewind(&path, Some(ResumePoint { step: 12, step_in_epoch: 2 })).unwrap();
    assert_eq!(kinds(&path), ["epoch", "eval", "checkpoint_failed"]);
}

#[test]
fn a_run_that_was_cut_off_while_it_began_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    for name in super::BEGINNINGS {
        std::fs::write(dir.path().join(name), "").unwrap();
        assert!(matches!(inspect(dir.path()), Ok(State::Empty)), "{name}");
    }
    std::fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    assert!(matches!(inspect(dir.path()), Err(RunDirError::Foreign(_))));
    // the job file of a user who gave its own folder
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(JOB_FILE), "").unwrap();
    assert!(matches!(inspect(dir.path()), Err(RunDirError::Foreign(_))));
}

#[test]
fn a_folder_of_other_files_is_neither_used_nor_cleared() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(inspect(&dir.path().join("missing")), Ok(State::Empty)));
    assert!(matches!(inspect(dir.path()), Ok(State::Empty)));
    std::fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    assert!(matches!(inspect(dir.path()), Err(RunDirError::Foreign(_))));
    assert!(matches!(clear(dir.path()), Err(RunDirError::Foreign(_))));
}

/// A directory in which a job was tried.
fn begun() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let job = "[job]\nname = \"a\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\n";
    std::fs::write(dir.path().join(JOB_FILE), job).unwrap();
    std::fs::write(dir.path().join(JOB_ROOT_FILE), "/data\n").unwrap();
    dir
}

#[test]
fn clearing_removes_what_a_run_writes_and_nothing_else() {
    let dir = begun();
    std::fs::create_dir_all(dir.path().join("checkpoints/step-0000000001")).unwrap();
    for name in ["export", "logs"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("job.toml.tmp"), "").unwrap();
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let names = || -> std::collections::BTreeSet<String> {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    let before = names();
    let error = clear(dir.path()).unwrap_err();
    assert!(error.is_bad_input() && error.to_string().contains("also holds notes.txt"), "{error}");
    assert_eq!(names(), before);
    std::fs::remove_file(dir.path().join("notes.txt")).unwrap();
    clear(dir.path()).unwrap();
    assert!(matches!(inspect(dir.path()), Ok(State::Empty)), "{:?}", names());
}

#[test]
fn a_job_that_never_trained_leaves_its_directory_empty() {
    let dir = begun();
    std::fs::create_dir(dir.path().join("checkpoints")).unwrap();
    std::fs::write(dir.path().join(METRICS_FILE), "{\"kind\":\"event\"}\n").unwrap();
    assert!(matches!(inspect(dir.path()), Ok(State::Empty)));
    std::fs::create_dir(dir.path().join("checkpoints/step-0000000001")).unwrap();
    assert!(matches!(inspect(dir.path()), Ok(State::Started(_))));
    std::fs::remove_dir(dir.path().join("checkpoints/step-0000000001")).unwrap();
    std::fs::write(dir.path().join(METRICS_FILE), "{\"kind\":\"epoch\",\"epoch\":0}\n").unwrap();
    assert!(matches!(inspect(dir.path()), Ok(State::Started(_))));
}

#[test]
fn a_directory_is_one_runs_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = open::lock(dir.path()).unwrap();
    assert!(matches!(open::lock(dir.path()), Err(RunDirError::Busy(_))));
    drop(first);
    open::lock(dir.path()).unwrap();
}

#[test]
fn checkpoints_of_another_job_in_a_bucket_are_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let job = "[job]\nname = \"a\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\n";
    let spec = |text: &str| accord_spec::parse(&format!("{job}{text}"), &[]).unwrap();
    let bucket = "[checkpoint]\nuri = \"s3://bucket/runs\"\n";
    let written = spec(bucket);
    // what matters is whose they are, not how they are reached
    let store = CheckpointStore::new(dir.path().into());
    let progress = Progress { step: 7, ..Progress::default() };
    let snapshot = Snapshot { rows: Vec::new(), dense: Vec::new(), progress: progress.clone() };
    let files = store.write_shard(7, 1, 0, &snapshot).unwrap();
    let (config_digest, data_digest) = (config::digest(&written), String::new());
    let manifest = Manifest { version: 1, generation: 1, world: 1, progress, config_digest, data_digest, files };
    store.commit(7, &manifest).unwrap();

    let (newest, warnings) = open::newest_good(&store, &written).unwrap();
    assert_eq!((newest.map(|(resume, _)| resume.step), warnings), (Some(7), vec![]));
    let error = open::newest_good(&store, &spec(&format!("[optim]\nlr = 0.5\n{bucket}"))).unwrap_err();
    assert!(error.is_bad_input());
    assert_eq!(
        error.to_string(),
        "s3://bucket/runs holds checkpoints of another job: give another checkpoint.uri, or remove them"
    );
}
