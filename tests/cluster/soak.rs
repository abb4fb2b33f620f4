//! `make soak`: MovieLens-100K (and amazon, where it is in data/amazon) on two coordinators with one etcd. Each role is
//! killed or frozen at random steps, 20 times a run; a table says what each cost. `make test` does it to a small catalog,
//! once for each role.

use super::recovery::{Cost, cost, draw, events, now_ms, seed};
use super::workspace;
use accord_harness::served::{Served, same_run, undisturbed};
use accord_harness::servers::{Etcd, Server, workers_of};
use accord_harness::{root, signal, wait_for, wait_until};
use std::path::Path;
use std::time::Duration;

/// How long etcd is away.
const ETCD_AWAY: Duration = Duration::from_millis(1000);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Disturbance {
    Kill(u32),
    Freeze(u32),
    KillLeader,
    FreezeLeader,
    KillEtcd,
}

struct Cluster {
    etcd: Etcd,
    servers: Vec<Server>,
}

impl Cluster {
    fn leader(&self) -> Option<usize> {
        self.servers.iter().position(Server::leads)
    }

    fn wait_for_leader(&self) -> usize {
        wait_for("a leader", || self.leader())
    }

    /// Returns when the disturbance itself is over; what it led to may still be going on.
    fn disturb(&mut self, what: Disturbance, job: &str) -> bool {
        let worker = |rank: u32| workers_of(job).into_iter().find(|(of, _)| *of == rank).map(|(_, id)| id);
        match what {
            Disturbance::Kill(rank) | Disturbance::Freeze(rank) => {
                let Some(id) = worker(rank) else { return false };
                signal(if what == Disturbance::Kill(rank) { "KILL" } else { "STOP" }, id);
            }
            Disturbance::KillLeader => {
                let leader = self.wait_for_leader();
                self.servers[leader].kill();
                wait_until("the other to lead", || self.servers[1 - leader].leads());
                self.servers[leader].start();
            }
            Disturbance::FreezeLeader => {
                let leader = self.wait_for_leader();
                self.servers[leader].signal("STOP");
                wait_until("the other to lead", || self.servers[1 - leader].leads());
                self.servers[leader].signal("CONT");
            }
            Disturbance::KillEtcd => {
                self.etcd.kill();
                std::thread::sleep(ETCD_AWAY);
                self.etcd.restart();
                self.wait_for_leader();
            }
        }
        true
    }
}

fn soak(name: &str, job: &Path, sets: &[&str], disturbances: &[Disturbance]) {
    let folder = tempfile::tempdir().unwrap();
    let Some(etcd) = Etcd::start(folder.path()) else {
        println!("SKIPPED: there is no etcd in .deps; `make servers` fetches it where apt-get can");
        return;
    };
    let plain = folder.path().join("undisturbed");
    undisturbed(job, &plain, sets);
    let servers = Server::several(folder.path(), 2, &etcd);
    let urls = format!("{},{}", servers[0].url(), servers[1].url());
    let mut cluster = Cluster { etcd, servers };
    let served = Served::submit(job, urls, sets);
    let run_dir = served.trains()["run_dir"].as_str().unwrap().to_string();
    println!("{name}, {}, seed {}", sets[0], seed());
    println!(
        "{:<16}{:>12}{:>18}{:>14}{:>12}",
        "disturbance", "noticed ms", "trains again ms", "steps redone", "adopted ms"
    );
    let mut made = 0;
    for (at, disturbance) in disturbances.iter().enumerate() {
        std::thread::sleep(Duration::from_millis(draw(seed(), at as u64) % 700));
        // three failures without a step more would end the job, and rightly
        let status = served.wait_for("a step", |s| s["phase"] == "succeeded" || s["step"].is_u64());
        if status["phase"] == "succeeded" {
            break;
        }
        let step = status["step"].as_u64().unwrap_or(0);
        let time = now_ms();
        if !cluster.disturb(*disturbance, &served.id) {
            continue;
        }
        settles(&served, time, step, Path::new(&run_dir), *disturbance);
        made += 1;
        let Cost { noticed_ms, trains_again_ms, steps_redone } = cost(Path::new(&run_dir), time);
        let adopted = events(Path::new(&run_dir)).into_iter().rev().find(|event| event["event"] == "adopted");
        let adopted = adopted.and_then(|event| event["at_unix_ms"].as_u64()?.checked_sub(time));
        let shown = |value: Option<u64>| value.map_or("-".into(), |value| value.to_string());
        println!(
            "{:<16}{:>12}{:>18}{:>14}{:>12}",
            format!("{disturbance:?}"),
            shown(noticed_ms),
            shown(trains_again_ms),
            shown(steps_redone),
            shown(adopted)
        );
    }
    same_run(&served.succeeds(), &plain);
    println!("{made} disturbances: metrics and embeddings as undisturbed\n");
}

/// Waits until the job is further than `step` after a disturbance, or over.
fn settles(served: &Served, since: u64, step: u64, run_dir: &Path, what: Disturbance) {
    let recovered = || match what {
        Disturbance::Kill(_) | Disturbance::Freeze(_) => cost(run_dir, since).trains_again_ms.is_some(),
        Disturbance::KillLeader | Disturbance::FreezeLeader | Disturbance::KillEtcd => true,
    };
    let trains = |status: &serde_json::Value| {
        let there = status["workers"].as_array().map_or(0, Vec::len) as u64;
        let further = status["step"].as_u64().is_some_and(|now| now > step);
        status["phase"] == "running" && Some(there) == status["workers_wanted"].as_u64() && further
    };
    served.wait_for("the job to go on", |s| s["phase"] == "succeeded" || (trains(s) && recovered()));
}

fn schedule(workers: u32, length: u64) -> Vec<Disturbance> {
    let rank = |at: u64| (draw(seed(), at + 1000) % u64::from(workers)) as u32;
    let one = |at: u64| match at % 5 {
        0 | 3 => Disturbance::Kill(rank(at)),
        1 => Disturbance::KillLeader,
        2 => Disturbance::Freeze(rank(at)),
        _ if at % 10 == 4 => Disturbance::KillEtcd,
        _ => Disturbance::FreezeLeader,
    };
    (0..length).map(one).collect()
}

#[test]
fn every_role_of_a_cluster_may_die_while_a_job_trains() {
    let (_folder, job) = workspace("irllrec", 150);
    let sets = [
        "cluster.workers=2",
        "cluster.threads_per_worker=1",
        "recovery.detect_within_ms=2000",
        "recovery.max_restarts=1000",
        "checkpoint.every_steps=20",
    ];
    soak("small", &job, &sets, &schedule(2, 5));
}

#[test]
fn real_data_survives_a_soak() {
    if std::env::var("ACCORD_SOAK").is_err() {
        println!("SKIPPED: `make soak` disturbs real data for half an hour");
        return;
    }
    for (name, epochs, every) in [("ml-100k", 150, 50), ("amazon", 6, 15)] {
        if !root().join("data").join(name).join("trn.npz").exists() {
            println!("SKIPPED: there is no data/{name}");
            continue;
        }
        for workers in [2, 4] {
            let sets = [
                format!("cluster.workers={workers}"),
                format!("optim.epochs={epochs}"),
                format!("checkpoint.every_steps={every}"),
                "cluster.threads_per_worker=1".into(),
                "recovery.detect_within_ms=2000".into(),
                // a run may be disturbed more often than any real one
                "recovery.max_restarts=1000".into(),
            ];
            let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
            soak(name, &root().join("configs").join(format!("{name}.toml")), &sets, &schedule(workers, 20));
        }
    }
}
