//! Workers as child processes of the coordinator. Those of `coordinator run` die with it: a worker whose stdin closes
//! ends itself. Those of `coordinator serve` outlive it, and the next one adopts them.

mod strays;

use super::{ENVIRONMENT, Exit, LaunchError, LaunchRequest, LaunchWorker, Launcher, Next, SightSink, Sighting};
use crate::job::JobId;
use crate::log_store::RankLog;
use accord_proto::tls::ClientTls;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use strays::Stray;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// The processes of one generation, a task each. Telling it a grace ends them; it is closed when they are gone.
type Group = Arc<watch::Sender<Option<Duration>>>;

type Children = HashMap<(JobId, u64), Group>;

/// A process that is not gone this long after it was killed is stuck in the kernel.
const GONE_WITHIN: Duration = Duration::from_secs(10);

pub struct LocalLauncher {
    binary: PathBuf,
    /// How workers check a coordinator that has TLS.
    tls: Option<ClientTls>,
    /// Its workers go on when this process is gone.
    outlived: bool,
    children: Arc<Mutex<Children>>,
}

/// The `worker` beside the coordinator's own executable, or the one named.
///
/// # Errors
/// When there is none.
pub fn find_worker_binary(named: Option<&Path>) -> Result<PathBuf, LaunchError> {
    let binary = match named {
        Some(path) => path.to_path_buf(),
        None => std::env::current_exe().map(|exe| exe.with_file_name("worker")).unwrap_or_else(|_| "worker".into()),
    };
    if binary.is_file() { Ok(binary) } else { Err(LaunchError::NoBinary(binary.display().to_string())) }
}

impl LocalLauncher {
    pub fn new(binary: PathBuf) -> LocalLauncher {
        LocalLauncher { binary, tls: None, outlived: false, children: Arc::default() }
    }

    /// Its workers speak TLS to the coordinator, and check it by this.
    pub fn with_tls(self, tls: Option<ClientTls>) -> LocalLauncher {
        LocalLauncher { tls, ..self }
    }

    /// Its workers train on when this process is killed, until another coordinator adopts them.
    pub fn outlived(self) -> LocalLauncher {
        LocalLauncher { outlived: true, ..self }
    }

    fn children(&self) -> MutexGuard<'_, Children> {
        // a lock poisoned between two map operations guards a whole map
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the job's earlier workers, which were released, are gone: the next ones want their memory and devices.
    async fn make_way(&self, job: &JobId, generation: u64) {
        self.end_strays(job, generation).await;
        let earlier: Vec<Group> =
            self.children().iter().filter(|((of, _), _)| of == job).map(|(_, group)| Arc::clone(group)).collect();
        let gone = futures::future::join_all(earlier.iter().map(|group| group.closed()));
        if tokio::time::timeout(GONE_WITHIN, gone).await.is_err() {
            tracing::warn!(%job, "a worker of an earlier generation does not end");
        }
    }

    /// Those of an earlier coordinator, which nobody adopted.
    async fn end_strays(&self, job: &JobId, generation: u64) {
        let own: Vec<u64> = self.children().keys().filter(|(of, _)| of == job).map(|(_, own)| *own).collect();
        let strays = strays::find(job).unwrap_or_else(|error| {
            tracing::warn!(%error, "workers of an earlier coordinator cannot be looked for");
            Vec::new()
        });
        for stray in strays.iter().filter(|s| s.generation != generation && !own.contains(&s.generation)) {
            tracing::info!(%job, worker = stray.worker, pid = stray.pid, "a worker of an earlier coordinator is ended");
            stray.kill();
            let _ = tokio::time::timeout(GONE_WITHIN, stray.ended()).await;
        }
    }

    fn spawn(&self, request: &LaunchRequest, worker: &LaunchWorker) -> Result<Child, LaunchError> {
        let mut command = Command::new(&self.binary);
        command
            .args(["--coordinator", &request.coordinators.join(",")])
            .args(["--job", &request.job.0])
            .args(["--generation", &request.generation.to_string()])
            .args(["--name", &worker.name])
            // not an argument: arguments are visible to every user of the machine
            .env("ACCORD_WORKER_TOKEN", &request.token)
            // a group of its own: the terminal's Ctrl-C is the coordinator's to act on
            .process_group(0);
        if self.outlived {
            // a pipe would break with this process, and a worker that prints into it
            let (detect, alone) = (request.detect_within_ms.to_string(), request.alone_ms.to_string());
            command.args(["--detect-ms", &detect, "--alone-ms", &alone]);
            let log = || worker.log.file().map(Stdio::from).map_err(|e| self.cannot_start(e));
            command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        } else {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        }
        if let Some(ClientTls { ca, name, .. }) = &self.tls {
            command.envs(ca.as_ref().map(|ca| ("ACCORD_WORKER_CA", ca)));
            command.envs(name.as_ref().map(|name| ("ACCORD_WORKER_TLS_NAME", name)));
        }
        for (name, value) in ENVIRONMENT {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        command.spawn().map_err(|e| self.cannot_start(e))
    }

    fn cannot_start(&self, source: io::Error) -> LaunchError {
        LaunchError::Spawn { binary: self.binary.display().to_string(), source }
    }
}

impl Launcher for LocalLauncher {
    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<(), LaunchError>> {
        Box::pin(async move {
            let key = (request.job.clone(), request.generation);
            if self.children().contains_key(&key) {
                return Ok(());
            }
            self.make_way(&request.job, request.generation).await;
            let (end, told) = watch::channel(None);
            for worker in &request.workers {
                // an early return drops `end`: the children spawned so far are killed
                let child = self.spawn(&request, worker)?;
                let sink = Arc::clone(&request.sink);
                let (name, log) = (worker.name.clone(), worker.log.clone());
                tokio::spawn(look_after(child, name, log, told.clone(), sink, self.outlived));
            }
            self.children().insert(key, Arc::new(end));
            Ok(())
        })
    }

