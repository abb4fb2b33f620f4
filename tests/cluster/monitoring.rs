//! The Grafana dashboard against a real Prometheus that scrapes a coordinator whose job trains and recovers: every query of
//! every panel has an answer.

use super::workspace;
use accord_harness::served::Served;
use accord_harness::servers::{Server, workers_of};
use accord_harness::{finish, free_address, root, signal, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Killed when it is dropped.
struct Prometheus {
    process: Child,
    address: String,
}

impl Prometheus {
    /// None where there is none; the caller says so.
    fn start(folder: &Path, scraped: &str) -> Option<Prometheus> {
        let binary = root().join(".deps/prometheus/bin/prometheus");
        if !binary.is_file() {
            return None;
        }
        let config = folder.join("prometheus.yml");
        let scrape = format!(
            "scrape_configs:\n- job_name: accord\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  static_configs: [{{targets: ['{scraped}']}}]\n"
        );
        std::fs::write(&config, scrape).unwrap();
        let address = free_address();
        let mut command = Command::new(binary);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
        command.arg(format!("--web.listen-address={address}"));
        let log = std::fs::File::create(folder.join("prometheus.log")).unwrap();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Some(Prometheus { process, address })
    }

    /// Values of an instant query; a query that it does not understand is a failure.
    fn ask(&self, query: &str) -> Vec<f64> {
        let promtool = root().join(".deps/prometheus/bin/promtool");
        let done = finish(
            Command::new(promtool)
                .args(["query", "instant", "-o", "json"])
                .args([&format!("http://{}", self.address), query]),
        );
        let is_up = !done.stderr.contains("connection refused") && !done.stderr.contains("Service Unavailable");
        assert!(done.code == Some(0) || !is_up, "{query}: {}", done.stderr);
        let found: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
        let value = |sample: &Value| sample["value"][1].as_str()?.parse().ok();
        found.as_array().into_iter().flatten().filter_map(value).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Panel and query, with a value for each variable.
fn queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("k8s/monitoring/accord-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let all = panels.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        panel["targets"].as_array().unwrap().iter().map(move |target| {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$job", ".+").replace("$__rate_interval", "5m").replace("$__range", "5m");
            assert!(!query.contains('$'), "{title}: {query}");
            (title.to_string(), query)
        })
    });
    all.collect()
}

#[test]
fn every_query_of_the_dashboard_has_an_answer() {
    let (folder, job) = workspace("irllrec", 100_000);
    let (address, metrics) = (free_address(), free_address());
    let Some(prometheus) = Prometheus::start(folder.path(), &metrics) else {
        println!("SKIPPED: there is no prometheus in .deps; `make servers` fetches it where apt-get can");
        return;
    };
    let server = Server::configured(folder.path(), &address, &format!("metrics_listen = {metrics:?}\n"), &[]);
    // counters rise from what the first scrape saw
    wait_for("a scrape", || prometheus.ask("accord_recovery_seconds_count").first().copied());
    let sets = ["cluster.workers=2", "cluster.threads_per_worker=1", "recovery.detect_within_ms=2000"];
    let served = Served::submit(&job, server.url(), &sets);
    served.trains();
    let (_, id) = workers_of(&served.id)[1];
    signal("KILL", id);
    served.wait_for("the next generation", |s| s["generation"] == 2 && s["phase"] == "running");
    served.trains();
    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    for (panel, query) in &queries {
        wait_for(&format!("{panel}: {query}"), || prometheus.ask(query).into_iter().find(|value| value.is_finite()));
    }
    wait_for("two workers that talk", || prometheus.ask("accord_job_step_sent_bytes > 0").first().copied());
    served.cancel();
    wait_for("the workers to end", || workers_of(&served.id).is_empty().then_some(()));
}
