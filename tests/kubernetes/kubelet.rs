//! The kubelet's part, as far as workers need one: a pod that has a node is started as a process of this machine, with the
//! arguments and variables of the pod, an address of its own on loopback, and the cluster's names mapped. Its end, its
//! probes and its deletion become the pod's status as on a real node.

use crate::container::{self, Mounts};
use crate::control_plane::NAMESPACE;
use k8s_openapi::api::core::v1::{Container, Node, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const LOOK_EVERY: Duration = Duration::from_millis(150);
/// A kubelet that probes so many times as often as the pod asks: a test has not its patience.
const HASTE: u32 = 10;
/// The images of these tests: `fake/exit-N` ends so, any other is the worker.
const EXIT_IMAGE: &str = "fake/exit-";
const LAST_LINES: usize = 20;

/// Runs until it is dropped.
pub(crate) struct Kubelet {
    pods: Arc<Mutex<BTreeMap<String, u32>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Kubelet {
    pub(crate) fn start(kubeconfig: PathBuf, worker: PathBuf) -> Kubelet {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let pods = Arc::new(Mutex::new(BTreeMap::new()));
        let shown = Arc::clone(&pods);
        runtime.spawn(async move {
            let config = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
            let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
            Rounds::new(Client::try_from(config).unwrap(), worker, shown).make().await;
        });
        Kubelet { pods, _runtime: runtime }
    }

    /// Process ids by pod, of those that live.
    pub(crate) fn pods(&self) -> BTreeMap<String, u32> {
        self.pods.lock().unwrap().clone()
    }
}

/// A pod whose process was started.
struct Running {
    name: String,
    node: String,
    process: Child,
    address: String,
    lines: Arc<Mutex<Vec<String>>>,
    /// Told to end: killed after this.
    kill_at: Option<Instant>,
    next_probe: Instant,
    failed_probes: u32,
    is_told: bool,
    /// Goes with it.
    _mounts: Mounts,
}

struct Rounds {
    pods: Api<Pod>,
    nodes: Api<Node>,
    secrets: Api<Secret>,
    worker: PathBuf,
    /// By uid.
    running: HashMap<String, Running>,
    shown: Arc<Mutex<BTreeMap<String, u32>>>,
}

fn now() -> String {
    k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Rounds {
    fn new(client: Client, worker: PathBuf, shown: Arc<Mutex<BTreeMap<String, u32>>>) -> Rounds {
        let (pods, secrets) = (Api::namespaced(client.clone(), NAMESPACE), Api::namespaced(client.clone(), NAMESPACE));
        Rounds { pods, secrets, nodes: Api::all(client), worker, running: HashMap::new(), shown }
    }

    async fn make(mut self) {
        let ours = ListParams::default().labels("app.kubernetes.io/name=accord-worker");
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // an API server that is away keeps no process from running
            let (Ok(pods), Ok(nodes)) = (self.pods.list(&ours).await, self.nodes.list(&ListParams::default()).await)
            else {
                continue;
            };
            let nodes: HashSet<String> = nodes.iter().map(ResourceExt::name_any).collect();
            let there: HashSet<String> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
            for (uid, running) in &mut self.running {
                // a node that is gone takes its processes with it and says nothing; a pod that is gone was forced away
                if !nodes.contains(&running.node) || !there.contains(uid) {
                    let _ = running.process.start_kill();
                }
            }
            for pod in pods {
                self.visit(pod, &nodes).await;
            }
            self.running.retain(|uid, running| {
                there.contains(uid) || running.process.try_wait().is_ok_and(|status| status.is_none())
            });
            let live = self.running.values_mut().filter_map(|r| Some((r.name.clone(), r.process.id()?)));
            *self.shown.lock().unwrap() = live.collect();
        }
    }

    async fn visit(&mut self, pod: Pod, nodes: &HashSet<String>) {
        let uid = pod.metadata.uid.clone().unwrap();
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { return };
        if !nodes.contains(&node) {
            return;
        }
        let is_deleted = pod.metadata.deletion_timestamp.is_some();
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        match self.running.get_mut(&uid) {
            None if phase == "Failed" || phase == "Succeeded" || is_deleted => {
                if is_deleted {
                    self.forget(&pod).await;
                }
            }
            None => {
                let started = self.start(&pod, node).await;
                self.running.insert(uid, started);
            }
            Some(running) => {
                if is_deleted && running.kill_at.is_none() {
                    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
                    running.kill_at = Some(Instant::now() + Duration::from_secs(grace.max(0) as u64));
                    signal(&running.process, "TERM");
                }
                let is_late = running.kill_at.is_some_and(|at| Instant::now() >= at);
                if is_late || (running.kill_at.is_none() && running.is_frozen(&pod).await) {
                    let _ = running.process.start_kill();
                }
                if let Ok(Some(status)) = running.process.try_wait()
                    && !running.is_told
                {
                    running.is_told = true;
                    // the last lines are on their way
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let words = running.lines.lock().unwrap().join("\n");
                    self.tell_end(&pod, status, &words).await;
                }
                let has_ended = self.running.get(&uid).is_some_and(|running| running.is_told);
                if is_deleted && has_ended {
                    self.forget(&pod).await;
                }
            }
        }
    }

    async fn start(&self, pod: &Pod, node: String) -> Running {
        static ADDRESSES: AtomicU16 = AtomicU16::new(2);
        let [high, low] = ADDRESSES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let address = format!("127.1.{high}.{low}");
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let mounts = Mounts::of(pod, container, &self.secrets).await;
        let variables = container::variables(pod, container, &address, &self.secrets, &mounts).await;
        let mut command = match container.image.as_deref().and_then(|image| image.strip_prefix(EXIT_IMAGE)) {
            Some(code) => {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("echo out of luck >&2; exit {code}")]);
                command
            }
            None => {
                let mut command = Command::new(&self.worker);
                command.args(container.args.iter().flatten().map(|argument| container::expanded(argument, &variables)));
                command
            }
        };
        command.env_clear().envs(variables).env("PATH", std::env::var("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok(Some(line)) = said.next_line().await {
                let mut kept = kept.lock().unwrap();
                kept.push(line);
                let surplus = kept.len().saturating_sub(LAST_LINES);
                kept.drain(..surplus);
            }
        });
        let state = json!({ "running": { "startedAt": now() } });
        let status = json!({ "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "startTime": now(),
            "conditions": [condition("Ready", "True"), condition("ContainersReady", "True")],
            "containerStatuses": [container_status(container, state, true)] });
        self.patch(pod, status).await;
        let next_probe = Instant::now() + Duration::from_secs(3);
        let name = pod.name_any();
        Running {
            name,
            node,
            process,
            address,
            lines,
            kill_at: None,
            next_probe,
            failed_probes: 0,
            is_told: false,
            _mounts: mounts,
        }
    }

    async fn tell_end(&self, pod: &Pod, status: ExitStatus, words: &str) {
        let code = status.code().unwrap_or(128 + status.signal().unwrap_or(0));
        let reason = if code == 0 { "Completed" } else { "Error" };
        // FallbackToLogsOnError
        let message = if code == 0 { "" } else { words };
        let ended = json!({ "terminated": { "exitCode": code, "reason": reason, "message": message,
            "startedAt": now(), "finishedAt": now() } });
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let status = json!({ "phase": phase,
            "conditions": [condition("Ready", "False"), condition("ContainersReady", "False")],
            "containerStatuses": [container_status(container, ended, false)] });
        self.patch(pod, status).await;
    }

    async fn patch(&self, pod: &Pod, status: Value) {
        let patch = Patch::Strategic(json!({ "metadata": { "uid": pod.metadata.uid }, "status": status }));
        // a pod that is gone meanwhile needs no status
        let _ = self.pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await;
    }

    async fn forget(&self, pod: &Pod) {
        let exactly = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let at_once = DeleteParams::default().grace_period(0).preconditions(exactly);
        let _ = self.pods.delete(&pod.name_any(), &at_once).await;
    }
}

