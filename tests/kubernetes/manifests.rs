//! The manifests under k8s/ and every rendered job pass the schemas of the versions that are meant, read strictly: a field
//! that a version does not know is a mistake. What is applied is in the other tests.

use accord_harness::{coordinator, finish, root};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const VERSIONS: &str = "1.33,1.35,1.37";

/// Prints a line for each document and version; kinds that are no part of Kubernetes are named, not judged.
const VALIDATE: &str = r#"
import sys, yaml, kubernetes_validate as kv
bad = seen = 0
for document in yaml.safe_load_all(sys.stdin):
    if not document:
        continue
    if "." in document["apiVersion"].split("/")[0] and not document["apiVersion"].split("/")[0].endswith("k8s.io") or "kueue" in document["apiVersion"] or "jobset" in document["apiVersion"]:
        print("not Kubernetes' own:", document["kind"])
        continue
    for version in sys.argv[1].split(","):
        seen += 1
        try:
            kv.validate(document, version, strict=True)
        except kv.ValidationError as error:
            bad += 1
            print("BAD", version, document["kind"], "/".join(map(str, error.path)), error.message[:300])
print(seen, "judged,", bad, "bad")
sys.exit(bad > 0 or seen == 0)
"#;

fn programs() -> Option<PathBuf> {
    let programs = std::env::var_os("ACCORD_CONTROL_PLANE").map(PathBuf::from);
    if programs.is_none() {
        println!("SKIPPED: there are no schemas; `make test-k8s` fetches them where there is Go");
    }
    programs
}

fn validate(programs: &std::path::Path, what: &str, documents: &str) {
    let mut python = Command::new("python3");
    python.args(["-c", VALIDATE, VERSIONS]).env("PYTHONPATH", programs.join("schemas"));
    let mut python = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(documents.as_bytes()).unwrap();
    let done = python.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    println!("{what}: {}", said.lines().last().unwrap_or_default());
    assert!(done.status.success(), "{what}: {said}");
}

#[test]
fn every_manifest_passes_every_version() {
    let Some(programs) = programs() else { return };
    let overlays = std::fs::read_dir(root().join("k8s/overlays")).unwrap();
    let overlays = overlays.map(|entry| format!("overlays/{}", entry.unwrap().file_name().to_str().unwrap()));
    for folder in ["base", "monitoring"].map(String::from).into_iter().chain(overlays) {
        let path = format!("k8s/{folder}");
        let built =
            Command::new(programs.join("kubectl")).args(["kustomize", &path]).current_dir(root()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        validate(&programs, &path, &String::from_utf8_lossy(&built.stdout));
    }
    validate(&programs, "k8s/data-pod.yaml", &std::fs::read_to_string(root().join("k8s/data-pod.yaml")).unwrap());
}

#[test]
fn every_rendered_job_passes_every_version() {
    let Some(programs) = programs() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut jobs: Vec<PathBuf> =
        std::fs::read_dir(root().join("configs")).unwrap().map(|e| e.unwrap().path()).collect();
    let every_key = folder.path().join("every-key.toml");
    let text = std::fs::read_to_string(root().join("configs/amazon-8gpu.toml")).unwrap();
    let more = "queue = \"training\"\npriority_class = \"training\"\nactive_deadline_seconds = 60\n\
                nccl_socket_ifname = \"eth0\"\nrdma_resource = \"rdma/hca\"\n\
                [kubernetes.pod_template.spec]\nnodeSelector = { pool = \"gpu\" }\n";
    std::fs::write(&every_key, text + more).unwrap();
    jobs.push(every_key);
    for job in jobs {
        let job = job.to_str().unwrap();
        let rendered = finish(&mut coordinator(&["render", job]));
        assert_eq!(rendered.code, Some(0), "{job}: {}", rendered.stderr);
        validate(&programs, job, &rendered.stdout);
        let rendered = finish(&mut coordinator(&["render", job, "--kind", "jobset"]));
        assert!(rendered.stdout.contains("kind: JobSet") && rendered.code == Some(0), "{job}: {}", rendered.stderr);
    }
}
