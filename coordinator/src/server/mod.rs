//! The gRPC server: decode, call the control loop's [`Handle`], encode. Decides nothing.

mod jobs;
mod workers;

use crate::control_loop::Handle;
use accord_proto::MAX_MESSAGE_BYTES;
use accord_proto::job::jobs_server::JobsServer;
use accord_proto::worker::workers_server::WorkersServer;
use std::future::Future;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

/// Serves both APIs on a bound listener until `shutdown`.
///
/// # Errors
/// When the transport fails.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let jobs = JobsServer::new(jobs::Jobs::new(handle.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let workers = WorkersServer::new(workers::Workers::new(handle))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .tcp_nodelay(true)
        .add_service(jobs)
        .add_service(workers)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown)
        .await
}
