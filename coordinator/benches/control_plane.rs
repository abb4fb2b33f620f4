//! One coordinator, 200 jobs of five workers each, every worker on a connection of its own and beating: how long a
//! heartbeat takes to be handled, a submission to be answered, a status to be read, and what memory it costs.
//! `cargo bench -p accord-coordinator --bench control_plane`; takes half a minute.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and prints its numbers")]

use accord_coordinator::control_loop::{Handle, RunDirs, Submission};
use accord_coordinator::job::JobId;
use accord_coordinator::launcher::{LaunchError, LaunchRequest, Launcher, Next};
use accord_coordinator::plane::{self, PlaneOptions};
use accord_coordinator::server::ServerOptions;
use accord_coordinator::store::EmbeddedStore;
use accord_proto::job::Phase;
use accord_proto::worker::workers_client::WorkersClient;
use accord_proto::worker::{Directive, Heartbeat, Ready, Register, WorkerMessage, directive, worker_message::Message};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const JOBS: usize = 200;
const WORKERS: usize = 5;
/// The default of a job: `recovery.detect_within_ms` / 10.
const BEAT: Duration = Duration::from_millis(500);
const SAMPLES: usize = 2000;

/// Workers that register, say that they are ready, and beat.
struct StandIns;

impl Launcher for StandIns {
    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<(), LaunchError>> {
        for rank in 0..request.workers.len() {
            let (job, token) = (request.job.0.clone(), request.token.clone());
            let register = Register { job_id: job, worker: format!("worker-{rank}"), token, ..Register::default() };
            tokio::spawn(work(request.coordinators[0].clone(), request.generation, register));
        }
        Box::pin(async { Ok(()) })
    }

    fn adopt(&self, _: LaunchRequest) -> BoxFuture<'_, Result<usize, LaunchError>> {
        Box::pin(async { Ok(0) })
    }

    fn release(&self, _: &JobId, _: u64, _: Duration, _: Next) {}

    fn shut_down(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn let_go(&self) {}
}

async fn work(coordinator: String, generation: u64, register: Register) {
    let mut client = WorkersClient::connect(coordinator).await.unwrap();
    let (messages, outbox) = mpsc::channel(16);
    let say = |message| WorkerMessage { generation, number: 0, message: Some(message) };
    messages.send(say(Message::Register(register))).await.unwrap();
    let mut directives = client.session(ReceiverStream::new(outbox)).await.unwrap().into_inner();
    let mut beat = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            directive = directives.message() => match directive {
                Ok(Some(Directive { directive: Some(directive::Directive::Form(_)), .. })) => {
                    let ready = Ready { dataset_json: "{}\n".into(), data_digest: "digest".into() };
                    messages.send(say(Message::Ready(ready))).await.unwrap();
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
            _ = beat.tick() => {
                let exchange = "all_to_all #1234, waiting".into();
                let _ = messages.send(say(Message::Heartbeat(Heartbeat { step: 7, exchange }))).await;
            }
        }
    }
}

fn shown(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{what:<28}{:>10.3} {:>10.3} {:>10.3}", at(0.5), at(0.99), at(1.0));
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1e3
}

async fn running(handle: &Handle) -> usize {
    handle.list().await.unwrap().iter().filter(|job| job.phase() == Phase::Running).count()
}

async fn bench() {
    let folder = tempfile::tempdir().unwrap();
    let options = PlaneOptions {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        store: Arc::new(EmbeddedStore::open(&folder.path().join("store.redb")).unwrap()),
        launcher: Arc::new(StandIns),
        run_dirs: RunDirs::Under(folder.path().join("runs")),
        coordinators: Vec::new(),
        max_running_jobs: JOBS,
        server: ServerOptions::default(),
    };
    let before = resident_mb();
    let plane = plane::start(options).await.unwrap();
    let handle = plane.handle.clone();
    let job_toml = format!(
        "[job]\nname = \"bench\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\n[cluster]\nworkers = {WORKERS}\n"
    );
    let mut submits = Vec::new();
    for n in 0..JOBS {
        let submission = Submission {
            submission_id: n.to_string(),
            job_toml: job_toml.clone(),
            overrides: Vec::new(),
            job_root: "/data".into(),
        };
        let begin = Instant::now();
        handle.submit(submission).await.unwrap();
        submits.push(begin.elapsed());
    }
    while running(&handle).await < JOBS {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (mut beats, mut statuses) = (Vec::new(), Vec::new());
    let jobs = handle.list().await.unwrap();
    // the way of a heartbeat from its stream to the loop and back
    let session = accord_coordinator::control_loop::Session {
        job: JobId(jobs[0].job_id.clone()),
        generation: 1,
        rank: 0,
        number: 0,
    };
    for n in 0..SAMPLES {
        let beat = Message::Heartbeat(Heartbeat { step: n as u64, exchange: "all_to_all #1".into() });
        let message = WorkerMessage { generation: 1, number: 0, message: Some(beat) };
        let begin = Instant::now();
        handle.worker_says(session.clone(), message).await.unwrap();
        beats.push(begin.elapsed());
        let begin = Instant::now();
        handle.status(JobId(jobs[n % JOBS].job_id.clone())).await.unwrap();
        statuses.push(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    assert_eq!(running(&handle).await, JOBS, "a job was lost under the load");
    println!("{JOBS} jobs, {} workers, each beating every {} ms", JOBS * WORKERS, BEAT.as_millis());
    println!("{:<28}{:>10} {:>10} {:>10}", "milliseconds", "p50", "p99", "worst");
    shown("heartbeat handled", beats);
    shown("status", statuses);
    shown("submit (persisted)", submits);
    println!("memory: {:.0} MB, the stand-ins' included ({before:.0} MB before)", resident_mb());
}

fn main() {
    // `cargo test --benches` only wants to know that it builds
    if std::env::args().any(|argument| argument == "--bench") {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(bench());
    }
}
