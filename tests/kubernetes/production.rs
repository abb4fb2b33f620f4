//! Clusters as teams run them: everything in buckets, and two coordinators with etcd, TLS and tokens.

use super::objects::seaweedfs;
use super::{Cluster, SETS, cluster_settings};
use accord_harness::served::{Served, same_run, undisturbed};
use accord_harness::servers::{Etcd, Server};
use accord_harness::{catalog, coordinator, finish, free_address, wait_for, wait_until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use std::path::Path;

fn apply_secret(cluster: &Cluster, name: &str, data: &[(String, String)]) {
    let data: serde_json::Map<_, _> = data.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
    cluster.plane.apply(&["-f", "-"], Some(&secret.to_string()));
}

#[test]
fn data_checkpoints_and_results_in_a_bucket_need_no_volume() {
    let Some(bucket) = seaweedfs::Server::start() else {
        println!("SKIPPED: no SeaweedFS in .deps; `make servers` fetches it");
        return;
    };
    let variables = bucket.options().variables;
    let Some(cluster) = Cluster::with("k8s/overlays/object-store", "", &variables) else { return };
    apply_secret(&cluster, "accord-s3", &variables);
    let job = cluster.job("irllrec", 150);
    let plain = cluster.folder.path().join("undisturbed");
    undisturbed(&job, &plain, &[&SETS[..], &["cluster.workers=2"]].concat());
    let data = accord_objects::open_with("s3://accord/sets/small", Path::new("unused"), &bucket.options()).unwrap();
    for entry in std::fs::read_dir(cluster.folder.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(data.place().put_new(name, &std::fs::read(&path).unwrap()).unwrap());
    }

    // what pods could not reach is refused before there are any
    let refused =
        finish(&mut coordinator(&["submit", job.to_str().unwrap(), "--coordinator", &cluster.coordinator.url()]));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("checkpoint.uri: `checkpoints` is a folder"), "{}", refused.stderr);

    let sets = ["cluster.workers=2", "data.path=s3://accord/sets/small", "checkpoint.uri=s3://accord/runs/small"];
    let served = cluster.submit(&job, &sets);
    served.trains();
    cluster.delete_pod(&cluster.pods()[1]);
    let run_dir = served.succeeds();
    assert!(!run_dir.join("export").exists(), "no worker has the run directory");
    // `recommend` fetches them there
    let cache = cluster.folder.path().join("cache");
    let recommend = |run_dir: &Path| {
        let mut command = coordinator(&["recommend", run_dir.to_str().unwrap(), "--user", "3", "--k", "5"]);
        let done = finish(command.envs(variables.clone()).env("XDG_CACHE_HOME", &cache));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout
    };
    assert_eq!(recommend(&run_dir), recommend(&plain));
    same_run(&run_dir, &plain);
}

/// `ca.crt`, `tls.crt` and `tls.key`, as k8s/README.md makes them.
fn certificates(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let names = ["accord-coordinator.accord.svc", "*.accord-coordinator.accord.svc", "localhost", "127.0.0.1"];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names.map(String::from)).unwrap().signed_by(&key, &authority).unwrap();
    for (name, text) in [("ca.crt", authority.pem()), ("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

#[test]
fn two_coordinators_with_etcd_and_tls_hand_the_pods_to_each_other() {
    // its own coordinator stands idle
    let Some(cluster) = Cluster::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    certificates(folder.path());
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let token = "a-token-of-this-test-alone";
    std::fs::write(path("submit.token"), token).unwrap();
    apply_secret(&cluster, "accord-tls", &["ca.crt", "tls.crt", "tls.key"].map(|name| (name.into(), read(name))));

    let etcd = Etcd::start(folder.path()).expect("the control plane has one too");
    let addresses = [free_address(), free_address()];
    let names = [0, 1].map(|at: usize| {
        let port = addresses[at].rsplit_once(':').unwrap().1;
        format!("https://accord-coordinator-{at}.accord-coordinator.accord.svc:{port}")
    });
    let claims = "runs_claim = \"accord-runs\"\ndata_claim = \"accord-data\"\ntls_secret = \"accord-tls\"\n";
    let settings = format!(
        "max_running_jobs = 8\ncoordinators = {names:?}\nleader_within_ms = 2000\ndata_roots = [{:?}]\n\
         [etcd]\nendpoints = [\"http://{}\"]\n\
         [tls]\ncert = {:?}\nkey = {:?}\nca = {:?}\nname = \"accord-coordinator.accord.svc\"\n\
         [[tokens]]\nname = \"submit\"\nrole = \"submit\"\ntoken_file = {:?}\n{}",
        cluster.folder.path(),
        etcd.address,
        path("tls.crt"),
        path("tls.key"),
        path("ca.crt"),
        path("submit.token"),
        cluster_settings(claims)
    );
    let kubeconfig = cluster.plane.coordinators_kubeconfig();
    let ca = path("ca.crt");
    let variables = [("KUBECONFIG", kubeconfig.to_str().unwrap()), ("ACCORD_CA", &ca), ("ACCORD_TOKEN", token)];
    let mut servers =
        addresses.each_ref().map(|address| Server::configured(folder.path(), address, &settings, &variables));

    catalog::write(&cluster.folder.path().join("data"));
    let job = cluster.job("irllrec", 150);
    let plain = cluster.folder.path().join("undisturbed");
    undisturbed(&job, &plain, &[&SETS[..], &["cluster.workers=2"]].concat());
    let sets = [&SETS[..], &["cluster.workers=2"]].concat();
    let both = format!("{},{}", servers[0].url(), servers[1].url());
    let served = Served::submit_with(&job, both, &sets, &variables[1..]);
    served.trains();
    let pods = cluster.pods();
    let leader = wait_for("a leader", || servers.iter().position(Server::leads));
    servers[leader].kill();
    wait_until("the other to lead", || servers[1 - leader].leads());
    let status = served.wait_for("adoption", |s| s["workers"].as_array().is_some_and(|w| w.len() == 2));
    assert_eq!((&status["generation"], &status["restarts"]), (&1.into(), &0.into()), "{status}");
    assert_eq!(cluster.pods(), pods, "the pods train on");
    // the new leader looks after them
    cluster.delete_pod(&pods[1]);
    served.wait_for("the next generation", |s| s["generation"] == 2 && s["phase"] == "running");
    same_run(&served.succeeds(), &plain);
}
