//! A generation that fails: the next one takes over, with the same numbers, and the culprit is named.

#![allow(clippy::unwrap_used)] // a stand-in that fails is a failed test

use super::form_two;
use super::stand_in::{Launch, Stage, Worker, epoch, within};
use accord_coordinator::job::JobId;
use accord_proto::job::{EventsRequest, JobRequest, Phase, ScaleRequest};
use accord_proto::status::{ApiError, ErrorCode};
use accord_proto::worker::{Heartbeat, Stopped, directive, worker_message::Message};
use serde_json::Value;

const PATIENT: (&str, &str) = ("recovery.max_restarts", "5");

async fn events(stage: &Stage, job: &JobId) -> Vec<Value> {
    let wanted = EventsRequest { job_id: job.0.clone(), follow: false };
    let mut lines = within(stage.client.clone().events(wanted)).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(batch) = within(lines.message()).await.unwrap() {
        all.extend(batch.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    all
}

#[tokio::test]
async fn a_killed_worker_is_named_and_the_next_generation_goes_on_from_the_checkpoint() {
    let stage = Stage::new().await;
    let job = stage.submit_with("recover", &[("cluster.workers", "2"), PATIENT]).await;
    let launch = stage.launched().await;
    let [mut first, second] = form_two(&launch).await;
    second.ready().await;
    first.ready().await;
    stage.wait_for(&job, Phase::Running).await;
    first.say(epoch(0)).await;
    first.checkpoint(10, 1, 0).await;
    second.shard(1, 10, 1, 0).await;
    first.say(epoch(1)).await;
    let exchange = "all_to_all #123, waiting".to_string();
    second.say(Message::Heartbeat(Heartbeat { step: 19, exchange })).await;
    stage.wait_until(&job, |status| status.workers.iter().any(|w| w.step == 19)).await;
    launch.exit_of(1, "was killed by signal 9 (SIGKILL)").await;

    let status = stage.wait_for(&job, Phase::Recovering).await;
    let culprit = "worker-1 (rank 1, pid 8 on here) was killed by signal 9 (SIGKILL) after step 19 (its last exchange: \
                   all_to_all #123, waiting)";
    assert!(status.reason.starts_with(culprit), "{}", status.reason);
    assert_eq!((status.generation, status.restarts), (2, 1));
    assert!(matches!(first.directive().await, Some(directive::Directive::Abort(_))));
    assert_eq!(within(stage.released()).await, (job.clone(), 1));

    let launch = stage.launched().await;
    assert_eq!(launch.generation, 2);
    let [mut first, second] = form_two_from(&launch, 10).await;
    first.ready().await;
    second.ready().await;
    stage.wait_for(&job, Phase::Running).await;
    // what was trained beyond the checkpoint is said again
    let metrics = std::fs::read_to_string(stage.run_dir(&job).join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("\"kind\":\"epoch\"").count(), 1, "{metrics}");
    stage.cancel(&job).await;
    assert!(matches!(first.directive().await, Some(directive::Directive::Abort(_))));

    let written = async {
        loop {
            let told = events(&stage, &job).await;
            if told.last().is_some_and(|event| event["event"] == "cancelled") {
                return told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let told = within(written).await;
    let names: Vec<&str> = told.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["started", "checkpoint", "committed", "lost", "resumed", "started", "recovered", "cancelled"]);
    assert_eq!(told[3]["step"], 20);
    assert!(told[3]["reason"].as_str().unwrap().starts_with("worker-1 (rank 1"), "{}", told[3]);
    assert!(told[6]["seconds"].as_f64().unwrap() < 30.0);
}

async fn of_rank(launch: &Launch, rank: u32) -> Worker {
    within(Worker::of_rank(launch.clone(), rank)).await.unwrap()
}

/// Both ranks, told to go on from a step.
async fn form_two_from(launch: &Launch, step: u64) -> [Worker; 2] {
    let mut both = [of_rank(launch, 0).await, of_rank(launch, 1).await];
    for worker in &mut both {
        assert_eq!(worker.form().await.resume.unwrap().step, step);
    }
    both
}

#[tokio::test]
async fn training_goes_on_with_fewer_when_a_worker_does_not_come() {
    let stage = Stage::new().await;
    let few = [
        ("cluster.workers", "2"),
        ("recovery.detect_within_ms", "500"),
        ("recovery.replace_within_ms", "500"),
        PATIENT,
    ];
    let job = stage.submit_with("fewer", &few).await;
    let launch = stage.launched().await;
    let only = of_rank(&launch, 0).await;
    let beating = only.beat();
    let launch = stage.launched().await;
    beating.abort();
    assert_eq!((launch.generation, launch.workers), (2, 1));
    let mut alone = Worker::of(launch).await;
    let form = alone.form().await;
    assert_eq!((form.rank, form.world), (0, 1));
    let beating = alone.beat();
    alone.ready().await;
    let status = stage.wait_for(&job, Phase::Running).await;
    assert_eq!((status.world, status.workers_wanted), (1, 2));
    assert_eq!(status.reason, "training with 1 of 2 workers");
    // soon it is tried with all of them again
    assert!(matches!(alone.directive().await, Some(directive::Directive::CheckpointAndStop(_))));
    beating.abort();
}

#[tokio::test]
async fn a_job_is_scaled_suspended_and_resumed() {
    let stage = Stage::new().await;
    let job = stage.submit("scaled").await;
    let id = JobRequest { job_id: job.0.clone() };
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    worker.train_an_epoch(0).await;
    stage.wait_for(&job, Phase::Running).await;
    let mut client = stage.client.clone();
    for (workers, code) in [(0, ErrorCode::BadInput), (100_000, ErrorCode::BadInput)] {
        let refused = client.scale(ScaleRequest { job_id: job.0.clone(), workers }).await.unwrap_err();
        assert_eq!(ApiError::from(refused).code, code);
    }
    client.scale(ScaleRequest { job_id: job.0.clone(), workers: 2 }).await.unwrap();
    assert!(matches!(worker.directive().await, Some(directive::Directive::CheckpointAndStop(_))));
    worker.checkpoint(15, 1, 5).await;
    worker.say(Message::Stopped(Stopped {})).await;
    let launch = stage.launched().await;
    assert_eq!((launch.generation, launch.workers), (2, 2));
    let mut both = form_two_from(&launch, 15).await;

    // nothing is trained yet, so there is nothing to save
    client.suspend(id.clone()).await.unwrap();
    assert!(matches!(both[1].directive().await, Some(directive::Directive::Abort(_))));
    assert_eq!(stage.status(&job).await.phase(), Phase::Suspended);
    client.resume(id).await.unwrap();
    let launch = stage.launched().await;
    assert_eq!((launch.generation, launch.workers), (3, 2));
    form_two_from(&launch, 15).await;
}
