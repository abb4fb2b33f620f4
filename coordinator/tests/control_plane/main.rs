//! A whole control plane in one process: real store, loop, server and gRPC on port 0; only the launcher and the workers
//! are stand-ins, which speak the real stream.

mod adoption;
mod commands;
mod recovery;
mod stand_in;

use accord_coordinator::job::JobId;
use accord_coordinator::store::{EmbeddedStore, MemoryStore};
use accord_proto::job::{FailureKind, JobRequest, LogsRequest, Phase, SubmitRequest};
use accord_proto::status::{ApiError, ErrorCode};
use accord_proto::worker::{Failed, Heartbeat, Stopped, directive, worker_message::Message};
use stand_in::{JOB, Stage, Worker, within};
use std::sync::Arc;

#[tokio::test]
async fn a_job_succeeds_and_leaves_its_run_directory() {
    let stage = Stage::new().await;
    let job = stage.submit("one").await;
    let mut worker = Worker::of(stage.launched().await).await;
    let form = worker.form().await;
    assert_eq!((form.rank, form.world, form.resume), (0, 1, None));
    worker.train_an_epoch(0).await;
    worker.finish().await;

    let status = stage.wait_for(&job, Phase::Succeeded).await;
    assert_eq!(status.test.unwrap().metrics[0].at[0].value, 0.25);
    assert_eq!(status.last_epoch.unwrap().epoch, 0);
    let listed = stage.client.clone().list(accord_proto::job::ListRequest {}).await.unwrap().into_inner().jobs;
    assert!(listed[0].last_epoch.is_none(), "a list is brief");
    let dir = stage.run_dir(&job);
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let metrics = read("metrics.jsonl");
    let kinds: Vec<&str> = metrics.lines().map(|l| l.split('"').nth(3).unwrap()).collect();
    assert_eq!(kinds, ["event", "epoch", "eval", "event", "event", "eval"]);
    assert!(read("summary.json").contains("\"best_epoch\": 0"));
    assert_eq!(read("dataset.json"), "{}\n");
    assert_eq!(read("job_root.txt"), "/data\n");
    assert!(accord_spec::parse(&read("job.toml"), &[]).is_ok());
    assert!(read("logs/rank-0.log").contains("hello from the worker"));
    let released = within(stage.released()).await;
    assert_eq!(released, (job, 1));
}

#[tokio::test]
async fn a_worker_that_comes_for_a_job_that_is_over_is_told_so_and_one_that_comes_too_early_is_not() {
    let stage = Stage::new().await;
    let job = stage.submit("one").await;
    let launch = stage.launched().await;
    let mut any_generation = launch.clone();
    any_generation.generation = 0;
    let mut worker = Worker::of(launch).await;
    worker.form().await;
    // it has formed: the next generation may need another
    let early = Worker::try_of(any_generation.clone()).await.map(|_| ()).unwrap_err();
    assert_eq!(ApiError::from(early).code, ErrorCode::Unavailable);
    worker.train_an_epoch(0).await;
    worker.finish().await;
    stage.wait_for(&job, Phase::Succeeded).await;
    let late = Worker::try_of(any_generation).await.map(|_| ()).unwrap_err();
    assert_eq!(ApiError::from(late).code, ErrorCode::JobOver);
}

#[tokio::test]
async fn a_repeated_submission_is_the_same_job() {
    let stage = Stage::new().await;
    let first = stage.submit("same").await;
    assert_eq!(stage.submit("same").await, first);
    assert_ne!(stage.submit("other").await, first);
    assert_eq!(stage.client.clone().list(accord_proto::job::ListRequest {}).await.unwrap().into_inner().jobs.len(), 2);
}

#[tokio::test]
async fn one_job_runs_at_a_time() {
    let stage = Stage::new().await;
    let first = stage.submit("one").await;
    let second = stage.submit("two").await;
    let launch = stage.launched().await;
    assert_eq!(launch.job, first);
    assert_eq!(stage.status(&second).await.phase(), Phase::Queued);
    stage.cancel(&first).await;
    assert_eq!(stage.launched().await.job, second);
}

#[tokio::test]
async fn a_crashed_worker_fails_its_job_with_its_last_words() {
    let stage = Stage::new().await;
    let job = stage.submit("crash").await;
    let launch = stage.launched().await;
    let mut worker = Worker::of(launch.clone()).await;
    worker.form().await;
    launch.log.append("terminate called after throwing");
    drop(worker);
    launch.exit("was killed by signal 6 (SIGABRT)").await;
    let status = stage.wait_for(&job, Phase::Failed).await;
    assert_eq!(status.failure(), FailureKind::WorkerLost);
    assert!(status.reason.contains("SIGABRT") && status.reason.contains("terminate called"), "{}", status.reason);
}

/// Two ranks of one job, formed.
async fn two_workers(stage: &Stage) -> (JobId, stand_in::Launch, [Worker; 2]) {
    let job = stage.submit_with("two", &[("cluster.workers", "2")]).await;
    let launch = stage.launched().await;
    let workers = form_two(&launch).await;
    (job, launch, workers)
}

