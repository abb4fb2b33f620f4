//! Coordinators die, freeze and follow each other while workers train on: the run is the undisturbed one.

use super::workspace;
use accord_harness::served::{Served, same_run, undisturbed};
use accord_harness::servers::{Etcd, Server, workers_of};
use accord_harness::{wait_for, wait_until};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const SETS: [&str; 4] = [
    "cluster.workers=2",
    "cluster.threads_per_worker=1",
    "recovery.detect_within_ms=2000",
    "checkpoint.every_steps=20",
];

fn events(run_dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Some(line["event"].as_str()?.to_string())).collect()
}

#[test]
fn a_coordinator_that_is_killed_and_started_again_adopts_the_workers() {
    let (folder, job) = workspace("irllrec", 100);
    let plain = folder.path().join("undisturbed");
    undisturbed(&job, &plain, &SETS);
    let mut server = Server::alone(folder.path());
    let served = Served::submit(&job, server.url(), &SETS);
    served.trains();
    let before = workers_of(&served.id);
    assert_eq!(before.len(), 2);

    for away in [Duration::ZERO, Duration::from_millis(1500)] {
        server.kill();
        std::thread::sleep(away);
        assert_eq!(workers_of(&served.id), before, "the workers train on");
        server.start();
        let status = served.wait_for("adoption", |s| s["workers"].as_array().is_some_and(|w| w.len() == 2));
        assert_eq!(
            (&status["phase"], &status["generation"], &status["restarts"]),
            (&"running".into(), &1.into(), &0.into())
        );
        served.trains();
        assert_eq!(workers_of(&served.id), before);
    }
    let run_dir = served.succeeds();
    same_run(&run_dir, &plain);
    let told = events(&run_dir);
    assert_eq!(told.iter().filter(|event| *event == "adopted").count(), 2, "{told:?}");
    assert!(!told.iter().any(|event| event == "resumed" || event == "lost"), "{told:?}");
}

#[test]
fn a_worker_that_dies_while_there_is_no_coordinator_is_replaced_by_the_next() {
    let (folder, job) = workspace("lightgcn", 250);
    let plain = folder.path().join("undisturbed");
    undisturbed(&job, &plain, &SETS);
    let mut server = Server::alone(folder.path());
    let served = Served::submit(&job, server.url(), &SETS);
    served.trains();
    server.kill();
    let (_, id) = workers_of(&served.id)[1];
    accord_harness::signal("KILL", id);
    server.start();
    served.wait_for("the next generation", |s| s["generation"] == 2 && s["phase"] == "running");
    same_run(&served.succeeds(), &plain);
    wait_until("the workers to end", || workers_of(&served.id).is_empty());
}

#[test]
fn a_coordinator_that_stands_by_leads_on_when_the_first_is_killed_or_frozen_or_etcd_is_away() {
    let (folder, job) = workspace("irllrec", 250);
    let Some(mut etcd) = Etcd::start(folder.path()) else {
        println!("SKIPPED: there is no etcd in .deps; `make servers` fetches it where apt-get can");
        return;
    };
    let plain = folder.path().join("undisturbed");
    undisturbed(&job, &plain, &SETS);
    let mut servers = Server::several(folder.path(), 2, &etcd);
    let served = Served::submit(&job, format!("{},{}", servers[0].url(), servers[1].url()), &SETS);
    served.trains();
    let leader = |servers: &[Server]| servers.iter().position(Server::leads);

    let first = wait_for("a leader", || leader(&servers));
    servers[first].kill();
    wait_until("the other to lead", || servers[1 - first].leads());
    served.trains();
    servers[first].start();

    servers[1 - first].signal("STOP");
    wait_until("the first to lead again", || servers[first].leads());
    served.trains();
    servers[1 - first].signal("CONT");
    wait_until("the thawed one to stand by", || {
        servers[1 - first].log().matches("standing by").count() == 2 && !servers[1 - first].leads()
    });
    served.trains();

    etcd.kill();
    std::thread::sleep(Duration::from_millis(3000));
    etcd.restart();
    wait_for("somebody to lead", || leader(&servers));
    let run_dir = served.succeeds();
    same_run(&run_dir, &plain);
    let told = events(&run_dir);
    assert!(told.iter().filter(|event| *event == "adopted").count() >= 2, "{told:?}");
    assert!(!told.iter().any(|event| event == "lost"), "training never stopped: {told:?}");
}
