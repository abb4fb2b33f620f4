//! The stand-ins: a launcher that only notes what it is asked, and a worker driven line by line by the test.

#![allow(clippy::unwrap_used)] // a stand-in that fails is a failed test

use accord_coordinator::control_loop::RunDirs;
use accord_coordinator::job::JobId;
use accord_coordinator::launcher::{Exit, LaunchError, LaunchRequest, Launcher, Next, SightSink, Sighting};
use accord_coordinator::log_store::RankLog;
use accord_coordinator::plane::{self, Plane, PlaneOptions};
use accord_coordinator::server::ServerOptions;
use accord_coordinator::store::{ClusterStore, MemoryStore};
use accord_data::checkpoint::{CheckpointStore, Progress, Snapshot};
use accord_proto::job::jobs_client::JobsClient;
use accord_proto::job::{
    AtK, Epoch, Eval, JobRequest, JobStatus, LogLines, MetricValues, Override, Phase, Split, SubmitRequest,
};
use accord_proto::worker::workers_client::WorkersClient;
use accord_proto::worker::{
    CheckpointFile, Directive, Finished, Form, Heartbeat, Ready, Register, ShardWritten, SnapshotTaken, Underway,
    WorkerMessage, directive, worker_message::Message,
};
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const JOB: &str = "
[job]
name = \"tiny\"
[data]
path = \"tiny\"
[model]
kind = \"lightgcn\"
dim = 8
[recovery]
detect_within_ms = 15000
max_restarts = 0
";

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("the test's deadline")
}

/// What the launcher was asked to start, one worker.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) job: JobId,
    pub(crate) generation: u64,
    pub(crate) token: String,
    pub(crate) log: RankLog,
    pub(crate) workers: usize,
    address: String,
    sink: SightSink,
}

impl Launch {
    pub(crate) async fn exit(&self, how: &str) {
        self.exit_of(0, how).await;
    }

    pub(crate) async fn exit_of(&self, rank: u32, how: &str) {
        let exit = Exit { worker: format!("worker-{rank}"), pid: 7 + rank, how: how.into() };
        (self.sink)(Sighting::Exit(exit)).await;
    }
}

struct NotingLauncher {
    launches: mpsc::Sender<Launch>,
    releases: mpsc::UnboundedSender<(JobId, u64)>,
    /// Workers that are there to be adopted; a test is told of an adoption as of a launch.
    adoptable: usize,
}

impl Launcher for NotingLauncher {
    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<(), LaunchError>> {
        Box::pin(async move {
            let launch = Launch {
                job: request.job,
                generation: request.generation,
                token: request.token,
                log: request.workers[0].log.clone(),
                workers: request.workers.len(),
                address: request.coordinators[0].clone(),
                sink: request.sink,
            };
            // a test that is over does not look any more
            let _ = self.launches.send(launch).await;
            Ok(())
        })
    }