/// Both ranks of a launch of two.
async fn form_two(launch: &stand_in::Launch) -> [Worker; 2] {
    // in the other order: ranks are names, not arrivals
    let mut second = within(Worker::of_rank(launch.clone(), 1)).await.expect("rank 1 registers");
    let mut first = within(Worker::of_rank(launch.clone(), 0)).await.expect("rank 0 registers");
    for (rank, worker) in [&mut first, &mut second].into_iter().enumerate() {
        let form = worker.form().await;
        assert_eq!((form.rank, form.world, form.store.as_str()), (rank as u32, 2, "here:4000"));
    }
    [first, second]
}

#[tokio::test]
async fn two_workers_meet_at_the_store_of_rank_0_and_both_must_finish() {
    let stage = Stage::new().await;
    let (job, _, [first, second]) = two_workers(&stage).await;
    second.ready().await;
    first.train_an_epoch(0).await;
    second.finish().await;
    // what rank 0 has not said is not over
    stage.wait_for(&job, Phase::Running).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(stage.status(&job).await.phase(), Phase::Running);
    first.finish().await;
    stage.wait_for(&job, Phase::Succeeded).await;
}

#[tokio::test]
async fn a_worker_that_was_let_down_waits_for_the_culprit_to_be_named() {
    let stage = Stage::new().await;
    let (job, launch, [first, second]) = two_workers(&stage).await;
    first.ready().await;
    second.ready().await;
    stage.wait_for(&job, Phase::Running).await;
    let kind = FailureKind::WorkerLost.into();
    first.say(Message::Failed(Failed { kind, reason: "all_reduce: connection closed by peer".into() })).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(stage.status(&job).await.phase(), Phase::Running);
    launch.exit_of(1, "was killed by signal 9 (SIGKILL)").await;
    let status = stage.wait_for(&job, Phase::Failed).await;
    assert!(status.reason.contains("worker-1") && status.reason.contains("SIGKILL"), "{}", status.reason);
}

#[tokio::test]
async fn a_broken_stream_without_an_exit_fails_the_job_too() {
    let stage = Stage::new().await;
    let job = stage.submit("cut").await;
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    drop(worker);
    let status = stage.wait_for(&job, Phase::Failed).await;
    assert!(status.reason.contains("worker-0 (rank 0, pid 7 on here) lost its connection"), "{}", status.reason);
}

#[tokio::test]
async fn a_silent_worker_is_lost_after_detect_within() {
    let stage = Stage::new().await;
    let job = stage.submit_with("frozen", &[("recovery.detect_within_ms", "500")]).await;
    // registers, then says nothing more
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    let status = stage.wait_for(&job, Phase::Failed).await;
    assert!(status.reason.contains("was silent"), "{}", status.reason);
    assert!(matches!(worker.directive().await, Some(directive::Directive::Abort(_))));
}

#[tokio::test]
async fn a_workers_own_failure_keeps_its_kind_and_words() {
    let stage = Stage::new().await;
    let job = stage.submit("bad data").await;
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    let reason = "train.npz: truncated".to_string();
    worker.say(Message::Failed(Failed { kind: FailureKind::BadInput.into(), reason })).await;
    let status = stage.wait_for(&job, Phase::Failed).await;
    assert_eq!((status.failure(), status.reason.as_str()), (FailureKind::BadInput, "train.npz: truncated"));
}

#[tokio::test]
async fn a_cancelled_job_aborts_its_worker() {
    let stage = Stage::new().await;
    let job = stage.submit("cancel").await;
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    worker.ready().await;
    stage.wait_for(&job, Phase::Running).await;
    stage.cancel(&job).await;
    assert!(matches!(worker.directive().await, Some(directive::Directive::Abort(_))));
    assert_eq!(stage.status(&job).await.phase(), Phase::Cancelled);
    // cancelling what is over changes nothing
    stage.cancel(&job).await;
    assert_eq!(stage.status(&job).await.phase(), Phase::Cancelled);
}

#[tokio::test]
async fn a_suspended_job_saves_first_and_its_next_run_resumes_there() {
    let stage = Stage::new().await;
    let job = stage.submit("suspend").await;
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    worker.train_an_epoch(0).await;
    stage.wait_for(&job, Phase::Running).await;
    stage.client.clone().suspend(JobRequest { job_id: job.0.clone() }).await.unwrap();
    assert!(matches!(worker.directive().await, Some(directive::Directive::CheckpointAndStop(_))));
    worker.checkpoint(15, 1, 5).await;
    // trained beyond the checkpoint, but not saved: the resumed run says it again
    worker.say(stand_in::epoch(1)).await;
    worker.say(Message::Stopped(Stopped {})).await;
    stage.wait_for(&job, Phase::Suspended).await;

    // another control plane, the same directory
    let dir = stage.run_dir(&job);
    let again = Stage::on(Arc::new(MemoryStore::new()), Some(dir.clone())).await;
    let job = again.submit("again").await;
    let mut worker = Worker::of(again.launched().await).await;
    let resume = worker.form().await.resume.unwrap();
    assert_eq!((resume.step, resume.data_digest.as_str()), (15, "digest"));
    worker.ready().await;
    again.wait_for(&job, Phase::Running).await;
    let metrics = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.matches("\"kind\":\"epoch\"").count(), 1, "{metrics}");
    assert!(metrics.contains("\"event\":\"resumed\",\"step\":15"), "{metrics}");
}

