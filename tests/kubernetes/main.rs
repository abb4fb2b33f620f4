//! Jobs on a real control plane (`make test-k8s`): the platform's own manifests and service account, objects that the real
//! controllers act on, and pods that train as processes of this machine. After each disturbance the job, its reason and
//! its objects are as they should be, and after its end nothing is left.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints for its reader")]

mod container;
mod control_plane;
mod disturbances;
mod kubelet;
mod life;
mod manifests;
#[path = "../../worker/objects/tests/support/mod.rs"]
mod objects;
mod production;
mod rights;
mod shared;

use accord_harness::served::Served;
use accord_harness::servers::Server;
use accord_harness::{catalog, coordinator_binary, free_address, wait_until};
use control_plane::{ControlPlane, NAMESPACE};
use kubelet::Kubelet;
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;

/// What every job of these tests says, beside its number of workers.
const SETS: [&str; 6] = [
    "cluster.threads_per_worker=1",
    "checkpoint.every_steps=20",
    "recovery.detect_within_ms=2000",
    "recovery.replace_within_ms=150000",
    "kubernetes.cpu=500m",
    "kubernetes.memory=1Gi",
];

/// A cluster with the platform of k8s/overlays/dev, two nodes and a coordinator outside of it.
struct Cluster {
    coordinator: Server,
    kubelet: Kubelet,
    plane: ControlPlane,
    folder: TempDir,
}

impl Cluster {
    /// None, said, where there is no control plane.
    fn start() -> Option<Cluster> {
        Cluster::with("k8s/overlays/dev", "runs_claim = \"accord-runs\"\ndata_claim = \"accord-data\"\n", &[])
    }

    /// With an overlay, with these settings of `[kubernetes]`, and with these variables of the coordinator.
    fn with(overlay: &str, settings: &str, variables: &[(String, String)]) -> Option<Cluster> {
        let plane = ControlPlane::start()?;
        let folder = tempfile::tempdir().unwrap();
        plane.apply(&["-k", overlay], None);
        plane.apply(&["-f", "-"], Some(&volumes()));
        for node in ["node-a", "node-b"] {
            plane.apply(&["-f", "-"], Some(&node_of(node)));
        }
        let kubelet = Kubelet::start(plane.admin(), coordinator_binary().with_file_name("worker"));
        let coordinator = serve(&plane, &folder, settings, variables);
        Some(Cluster { coordinator, kubelet, plane, folder })
    }

    /// A folder's small catalog as a job of `model`.
    fn job(&self, model: &str, epochs: u32) -> PathBuf {
        catalog::write(&self.folder.path().join("data"));
        let job = self.folder.path().join(format!("{model}-{epochs}.toml"));
        std::fs::write(&job, catalog::job(model, epochs)).unwrap();
        job
    }

    fn submit(&self, job: &std::path::Path, sets: &[&str]) -> Served {
        let sets: Vec<&str> = SETS.iter().chain(sets).copied().collect();
        Served::submit(job, self.coordinator.url(), &sets)
    }

    /// Objects of a kind in the platform's namespace.
    fn list(&self, kind: &str) -> Vec<Value> {
        let (done, text) =
            self.plane.kubectl(&["get", kind, "-l", "app.kubernetes.io/name=accord-worker", "-o", "json"], None);
        assert!(done, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().clone()
    }

    /// Names of the pods whose processes live, by index.
    fn pods(&self) -> Vec<String> {
        self.kubelet.pods().into_keys().collect()
    }

    fn nothing_is_left(&self) {
        wait_until("the objects to go", || {
            ["jobs", "pods", "services"].iter().all(|kind| self.list(kind).is_empty()) && self.pods().is_empty()
        });
    }

    fn delete_pod(&self, name: &str) {
        let (done, text) = self.plane.kubectl(&["delete", "pod", name, "--wait=false"], None);
        assert!(done, "{text}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the coordinator's log:\n{}", self.coordinator.log());
            println!("{}", self.plane.kubectl(&["get", "jobs,pods,events", "-o", "wide"], None).1);
        }
    }
}

/// A coordinator with the rights of the platform's own.
fn serve(plane: &ControlPlane, folder: &TempDir, kubernetes: &str, variables: &[(String, String)]) -> Server {
    let address = free_address();
    let port = address.rsplit_once(':').unwrap().1;
    let settings = format!(
        "max_running_jobs = 8\n\
         coordinators = [\"http://accord-coordinator-0.accord-coordinator.accord.svc:{port}\"]\n\
         {}",
        cluster_settings(kubernetes)
    );
    let kubeconfig = plane.coordinators_kubeconfig();
    let mut variables: Vec<(&str, &str)> = variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    variables.push(("KUBECONFIG", kubeconfig.to_str().unwrap()));
    Server::configured(folder.path(), &address, &settings, &variables)
}

/// `[kubernetes]` of serve.toml, with what the manifests say and more.
fn cluster_settings(more: &str) -> String {
    format!(
        "[kubernetes]\nnamespace = \"{NAMESPACE}\"\nimage = \"accord-worker:0.1.0\"\nenv_secret = \"accord-s3\"\n{more}"
    )
}

/// Where the claims of the platform find room: the kubelet of these tests mounts nothing.
fn volumes() -> String {
    let volume = |claim: &str| {
        json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": claim }, "spec": {
            "capacity": { "storage": "100Gi" }, "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "claimRef": { "namespace": NAMESPACE, "name": claim }, "hostPath": { "path": "/nowhere" } } })
    };
    json!({ "apiVersion": "v1", "kind": "List", "items": [volume("accord-runs"), volume("accord-data")] }).to_string()
}

/// Room for four workers of these tests by memory, and one GPU.
fn node_of(name: &str) -> String {
    let room = json!({ "cpu": "8", "memory": "6Gi", "pods": "110", "nvidia.com/gpu": "1" });
    let labels = json!({ "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" });
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels },
        "status": { "capacity": room, "allocatable": room } })
    .to_string()
}
