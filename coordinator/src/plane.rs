//! A whole control plane on one listener: store, launcher, control loop and server. `run` and `serve` start one each;
//! so do tests, on port 0.

use crate::control_loop::{self, AtTheEnd, Handle, Options, RunDirs};
use crate::election::Term;
use crate::launcher::Launcher;
use crate::metrics::Metrics;
use crate::server::{self, Health, ServerOptions};
use crate::store::{ClusterStore, StoreError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Open streams have this long to end when the plane does.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What a control plane is made of.
pub struct PlaneOptions {
    pub listener: TcpListener,
    pub store: Arc<dyn ClusterStore>,
    pub launcher: Arc<dyn Launcher>,
    pub run_dirs: RunDirs,
    pub max_running_jobs: usize,
    /// Where workers find it, and those that stand by for it; empty: where it listens.
    pub coordinators: Vec<String>,
    pub server: ServerOptions,
}

/// A control plane whose server runs. It leads from [`Plane::lead`] on; until then it refuses every request.
pub struct Plane {
    /// Where this machine's workers and clients reach it.
    pub address: SocketAddr,
    pub handle: Handle,
    health: Health,
    parts: Parts,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// What each control loop is made of.
struct Parts {
    store: Arc<dyn ClusterStore>,
    launcher: Arc<dyn Launcher>,
    run_dirs: RunDirs,
    max_running_jobs: usize,
    coordinators: Vec<String>,
    metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("the listener has no address: {0}")]
    Listener(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts everything, and leads alone.
///
/// # Errors
/// When the store cannot be read.
pub async fn start(options: PlaneOptions) -> Result<Plane, PlaneError> {
    let plane = stand_by(options).await?;
    plane.lead(None).await?;
    Ok(plane)
}

/// Starts the server alone.
///
/// # Errors
/// [`PlaneError::Listener`].
pub async fn stand_by(options: PlaneOptions) -> Result<Plane, PlaneError> {
    let PlaneOptions { listener, store, launcher, run_dirs, max_running_jobs, mut coordinators, server } = options;
    let address = reachable(listener.local_addr()?);
    if coordinators.is_empty() {
        let scheme = if server.tls.is_some() { "https" } else { "http" };
        coordinators.push(format!("{scheme}://{address}"));
    }
    let metrics = server.metrics.clone();
    let parts = Parts { store, launcher, run_dirs, max_running_jobs, coordinators, metrics };
    let handle = Handle::default();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // a plane that was dropped stops too
        let _ = stopped.await;
    };
    let health = Health::default();
    health.not_serving().await;
    let server = tokio::spawn(server::serve(listener, handle.clone(), server, health.clone(), shutdown));
    Ok(Plane { address, handle, health, parts, stop, server })
}

/// An address of this machine for one that stands for all of them.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

impl Plane {
    /// Takes up the jobs of the store: adopts the workers that train, starts other unfinished jobs again from their
    /// checkpoints. `term`: where others stand by.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn lead(&self, term: Option<Term>) -> Result<(), StoreError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let Parts { store, launcher, run_dirs, max_running_jobs, coordinators, metrics } = &self.parts;
        let options = Options {
            store: Arc::clone(store),
            launcher: Arc::clone(launcher),
            run_dirs: run_dirs.clone(),
            coordinators: coordinators.clone(),
            term,
            max_running_jobs: *max_running_jobs,
            cores,
            metrics: metrics.clone(),
        };
        control_loop::start(options, &self.handle).await?;
        self.health.serving().await;
        Ok(())
    }

    /// Leads no more: the workers are another coordinator's. The server goes on, and refuses.
    pub async fn step_down(&self) {
        self.health.not_serving().await;
        self.handle.shut_down(AtTheEnd::LeaveWorkers).await;
    }

    /// Ends the workers, then the server. Jobs keep their phase in the store.
    pub async fn shut_down(self) {
        self.health.not_serving().await;
        self.handle.shut_down(AtTheEnd::EndWorkers).await;
        let _ = self.stop.send(());
        // a client that keeps its stream open does not keep us
        if let Ok(Ok(Err(error))) = tokio::time::timeout(CLOSE_WITHIN, self.server).await {
            tracing::warn!(%error, "the server ended with an error");
        }
    }
}
