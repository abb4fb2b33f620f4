//! `/metrics` as a scraper sees it, judged by Prometheus' own `promtool`.

use super::stage::{Settings, Stage, within};
use accord_proto::job::SubmitRequest;
use accord_proto::job::jobs_client::JobsClient;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One GET of a fresh connection: its head and its body.
async fn get(stage: &Stage, path: &str) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let serving = accord_coordinator::metrics::serve(listener, stage.metrics.clone(), stage.handle(), shutdown);
    let serving = tokio::spawn(serving);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    drop(stop);
    within(serving).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_string(), body.to_string())
}

/// A control plane with a job and an event of each kind.
async fn busy() -> Stage {
    let stage = Settings::new().start().await;
    let job_toml = super::job("tiny");
    let wanted =
        SubmitRequest { submission_id: "one".into(), job_toml, job_root: "/data".into(), ..SubmitRequest::default() };
    let mut client = JobsClient::new(stage.channel().await);
    client.submit(wanted).await.unwrap();
    stage.metrics.checkpoint_committed();
    stage.metrics.checkpoint_failed();
    stage.metrics.checkpoint_stalled(Duration::from_millis(3));
    stage.metrics.detected(Duration::from_millis(400));
    stage.metrics.recovered(Duration::from_secs(2));
    stage
}

#[tokio::test]
async fn a_scrape_shows_jobs_calls_and_events_and_there_is_nothing_else() {
    let stage = busy().await;
    let (head, text) = get(&stage, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    for line in [
        "accord_grpc_requests_total{code=\"Ok\",method=\"accord.job.v1.Jobs/Submit\"} 1",
        "accord_checkpoint_committed_total 1",
        "accord_recovery_seconds_count 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
    assert!(
        text.contains("accord_job_generation{job=\"tiny-") && text.contains("process_start_time_seconds"),
        "{text}"
    );
    assert!(get(&stage, "/").await.0.starts_with("HTTP/1.1 404"));
}

/// The one that `make setup` fetched, or the machine's own.
fn promtool() -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/prometheus/bin/promtool");
    let runs = |path: &PathBuf| Command::new(path).arg("--version").output().is_ok_and(|done| done.status.success());
    [fetched, "promtool".into()].into_iter().find(runs)
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_the_metrics() {
    let Some(promtool) = promtool() else {
        eprintln!("SKIPPED: there is no promtool; `make servers` fetches it where apt-get can");
        return;
    };
    let (_, text) = get(&busy().await, "/metrics").await;
    let mut check = Command::new(promtool);
    let check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{said}\n{text}");
}
