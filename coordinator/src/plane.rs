//! A whole control plane on one listener: store, launcher, control loop and server. `run` and `serve` start one each;
//! so do tests, on port 0.

use crate::control_loop::{self, Handle, Options, RunDirs};
use crate::launcher::Launcher;
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
    pub server: ServerOptions,
}

/// A control plane that runs.
pub struct Plane {
    /// Where this machine's workers and clients reach it.
    pub address: SocketAddr,
    pub handle: Handle,
    health: Health,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("the listener has no address: {0}")]
    Listener(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts everything; unfinished jobs of the store start again.
///
/// # Errors
/// When the store cannot be read.
pub async fn start(options: PlaneOptions) -> Result<Plane, PlaneError> {
    let PlaneOptions { listener, store, launcher, run_dirs, max_running_jobs, server } = options;
    let address = reachable(listener.local_addr()?);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let metrics = server.metrics.clone();
    let options = Options { store, launcher, run_dirs, address, max_running_jobs, cores, metrics };
    let handle = control_loop::start(options).await?;
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // a plane that was dropped stops too
        let _ = stopped.await;
    };
    let health = Health::default();
    health.serving().await;
    let server = tokio::spawn(server::serve(listener, handle.clone(), server, health.clone(), shutdown));
    Ok(Plane { address, handle, health, stop, server })
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
    /// Ends the workers, then the server. Jobs keep their phase in the store.
    pub async fn shut_down(self) {
        self.health.not_serving().await;
        self.handle.shut_down().await;
        let _ = self.stop.send(());
        // a client that keeps its stream open does not keep us
        if let Ok(Ok(Err(error))) = tokio::time::timeout(CLOSE_WITHIN, self.server).await {
            tracing::warn!(%error, "the server ended with an error");
        }
    }
}
