//! `coordinator serve`: a control plane that stays. It trusts every client that reaches its address.

use super::watch::Interrupts;
use super::{Usage, output};
use crate::config::{ServeConfig, ServeOverrides};
use crate::control_loop::RunDirs;
use crate::launcher::{LocalLauncher, find_worker_binary};
use crate::plane::{self, PlaneOptions};
use crate::store::EmbeddedStore;
use anyhow::Context;
use clap::Args;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serve jobs: queue them, run them one after another, keep what they leave
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator serve
  coordinator serve serve.toml --listen 127.0.0.1:7500 --state-dir /var/lib/accord
  coordinator serve --dump-config

Settings: defaults < file < environment < flags. Workers run on this machine, one job at a time unless
max_running_jobs says more. Stopping it stops the workers; starting it again takes unfinished jobs up from their
checkpoints.

It listens on loopback only: this version has no TLS and asks nobody who they are. Everyone who can reach the loopback
address of this machine, every local user, may submit and cancel jobs, read their logs, and have `serve` read data
folders as the user it runs as. The state directory is created for that user alone (mode 0700).")]
pub(super) struct ServeArgs {
    /// Settings file
    #[arg(value_name = "serve.toml")]
    config: Option<PathBuf>,
    /// Address of the gRPC server
    #[arg(long, env = "ACCORD_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Folder of the store and of the jobs' run directories
    #[arg(long, env = "ACCORD_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The worker program [default: `worker` beside this one]
    #[arg(long, env = "ACCORD_WORKER_BINARY", value_name = "PATH")]
    worker_binary: Option<PathBuf>,
    /// Jobs that train at the same time
    #[arg(long, env = "ACCORD_MAX_RUNNING_JOBS", value_name = "N")]
    max_running_jobs: Option<usize>,
    /// Print the settings as a file, and end
    #[arg(long)]
    dump_config: bool,
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// [`Usage`] for bad settings, else what failed.
pub(super) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let ServeArgs { config, listen, state_dir, worker_binary, max_running_jobs, dump_config } = args;
    let over = ServeOverrides { listen, state_dir, worker_binary, max_running_jobs };
    let config = ServeConfig::load(config.as_deref(), over)?;
    if dump_config {
        output::line(config.dump()?.trim_end());
        return Ok(());
    }
    super::block_on(serve(config))
}

/// For this user alone: it holds the tokens of workers. A folder that is there keeps its mode.
fn create_private(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    let worker = find_worker_binary(config.worker_binary.as_deref()).map_err(|e| Usage(e.to_string()))?;
    let mut interrupts = Interrupts::listen()?;
    let state_dir = std::path::absolute(&config.state_dir)?;
    create_private(&state_dir).with_context(|| state_dir.display().to_string())?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let options = PlaneOptions {
        listener,
        store: Arc::new(EmbeddedStore::open(&state_dir.join("store.redb"))?),
        launcher: Arc::new(LocalLauncher::new(worker)),
        run_dirs: RunDirs::Under(state_dir.join("runs")),
        max_running_jobs: config.max_running_jobs,
    };
    let plane = plane::start(options).await?;
    // a script that asked for port 0 reads it here
    output::line(format!("listening on http://{}", plane.address));
    interrupts.next().await;
    output::note("stopping; unfinished jobs go on when it is started again");
    plane.shut_down().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_state_directory_is_its_users_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("var/accord");
        create_private(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        create_private(&dir).unwrap();
    }
}
