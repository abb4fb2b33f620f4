//! One behaviour suite for every implementation of `Collective`, and what happens when ranks fail.
#![allow(clippy::unwrap_used, reason = "tests")]

mod failures;
mod suite;
mod worlds;

use accord_collective::Alone;
use std::time::Duration;
use tch::Device;
use worlds::{Child, Meeting};

const DEADLINE: Duration = Duration::from_secs(60);

fn gloo_in_threads(size: usize) {
    let meeting = Meeting::new(DEADLINE);
    meeting.threads(size, |collective| suite::run(collective.as_ref(), Device::Cpu));
}

fn gloo_in_processes(test: &str, size: usize) {
    if let Some(child) = Child::this() {
        let collective = child.join(DEADLINE);
        suite::run(collective.as_ref(), Device::Cpu);
        return;
    }
    let meeting = Meeting::new(DEADLINE);
    let children: Vec<_> = (0..size).map(|rank| meeting.child(test, rank, size)).collect();
    for mut child in children {
        child.succeed(DEADLINE);
    }
}

#[test]
fn alone() {
    suite::run(&Alone, Device::Cpu);
}

#[test]
fn gloo_of_one() {
    gloo_in_threads(1);
}

#[test]
fn gloo_of_two_threads() {
    gloo_in_threads(2);
}

#[test]
fn gloo_of_three_threads() {
    gloo_in_threads(3);
}

#[test]
fn gloo_of_four_threads() {
    gloo_in_threads(4);
}

#[test]
fn gloo_of_two_processes() {
    gloo_in_processes("gloo_of_two_processes", 2);
}

#[test]
fn gloo_of_three_processes() {
    gloo_in_processes("gloo_of_three_processes", 3);
}

#[test]
fn nccl_of_every_device() {
    if let Err(reason) = accord_collective::cuda::load() {
        eprintln!("SKIPPED nccl_of_every_device: {reason}");
        return;
    }
    let devices = usize::try_from(tch::Cuda::device_count()).unwrap().min(4);
    if devices == 0 {
        eprintln!("SKIPPED nccl_of_every_device: libtorch sees no CUDA device");
        return;
    }
    let meeting = Meeting::new(DEADLINE);
    meeting.ranks(devices, |rank, store, options| {
        let collective = accord_collective::nccl::connect(&store, &options, rank).unwrap();
        suite::run(collective.as_ref(), Device::Cuda(rank));
    });
}

#[test]
fn nccl_without_a_gpu_is_an_error_that_says_what_is_missing() {
    let loaded = accord_collective::cuda::load().is_ok();
    if loaded && tch::Cuda::device_count() > 0 {
        eprintln!("SKIPPED nccl_without_a_gpu_is_an_error_that_says_what_is_missing: there is a GPU");
        return;
    }
    let meeting = Meeting::new(DEADLINE);
    meeting.ranks(1, |_, store, options| {
        let error = accord_collective::nccl::connect(&store, &options, 0).err().unwrap().to_string();
        eprintln!("{error}");
        let without_cuda = error.contains("libtorch_cuda.so cannot be loaded") && error.contains("LD_LIBRARY_PATH");
        let without_ours = error.contains("make nccl");
        let without_device = error.contains("no CUDA device 0");
        assert!(if loaded { without_ours || without_device } else { without_cuda }, "{error}");
    });
}
