use super::*;
use std::os::unix::fs::PermissionsExt;
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(20);

/// A shell script in the worker's place.
fn script(dir: &Path, body: &str) -> PathBuf {
    let path = dir.join("worker");
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn launch(body: &str) -> (LocalLauncher, RankLog, mpsc::Receiver<Exit>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let launcher = LocalLauncher::new(script(dir.path(), body));
    let log = RankLog::open(dir.path(), 0).unwrap();
    let (sender, exits) = mpsc::channel(4);
    let request = LaunchRequest {
        job: JobId("a-1".into()),
        generation: 1,
        spec: accord_spec::parse("[job]\nname = \"a\"\n[data]\npath = \"d\"\n[model]\nkind = \"lightgcn\"\n", &[])
            .unwrap(),
        wanted: 1,
        coordinators: vec!["http://127.0.0.1:9".into()],
        detect_within_ms: 1000,
        alone_ms: 1000,
        token: "secret".into(),
        workers: vec![LaunchWorker { name: "worker-0".into(), log: log.clone() }],
        sink: Arc::new(move |sighting| {
            let Sighting::Exit(exit) = sighting else { panic!("{sighting:?}") };
            let sender = sender.clone();
            Box::pin(async move { sender.send(exit).await.unwrap() })
        }),
    };
    launcher.launch(request).await.unwrap();
    (launcher, log, exits, dir)
}

async fn exit(exits: &mut mpsc::Receiver<Exit>) -> Exit {
    tokio::time::timeout(DEADLINE, exits.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_dying_worker_leaves_its_status_and_last_words() {
    let (_launcher, log, mut exits, _dir) = launch("echo out of luck >&2; exit 7").await;
    assert_eq!(exit(&mut exits).await.how, "exited with status 7");
    assert_eq!(log.last_words(), ["out of luck"]);
}

#[tokio::test]
async fn a_killed_worker_names_the_signal() {
    let (_launcher, _log, mut exits, _dir) = launch("kill -9 $$").await;
    let how = exit(&mut exits).await.how;
    assert!(how.starts_with("was killed by signal 9"), "{how}");
}

#[tokio::test]
async fn a_worker_that_does_not_end_is_killed_after_its_grace() {
    let (launcher, _log, mut exits, _dir) = launch("trap '' TERM; while :; do sleep 1; done").await;
    launcher.release(&JobId("a-1".into()), 1, Duration::from_millis(50), Next::End);
    let how = exit(&mut exits).await.how;
    assert!(how.contains("signal 9"), "{how}");
}

#[tokio::test]
async fn the_end_of_the_launcher_closes_the_workers_stdin() {
    let (launcher, _log, mut exits, _dir) = launch("cat >/dev/null; exit 0").await;
    launcher.shut_down(Duration::from_millis(50)).await;
    assert_eq!(exit(&mut exits).await.how, "exited with status 0");
}

#[tokio::test]
async fn the_token_is_in_the_environment_and_not_in_the_arguments() {
    let (_launcher, log, mut exits, _dir) = launch("echo \"$ACCORD_WORKER_TOKEN\"; echo \"$@\"").await;
    exit(&mut exits).await;
    let words = log.last_words();
    assert_eq!(words[0], "secret");
    assert!(words[1].contains("--name worker-0") && !words[1].contains("secret"), "{}", words[1]);
}
