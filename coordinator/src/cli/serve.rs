//! `coordinator serve`: a control plane that stays.

use super::watch::Interrupts;
use super::{Usage, output};
use crate::config::{ServeConfig, ServeOverrides, TlsSettings};
use crate::control_loop::RunDirs;
use crate::election::{Candidate, campaign};
use crate::launcher::kubernetes::objects::Platform;
use crate::launcher::kubernetes::{self, KubernetesLauncher, KubernetesSettings};
use crate::launcher::{LaunchError, Launcher, LocalLauncher, find_worker_binary};
use crate::metrics::{self, Metrics};
use crate::plane::{self, Plane, PlaneOptions};
use crate::server::{DataRoots, ServerOptions};
use crate::store::{ClusterStore, EmbeddedStore, EtcdStore};
use accord_proto::tls::ClientTls;
use anyhow::Context;
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// To tell etcd, when it ends, that another may lead.
const RESIGN_WITHIN: Duration = Duration::from_secs(2);

/// Serve jobs: queue them, run them one after another, keep what they leave
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator serve
  coordinator serve serve.toml --listen 127.0.0.1:7500 --state-dir /var/lib/accord
  coordinator serve serve.toml --listen 0.0.0.0:7411 --tls-cert cert.pem --tls-key key.pem
  coordinator serve --dump-config

Settings: defaults < file < environment < flags. With [kubernetes] in the file workers are pods (k8s/README.md), which
stopping leaves to the next coordinator. Without it they run on this machine, one job at a time unless
max_running_jobs says more. Stopping it (Ctrl-C, SIGTERM) stops the workers; starting it again takes unfinished jobs up
from their checkpoints. When it is killed, its workers train on (recovery.coordinator_within_ms of the job), and the
next `serve` of the same state_dir adopts them.

