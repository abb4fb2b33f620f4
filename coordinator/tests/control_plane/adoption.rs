//! A coordinator that takes over from one that is gone: workers train on, say again what it has to know, and the run
//! directory is as if there had been one coordinator.

use crate::stand_in::{Stage, Worker, epoch, within};
use accord_coordinator::job::JobId;
use accord_coordinator::store::MemoryStore;
use accord_proto::job::Phase;
use std::sync::Arc;

/// `kind epoch` of each line but events; events by their name.
fn lines(stage: &Stage, job: &JobId) -> Vec<String> {
    let text = std::fs::read_to_string(stage.run_dir(job).join("metrics.jsonl")).expect("metrics.jsonl");
    let word = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        match line["event"].as_str() {
            Some(event) => event.to_string(),
            None => format!("{} {}", line["kind"].as_str().unwrap_or("?"), line["epoch"]),
        }
    };
    text.lines().map(word).collect()
}

/// A worker that has trained an epoch, saved it, and reported half of the next; then its coordinator is gone.
async fn abandoned() -> (MemoryStore, Arc<tempfile::TempDir>, JobId) {
    let store = MemoryStore::new();
    let stage = Stage::on(Arc::new(store.clone()), None).await;
    let job = stage.submit("s").await;
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    worker.train_an_epoch(0).await;
    stage.wait_for(&job, Phase::Running).await;
    worker.settled(10).await;
    worker.say(epoch(1)).await;
    let folder = stage.vanish().await;
    let ended = worker.refusal().await;
    assert_eq!(ended.code(), tonic::Code::Unavailable, "the worker may come back: {ended}");
    (store, folder, job)
}

#[tokio::test]
async fn workers_that_train_are_adopted_and_the_lines_are_those_of_one_coordinator() {
    let (store, folder, job) = abandoned().await;
    let stage = Stage::adopting(Arc::new(store), folder, 1).await;
    let launch = stage.launched().await;
    assert_eq!(launch.generation, 1);
    let mut worker = within(Worker::underway(launch, 0, 0)).await.unwrap();
    assert_eq!(worker.welcome(stage.run_dir(&job)).await, (10, 0));
    let status = stage.status(&job).await;
    assert_eq!((status.phase(), status.generation, status.restarts), (Phase::Running, 1, 0));

    // what came after the checkpoint is said again
    worker.ready().await;
    worker.say(epoch(1)).await;
    worker.say(epoch(2)).await;
    worker.checkpoint(30, 3, 0).await;
    worker.finish().await;
    stage.wait_for(&job, Phase::Succeeded).await;
    let told = [
        "started",
        "epoch 0",
        "eval 0",
        "checkpoint",
        "committed",
        "adopted",
        "epoch 1",
        "epoch 2",
        "checkpoint",
        "committed",
        "eval 0",
    ];
    assert_eq!(lines(&stage, &job), told);
    assert!(std::fs::read_to_string(stage.run_dir(&job).join("summary.json")).unwrap().contains("\"epochs\": 3"));
}

#[tokio::test]
async fn a_worker_whose_stream_broke_is_taken_back_and_not_heard_twice() {
    let stage = Stage::new().await;
    let job = stage.submit("s").await;
    let launch = stage.launched().await;
    let mut worker = Worker::of(launch.clone()).await;
    worker.form().await;
    worker.ready().await;
    worker.say_numbered(1, epoch(0)).await;
    stage.wait_for(&job, Phase::Running).await;
    while !lines(&stage, &job).contains(&"epoch 0".to_string()) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(worker);

    let mut worker = within(Worker::underway(launch, 0, 0)).await.unwrap();
    assert_eq!(worker.welcome(stage.run_dir(&job)).await, (0, 1));
    worker.say_numbered(1, epoch(0)).await;
    worker.say_numbered(2, epoch(1)).await;
    worker.finish().await;
    let status = stage.wait_for(&job, Phase::Succeeded).await;
    assert_eq!((status.generation, status.restarts), (1, 0));
    assert_eq!(lines(&stage, &job), ["started", "epoch 0", "epoch 1", "eval 0"]);
}

#[tokio::test]
async fn a_worker_that_forgot_too_much_is_refused() {
    let (store, folder, _) = abandoned().await;
    let stage = Stage::adopting(Arc::new(store), folder, 1).await;
    let refused = within(Worker::underway(stage.launched().await, 0, 20)).await.map(drop).unwrap_err();
    assert!(refused.message().contains("before step 20"), "{refused}");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn a_worker_that_does_not_come_to_the_new_coordinator_is_the_culprit() {
    let store = MemoryStore::new();
    let stage = Stage::on(Arc::new(store.clone()), None).await;
    let sets = [("cluster.workers", "2"), ("recovery.detect_within_ms", "100"), ("recovery.max_restarts", "2")];
    let job = stage.submit_with("s", &sets).await;
    let launch = stage.launched().await;
    let mut workers = Vec::new();
    for rank in 0..2 {
        workers.push(Worker::of_rank(launch.clone(), rank).await.unwrap());
    }
    let beats: Vec<_> = workers.iter().map(Worker::beat).collect();
    for worker in &mut workers {
        worker.form().await;
        worker.ready().await;
    }
    stage.wait_for(&job, Phase::Running).await;
    let folder = stage.vanish().await;
    beats.iter().for_each(tokio::task::JoinHandle::abort);

    let stage = Stage::adopting(Arc::new(store), folder, 2).await;
    let worker = within(Worker::underway(stage.launched().await, 0, 0)).await.unwrap();
    let _beat = worker.beat();
    let status = stage.wait_until(&job, |status| status.generation == 2).await;
    assert_eq!(status.phase(), Phase::Recovering);
    assert!(status.reason.contains("worker-1") && status.reason.contains("did not come"), "{}", status.reason);
}
