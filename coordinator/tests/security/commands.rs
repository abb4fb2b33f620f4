//! `coordinator serve` and its clients as processes: flags, files, exit codes, and a log that keeps secrets.

use super::stage::Certificates;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);

const SUBMIT: &str = "0123456789abcdef-submit";
const READ: &str = "0123456789abcdef-read";

fn coordinator(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    command.args(args).stdin(Stdio::null()).env_remove("ACCORD_TOKEN");
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a Unicode path")
}

/// What a refused command said; its exit code must be 2.
fn usage(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

/// A `serve` that is killed when the test is over.
struct Serve {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Serve {
    fn start(mut command: Command) -> Serve {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Serve { child, stdout }
    }

    /// The rest of the next line, which begins with this.
    fn told(&mut self, what: &str) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().strip_prefix(what).unwrap_or_else(|| panic!("`{line}` is not `{what}`")).to_string()
    }

    /// Ends it as a service manager does; its exit code and log.
    fn stop(mut self) -> (Option<i32>, String) {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // one that was waited for is gone already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings with certificates and two tokens, in a folder of their own.
fn settings(certificates: &Certificates, folder: &Path) -> std::path::PathBuf {
    for (name, secret) in [("submit.token", SUBMIT), ("read.token", READ)] {
        std::fs::write(folder.join(name), format!("{secret}\n")).unwrap();
    }
    let quoted = |path: &Path| format!("{:?}", text(path));
    let (cert, key) = (quoted(&certificates.path("server.pem")), quoted(&certificates.path("server.key")));
    let file = folder.join("serve.toml");
    let settings = format!(
        "listen = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\nworker_binary = \"/bin/true\"\n\
         state_dir = {}\ndata_roots = [{}]\n[tls]\ncert = {cert}\nkey = {key}\nca = {}\n\
         [[tokens]]\nname = \"ci\"\nrole = \"submit\"\ntoken_file = {}\n\
         [[tokens]]\nname = \"board\"\nrole = \"read\"\nblake3 = \"{}\"\n",
        quoted(&folder.join("state")),
        quoted(folder),
        quoted(&certificates.path("ca.pem")),
        quoted(&folder.join("submit.token")),
        blake3::hash(READ.as_bytes()).to_hex(),
    );
    std::fs::write(&file, settings).unwrap();
    file
}

#[test]
fn serve_refuses_an_open_address_without_tls_and_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let args = ["serve", "--listen", "0.0.0.0:0", "--worker-binary", "/bin/true", "--state-dir", text(&state)];
    let said = usage(&coordinator(&args).output().unwrap());
    assert!(said.contains("TLS and a token are missing") && said.contains("--insecure"), "{said}");
    assert!(!state.exists(), "a refused command leaves nothing behind");

    let mut insecure = coordinator(&args);
    insecure.arg("--insecure");
    let mut serve = Serve::start(insecure);
    serve.told("listening on http://127.0.0.1:");
    let (code, log) = serve.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("warning") && log.contains("without TLS and a token"), "{log}");
}

#[test]
fn clients_get_in_by_certificate_and_token_and_the_log_keeps_the_tokens_to_itself() {
    let (certificates, folder) = (Certificates::new(), tempfile::tempdir().unwrap());
    let file = settings(&certificates, folder.path());
    let mut serve = Serve::start(coordinator(&["serve", text(&file), "--log-format", "json"]));
    let url = serve.told("listening on ");
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let metrics = serve.told("metrics on http://");
    assert!(metrics.ends_with("/metrics"), "{metrics}");

    let ca = certificates.path("ca.pem");
    let ask = |args: &[&str], token: Option<&str>| {
        let mut command = coordinator(args);
        command.args(["--coordinator", &url, "--ca", text(&ca)]);
        command.args(token.iter().flat_map(|name| ["--token-file".into(), folder.path().join(name)]));
        command.output().unwrap()
    };
    let done = ask(&["ps", "--json"], Some("read.token"));
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "[]", "{}", String::from_utf8_lossy(&done.stderr));
    let done = coordinator(&["ps", "--coordinator", &url]).env("ACCORD_CA", &ca).env("ACCORD_TOKEN", READ).output();
    assert!(done.unwrap().status.success());
    assert!(usage(&ask(&["ps"], None)).contains("--token-file"));
    assert!(usage(&ask(&["cancel", "some-job"], Some("read.token"))).contains("`board`"));
    assert!(usage(&ask(&["cancel", "some-job"], Some("submit.token"))).contains("no job some-job"));
    // the machine's own authorities did not sign it
    let untrusted = coordinator(&["ps", "--coordinator", &url]).output().unwrap();
    assert_eq!(untrusted.status.code(), Some(1));

    // no TLS and no gRPC: its end is all that becomes of it
    let mut stranger = TcpStream::connect(url.trim_start_matches("https://")).unwrap();
    stranger.set_read_timeout(Some(DEADLINE)).unwrap();
    stranger.write_all(&[b'?'; 4096]).unwrap();
    // the server may hang up by a reset
    let _ = stranger.read_to_end(&mut Vec::new());
    assert!(ask(&["ps"], Some("read.token")).status.success(), "it goes on serving");

    let (code, log) = serve.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("a connection ended without a request"), "{log}");
    assert!(!log.contains(SUBMIT) && !log.contains(READ), "{log}");
    let events: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let refused: Vec<_> = events.iter().filter(|e| e["message"] == "refused").collect();
    assert_eq!(refused.len(), 2, "{log}");
    assert_eq!(refused[0]["span"]["method"], "accord.job.v1.Jobs/List");
    assert!(refused[0]["span"]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{log}");
}