Two coordinators with one etcd: the second stands by and leads within seconds of the first falling silent. Both need
the same state_dir, and each other's address; stopping one leaves the workers to the other.

  coordinators = [\"http://127.0.0.1:7411\", \"http://127.0.0.1:7412\"]
  [etcd]
  endpoints = [\"http://127.0.0.1:2379\"]

Who may do what: on a loopback address without tokens, every local user who reaches it may submit and cancel jobs, read
their logs, and have `serve` read data folders as the user it runs as. Any other address needs TLS and at least one
token, or --insecure. The file gives them:

  data_roots = [\"/data\", \"s3://b\"] # data.path of a job must lie in one of these, links resolved
  [tls]
  cert = \"cert.pem\"                 # PEM; read once, when it starts
  key = \"key.pem\"
  client_ca = \"clients.pem\"         # optional: every client needs a certificate of this authority too
  ca = \"ca.pem\"                     # by which workers check cert [default: cert itself, if it signed itself]
  name = \"accord.example\"           # the name in cert, if it does not name the address that workers use
  [[tokens]]
  name = \"ci\"                       # for the log
  role = \"submit\"                   # or \"read\": look at jobs and logs only
  token_file = \"ci.token\"           # or blake3 = \"...\": the token's digest (printf %s TOKEN | b3sum)

Without data_roots, jobs may read any folder as long as it is on loopback and has no tokens; otherwise those under the
folder it was started in. Workers prove themselves by a token of their job's own, and need none of these.
Health checks (grpc.health.v1) need no token. /metrics is plain HTTP and asks nobody who they are: it shows the names
and losses of jobs, so give it an address that only your monitoring reaches. The state directory is created for the
user alone (mode 0700).")]
pub(super) struct ServeArgs {
    /// Settings file
    #[arg(value_name = "serve.toml")]
    config: Option<PathBuf>,
    /// Address of the gRPC server
    #[arg(long, env = "ACCORD_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Folder of the store and of the jobs' run directories
    #[arg(long, env = "ACCORD_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The worker program [default: `worker` beside this one]
    #[arg(long, env = "ACCORD_WORKER_BINARY", value_name = "PATH")]
    worker_binary: Option<PathBuf>,
    /// Jobs that train at the same time
    #[arg(long, env = "ACCORD_MAX_RUNNING_JOBS", value_name = "N")]
    max_running_jobs: Option<usize>,
    /// Folder or bucket (s3://bucket/prefix) that the data of jobs must lie in; may be given again, or several with commas
    #[arg(long = "data-root", env = "ACCORD_DATA_ROOTS", value_name = "DIR", value_delimiter = ',')]
    data_roots: Vec<PathBuf>,
    /// Address of /metrics, for Prometheus (plain HTTP) [default: none]
    #[arg(long, env = "ACCORD_METRICS_LISTEN", value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
    /// Certificate of the server (PEM)
    #[arg(long, env = "ACCORD_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, env = "ACCORD_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Authority whose certificates clients need (PEM) [default: clients need none]
    #[arg(long, env = "ACCORD_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Listen beyond loopback without TLS or tokens: whoever reaches the address may do everything
    #[arg(long)]
    insecure: bool,
    /// How log lines look
    #[arg(long, env = "ACCORD_LOG_FORMAT", value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
    /// Print the settings as a file, and end
    #[arg(long)]
    dump_config: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// [`Usage`] for bad settings, else what failed.
pub(super) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let over = ServeOverrides {
        listen: args.listen,
        state_dir: args.state_dir,
        worker_binary: args.worker_binary,
        max_running_jobs: args.max_running_jobs,
        data_roots: args.data_roots,
        metrics_listen: args.metrics_listen,
        tls_cert: args.tls_cert,
        tls_key: args.tls_key,
        tls_client_ca: args.tls_client_ca,
        insecure: args.insecure,
    };
    let config = ServeConfig::load(args.config.as_deref(), over)?;
    if args.dump_config {
        output::line(config.dump()?.trim_end());
        return Ok(());
    }
    super::block_on(serve(config))
}

/// For this user alone: it holds the tokens of workers. A folder that is there keeps its mode.
fn create_private(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    let server = protection(&config)?;
    let metrics = server.metrics.clone();
    let worker_tls = match &config.tls {
        Some(tls) => Some(try_out(tls, config.listen).await?),
        None => None,
    };
    let state_dir = std::path::absolute(&config.state_dir)?;
    let launcher: Arc<dyn Launcher> = match &config.kubernetes {
        Some(settings) => Arc::new(pods(settings, &config, &state_dir).await?),
        None => {
            let worker = find_worker_binary(config.worker_binary.as_deref()).map_err(|e| Usage(e.to_string()))?;
            Arc::new(LocalLauncher::new(worker).with_tls(worker_tls).outlived())
        }
    };
    let mut interrupts = Interrupts::listen()?;
    create_private(&state_dir).with_context(|| state_dir.display().to_string())?;
    let listener = bind(config.listen).await?;
    let scraped = match config.metrics_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let store: Arc<dyn ClusterStore> = match &config.etcd {
        Some(etcd) => Arc::new(EtcdStore::connect(etcd).await?),
        None => Arc::new(EmbeddedStore::open(&state_dir.join("store.redb"))?),
    };
    let options = PlaneOptions {
        listener,
        store: Arc::clone(&store),
        launcher,
        run_dirs: RunDirs::Under(ServeConfig::runs_dir(&state_dir)),
        max_running_jobs: config.max_running_jobs,
        coordinators: config.coordinators.clone(),
        server,
    };
    let plane = plane::stand_by(options).await?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    // a script that asked for port 0 reads it here
    output::line(format!("listening on {scheme}://{}", plane.address));
    let (stop, stopped) = oneshot::channel::<()>();
    if let Some(listener) = scraped {
        output::line(format!("metrics on http://{}/metrics", listener.local_addr()?));
        let serving = metrics::serve(listener, metrics, plane.handle.clone(), async { drop(stopped.await) });
        tokio::spawn(async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "/metrics is no longer served");
            }
        });
    }
    if config.etcd.is_some() {
        let candidate =
            Candidate { id: uuid::Uuid::new_v4().to_string(), address: format!("{scheme}://{}", plane.address) };
        let ttl = Duration::from_millis(config.leader_within_ms);
        take_turns(&plane, store, &candidate, ttl, &mut interrupts).await?;
    } else {
        plane.lead(None).await?;
        interrupts.next().await;
        if config.kubernetes.is_some() {
            output::note("stopping; workers train on, and the next coordinator adopts them");
            plane.step_down().await;
        } else {
            output::note("stopping; unfinished jobs go on when it is started again");
            plane.shut_down().await;
        }
    }
    drop(stop);
    Ok(())
}