#[tokio::test]
async fn a_restarted_coordinator_starts_unfinished_jobs_again_in_a_new_generation() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("store.redb");
    let stage = Stage::on(Arc::new(EmbeddedStore::open(&path).unwrap()), None).await;
    let job = stage.submit("restart").await;
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    worker.train_an_epoch(0).await;
    stage.wait_for(&job, Phase::Running).await;
    let dirs = stage.stop().await;

    let stage = Stage::in_folder(Arc::new(EmbeddedStore::open(&path).unwrap()), dirs).await;
    let launch = stage.launched().await;
    assert_eq!((&launch.job, launch.generation), (&job, 2));
    let mut worker = Worker::of(launch).await;
    assert_eq!(worker.form().await.resume.unwrap().step, 10);
    worker.ready().await;
    stage.wait_for(&job, Phase::Running).await;
}

#[tokio::test]
async fn a_wrong_token_another_job_and_another_generation_are_refused() {
    let stage = Stage::new().await;
    let job = stage.submit("guarded").await;
    let launch = stage.launched().await;
    let refused = |launch| async {
        match within(Worker::try_of(launch)).await {
            Ok(_) => panic!("it was let in"),
            Err(status) => ApiError::from(status).code,
        }
    };
    let mut wrong = launch.clone();
    wrong.token = "0".repeat(launch.token.len());
    assert_eq!(refused(wrong).await, ErrorCode::WrongToken);
    let mut other = launch.clone();
    other.job = JobId("no-such-job".into());
    assert_eq!(refused(other).await, ErrorCode::UnknownJob);
    let mut other_generation = launch.clone();
    other_generation.generation += 7;
    assert_eq!(refused(other_generation).await, ErrorCode::StaleGeneration);

    let mut worker = Worker::of(launch.clone()).await;
    assert_eq!(refused(launch.clone()).await, ErrorCode::BadInput, "a name registers once");
    worker.form().await;
    worker.say_as(7, Message::Heartbeat(Heartbeat::default())).await;
    assert_eq!(ApiError::from(worker.refusal().await).code, ErrorCode::StaleGeneration);
    // none of this was the job's own doing but the last: its worker is gone
    stage.wait_for(&job, Phase::Failed).await;
}

#[tokio::test]
async fn a_bad_job_file_is_refused_with_its_line() {
    let stage = Stage::new().await;
    let submission = SubmitRequest {
        submission_id: "bad".into(),
        job_toml: JOB.replace("dim", "dimm"),
        overrides: Vec::new(),
        job_root: "/data".into(),
    };
    let error = ApiError::from(stage.client.clone().submit(submission).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::BadInput);
    assert!(error.message.contains("did you mean `dim`"), "{error}");
    let unknown = stage.client.clone().status(JobRequest { job_id: "nobody".into() }).await.unwrap_err();
    assert_eq!(ApiError::from(unknown).code, ErrorCode::UnknownJob);
}

#[tokio::test]
async fn a_run_directory_of_another_job_is_refused_with_the_differing_keys() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("job.toml"), JOB.replace("dim = 8", "dim = 16")).unwrap();
    std::fs::write(dir.path().join("job_root.txt"), "/data\n").unwrap();
    std::fs::write(dir.path().join("metrics.jsonl"), "{\"kind\":\"epoch\",\"epoch\":0}\n").unwrap();
    let stage = Stage::on(Arc::new(MemoryStore::new()), Some(dir.path().into())).await;
    let job = stage.submit("differs").await;
    let status = stage.wait_for(&job, Phase::Failed).await;
    assert_eq!(status.failure(), FailureKind::BadInput);
    assert!(status.reason.contains("model.dim 16 -> 8"), "{}", status.reason);
}

#[tokio::test]
async fn logs_are_read_after_the_worker_is_gone() {
    let stage = Stage::new().await;
    let job = stage.submit("logs").await;
    let mut worker = Worker::of(stage.launched().await).await;
    worker.form().await;
    worker.train_an_epoch(0).await;
    worker.finish().await;
    stage.wait_for(&job, Phase::Succeeded).await;
    let wanted = LogsRequest { job_id: job.0.clone(), rank: 0, follow: true };
    let mut lines = stage.client.clone().logs(wanted).await.unwrap().into_inner();
    let first = within(lines.message()).await.unwrap().unwrap();
    assert_eq!(first.lines, ["hello from the worker"]);
    assert!(within(lines.message()).await.unwrap().is_none(), "a job that is over has no more to say");
}
