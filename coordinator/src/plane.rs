//! A whole control plane on one listener: store, launcher, control loop and server. `run` and `serve` start one each;
//! so do tests, on port 0.

use crate::control_loop::{self, Handle, Options, RunDirs};
use crate::launcher::Launcher;
use crate::server;
use crate::store::{ClusterStore, StoreError};
use std::io;
use std::net::SocketAddr;
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
}

/// A control plane that runs.
pub struct Plane {
    pub address: SocketAddr,
    pub handle: Handle,
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
    let PlaneOptions { listener, store, launcher, run_dirs, max_running_jobs } = options;
    let address = listener.local_addr()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let handle = control_loop::start(Options { store, launcher, run_dirs, address, max_running_jobs, cores }).await?;
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // a plane that was dropped stops too
        let _ = stopped.await;
    };
    let server = tokio::spawn(server::serve(listener, handle.clone(), shutdown));
    Ok(Plane { address, handle, stop, server })
}

impl Plane {
    /// Ends the workers, then the server. Jobs keep their phase in the store.
    pub async fn shut_down(self) {
        self.handle.shut_down().await;
        let _ = self.stop.send(());
        // a client that keeps its stream open does not keep us
        if let Ok(Ok(Err(error))) = tokio::time::timeout(CLOSE_WITHIN, self.server).await {
            tracing::warn!(%error, "the server ended with an error");
        }
    }
}
