//! Around every method: a span with the method and the peer, the check of who calls, and the count of answers.

use super::access::{Access, Caller, WORKER_SESSION};
use super::connections::Peer;
use super::methods::Methods;
use crate::metrics::Metrics;
use accord_proto::status::ApiError;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use std::sync::Arc;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Code, Status};
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// Where gRPC says how a call ended: in the trailers, or in the headers of an answer that has no body.
const GRPC_STATUS: &str = "grpc-status";

#[derive(Clone)]
pub(super) struct Guard {
    access: Access,
    methods: Arc<Methods>,
    metrics: Metrics,
}

impl Guard {
    pub(super) fn new(access: Access, metrics: Metrics) -> Guard {
        Guard { access, methods: Arc::new(Methods::new()), metrics }
    }
}

pub(super) async fn watch_over(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (peer, has_certificate) = peer_of(&request);
    let method = guard.methods.name(request.uri().path());
    let address = peer.as_ref().map(|p| tracing::field::display(p.address));
    let span = tracing::info_span!("request", method, peer = address, client = Empty, job = Empty);
    let mut call = Call { metrics: guard.metrics.clone(), method: method.into(), span: span.clone(), over: false };
    peer.iter().for_each(Peer::asked);
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let caller = match guard.access.admit(request.uri().path(), authorization, has_certificate) {
        Ok(caller) => caller,
        Err(error) => return call.refuse(error),
    };
    match &caller {
        Caller::Anyone => {}
        Caller::Client(name) => {
            span.record("client", name.as_deref());
            peer.iter().for_each(Peer::admit);
        }
    }
    let is_worker = request.uri().path() == WORKER_SESSION;
    let response = next.run(request).instrument(span).await;
    if let Some(code) = code_of(response.headers()) {
        call.end(code);
        return response;
    }
    // its job's token was the right one; a health check, which showed nothing, does not make its connection stay
    if is_worker {
        peer.iter().for_each(Peer::admit);
    }
    let (parts, body) = response.into_parts();
    let watched = body.map_frame(move |frame| {
        if let Some(code) = frame.trailers_ref().and_then(code_of) {
            call.end(code);
        }
        frame
    });
    Response::from_parts(parts, Body::new(watched))
}

/// Who is at the other end, and whether the TLS layer saw a certificate of theirs.
fn peer_of(request: &Request) -> (Option<Peer>, bool) {
    let extensions = request.extensions();
    match extensions.get::<TlsConnectInfo<Peer>>() {
        Some(tls) => (Some(tls.get_ref().clone()), tls.peer_certs().is_some()),
        None => (extensions.get::<Peer>().cloned(), false),
    }
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// One call, counted once however it ends; without an answer when the client went away before it had one.
struct Call {
    metrics: Metrics,
    method: String,
    span: Span,
    over: bool,
}

impl Call {
    /// Whether this is its first end.
    fn count(&mut self, code: Code) -> bool {
        let first = !std::mem::replace(&mut self.over, true);
        if first {
            self.metrics.answered(&self.method, code);
        }
        first
    }

    fn end(&mut self, code: Code) {
        if !self.count(code) {
            return;
        }
        let _entered = self.span.enter();
        match code {
            Code::Ok => tracing::debug!("answered"),
            code => tracing::info!(?code, "answered with an error"),
        }
    }

    fn refuse(mut self, error: ApiError) -> Response {
        self.span.in_scope(|| tracing::warn!(reason = error.message, "refused"));
        let status = Status::from(error);
        self.count(status.code());
        status.into_http()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}
