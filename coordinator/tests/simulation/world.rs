//! Fake time, processes, network and disk, and the faults that a seed makes of them.

use crate::coordinator::{Coordinator, Said};
use crate::{LAST_STEP, next_value, undisturbed};
use accord_coordinator::job::{Event, Phase};
use accord_coordinator::store::MemoryStore;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// An invariant that does not hold; in words.
pub(crate) struct Broken(pub(crate) String);

/// One worker process.
pub(crate) struct Worker {
    /// Took the form and loaded its data.
    pub(crate) training: bool,
    pub(crate) step: u64,
    value: u64,
    /// Stopped by a signal until then.
    frozen_until: u64,
    /// Its words to the coordinator are held up until then.
    cut_until: u64,
    told_to_stop: bool,
    done: bool,
    /// What must not be lost, to be said again to a coordinator that adopts it.
    said: Vec<Said>,
}

pub(crate) type Name = (u64, u32);

/// What will happen.
pub(crate) enum What {
    Spawn(Name),
    Load(Name, Option<u64>),
    /// Of a generation of this many workers.
    Step(u64, u32),
    Beat(Name),
    Arrives(Name, Said),
    Die(Name),
    Exited(Name),
    Stop(Name),
    Tick,
    Restart,
    Fault,
}

/// Counter-based draws.
pub(crate) struct Random {
    seed: u64,
    at: u64,
}

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.at += 1;
        let x = self.seed.wrapping_mul(0xD129_0E3B_5D4C_9B21) ^ self.at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    planned: BTreeMap<u64, What>,
    count: u64,
    pub(crate) store: MemoryStore,
    pub(crate) coordinator: Option<Coordinator>,
    pub(crate) workers: BTreeMap<Name, Worker>,
    /// Manifests: step, and the value it stands for.
    pub(crate) disk: BTreeMap<u64, u64>,
    newest_committer: u64,
    faults_until: u64,
    pub(crate) launches: u64,
    pub(crate) crashes: u64,
    /// Workers train on when the coordinator is gone.
    outlived: bool,
    pub(crate) trace: Vec<String>,
}