/// The launcher of a cluster; a cluster that cannot be asked now may answer later, but is said.
async fn pods(
    settings: &KubernetesSettings,
    config: &ServeConfig,
    state_dir: &Path,
) -> anyhow::Result<KubernetesLauncher> {
    let (client, namespace) = kubernetes::connect(settings).await.map_err(|error| {
        let why = match error {
            LaunchError::Unreachable(why) => why,
            other => other.to_string(),
        };
        Usage(format!(
            "kubernetes: no cluster is known here: {why}\n  hint: run it in a pod (k8s/README.md), or point KUBECONFIG at a \
             cluster"
        ))
    })?;
    let tls_name = config.tls.as_ref().and_then(|tls| tls.name.clone());
    let runs_dir = ServeConfig::runs_dir(state_dir);
    Ok(KubernetesLauncher::new(client, Platform { settings: settings.clone(), namespace, runs_dir, tls_name }))
}

/// Leads when it is elected, stands by when another is, until the user ends it; workers are left to the others.
async fn take_turns(
    plane: &Plane,
    store: Arc<dyn ClusterStore>,
    candidate: &Candidate,
    ttl: Duration,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    loop {
        output::note("standing by");
        let leadership = tokio::select! {
            () = interrupts.next() => return Ok(()),
            won = campaign(Arc::clone(&store), candidate, ttl) => won?,
        };
        match plane.lead(Some(leadership.term())).await {
            Ok(()) => output::note("leading"),
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "elected, but the jobs cannot be loaded");
                plane.step_down().await;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = interrupts.next() => {
                output::note("stopping; another coordinator adopts the workers, or this one when it is started again");
                plane.step_down().await;
                // so that nobody waits for the lease to end; if etcd is away, it ends by itself
                let _ = tokio::time::timeout(RESIGN_WITHIN, leadership.resign()).await;
                return Ok(());
            }
            () = leadership.lost() => plane.step_down().await,
        }
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// What the server asks of clients; what a person should know about it goes to stderr.
fn protection(config: &ServeConfig) -> anyhow::Result<ServerOptions> {
    let missing = config.missing_protection();
    if !missing.is_empty() {
        let (listen, missing) = (config.listen, missing.join(" and "));
        output::note(format!("warning: --insecure: {listen} can be reached from other machines without {missing}"));
    }
    let data_roots = config.roots(&std::env::current_dir()?)?;
    if let (None, DataRoots::Under { folders, .. }) = (&config.data_roots, &data_roots) {
        let here = folders.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ");
        output::note(format!("jobs may read data under {here} only; data_roots (--data-root) names other folders"));
    }
    let tls = config.tls.as_ref().map(|tls| tls.server().load()).transpose();
    let tls = tls.map_err(|e| Usage(format!("tls: {e}")))?;
    Ok(ServerOptions { tls, access: config.access()?, data_roots, metrics: Metrics::new() })
}

/// How workers check the coordinator, once it is known that one would get through: a job must not fail for it later.
async fn try_out(tls: &TlsSettings, listen: SocketAddr) -> anyhow::Result<ClientTls> {
    let for_workers = tls.for_workers()?;
    let ip = plane::reachable(listen).ip();
    if let Err(why) = tls.server().try_out(ip, &for_workers).await {
        return Err(Usage(format!(
            "tls: a worker would not get through to https://{ip}: {why}\n  hint: [tls] needs `ca`, the authority that \
             signed cert, unless cert signed itself; and `name`, a name in cert, unless cert names {ip}"
        ))
        .into());
    }
    Ok(for_workers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_state_directory_is_its_users_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("var/accord");
        create_private(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        create_private(&dir).unwrap();
    }
}
