//! `/metrics` over plain HTTP, on a listener of its own: what scrapes shows no token, and what it reads is no secret
//! beyond the jobs' names and losses. `/livez` and `/readyz` for a kubelet, whose gRPC probes do not speak TLS.

use super::Metrics;
use crate::control_loop::Handle;
use crate::server::connections::{Listener, Peer};
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::future::Future;
use std::io;
use tokio::net::TcpListener;

/// Serves `/metrics` and the probes on a bound listener until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    handle: Handle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(alive))
        .route("/readyz", get(alive))
        .with_state((metrics, handle));
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(Listener::new(listener), service).with_graceful_shutdown(shutdown).await
}

/// One that stands by is as ready as one that leads: a rollout that waited for it to lead would never end.
async fn alive(ConnectInfo(peer): ConnectInfo<Peer>) -> &'static str {
    peer.asked();
    peer.admit();
    "ok\n"
}

async fn scrape(State((metrics, handle)): State<(Metrics, Handle)>, ConnectInfo(peer): ConnectInfo<Peer>) -> Response {
    peer.asked();
    peer.admit();
    let text = match handle.list().await {
        Ok(jobs) => metrics.render(&jobs).map_err(|e| e.to_string()),
        // one that stands by is well, and has no jobs
        Err(error) if error.is_retryable() => metrics.render(&[]).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match text {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::warn!(error, "a scrape cannot be answered");
            (StatusCode::SERVICE_UNAVAILABLE, error).into_response()
        }
    }
}
