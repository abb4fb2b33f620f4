//! Thousands of seeded schedules of faults in fake time: the real job state machine, membership and store; stand-ins for
//! processes, network and disk. A schedule that breaks an invariant prints its seed and what happened; to see it again:
//! `ACCORD_SIMULATION_SEED=17 cargo test -p accord-coordinator --test simulation`.
//!
//! Invariants: one generation takes steps at a time; what is committed is what an undisturbed run has at that step, comes
//! from the newest generation, and is never lost; every job ends, with the undisturbed result or a reason.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod coordinator;
mod world;

use accord_coordinator::job::Phase;
use world::{Broken, World};

/// Steps of every simulated training.
const LAST_STEP: u64 = 60;

/// What training has made of the seed state after a step: any other order or missing step gives another value.
fn undisturbed(step: u64) -> u64 {
    (1..=step).fold(0, next_value)
}

fn next_value(value: u64, step: u64) -> u64 {
    (value ^ step).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_schedule_of_faults_breaks_an_invariant() {
    let one = number("ACCORD_SIMULATION_SEED");
    let schedules = number("ACCORD_SIMULATION_SCHEDULES").unwrap_or(10_000);
    let seeds = one.map_or(0..schedules, |seed| seed..seed + 1);
    let (mut succeeded, mut failed, mut restarts, mut crashes) = (0, 0, 0, 0);
    for seed in seeds {
        let mut world = World::new(seed);
        if let Err(Broken(what)) = world.play() {
            panic!("seed {seed}: {what}\n{}", world.trace.join("\n"));
        }
        match world.phase() {
            Phase::Succeeded => succeeded += 1,
            _ => failed += 1,
        }
        restarts += world.launches - 1;
        crashes += world.crashes;
    }
    // most schedules end well, and the faults are really there
    if one.is_none() {
        assert!(succeeded > schedules / 2 && failed > 0, "{succeeded} succeeded, {failed} did not");
        assert!(restarts > schedules && crashes > schedules / 4, "{restarts} restarts, {crashes} crashes");
    }
}
