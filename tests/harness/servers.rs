//! Coordinators that serve, and the etcd that several of them share. All are killed when they are dropped.

use super::{coordinator, finish, free_address, root, signal, wait_until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// One etcd member, killed and started again at the same place.
pub struct Etcd {
    pub address: String,
    peer: String,
    folder: PathBuf,
    process: Option<Child>,
}

impl Etcd {
    /// None where there is no etcd-server; the caller says so.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(folder: &Path) -> Option<Etcd> {
        if !Etcd::binary().is_file() {
            return None;
        }
        let mut etcd = Etcd { address: free_address(), peer: free_address(), folder: folder.into(), process: None };
        etcd.restart();
        Some(etcd)
    }

    fn binary() -> PathBuf {
        root().join(".deps/etcd/bin/etcd")
    }

    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        let (client, peer) = (format!("http://{}", self.address), format!("http://{}", self.peer));
        let mut command = Command::new(Etcd::binary());
        command.arg("--data-dir").arg(self.folder.join("etcd")).args(["--name", "one", "--log-level", "error"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("one={peer}")]);
        self.process = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("etcd starts"));
        wait_until("etcd", || std::net::TcpStream::connect(&self.address).is_ok());
    }

    pub fn kill(&mut self) {
        kill(self.process.take());
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One `coordinator serve`.
pub struct Server {
    pub address: String,
    config: PathBuf,
    /// Variables of its own, and of the commands that ask it.
    variables: Vec<(String, String)>,
    scheme: &'static str,
    process: Option<Child>,
}

impl Server {
    /// One that keeps its jobs in its state folder.
    ///
    /// # Panics
    /// When it does not start.
    pub fn alone(folder: &Path) -> Server {
        let address = free_address();
        Server::with(folder, &address, &format!("state_dir = {:?}\n", folder.join("state")))
    }

    /// One on another address of this machine, open to whoever reaches that, with a worker program of its own.
    ///
    /// # Panics
    /// When it does not start.
    pub fn reached_at(folder: &Path, host: &str, worker: &Path) -> Server {
        let port = free_address().rsplit_once(':').map(|(_, port)| port.to_string()).unwrap_or_default();
        let state = folder.join("state");
        let settings = format!("state_dir = {state:?}\nworker_binary = {worker:?}\ndata_roots = [{folder:?}]\n");
        Server::with(folder, &format!("{host}:{port}"), &settings)
    }

    /// Several that stand by for each other.
    ///
    /// # Panics
    /// When they do not start.
    pub fn several(folder: &Path, count: usize, etcd: &Etcd) -> Vec<Server> {
        let addresses: Vec<String> = (0..count).map(|_| free_address()).collect();
        let urls: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
        let settings = format!(
            "state_dir = {:?}\ncoordinators = {urls:?}\nleader_within_ms = 2000\n[etcd]\nendpoints = [\"http://{}\"]\n",
            folder.join("state"),
            etcd.address
        );
        addresses.iter().map(|address| Server::with(folder, address, &settings)).collect()
    }

    fn with(folder: &Path, address: &str, settings: &str) -> Server {
        let config = folder.join(format!("serve-{}.toml", address.replace(':', "-")));
        std::fs::write(&config, format!("listen = {address:?}\n{settings}")).expect("serve.toml");
        let mut server =
            Server { address: address.into(), config, variables: Vec::new(), scheme: "http", process: None };
        server.start();
        server
    }

    /// One with such settings beside its address and its state folder, and such variables.
    ///
    /// # Panics
    /// When it does not start.
    pub fn configured(folder: &Path, address: &str, settings: &str, variables: &[(&str, &str)]) -> Server {
        let config = folder.join(format!("serve-{}.toml", address.replace(':', "-")));
        let state = folder.join("state");
        std::fs::write(&config, format!("listen = {address:?}\nstate_dir = {state:?}\n{settings}"))
            .expect("serve.toml");
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let scheme = if settings.contains("[tls]") { "https" } else { "http" };
        let mut server = Server { address: address.into(), config, variables, scheme, process: None };
        server.start();
        server
    }

    /// # Panics
    /// When it does not start.
    pub fn start(&mut self) {
        let config = self.config.to_str().expect("a temporary path is UTF-8");
        let log = std::fs::File::options().create(true).append(true).open(self.config.with_extension("log"));
        let log = log.expect("a log file");
        // the test's own network, if it is not loopback
        let mut serve = coordinator(&["serve", config, "--insecure"]);
        serve.envs(self.variables.iter().cloned());
        self.process = Some(serve.stdout(Stdio::null()).stderr(log).spawn().expect("it starts"));
        wait_until("the server", || {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok()?);
            assert!(ended.is_none(), "the server ended: {}", self.log());
            std::net::TcpStream::connect(&self.address).is_ok()
        });
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Whether it answers, and not only stands by.
    pub fn leads(&self) -> bool {
        let url = self.url();
        let mut ask = coordinator(&["ps", "--coordinator", &url]);
        self.process.is_some() && finish(ask.envs(self.variables.iter().cloned())).code == Some(0)
    }

    /// # Panics
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        signal(name, self.process.as_ref().expect("it runs").id());
    }

    pub fn kill(&mut self) {
        kill(self.process.take());
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn kill(process: Option<Child>) {
    if let Some(mut process) = process {
        // it may have ended by itself
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// Ids of the processes that work for a job, by rank; of the newest generation.
pub fn workers_of(job: &str) -> Vec<(u32, u32)> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let found = processes.filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let arguments: Vec<&str> = line.split('\0').collect();
        let after = |name: &str| Some(arguments[arguments.iter().position(|a| *a == name)? + 1]);
        let rank: u32 = after("--name")?.strip_prefix("worker-")?.parse().ok()?;
        (after("--job")? == job).then_some((after("--generation")?.parse::<u64>().ok()?, rank, id))
    });
    let mut found: Vec<(u64, u32, u32)> = found.collect();
    let newest = found.iter().map(|(generation, ..)| *generation).max();
    found.retain(|(generation, ..)| Some(*generation) == newest);
    found.sort_unstable();
    found.into_iter().map(|(_, rank, id)| (rank, id)).collect()
}