#[test]
fn a_worker_is_told_to_come_by_tls_and_by_which_authority() {
    let (certificates, folder) = (Certificates::new(), tempfile::tempdir().unwrap());
    let file = settings(&certificates, folder.path());
    let path = |name: &str| folder.path().join(name);
    // stands for the worker: notes what it is told, and is gone; the note appears when it is whole
    let script =
        "#!/bin/sh\ncd \"$(dirname \"$0\")\" && echo \"$@ ca=$ACCORD_WORKER_CA\" > note.new && mv note.new note\n";
    std::fs::write(path("worker"), script).unwrap();
    std::fs::set_permissions(path("worker"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(path("job.toml"), super::job("data")).unwrap();
    let mut serve = Serve::start(coordinator(&["serve", text(&file), "--worker-binary", text(&path("worker"))]));
    let url = serve.told("listening on ");
    let (ca, token, job) = (certificates.path("ca.pem"), path("submit.token"), path("job.toml"));
    let shown = ["--coordinator", &url, "--ca", text(&ca), "--token-file", text(&token)];
    let done = coordinator(&["submit", text(&job)]).args(shown).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let begin = Instant::now();
    while !path("note").exists() {
        assert!(begin.elapsed() < DEADLINE, "no worker was started");
        std::thread::sleep(Duration::from_millis(10));
    }
    let note = std::fs::read_to_string(path("note")).unwrap();
    assert!(note.contains(&format!("--coordinator {url} ")), "{note}");
    assert!(note.contains(&format!("ca={}", text(&ca))), "{note}");
    // its data may lie nowhere else
    let elsewhere = ["submit", text(&job), "--set", "data.path=/etc"];
    assert!(usage(&coordinator(&elsewhere).args(shown).output().unwrap()).contains("data_roots"));
    serve.stop();
}

#[test]
fn a_certificate_that_workers_would_not_take_stops_serve_at_once() {
    let (certificates, folder) = (Certificates::new(), tempfile::tempdir().unwrap());
    let file = settings(&certificates, folder.path());
    let ca = format!("ca = {:?}\n", text(&certificates.path("ca.pem")));
    let without = std::fs::read_to_string(&file).unwrap().replace(&ca, "");
    std::fs::write(&file, without).unwrap();
    let said = usage(&coordinator(&["serve", text(&file)]).output().unwrap());
    assert!(said.contains("a worker would not get through") && said.contains("`ca`"), "{said}");
}

#[test]
fn a_token_is_not_sent_in_clear_to_another_machine() {
    let said = usage(
        &coordinator(&["ps", "--coordinator", "http://192.0.2.1:7411"]).env("ACCORD_TOKEN", READ).output().unwrap(),
    );
    assert!(said.contains("https://") && !said.contains(READ), "{said}");
}