    fn adopt(&self, request: LaunchRequest) -> BoxFuture<'_, Result<usize, LaunchError>> {
        Box::pin(async move {
            let found = strays::find(&request.job).map_err(LaunchError::Processes)?;
            let (end, told) = watch::channel(None);
            let mut adopted = 0;
            for stray in found.into_iter().filter(|stray| stray.generation == request.generation) {
                tracing::info!(job = %request.job, worker = stray.worker, pid = stray.pid, "a worker is adopted");
                tokio::spawn(look_after_stray(stray, told.clone(), Arc::clone(&request.sink)));
                adopted += 1;
            }
            if adopted > 0 {
                self.children().insert((request.job, request.generation), Arc::new(end));
            }
            Ok(adopted)
        })
    }

    fn release(&self, job: &JobId, generation: u64, grace: Duration, _next: Next) {
        let key = (job.clone(), generation);
        let Some(group) = self.children().get(&key).cloned() else { return };
        group.send_replace(Some(grace));
        let children = Arc::clone(&self.children);
        tokio::spawn(async move {
            group.closed().await;
            children.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        });
    }

    fn shut_down(&self, grace: Duration) -> BoxFuture<'_, ()> {
        let all: Vec<Group> = self.children().drain().map(|(_, group)| group).collect();
        Box::pin(async move {
            // all at once: one that takes its time takes it from nobody
            for group in &all {
                group.send_replace(Some(grace));
            }
            futures::future::join_all(all.iter().map(|group| group.closed())).await;
        })
    }

    fn let_go(&self) {
        self.children().clear();
    }
}

/// Waits for the end of a process that is nobody's child here, and ends it when told to.
async fn look_after_stray(stray: Stray, mut told: watch::Receiver<Option<Duration>>, sink: SightSink) {
    let grace = tokio::select! {
        () = stray.ended() => None,
        grace = told.wait_for(Option::is_some) => match grace {
            Ok(grace) => Some(grace.unwrap_or_default()),
            // let go
            Err(_) => return,
        },
    };
    if let Some(grace) = grace
        && tokio::time::timeout(grace, stray.ended()).await.is_err()
    {
        stray.kill();
        stray.ended().await;
    }
    let how = "ended (how, only the coordinator that started it could have told)".into();
    sink(Sighting::Exit(Exit { worker: stray.worker, pid: stray.pid, how })).await;
}

/// Owns one child, until it is gone and told of: keeps what it prints, waits for its end, ends it when told to or when nobody is left to tell.
async fn look_after(
    mut child: Child,
    worker: String,
    log: RankLog,
    mut told: watch::Receiver<Option<Duration>>,
    sink: SightSink,
    outlived: bool,
) {
    let pid = child.id().unwrap_or(0);
    let pipes = [
        child.stdout.take().map(|pipe| tokio::spawn(keep_lines(pipe, log.clone()))),
        child.stderr.take().map(|pipe| tokio::spawn(keep_lines(pipe, log))),
    ];
    // its closing is the worker's sign that the coordinator is gone
    let stdin = child.stdin.take();
    let grace = tokio::select! {
        _ = child.wait() => None,
        grace = told.wait_for(Option::is_some) => match grace {
            Ok(grace) => Some(grace.unwrap_or_default()),
            // let go
            Err(_) if outlived => return,
            Err(_) => Some(Duration::ZERO),
        },
    };
    if let Some(grace) = grace
        && tokio::time::timeout(grace, child.wait()).await.is_err()
    {
        // the polite way ends a worker that only waits; the kill ends any
        drop(stdin);
        if tokio::time::timeout(Duration::from_millis(200), child.wait()).await.is_err()
            && let Err(error) = child.start_kill()
        {
            tracing::warn!(worker, pid, %error, "cannot kill the worker");
        }
    }
    let how = match child.wait().await {
        Ok(status) => describe(status),
        Err(error) => format!("cannot be waited for: {error}"),
    };
    // the pipes end with the process, unless a grandchild holds them
    for pipe in pipes.into_iter().flatten() {
        let _ = tokio::time::timeout(Duration::from_millis(500), pipe).await;
    }
    sink(Sighting::Exit(Exit { worker, pid, how })).await;
}

async fn keep_lines(pipe: impl AsyncRead + Unpin, log: RankLog) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => log.append(String::from_utf8_lossy(&line).trim_end()),
        }
    }
}

/// How a process ended, in words.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(9)) => "was killed by signal 9 (SIGKILL; the kernel does this when memory runs out)".into(),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        },
        (None, None) => format!("ended: {status}"),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGTERM => "SIGTERM",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