const STEP_MS: u64 = 10;
const EVERY_STEPS: u64 = 12;
/// A schedule that is not over by then hangs.
const END: u64 = 600_000;

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut world = World {
            now: 1,
            random: Random { seed, at: 0 },
            queue: BinaryHeap::new(),
            planned: BTreeMap::new(),
            count: 0,
            store: MemoryStore::new(),
            coordinator: None,
            workers: BTreeMap::new(),
            disk: BTreeMap::new(),
            newest_committer: 0,
            faults_until: 0,
            launches: 0,
            crashes: 0,
            outlived: seed.is_multiple_of(2),
            trace: Vec::new(),
        };
        world.faults_until = 500 + world.random.below(8000);
        Coordinator::submit(&mut world);
        world.plan(0, What::Restart);
        world.plan(50, What::Fault);
        world
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace.len() < 4000 {
            self.trace.push(format!("{:>8} {}", self.now, text()));
        }
    }

    pub(crate) fn plan(&mut self, after: u64, what: What) {
        self.count += 1;
        self.queue.push(Reverse((self.now + after, self.count)));
        self.planned.insert(self.count, what);
    }

    /// Of the job; queued while there is no coordinator.
    pub(crate) fn phase(&self) -> Phase {
        self.coordinator.as_ref().map_or(Phase::Queued, |coordinator| coordinator.job.phase.clone())
    }

    /// Plays until the job is over and the faults too.
    pub(crate) fn play(&mut self) -> Result<(), Broken> {
        while let Some(Reverse((at, number))) = self.queue.pop() {
            if at > END {
                return Err(Broken(format!("the job never ended: {:?}", self.phase())));
            }
            self.now = at;
            if let Some(what) = self.planned.remove(&number) {
                self.happen(what)?;
            }
            if self.coordinator.is_some() && self.now > self.faults_until && self.is_over()? {
                return Ok(());
            }
        }
        Err(Broken("nothing more would happen".into()))
    }

    fn is_over(&mut self) -> Result<bool, Broken> {
        match self.phase() {
            Phase::Succeeded => {
                let value = self.disk.get(&LAST_STEP).copied();
                if value != Some(undisturbed(LAST_STEP)) {
                    return Err(Broken(format!("the result is {value:?}")));
                }
                Ok(true)
            }
            Phase::Failed { failure } => {
                let text = failure.text;
                let known = text.starts_with("restarted ") || text.contains(" times in a row ");
                if known { Ok(true) } else { Err(Broken(format!("failed for no good reason: {text}"))) }
            }
            Phase::Cancelled => Ok(true),
            Phase::Suspended => {
                Coordinator::event(self, Event::ResumeAsked)?;
                Ok(false)
            }
            Phase::Queued | Phase::Starting { .. } | Phase::Running { .. } | Phase::Recovering { .. } => Ok(false),
        }
    }

    fn happen(&mut self, what: What) -> Result<(), Broken> {
        match what {
            What::Spawn(name) => self.spawn(name),
            What::Load(name, from) => self.load(name, from),
            What::Step(generation, world) => self.step(generation, world)?,
            What::Beat(name) => self.beat(name),
            What::Arrives(name, said) => Coordinator::hear(self, name, said)?,
            What::Die(name) => self.die(name),
            What::Exited(name) => Coordinator::exited(self, name)?,
            What::Stop(name) => {
                if let Some(worker) = self.workers.get_mut(&name) {
                    worker.told_to_stop = true;
                }
            }
            What::Tick => {
                if self.coordinator.is_some() {
                    Coordinator::tick(self)?;
                    self.plan(50, What::Tick);
                }
            }
            What::Restart => {
                Coordinator::start(self)?;
                self.plan(1, What::Tick);
            }
            What::Fault => self.fault()?,
        }
        Ok(())
    }

    fn spawn(&mut self, name: Name) {
        // its coordinator died meanwhile, and the pipe with it
        if self.coordinator.is_none() {
            return;
        }
        let worker = Worker {
            training: false,
            step: 0,
            value: 0,
            frozen_until: 0,
            cut_until: 0,
            told_to_stop: false,
            done: false,
            said: Vec::new(),
        };
        self.workers.insert(name, worker);
        self.say(name, Said::Register);
        self.plan(0, What::Beat(name));
    }

    fn load(&mut self, name: Name, from: Option<u64>) {
        let value = from.map(|step| self.disk[&step]);
        let Some(worker) = self.workers.get_mut(&name) else { return };
        (worker.training, worker.step, worker.value) = (true, from.unwrap_or(0), value.unwrap_or(0));
        self.say(name, Said::Ready);
    }

    /// To the coordinator, in order; now and then twice.
    pub(crate) fn say(&mut self, name: Name, said: Said) {
        if !matches!(said, Said::Register | Said::Beat(_))
            && let Some(worker) = self.workers.get_mut(&name)
        {
            worker.said.push(said);
        }
        self.send(name, said);
    }

    /// The worker finds the new coordinator, sooner or later.
    pub(crate) fn rejoin(&mut self, name: Name, settled: u64, stopping: bool) {
        let kept: Vec<Said> = std::mem::take(&mut self.workers.get_mut(&name).unwrap().said);
        let after = 1 + self.random.below(1200);
        let newer = |said: &Said| !matches!(said, Said::Shard(step, _) if *step <= settled);
        self.plan(after, What::Arrives(name, Said::Back));
        for said in kept.iter().copied().filter(newer) {
            self.plan(after, What::Arrives(name, said));
        }
        if stopping {
            self.plan(after, What::Stop(name));
        }
        self.workers.get_mut(&name).unwrap().said = kept;
    }

    fn send(&mut self, name: Name, said: Said) {
        let held = self.workers.get(&name).map_or(0, |w| w.cut_until.max(w.frozen_until));
        let delay = held.saturating_sub(self.now) + 1;
        if self.now < self.faults_until && self.random.one_in(50) {
            self.plan(delay, What::Arrives(name, said));
        }
        self.plan(delay, What::Arrives(name, said));
    }

    fn beat(&mut self, name: Name) {
        let Some(worker) = self.workers.get(&name) else { return };
        if self.now >= worker.frozen_until {
            let step = worker.step;
            self.say(name, Said::Beat(step));
        }
        self.plan(100, What::Beat(name));
    }

    fn step(&mut self, generation: u64, world: u32) -> Result<(), Broken> {
        let now = self.now;
        let members: Vec<Name> = (0..world).map(|rank| (generation, rank)).collect();
        let alive = |name: &Name| self.workers.get(name).is_some_and(|w| w.training && !w.done);
        if members.iter().all(alive) && members.iter().all(|name| self.workers[name].frozen_until <= now) {
            let stepping = |w: &(&Name, &Worker)| w.0.0 != generation && w.1.training && !w.1.done;
            let others: Vec<Name> = self.workers.iter().filter(stepping).map(|(name, _)| *name).collect();
            if !others.is_empty() {
                return Err(Broken(format!("generation {generation} takes steps beside {others:?}")));
            }
            let stop = members.iter().any(|name| self.workers[name].told_to_stop);
            for name in &members {
                self.train(*name, stop);
            }
        } else if members.iter().any(|name| !self.workers.contains_key(name)) {
            // those that are left notice the closed connection
            for name in members {
                if let Some(worker) = self.workers.get_mut(&name).filter(|w| w.training) {
                    worker.training = false;
                    self.say(name, Said::LetDown);
                }
            }
            return Ok(());
        }
        if self.workers.keys().any(|(of, _)| *of == generation) {
            self.plan(STEP_MS, What::Step(generation, world));
        }
        Ok(())
    }

    fn train(&mut self, name: Name, stop: bool) {
        let worker = self.workers.get_mut(&name).unwrap();
        if !stop && worker.step < LAST_STEP {
            worker.step += 1;
            worker.value = next_value(worker.value, worker.step);
        }
        let (step, value) = (worker.step, worker.value);
        worker.done = stop || step == LAST_STEP;
        if stop || step.is_multiple_of(EVERY_STEPS) || step == LAST_STEP {
            self.say(name, Said::Shard(step, value));
        }
        if stop {
            self.say(name, Said::Stopped);
        } else if step == LAST_STEP {
            self.say(name, Said::Finished);
        }
    }

    /// A manifest, create-only.
    pub(crate) fn commit(&mut self, generation: u64, step: u64, value: u64) -> Result<(), Broken> {
        if value != undisturbed(step) {
            return Err(Broken(format!("step {step} was committed with another state")));
        }
        if generation < self.newest_committer {
            return Err(Broken(format!("generation {generation} committed after {}", self.newest_committer)));
        }
        self.newest_committer = generation;
        self.disk.entry(step).or_insert(value);
        self.note(|| format!("generation {generation} committed step {step}"));
        Ok(())
    }

    fn die(&mut self, name: Name) {
        if self.workers.remove(&name).is_some() {
            self.plan(5, What::Exited(name));
        }
    }

    fn fault(&mut self) -> Result<(), Broken> {
        if self.now >= self.faults_until {
            return Ok(());
        }
        let names: Vec<Name> = self.workers.keys().copied().collect();
        let victim = (!names.is_empty()).then(|| names[self.random.below(names.len() as u64) as usize]);
        let long = self.random.below(4000);
        match (self.random.below(12), victim) {
            (0..=3, Some(name)) => {
                self.note(|| format!("{name:?} is killed"));
                self.die(name);
            }
            (4 | 5, Some(name)) => {
                self.note(|| format!("{name:?} freezes for {long} ms"));
                let until = self.now + long;
                let worker = self.workers.get_mut(&name).unwrap();
                worker.frozen_until = worker.frozen_until.max(until);
            }
            (6, Some(name)) => {
                self.note(|| format!("{name:?} is cut off for {long} ms"));
                let until = self.now + long;
                let worker = self.workers.get_mut(&name).unwrap();
                worker.cut_until = worker.cut_until.max(until);
            }
            (7, _) => self.crash(long / 8),
            (8, _) => {
                if let Some(coordinator) = &mut self.coordinator {
                    coordinator.away_until = self.now + long;
                    self.note(|| format!("the coordinator is away for {long} ms"));
                }
            }
            (9, _) if long > 2000 => Coordinator::event(self, Event::SuspendAsked)?,
            (10, _) => Coordinator::event(self, Event::ResumeAsked)?,
            (11, _) if long > 1000 => {
                let workers = 1 + (long % 4) as u32;
                Coordinator::event(self, Event::ScaleAsked { workers })?;
            }
            _ => {}
        }
        let pause = 20 + self.random.below(900);
        self.plan(pause, What::Fault);
        Ok(())
    }

    /// The coordinator's process dies, and its local workers with it unless they outlive it (`serve`).
    pub(crate) fn crash(&mut self, down: u64) {
        if self.coordinator.take().is_some() {
            self.crashes += 1;
            self.note(|| format!("the coordinator dies for {down} ms"));
            if !self.outlived {
                self.workers.clear();
            }
            self.plan(down + 1, What::Restart);
        }
    }
}
