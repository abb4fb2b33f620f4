//! The worker process: one trainer, and the agent that speaks for it.
//!
//! # Layout
//! * [`agent`]: the tokio side: registers with the coordinator, obeys its directives, reports.
//! * [`trainer_thread`]: the one thread that owns the trainer; catches its panics.
//! * [`observer`]: what the trainer says becomes messages; what it is told comes from the agent.
//! * [`pod`]: what is different for a worker that outlives generations.
//! * [`rendezvous`]: where the workers of a generation meet. [`layout`]: which nodes each of them owns.
//! * [`snapshots`]: writes checkpoint shards beside the training. [`export`]: the final embeddings.
//!
//! A worker decides nothing about its job and keeps nothing but what the run directory holds.

pub mod agent;
pub mod export;
pub mod layout;
pub mod observer;
pub mod pod;
pub mod rendezvous;
pub mod snapshots;
pub mod trainer_thread;

use agent::AgentError;
use clap::Parser;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// One worker of one generation of a job; started by a coordinator
#[derive(Clone, Debug, Parser)]
#[command(
    name = "worker",
    version,
    after_help = "A coordinator starts workers; there is no use in starting one by hand."
)]
pub struct WorkerArgs {
    /// Addresses of coordinators, of which one leads
    #[arg(long, value_name = "URL,...", value_delimiter = ',', required = true)]
    pub coordinator: Vec<String>,
    /// Id of the job
    #[arg(long)]
    pub job: String,
    /// Generation of the job this worker is for; 0: it is a pod, which asks for a seat in each that forms
    #[arg(long)]
    pub generation: u64,
    /// This worker's name in the generation; of a pod, the one it would rather have
    #[arg(long)]
    pub name: String,
    /// How the coordinator knows this host [default: the kernel's name for it]
    #[arg(long, env = "ACCORD_POD_NAME")]
    pub host: Option<String>,
    /// Address by which other workers reach this one [default: the one by which it reaches the coordinator]
    #[arg(long, env = "ACCORD_POD_IP", value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Port on which gRPC health checks are answered [default: none]
    #[arg(long, value_name = "PORT")]
    pub health_port: Option<u16>,
    /// How long to train on without a coordinator, in milliseconds; 0: it ends with the one that started it, which holds
    /// the other end of its stdin
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub alone_ms: u64,
    /// A coordinator that is silent for so long is gone, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    pub detect_ms: u64,
    /// The job's own secret; by environment, since arguments are visible to every user
    #[arg(long, env = "ACCORD_WORKER_TOKEN", hide_env_values = true)]
    pub token: String,
    /// Authority that signed the coordinator's certificate (PEM), for an https:// address
    #[arg(long, env = "ACCORD_WORKER_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Name in the coordinator's certificate, where it is not the host of its address
    #[arg(long, env = "ACCORD_WORKER_TLS_NAME", value_name = "NAME")]
    pub tls_name: Option<String>,
}

impl WorkerArgs {
    /// Whether it outlives generations.
    pub fn is_pod(&self) -> bool {
        self.generation == 0
    }
}

/// Runs the worker of this process's arguments. Exit codes: 0 it did what it was told, 1 something broke, 64 bad arguments;
/// of a pod also 75 it left, 78 the job file cannot be used.
pub fn main() -> ExitCode {
    let args = match WorkerArgs::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // stdout or stderr may be closed
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(pod::BAD_ARGUMENTS) } else { ExitCode::SUCCESS };
        }
    };
    let (log, lines) = agent::log::channel();
    let filter = EnvFilter::try_from_env("ACCORD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // a second subscriber in one process (a test) is fine to refuse
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(log).try_init();
    if args.alone_ms == 0
        && !args.is_pod()
        && let Err(error) = die_with_the_coordinator()
    {
        tracing::warn!(%error, "this worker will not notice the coordinator's end by its stdin");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return broke(&error),
    };
    match runtime.block_on(agent::run(args.clone(), lines)) {
        Ok(ending) => pod::go_on(&args, ending),
        Err(error) => {
            let code = broke(&error);
            match error {
                // whoever has no use for it now may have one for the next
                AgentError::Alone { .. } | AgentError::Unreachable(_) if args.is_pod() => ExitCode::from(pod::LEFT),
                AgentError::Refused(_) if args.is_pod() => ExitCode::from(pod::BAD_INPUT),
                _ => code,
            }
        }
    }
}

/// To stderr, which the launcher keeps: the stream may be what broke.
fn broke(error: &dyn std::fmt::Display) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "worker: {error}");
    ExitCode::FAILURE
}

/// The coordinator holds the other end of stdin and writes nothing: its end is the coordinator's. The thread is never
/// joined; it ends with the process, or ends it.
fn die_with_the_coordinator() -> std::io::Result<()> {
    let watch = || {
        let mut buffer = [0; 64];
        loop {
            match std::io::stdin().read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // whatever the trainer is doing: nobody is left to train for
        std::process::exit(1)
    };
    std::thread::Builder::new().name("coordinator watch".into()).spawn(watch).map(drop)
}
