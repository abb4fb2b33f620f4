//! How long small operations take and how many bytes a second large ones move, over Gloo on loopback, between threads
//! of one process and between processes. `cargo bench -p accord-collective --bench messages`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its results")]

use accord_collective::{Collective, Options, Reduce, Store, gloo};
use std::process::Command;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

const HOST: &str = "127.0.0.1";
const DEADLINE: Duration = Duration::from_secs(60);
/// "rank size port" of a child process
const VARIABLE: &str = "ACCORD_MESSAGES_RANK";

fn main() {
    if let Ok(text) = std::env::var(VARIABLE) {
        let number: Vec<usize> = text.split(' ').map(|word| word.parse().unwrap()).collect();
        run(number[0], number[1], number[2] as u16, "processes");
        return;
    }
    for size in [2, 4] {
        threads(size);
        processes(size);
    }
}

fn threads(size: usize) {
    let (_store, port) = Store::serve(HOST, DEADLINE).unwrap();
    std::thread::scope(|scope| {
        for rank in 0..size {
            scope.spawn(move || run(rank, size, port, "threads"));
        }
    });
}

fn processes(size: usize) {
    let (_store, port) = Store::serve(HOST, DEADLINE).unwrap();
    let start = |rank| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(VARIABLE, format!("{rank} {size} {port}")).spawn().unwrap()
    };
    let children: Vec<_> = (0..size).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}

fn run(rank: usize, size: usize, port: u16, what: &str) {
    tch::set_num_threads(1);
    let store = Store::connect(HOST, port, DEADLINE).unwrap();
    let options = Options { rank, size, host: HOST.into(), generation: 1, deadline: DEADLINE };
    let started = Instant::now();
    let collective = gloo::connect(&store, &options).unwrap();
    let c = collective.as_ref();
    let say = |line: String| {
        if rank == 0 {
            println!("{size} {what}: {line}");
        }
    };
    say(format!("formed in {:.0} ms", started.elapsed().as_secs_f64() * 1e3));

    let small = Tensor::zeros([16], (Kind::Float, Device::Cpu));
    let sum = || c.all_reduce(&small, Reduce::Sum).unwrap().wait().unwrap();
    say(format!("all_reduce of 64 B {}", measure(c, 2000, sum)));
    say(format!("all_to_all of 64 B {}", exchange(c, 64, 2000)));

    let large = 16 << 20;
    let time = exchange(c, large, 60);
    let sent = large as f64 * (size - 1) as f64 / size as f64;
    say(format!("all_to_all of 16 MiB {time}: at best {:.2} GB/s sent by each rank", sent / time.best / 1e9));
    say(format!("the same beside 10 ms of work {}", overlapped(c, large, 40)));
    let x = Tensor::zeros([large / 4], (Kind::Float, Device::Cpu));
    let sum = || c.all_reduce(&x, Reduce::Sum).unwrap().wait().unwrap();
    say(format!("all_reduce of 16 MiB {}", measure(c, 20, sum)));
}

/// An even all_to_all of `bytes` of each rank.
fn exchange(c: &dyn Collective, bytes: i64, times: usize) -> Time {
    let (x, out) =
        (Tensor::zeros([bytes], (Kind::Uint8, Device::Cpu)), Tensor::zeros([bytes], (Kind::Uint8, Device::Cpu)));
    let each = vec![bytes / c.size() as i64; c.size()];
    measure(c, times, || c.all_to_all(&out, &each, &x, &each).unwrap().wait().unwrap())
}

/// An all_to_all with 10 ms of computing between its start and the wait for it.
fn overlapped(c: &dyn Collective, bytes: i64, times: usize) -> Time {
    let (x, out) =
        (Tensor::zeros([bytes], (Kind::Uint8, Device::Cpu)), Tensor::zeros([bytes], (Kind::Uint8, Device::Cpu)));
    let each = vec![bytes / c.size() as i64; c.size()];
    measure(c, times, || {
        let work = c.all_to_all(&out, &each, &x, &each).unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(10) {
            std::hint::spin_loop();
        }
        work.wait().unwrap();
    })
}

/// Of one operation, in seconds.
struct Time {
    median: f64,
    best: f64,
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} us (best {:.0})", self.median * 1e6, self.best * 1e6)
    }
}

/// Of all ranks in step.
fn measure(c: &dyn Collective, times: usize, run: impl Fn()) -> Time {
    (0..times / 10).for_each(|_| run());
    c.barrier().unwrap();
    let mut seconds: Vec<f64> = (0..times)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    Time { median: seconds[times / 2], best: seconds[0] }
}
