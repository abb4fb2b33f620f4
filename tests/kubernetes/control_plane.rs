//! A real control plane on loopback: etcd, API server, controllers, scheduler, and kwok, which keeps nodes alive that are not
//! there. Everything is killed when it is dropped.

use accord_harness::servers::Etcd;
use accord_harness::{free_address, root};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The namespace of k8s/base.
pub(crate) const NAMESPACE: &str = "accord";
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const ADMIN_TOKEN: &str = "an-administrator-of-this-test-alone";

pub(crate) struct ControlPlane {
    programs: PathBuf,
    folder: TempDir,
    server: String,
    // dropped in this order: the store last
    processes: Vec<Killed>,
    etcd: Etcd,
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ControlPlane {
    /// None, said, where `make test-k8s` has not built one.
    pub(crate) fn start() -> Option<ControlPlane> {
        let Some(programs) = std::env::var_os("ACCORD_CONTROL_PLANE").map(PathBuf::from) else {
            println!("SKIPPED: there is no control plane; `make test-k8s` builds one where there is Go");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let Some(etcd) = Etcd::start(folder.path()) else {
            println!("SKIPPED: there is no etcd in .deps; `make servers` fetches it where apt-get can");
            return None;
        };
        let server = free_address();
        let mut plane = ControlPlane { programs, folder, server, processes: Vec::new(), etcd };
        plane.start_api_server();
        let config = plane.write_kubeconfig("admin", ADMIN_TOKEN);
        let config = config.to_str().unwrap();
        let key = plane.file("service-accounts.key");
        let ca = plane.file("certs/apiserver.crt");
        plane.spawn(
            "kube-controller-manager",
            &[
                &format!("--kubeconfig={config}"),
                &format!("--service-account-private-key-file={key}"),
                &format!("--root-ca-file={ca}"),
                "--leader-elect=false",
                "--use-service-account-credentials=true",
                "--secure-port=0",
                // on a busy machine kwok renews late, and no node of these tests is lost by silence
                "--node-monitor-grace-period=300s",
            ],
        );
        plane.spawn("kube-scheduler", &[&format!("--kubeconfig={config}"), "--leader-elect=false", "--secure-port=0"]);
        let stages = plane.file("stages.yaml");
        std::fs::write(&stages, include_str!("nodes.yaml")).unwrap();
        plane.spawn(
            "kwok",
            &[&format!("--kubeconfig={config}"), "--manage-all-nodes=true", &format!("--config={stages}")],
        );
        Some(plane)
    }

    fn start_api_server(&mut self) {
        let key = self.file("service-accounts.key");
        let public = self.file("service-accounts.pub");
        let pair = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        std::fs::write(&public, pair.public_key_pem()).unwrap();
        let tokens = self.file("tokens.csv");
        std::fs::write(&tokens, format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n")).unwrap();
        let port = self.server.rsplit_once(':').unwrap().1.to_string();
        let etcd = self.etcd.address.clone();
        self.spawn(
            "kube-apiserver",
            &[
                &format!("--etcd-servers=http://{etcd}"),
                "--bind-address=127.0.0.1",
                &format!("--secure-port={port}"),
                &format!("--cert-dir={}", self.file("certs")),
                "--service-account-issuer=https://kubernetes.default.svc",
                &format!("--service-account-key-file={public}"),
                &format!("--service-account-signing-key-file={key}"),
                &format!("--token-auth-file={tokens}"),
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
            ],
        );
        let ca = self.file("certs/apiserver.crt");
        let until = Instant::now() + STARTS_WITHIN;
        while !Path::new(&ca).exists() || !self.kubectl(&["get", "--raw", "/readyz"], None).0 {
            let log = std::fs::read_to_string(self.file("kube-apiserver.log")).unwrap_or_default();
            assert!(Instant::now() < until, "the API server does not start: {log}");
            std::thread::sleep(Duration::from_millis(100));
            self.write_kubeconfig("admin", ADMIN_TOKEN);
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().into()
    }

    fn spawn(&mut self, program: &str, arguments: &[&str]) {
        let log = std::fs::File::create(self.file(&format!("{program}.log"))).unwrap();
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.processes.push(Killed(command.spawn().unwrap()));
    }

    /// For whoever has this token.
    pub(crate) fn write_kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        let (ca, server) = (self.file("certs/apiserver.crt"), &self.server);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'https://{server}', certificate-authority: {ca}}}}}]\n\
             users: [{{name: {name}, user: {{token: {token}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: {name}, namespace: {NAMESPACE}}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// As the coordinator's service account: what it may not do, the coordinator of these tests may not either.
    pub(crate) fn coordinators_kubeconfig(&self) -> PathBuf {
        let (done, token) = self.kubectl(&["create", "token", "accord-coordinator", "--duration=2h"], None);
        assert!(done, "{token}");
        self.write_kubeconfig("accord-coordinator", token.trim())
    }

    pub(crate) fn admin(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    /// Whether `kubectl` did it, and what it said.
    pub(crate) fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> (bool, String) {
        self.kubectl_as(&self.admin(), arguments, input)
    }

    pub(crate) fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str], input: Option<&str>) -> (bool, String) {
        use std::io::Write;
        let mut command = Command::new(self.programs.join("kubectl"));
        command.arg("--kubeconfig").arg(kubeconfig).args(arguments).current_dir(root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (done.status.success(), text)
    }

    /// # Panics
    /// When it does not work.
    pub(crate) fn apply(&self, arguments: &[&str], input: Option<&str>) -> String {
        let (done, text) = self.kubectl(&[&["apply"], arguments].concat(), input);
        assert!(done, "kubectl apply {arguments:?}: {text}");
        text
    }
}
