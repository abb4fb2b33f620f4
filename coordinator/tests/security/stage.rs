//! A control plane with protection, certificates made for the test, and what speaks to it.

use accord_coordinator::control_loop::RunDirs;
use accord_coordinator::launcher::{LaunchError, LaunchRequest, Launcher};
use accord_coordinator::metrics::Metrics;
use accord_coordinator::plane::{self, Plane, PlaneOptions};
use accord_coordinator::server::{Access, DataRoots, Role, ServerOptions, ServerTls, Token};
use accord_coordinator::store::MemoryStore;
use accord_proto::tls::ClientTls;
use accord_proto::worker::workers_client::WorkersClient;
use accord_proto::worker::{Directive, Register, WorkerMessage, worker_message::Message};
use futures::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("the test's deadline")
}

/// A job file whose data lies at `path`.
pub(crate) fn job(path: &str) -> String {
    format!("[job]\nname = \"tiny\"\n[data]\npath = \"{path}\"\n[model]\nkind = \"lightgcn\"\n")
}

/// A request with a token.
pub(crate) fn bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a token is ASCII"));
    request
}

/// What the launcher was told.
pub(crate) struct Launch {
    pub(crate) job: String,
    pub(crate) token: String,
}

struct NotingLauncher(mpsc::UnboundedSender<Launch>);

impl Launcher for NotingLauncher {
    fn launch(&self, request: LaunchRequest) -> BoxFuture<'_, Result<(), LaunchError>> {
        // a test that is over does not look any more
        let _ = self.0.send(Launch { job: request.job.0, token: request.token });
        Box::pin(async { Ok(()) })
    }

    fn adopt(&self, _: LaunchRequest) -> BoxFuture<'_, Result<usize, LaunchError>> {
        Box::pin(async { Ok(0) })
    }

    fn let_go(&self) {}

    fn release(&self, _: &accord_coordinator::job::JobId, _: u64, _: Duration, _: accord_coordinator::launcher::Next) {}

    fn shut_down(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Opens a worker's stream; the directives, or why not.
pub(crate) async fn register(channel: Channel, job: &str, token: &str) -> Result<Streaming<Directive>, Status> {
    let register = Register {
        job_id: job.into(),
        worker: "worker-0".into(),
        token: token.into(),
        host: "here".into(),
        pid: 7,
        store: "here:4000".into(),
        underway: None,
    };
    let first = WorkerMessage { generation: 1, number: 0, message: Some(Message::Register(register)) };
    let messages = tokio_stream::StreamExt::chain(tokio_stream::once(first), tokio_stream::pending());
    within(WorkersClient::new(channel).session(messages)).await.map(tonic::Response::into_inner)
}

/// Settings of a control plane to be.
pub(crate) struct Settings {
    tokens: Vec<Token>,
    options: ServerOptions,
    scheme: &'static str,
}

impl Settings {
    pub(crate) fn new() -> Settings {
        Settings { tokens: Vec::new(), options: ServerOptions::default(), scheme: "http" }
    }

    pub(crate) fn token(mut self, name: &str, role: Role, secret: &str) -> Settings {
        self.tokens.push(Token { name: name.into(), role, digest: blake3::hash(secret.as_bytes()) });
        self
    }

    pub(crate) fn roots(mut self, roots: DataRoots) -> Settings {
        self.options.data_roots = roots;
        self
    }

    /// `mutual`: clients need a certificate.
    pub(crate) fn tls(mut self, certificates: &Certificates, mutual: bool) -> Settings {
        self.options.tls = Some(certificates.server(mutual).load().unwrap());
        self.options.access.certificate = mutual;
        self.scheme = "https";
        self
    }

    pub(crate) async fn start(self) -> Stage {
        let Settings { tokens, mut options, scheme } = self;
        options.access = Access { tokens: tokens.into(), ..options.access };
        let folder = tempfile::tempdir().unwrap();
        let (launched, launches) = mpsc::unbounded_channel();
        let metrics = options.metrics.clone();
        let options = PlaneOptions {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            store: Arc::new(MemoryStore::new()),
            launcher: Arc::new(NotingLauncher(launched)),
            run_dirs: RunDirs::Under(folder.path().into()),
            coordinators: Vec::new(),
            max_running_jobs: 2,
            server: options,
        };
        let plane = plane::start(options).await.unwrap();
        Stage { plane, metrics, launches: Mutex::new(launches), scheme, _folder: folder }
    }
}

/// A control plane that runs.
pub(crate) struct Stage {
    pub(crate) metrics: Metrics,
    plane: Plane,
    launches: Mutex<mpsc::UnboundedReceiver<Launch>>,
    scheme: &'static str,
    _folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn address(&self) -> SocketAddr {
        self.plane.address
    }

    pub(crate) fn handle(&self) -> accord_coordinator::control_loop::Handle {
        self.plane.handle.clone()
    }

    pub(crate) async fn launched(&self) -> Launch {
        within(async { self.launches.lock().await.recv().await }).await.unwrap()
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self) -> Channel {
        self.channel_with(&ClientTls::default()).await.unwrap()
    }

    pub(crate) async fn channel_with(&self, tls: &ClientTls) -> Result<Channel, tonic::transport::Error> {
        let mut endpoint = Endpoint::from_shared(format!("{}://{}", self.scheme, self.address())).unwrap();
        if self.scheme == "https" {
            endpoint = endpoint.tls_config(tls.load().unwrap())?;
        }
        within(endpoint.connect()).await
    }

    pub(crate) async fn stop(self) {
        self.plane.shut_down().await;
    }
}

/// An authority, and a certificate of it for the server and for one client, as files.
pub(crate) struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        write("ca.pem", authority.pem());
        for (name, for_names) in
            [("server", vec!["localhost".to_string(), "127.0.0.1".into()]), ("client", vec!["ci".into()])]
        {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(for_names).unwrap().signed_by(&key, &authority).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Certificates { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn server(&self, mutual: bool) -> ServerTls {
        ServerTls {
            cert: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: mutual.then(|| self.path("ca.pem")),
        }
    }

    /// A client that trusts the authority and shows the certificate of that name.
    pub(crate) fn trusting(&self, identity: Option<&str>) -> ClientTls {
        let identity = identity.map(|name| (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key"))));
        ClientTls { ca: Some(self.path("ca.pem")), identity, name: None }
    }
}
