//! Every command that README and docs/running.md show in a `sh` block runs, in order, in a folder where the small catalog
//! stands for MovieLens-100K, a few official files for IRLLRec's data, and a small CSV for the reader's own; `make` targets exist. Those of k8s/README.md are understood, and its certificates are made.

use super::Workspace;
use accord_harness::{catalog, coordinator, coordinator_binary, finish, free_address, root, signal, wait_until};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn shell_lines(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix("sh\n")).flat_map(|block| block.lines().map(String::from)).collect()
}

/// The job and data that README's commands find in their folder.
fn stand_in(folder: &Path) {
    catalog::write(&folder.join("data/ml-100k"));
    std::fs::create_dir_all(folder.join("configs")).unwrap();
    let job = catalog::job("irllrec", 9)
        .replace("small-irllrec", "ml-100k-irllrec")
        .replace("path = \"data\"", "path = \"../data/ml-100k\"");
    std::fs::write(folder.join("configs/ml-100k.toml"), job).unwrap();
    let official = folder.join("IRLLRec/data/amazon");
    std::fs::create_dir_all(&official).unwrap();
    for file in std::fs::read_dir(root().join("tests/fixtures/official")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), official.join(file.file_name())).unwrap();
    }
    std::fs::create_dir_all(folder.join("logs")).unwrap();
    let line = |k: usize| format!("2026-01-01,customer-{},sku-{},{}\n", k % 13, (k * k + k / 13) % 17, 3 + k % 3);
    let lines: String = (0..300).map(line).collect();
    std::fs::write(folder.join("logs/purchases.csv"), format!("date,customer_id,sku,stars\n{lines}")).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let job = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    std::fs::write(folder.join("shop.toml"), format!("{job}[optim]\nepochs = 2\n")).unwrap();
}

/// Ends the server with the test, whatever happens.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // its job may still train: told to end, it ends the workers too
        signal("TERM", self.0.id());
        let _ = self.0.wait();
    }
}

#[test]
fn every_command_in_readme_and_the_guide_to_running_runs() {
    let folder = Workspace::new();
    stand_in(folder.path());
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    // not the default port: a server may be running on this machine
    let address = free_address();
    let url = format!("http://{address}");
    let mut server = None;
    let mut ran = 0;
    for line in [shell_lines("README.md"), shell_lines("docs/running.md")].concat() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["make", target] => assert!(makefile.contains(&format!("\n{target}:")), "{line}"),
            // the real one needs a download; the commands of `data` have tests of their own
            ["coordinator", "data", "fetch", "ml-100k", ..] => {
                assert_eq!(finish(&mut coordinator(&["data", "fetch", "--help"])).code, Some(0));
            }
            ["coordinator", "serve", rest @ ..] => {
                let mut serve = Command::new(coordinator_binary());
                serve
                    .arg("serve")
                    .args(rest)
                    .args(["--listen", &address])
                    .current_dir(folder.path())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                server = Some(Server(serve.stdin(Stdio::null()).spawn().unwrap()));
                wait_until("the server", || {
                    finish(coordinator(&["ps"]).env("ACCORD_COORDINATOR", &url)).code == Some(0)
                });
            }
            // on a cluster: `make test-k8s` applies the folder, and submits jobs there
            ["kubectl", "apply", "-k", folder] => {
                assert!(root().join(folder).join("kustomization.yaml").exists(), "{line}")
            }
            ["coordinator", "submit", job @ "configs/amazon-8gpu.toml", ..] => {
                assert_eq!(finish(&mut coordinator(&["render", job])).code, Some(0), "{line}");
            }
            ["coordinator", rest @ ..] => {
                let mut command = Command::new(coordinator_binary());
                let command = command.args(rest).current_dir(folder.path()).env("ACCORD_COORDINATOR", &url);
                let done = finish(command.stdin(Stdio::null()));
                assert_eq!(done.code, Some(0), "{line}: {}", done.stderr);
            }
            _ => panic!("a document shows `{line}`, which this test does not know"),
        }
        ran += 1;
    }
    assert!(ran > 8, "{ran} commands");
    drop(server);
}

/// What `coordinator` is told to ask where nobody listens.
const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn every_command_in_the_kubernetes_guide_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let has_openssl = Command::new("openssl").arg("version").output().is_ok_and(|done| done.status.success());
    if !has_openssl {
        println!("SKIPPED in part: there is no openssl to make the guide's certificates with");
    }
    let text = std::fs::read_to_string(root().join("k8s/README.md")).unwrap();
    let overlays: Vec<&str> =
        text.split("kubectl apply -k ").skip(1).map(|rest| &rest[..rest.find(['`', '\n']).unwrap()]).collect();
    for overlay in &overlays {
        let named = overlay.split(',').next().unwrap().trim();
        assert!(root().join(named).join("kustomization.yaml").exists(), "{named}");
    }
    assert!(overlays.len() > 4, "{overlays:?}");
    let mut ran = 0;
    for line in shell_lines("k8s/README.md") {
        let words: Vec<&str> = line.trim_end_matches(" &").split_whitespace().collect();
        match words.as_slice() {
            ["docker", "build", "-f", file, ..] | ["kubectl", "apply", "-f", file] => {
                assert!(root().join(file).is_file(), "{line}");
            }
            // its forms are those of Kubernetes; `make test-k8s` applies what it names
            ["kubectl" | "kind" | "export", ..] => {}
            ["openssl" | "echo", ..] if has_openssl => {
                let done = Command::new("sh").args(["-c", &line]).current_dir(folder.path()).output().unwrap();
                assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
            }
            ["openssl" | "echo", ..] => {}
            // the commands on data and on a finished run have tests of their own
            ["coordinator", "data", ..] => {}
            ["coordinator", rest @ ..] => {
                let known = rest.iter().map(|word| if word.starts_with("http://") { NOBODY } else { word });
                let known: Vec<&str> = known.collect();
                let done = finish(coordinator(&known).env("ACCORD_COORDINATOR", NOBODY));
                // not 2: what the words ask for is understood, and nobody is there to do it
                assert_eq!(done.code, Some(1), "{line}: {}", done.stderr);
            }
            _ => panic!("k8s/README.md shows `{line}`, which this test does not know"),
        }
        ran += 1;
    }
    assert!(ran > 20, "{ran} commands");
    if has_openssl {
        let verify = [
            "verify",
            "-CAfile",
            "ca.crt",
            "-verify_hostname",
            "accord-coordinator-1.accord-coordinator.accord.svc",
            "tls.crt",
        ];
        let done = Command::new("openssl").args(verify).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