impl Running {
    /// By the liveness probe, as a kubelet asks it.
    async fn is_frozen(&mut self, pod: &Pod) -> bool {
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let Some(probe) = container.liveness_probe.as_ref().filter(|_| self.process.id().is_some()) else {
            return false;
        };
        let Some(grpc) = probe.grpc.as_ref().filter(|_| !is_exit(container)) else { return false };
        if Instant::now() < self.next_probe {
            return false;
        }
        self.next_probe = Instant::now() + Duration::from_secs(probe.period_seconds.unwrap_or(10) as u64) / HASTE;
        let url = format!("http://{}:{}", self.address, grpc.port);
        let service = grpc.service.clone().unwrap_or_default();
        let timeout = Duration::from_secs(probe.timeout_seconds.unwrap_or(1) as u64) / HASTE;
        let answer = async {
            let endpoint = tonic::transport::Endpoint::from_shared(url).unwrap();
            let mut client = HealthClient::new(endpoint.connect().await.ok()?);
            client.check(HealthCheckRequest { service }).await.ok()
        };
        let is_well = tokio::time::timeout(timeout, answer).await.is_ok_and(|answer| answer.is_some());
        self.failed_probes = if is_well { 0 } else { self.failed_probes + 1 };
        self.failed_probes >= probe.failure_threshold.unwrap_or(3) as u32
    }
}

fn is_exit(container: &Container) -> bool {
    container.image.as_deref().is_some_and(|image| image.starts_with(EXIT_IMAGE))
}

fn condition(kind: &str, status: &str) -> Value {
    json!({ "type": kind, "status": status, "lastTransitionTime": now() })
}

fn container_status(container: &Container, state: Value, ready: bool) -> Value {
    json!({ "name": container.name, "image": container.image, "imageID": "", "ready": ready, "restartCount": 0,
        "started": ready, "state": state })
}

fn signal(process: &Child, name: &str) {
    if let Some(id) = process.id() {
        accord_harness::signal(name, id);
    }
}
