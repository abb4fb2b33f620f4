//! Every command that README shows in a `sh` block runs, in order, in a folder where the small catalog stands for
//! MovieLens-100K; `make` targets exist.

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
fn every_command_in_readme_runs() {
    let folder = tempfile::tempdir().unwrap();
    stand_in(folder.path());
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    // not the default port: a server may be running on this machine
    let address = free_address();
    let url = format!("http://{address}");
    let mut server = None;
    let mut ran = 0;
    for line in shell_lines("README.md") {
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
                let mut args: Vec<String> = rest.iter().map(ToString::to_string).collect();
                if rest.starts_with(&["data", "inspect"]) {
                    args.extend(["--format".into(), "pairs".into()]);
                }
                let command = command.args(&args).current_dir(folder.path()).env("ACCORD_COORDINATOR", &url);
                let done = finish(command.stdin(Stdio::null()));
                assert_eq!(done.code, Some(0), "{line}: {}", done.stderr);
            }
            _ => panic!("README shows `{line}`, which this test does not know"),
        }
        ran += 1;
    }
    assert!(ran > 8, "{ran} commands");
    drop(server);
}