    fn adopt(&self, request: LaunchRequest) -> BoxFuture<'_, Result<usize, LaunchError>> {
        Box::pin(async move {
            match self.adoptable {
                0 => Ok(0),
                there => self.launch(request).await.map(|()| there),
            }
        })
    }

    fn let_go(&self) {}

    fn release(&self, job: &JobId, generation: u64, _grace: Duration, _next: Next) {
        let _ = self.releases.send((job.clone(), generation));
    }

    fn shut_down(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A control plane and a client of it.
pub(crate) struct Stage {
    pub(crate) client: JobsClient<Channel>,
    plane: Plane,
    launches: Mutex<mpsc::Receiver<Launch>>,
    releases: Mutex<mpsc::UnboundedReceiver<(JobId, u64)>>,
    folder: Arc<tempfile::TempDir>,
    fixed: Option<PathBuf>,
}

impl Stage {
    pub(crate) async fn new() -> Stage {
        Stage::on(Arc::new(MemoryStore::new()), None).await
    }

    pub(crate) async fn on(store: Arc<dyn ClusterStore>, fixed: Option<PathBuf>) -> Stage {
        Stage::start(store, fixed, Arc::new(tempfile::tempdir().unwrap()), 0).await
    }

    pub(crate) async fn in_folder(store: Arc<dyn ClusterStore>, folder: Arc<tempfile::TempDir>) -> Stage {
        Stage::start(store, None, folder, 0).await
    }

    /// A new coordinator, under which so many workers of the old one still train.
    pub(crate) async fn adopting(
        store: Arc<dyn ClusterStore>,
        folder: Arc<tempfile::TempDir>,
        workers: usize,
    ) -> Stage {
        Stage::start(store, None, folder, workers).await
    }

    async fn start(
        store: Arc<dyn ClusterStore>,
        fixed: Option<PathBuf>,
        folder: Arc<tempfile::TempDir>,
        adoptable: usize,
    ) -> Stage {
        let (launched, launches) = mpsc::channel(8);
        let (released, releases) = mpsc::unbounded_channel();
        let options = PlaneOptions {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            store,
            launcher: Arc::new(NotingLauncher { launches: launched, releases: released, adoptable }),
            run_dirs: fixed.clone().map_or_else(|| RunDirs::Under(folder.path().into()), RunDirs::Fixed),
            coordinators: Vec::new(),
            max_running_jobs: 1,
            server: ServerOptions::default(),
        };
        let plane = plane::start(options).await.unwrap();
        let client = within(JobsClient::connect(format!("http://{}", plane.address))).await.unwrap();
        Stage { client, plane, launches: Mutex::new(launches), releases: Mutex::new(releases), folder, fixed }
    }

    pub(crate) async fn submit(&self, submission_id: &str) -> JobId {
        self.submit_with(submission_id, &[]).await
    }

    pub(crate) async fn submit_with(&self, submission_id: &str, overrides: &[(&str, &str)]) -> JobId {
        let overrides = overrides.iter().map(|(key, value)| Override { key: (*key).into(), value: (*value).into() });
        let submission = SubmitRequest {
            submission_id: submission_id.into(),
            job_toml: JOB.into(),
            overrides: overrides.collect(),
            job_root: "/data".into(),
        };
        JobId(within(self.client.clone().submit(submission)).await.unwrap().into_inner().job_id)
    }

    pub(crate) async fn launched(&self) -> Launch {
        within(async { self.launches.lock().await.recv().await }).await.unwrap()
    }

    pub(crate) async fn released(&self) -> (JobId, u64) {
        self.releases.lock().await.recv().await.unwrap()
    }

    pub(crate) async fn status(&self, job: &JobId) -> JobStatus {
        let request = JobRequest { job_id: job.0.clone() };
        within(self.client.clone().status(request)).await.unwrap().into_inner()
    }

    pub(crate) async fn cancel(&self, job: &JobId) {
        within(self.client.clone().cancel(JobRequest { job_id: job.0.clone() })).await.unwrap();
    }

    pub(crate) async fn wait_for(&self, job: &JobId, phase: Phase) -> JobStatus {
        self.wait_until(job, |status| status.phase() == phase).await
    }

    pub(crate) async fn wait_until(&self, job: &JobId, ready: impl Fn(&JobStatus) -> bool) -> JobStatus {
        let wait = async {
            loop {
                let status = self.status(job).await;
                if ready(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within(wait).await
    }

    pub(crate) fn run_dir(&self, job: &JobId) -> PathBuf {
        self.fixed.clone().unwrap_or_else(|| self.folder.path().join(&job.0))
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.plane.address)
    }

    /// Ends the plane; its run directories stay.
    pub(crate) async fn stop(self) -> Arc<tempfile::TempDir> {
        drop(self.client);
        within(self.plane.shut_down()).await;
        self.folder
    }

    /// As if its process were killed: workers' streams break, and nobody is told anything.
    pub(crate) async fn vanish(self) -> Arc<tempfile::TempDir> {
        drop(self.client);
        within(self.plane.step_down()).await;
        self.folder
    }
}

/// A worker on the real stream.
pub(crate) struct Worker {
    messages: mpsc::Sender<WorkerMessage>,
    directives: Streaming<Directive>,
    generation: u64,
    run_dir: PathBuf,
}

impl Worker {
    pub(crate) async fn of(launch: Launch) -> Worker {
        within(Worker::try_of(launch)).await.unwrap()
    }

    pub(crate) async fn try_of(launch: Launch) -> Result<Worker, Status> {
        Worker::of_rank(launch, 0).await
    }

    pub(crate) async fn of_rank(launch: Launch, rank: u32) -> Result<Worker, Status> {
        Worker::come(launch, rank, None).await
    }

    /// One that trained under an earlier coordinator.
    pub(crate) async fn underway(launch: Launch, rank: u32, settled_step: u64) -> Result<Worker, Status> {
        Worker::come(launch, rank, Some(Underway { settled_step })).await
    }

    async fn come(launch: Launch, rank: u32, underway: Option<Underway>) -> Result<Worker, Status> {
        let mut client = WorkersClient::connect(launch.address.clone()).await.unwrap();
        let (messages, outbox) = mpsc::channel(64);
        let register = Register {
            job_id: launch.job.0,
            worker: format!("worker-{rank}"),
            token: launch.token,
            host: "here".into(),
            pid: 7 + rank,
            store: format!("here:{}", 4000 + rank),
            underway,
        };
        let first =
            WorkerMessage { generation: launch.generation, number: 0, message: Some(Message::Register(register)) };
        messages.send(first).await.unwrap();
        let directives = client.session(ReceiverStream::new(outbox)).await?.into_inner();
        Ok(Worker { messages, directives, generation: launch.generation, run_dir: PathBuf::new() })
    }

    pub(crate) async fn say(&self, message: Message) {
        self.say_as(self.generation, message).await;
    }

    /// One that must not be lost.
    pub(crate) async fn say_numbered(&self, number: u64, message: Message) {
        let message = WorkerMessage { generation: self.generation, number, message: Some(message) };
        self.messages.send(message).await.unwrap();
    }

    /// Waits until it is told that the checkpoint of `step` is committed.
    pub(crate) async fn settled(&mut self, step: u64) {
        let Some(directive::Directive::Settled(settled)) = self.any_directive().await else { panic!("not settled") };
        assert_eq!(settled.step, step);
    }

    /// What a coordinator says to a worker that came back: up to which checkpoint and which message it knows all.
    pub(crate) async fn welcome(&mut self, run_dir: PathBuf) -> (u64, u64) {
        self.run_dir = run_dir;
        let Some(directive::Directive::Welcome(welcome)) = self.directive().await else { panic!("no welcome") };
        (welcome.settled_step, welcome.heard)
    }

    pub(crate) async fn say_as(&self, generation: u64, message: Message) {
        self.messages.send(WorkerMessage { generation, number: 0, message: Some(message) }).await.unwrap();
    }

    /// The next directive but those about committed checkpoints; none when the stream ended.
    pub(crate) async fn directive(&mut self) -> Option<directive::Directive> {
        loop {
            match self.any_directive().await {
                Some(directive::Directive::Settled(_)) => {}
                other => return other,
            }
        }
    }

    async fn any_directive(&mut self) -> Option<directive::Directive> {
        within(self.directives.message()).await.ok().flatten().and_then(|d| d.directive)
    }

    pub(crate) async fn refusal(&mut self) -> Status {
        within(self.directives.message()).await.expect_err("the stream goes on")
    }

    pub(crate) async fn form(&mut self) -> Form {
        let Some(directive::Directive::Form(form)) = self.directive().await else { panic!("no form") };
        self.run_dir = form.run_dir.clone().into();
        form
    }

    pub(crate) async fn ready(&self) {
        let ready = Ready { dataset_json: "{}\n".into(), data_digest: "digest".into() };
        self.say(Message::Ready(ready)).await;
    }

    /// Ten steps, an evaluation and a checkpoint.
    pub(crate) async fn train_an_epoch(&self, number: u64) {
        self.say(Message::Log(LogLines { lines: vec!["hello from the worker".into()] })).await;
        self.ready().await;
        self.say(epoch(number)).await;
        self.say(Message::Eval(eval(number, Split::Validation))).await;
        self.checkpoint((number + 1) * 10, number + 1, 0).await;
    }

    pub(crate) async fn checkpoint(&self, step: u64, epoch: u64, step_in_epoch: u64) {
        self.say(Message::SnapshotTaken(SnapshotTaken { step, stall_seconds: 0.001 })).await;
        self.shard(0, step, epoch, step_in_epoch).await;
    }

    /// One rank's part of a checkpoint.
    pub(crate) async fn shard(&self, rank: u32, step: u64, epoch: u64, step_in_epoch: u64) {
        let progress = Progress { epoch, step, step_in_epoch, ..Progress::default() };
        let progress_json = serde_json::to_string(&progress).unwrap();
        let store = CheckpointStore::new(self.run_dir.join("checkpoints"));
        let snapshot = Snapshot { rows: Vec::new(), dense: Vec::new(), progress };
        let files = store.write_shard(step, self.generation, rank, &snapshot).unwrap();
        let files =
            files.into_iter().map(|f| CheckpointFile { name: f.name, bytes: f.bytes, blake3: f.blake3 }).collect();
        self.say(Message::ShardWritten(ShardWritten { step, progress_json, files, seconds: 0.002 })).await;
    }

    /// Heartbeats from now on.
    pub(crate) fn beat(&self) -> tokio::task::JoinHandle<()> {
        let (messages, generation) = (self.messages.clone(), self.generation);
        tokio::spawn(async move {
            let beat =
                || WorkerMessage { generation, number: 0, message: Some(Message::Heartbeat(Heartbeat::default())) };
            while messages.send(beat()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    }

    pub(crate) async fn finish(&self) {
        let finished = Finished { test: Some(eval(0, Split::Test)), peak_memory_bytes: 1 << 20, ..Finished::default() };
        self.say(Message::Finished(finished)).await;
    }
}

pub(crate) fn epoch(number: u64) -> Message {
    Message::Epoch(Epoch { epoch: number, step: (number + 1) * 10, seconds: 0.5, ..Epoch::default() })
}

fn eval(epoch: u64, split: Split) -> Eval {
    let metric = |name: &str| MetricValues { name: name.into(), at: vec![AtK { k: 20, value: 0.25 }] };
    let metrics = vec![metric("recall"), metric("ndcg")];
    let select = "recall@20".to_string();
    Eval { epoch, split: split.into(), users: 3, metrics, select, best: 0.25, ..Eval::default() }
}
