//! A worker that is a pod: it outlives generations, answers the kubelet's probes, and leaves when it is told to. Each
//! generation begins in a process image of its own, so that nothing of the one before is left; the pod and its process
//! id stay.

use crate::WorkerArgs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_stream::wrappers::TcpListenerStream;

/// The job file or the arguments cannot be used: another try would end the same way (sysexits' EX_CONFIG).
pub const BAD_INPUT: u8 = 78;
/// The arguments themselves (EX_USAGE).
pub const BAD_ARGUMENTS: u8 = 64;
/// It left because it was told to, or nobody needs it now; another may do better later (EX_TEMPFAIL).
pub const LEFT: u8 = 75;

/// What the kubelet asks for. All are answered as long as this process lives and its agent runs; none of them depends on the
/// coordinator or on progress, whose failures the coordinator sees by itself.
const PROBES: [&str; 3] = ["startup", "liveness", "readiness"];

/// How a worker's generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The job is over.
    Over,
    /// This generation is over, the job may not be.
    Again,
    /// It was told to end.
    Left,
    BadInput,
}

/// SIGTERM, if this worker is a pod; whoever starts a local one means it to end at once.
pub(crate) struct Notice {
    terminated: Option<Signal>,
}

impl Notice {
    /// # Errors
    /// When the signal cannot be listened for.
    pub(crate) fn listen(is_pod: bool) -> io::Result<Notice> {
        let terminated = is_pod.then(|| signal(SignalKind::terminate())).transpose()?;
        Ok(Notice { terminated })
    }

    /// Waits until it is told to leave. Cancel-safe.
    pub(crate) async fn given(&mut self) {
        let heard = match &mut self.terminated {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if heard.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Answers gRPC health checks for as long as the runtime lives.
///
/// # Errors
/// When the port cannot be had.
pub(crate) async fn answer_probes(address: Option<IpAddr>, port: u16) -> io::Result<()> {
    let address = address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let listener = TcpListener::bind(SocketAddr::from((address, port))).await?;
    let (reporter, service) = tonic_health::server::health_reporter();
    for probe in PROBES {
        reporter.set_service_status(probe, tonic_health::ServingStatus::Serving).await;
    }
    tokio::spawn(async move {
        let server = tonic::transport::Server::builder().add_service(service);
        if let Err(error) = server.serve_with_incoming(TcpListenerStream::new(listener)).await {
            tracing::error!(%error, "the kubelet's probes are answered no more");
        }
    });
    Ok(())
}

/// What the process does after its generation.
pub(crate) fn go_on(args: &WorkerArgs, ending: Ending) -> ExitCode {
    match ending {
        Ending::Over => ExitCode::SUCCESS,
        Ending::Left => ExitCode::from(LEFT),
        Ending::BadInput if args.is_pod() => ExitCode::from(BAD_INPUT),
        Ending::Again if args.is_pod() => begin_again(),
        // its coordinator knows, and starts another
        Ending::Again | Ending::BadInput => ExitCode::SUCCESS,
    }
}

/// Returns only when it could not.
fn begin_again() -> ExitCode {
    let program = std::env::current_exe();
    let error = match program {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(error) => error,
    };
    crate::broke(&format!("cannot begin the next generation: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_health::pb::{HealthCheckRequest, health_check_response, health_client::HealthClient};

    #[tokio::test]
    async fn probes_are_answered() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        answer_probes(Some(free.ip()), free.port()).await.unwrap();
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{free}")).unwrap();
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        for probe in PROBES {
            let answer = client.check(HealthCheckRequest { service: probe.into() }).await.unwrap().into_inner();
            assert_eq!(answer.status(), health_check_response::ServingStatus::Serving, "{probe}");
        }
        let unknown = client.check(HealthCheckRequest { service: "progress".into() }).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::NotFound);
    }
}
