//! Ranks that meet over Gloo on this machine: threads of one process, or processes of their own.

use accord_collective::{Collective, Options, Store, gloo};
use std::process::Command;
use std::time::Duration;

const HOST: &str = "127.0.0.1";
const DEADLINE: Duration = Duration::from_secs(60);
/// Tells a process which rank it is: `rank size port`.
const RANK: &str = "ACCORD_PARITY_RANK";

fn join(rank: usize, size: usize, port: u16) -> Box<dyn Collective> {
    let store = Store::connect(HOST, port, DEADLINE).unwrap();
    let options = Options { rank, size, host: HOST.into(), generation: 1, deadline: DEADLINE };
    gloo::connect(&store, &options).unwrap()
}

/// What `work` gives on each of `size` ranks.
pub(crate) fn in_threads<T: Send>(size: usize, work: impl Fn(Box<dyn Collective>) -> T + Sync) -> Vec<T> {
    let (_store, port) = Store::serve(HOST, DEADLINE).unwrap();
    std::thread::scope(|scope| {
        let ranks: Vec<_> = (0..size)
            .map(|rank| {
                let work = &work;
                scope.spawn(move || work(join(rank, size, port)))
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Runs `work` on `size` ranks, each a process: this test binary, asked for the test `here` alone.
pub(crate) fn in_processes(size: usize, here: &str, work: impl Fn(Box<dyn Collective>)) {
    if let Ok(mine) = std::env::var(RANK) {
        let mine: Vec<usize> = mine.split(' ').map(|n| n.parse().unwrap()).collect();
        let [rank, of, port] = mine[..] else { panic!("{RANK} should be `rank size port`") };
        if of == size {
            work(join(rank, size, port as u16));
        }
        return;
    }
    let (_store, port) = Store::serve(HOST, DEADLINE).unwrap();
    let binary = std::env::current_exe().unwrap();
    let ranks: Vec<_> = (0..size)
        .map(|rank| {
            let mut command = Command::new(&binary);
            command.args([here, "--exact", "--nocapture"]).env(RANK, format!("{rank} {size} {port}"));
            command.spawn().unwrap()
        })
        .collect();
    for (rank, process) in ranks.into_iter().enumerate() {
        assert_eq!(accord_harness::collect(process).code, Some(0), "rank {rank} of {size} failed");
    }
}
