//! The gRPC server: decode, call the control loop's [`Handle`], encode. Decides nothing about jobs; what it does decide
//! is who is let in.
//!
//! # Layout
//! * `jobs`, `workers`: the two APIs. `limits`: what a request may say. `roots`: where the data of jobs may lie.
//! * `guard`: around every method; `access`: who may call it; `methods`: which there are.
//! * `connections`, `tls`: below gRPC.

mod access;
mod checkpoints;
pub(crate) mod connections;
mod guard;
mod jobs;
mod limits;
mod methods;
mod roots;
mod tls;
mod workers;

pub use access::{Access, Role, Token};
pub(crate) use jobs::is_over;
pub use roots::DataRoots;
pub use tls::{ServerTls, TlsError};

use crate::control_loop::Handle;
use crate::metrics::Metrics;
use accord_proto::MAX_MESSAGE_BYTES;
use accord_proto::job::jobs_server::JobsServer;
use accord_proto::worker::workers_server::WorkersServer;
use connections::Listener;
use guard::Guard;
use std::future::Future;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::{Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// Calls of one connection at one time.
const MAX_STREAMS: u32 = 256;
/// All headers of one request.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Until an answer begins, the reading of the request included. Streams then last as long as they like.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A peer is asked whether it is there when nothing moved for this long, and has as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How the server is protected, and what it counts. The default is what a loopback address needs: nothing.
#[derive(Clone, Default)]
pub struct ServerOptions {
    pub tls: Option<ServerTlsConfig>,
    pub access: Access,
    pub data_roots: DataRoots,
    pub metrics: Metrics,
}

/// What health checks are told. Clones speak for the same server.
#[derive(Clone, Default)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// The jobs are loaded, and requests are answered.
    pub async fn serving(&self) {
        self.tell(ServingStatus::Serving).await;
    }

    /// It is going down.
    pub async fn not_serving(&self) {
        self.tell(ServingStatus::NotServing).await;
    }

    async fn tell(&self, status: ServingStatus) {
        // the empty name stands for all of it
        for service in ["", JobsServer::<jobs::Jobs>::NAME, WorkersServer::<workers::Workers>::NAME] {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

/// Serves both APIs, health and reflection on a bound listener until `shutdown`.
///
/// # Errors
/// When the transport fails, or its TLS settings cannot be used.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    options: ServerOptions,
    health: Health,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let ServerOptions { tls, access, data_roots, metrics } = options;
    let mut server = Server::builder()
        .timeout(ANSWER_WITHIN)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE));
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    let guard = axum::middleware::from_fn_with_state(Guard::new(access, metrics), guard::watch_over);
    let routes = routes(handle, data_roots, health).into_axum_router().layer(guard);
    server
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(Listener::new(listener).into_stream(), shutdown)
        .await
}

fn routes(handle: Handle, data_roots: DataRoots, health: Health) -> Routes {
    let jobs = JobsServer::new(jobs::Jobs::new(handle.clone(), data_roots))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let workers = WorkersServer::new(workers::Workers::new(handle))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let health = HealthServer::new(HealthService::from_health_reporter(health.reporter));
    let mut routes = Routes::new(jobs).add_service(workers).add_service(health);
    let described = tonic_reflection::server::Builder::configure();
    let described =
        methods::DESCRIPTORS.iter().fold(described, |all, set| all.register_encoded_file_descriptor_set(set));
    match described.build_v1() {
        Ok(reflection) => routes = routes.add_service(reflection),
        // compiled in: a test asks for it
        Err(error) => tracing::error!(%error, "reflection is off"),
    }
    routes
}
