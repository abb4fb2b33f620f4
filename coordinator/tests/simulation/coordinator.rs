//! The control loop in small: apply, persist, effects, with a crash possible before and after each. Decisions are the
//! real modules'.

use crate::LAST_STEP;
use crate::world::{Broken, Name, What, World};
use accord_coordinator::job::{Effect, Event, Failure, FailureKind, History, Job, JobId, Phase, Policy};
use accord_coordinator::membership::{Member, Membership, Timeouts, Verdict};
use accord_coordinator::placement::worker_name;
use accord_coordinator::store::{ClusterStore, MemoryStore, Precondition, Version};
use accord_spec::Recovery;
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};

const RECOVERY: Recovery =
    Recovery { detect_within_ms: 1000, replace_within_ms: 3000, max_restarts: 10, coordinator_within_ms: 600_000 };
const KEY: &str = "jobs/simulated";
/// How long a worker has to end before it is killed, when the next generation waits for it.
const MAKE_WAY_MS: u64 = 300;
/// A loop that was away for longer heard nobody.
const AWAY_MS: u64 = 500;

/// What a worker says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    Register,
    /// To a coordinator that adopts it.
    Back,
    Ready,
    Beat(u64),
    Shard(u64, u64),
    LetDown,
    Finished,
    Stopped,
}

/// What the coordinator holds of the live generation.
pub(crate) struct Station {
    pub(crate) generation: u64,
    pub(crate) membership: Membership,
    ready: BTreeSet<u32>,
    done: BTreeSet<u32>,
    shards: BTreeMap<u64, BTreeSet<u32>>,
    finished: BTreeSet<u32>,
    stopped: BTreeSet<u32>,
    let_down: Option<u64>,
    step: u64,
}

impl Station {
    fn new(generation: u64, membership: Membership) -> Station {
        Station {
            generation,
            membership,
            ready: BTreeSet::new(),
            done: BTreeSet::new(),
            shards: BTreeMap::new(),
            finished: BTreeSet::new(),
            stopped: BTreeSet::new(),
            let_down: None,
            step: 0,
        }
    }
}

pub(crate) struct Coordinator {
    /// As the store holds it.
    pub(crate) job: Job,
    version: Version,
    pub(crate) station: Option<Station>,
    timeouts: Timeouts,
    awake_at: u64,
    pub(crate) away_until: u64,
    /// What arrived while it was away.
    unheard: Vec<(Name, Option<Said>)>,
}

impl Coordinator {
    pub(crate) fn submit(world: &mut World) {
        let workers = 1 + world.random.below(4) as u32;
        let job = Job {
            id: JobId("simulated".into()),
            name: "simulated".into(),
            submission_id: "s".into(),
            job_toml: String::new(),
            job_root: "/data".into(),
            run_dir: "/runs".into(),
            token: "t".into(),
            priority: 0,
            workers,
            policy: Policy { min_workers: 1, max_restarts: RECOVERY.max_restarts, replace_within_ms: 3000 },
            world: workers,
            submitted_at: 1,
            phase: Phase::Queued,
            since: 1,
            generation: 0,
            stopping: None,
            history: History::default(),
        };
        put(&world.store, &job, Precondition::Absent);
    }

    /// A coordinator's process begins: it loads the job and takes it up again.
    pub(crate) fn start(world: &mut World) -> Result<(), Broken> {
        let stored = world.store.get(KEY).now_or_never().unwrap().unwrap().unwrap();
        world.coordinator = Some(Coordinator {
            job: serde_json::from_slice(&stored.value).unwrap(),
            version: stored.version,
            station: None,
            timeouts: Timeouts::of(&RECOVERY),
            awake_at: world.now,
            away_until: 0,
            unheard: Vec::new(),
        });
        Coordinator::event(world, Event::CoordinatorRestarted)
    }

    /// Apply, persist, effects. Events that the phase does not allow come too late and change nothing.
    pub(crate) fn event(world: &mut World, event: Event) -> Result<(), Broken> {
        let Some(coordinator) = &mut world.coordinator else { return Ok(()) };
        let mut job = coordinator.job.clone();
        let Ok(effects) = job.apply(world.now, event.clone()) else { return Ok(()) };
        if job == coordinator.job && effects.is_empty() {
            return Ok(());
        }
        if world.random.one_in(400) {
            world.crash(200);
            return Ok(());
        }
        coordinator.version = put(&world.store, &job, Precondition::Version(coordinator.version));
        coordinator.job = job.clone();
        world.note(|| format!("{event:?} -> {:?}", job.phase));
        if world.random.one_in(400) {
            world.crash(200);
            return Ok(());
        }
        for effect in effects {
            Coordinator::perform(world, &job, effect)?;
        }
        Ok(())
    }

    fn perform(world: &mut World, job: &Job, effect: Effect) -> Result<(), Broken> {
        match effect {
            Effect::Launch { generation } => Coordinator::launch(world, job, generation),
            Effect::Adopt { generation } => return Coordinator::adopt(world, job, generation),
            Effect::CheckpointAndStop { generation } => {
                let now = world.now;
                if let Some(station) = world.coordinator.as_mut().and_then(|c| c.station.as_mut()) {
                    station.membership.stopping_since = Some(now);
                }
                for name in of(world, generation) {
                    world.plan(1, What::Stop(name));
                }
            }
            Effect::Abort { generation, .. } | Effect::Release { generation } => {
                if let Some(coordinator) = &mut world.coordinator {
                    coordinator.station.take_if(|station| station.generation == generation);
                }
                for name in of(world, generation) {
                    let within = world.random.below(MAKE_WAY_MS);
                    world.plan(within, What::Die(name));
                }
            }
        }
        Ok(())
    }

    fn launch(world: &mut World, job: &Job, generation: u64) {
        world.launches += 1;
        let now = world.now;
        let Some(coordinator) = &mut world.coordinator else { return };
        coordinator.station = Some(Station::new(generation, Membership::new(job.world, now)));
        // the launcher waits until the workers before these are gone
        let wait = if world.workers.is_empty() { 0 } else { MAKE_WAY_MS };
        // those of an earlier coordinator too, which nobody adopted
        let strays: Vec<Name> = world.workers.keys().filter(|(of, _)| *of != generation).copied().collect();
        for name in strays {
            let within = world.random.below(wait.max(1));
            world.plan(within, What::Die(name));
        }
        for rank in 0..job.world {
            // now and then one does not come
            if !(generation > 1 && world.random.one_in(40)) {
                let start = wait + 20 + world.random.below(150);
                world.plan(start, What::Spawn((generation, rank)));
            }
        }
    }

    /// Workers that trained on while there was no coordinator come back, and say again what no checkpoint stands for.
    fn adopt(world: &mut World, job: &Job, generation: u64) -> Result<(), Broken> {
        let names = of(world, generation);
        if names.is_empty() {
            return Coordinator::event(world, Event::WorkersGone { generation });
        }
        let settled = world.disk.keys().max().copied().unwrap_or(0);
        let now = world.now;
        let Some(coordinator) = &mut world.coordinator else { return Ok(()) };
        let mut station = Station::new(generation, Membership::adopted(job.world, now));
        station.membership.stopping_since = job.stopping.map(|_| now);
        station.ready.extend(0..job.world);
        coordinator.station = Some(station);
        for name in names {
            world.rejoin(name, settled, job.stopping.is_some());
        }
        Ok(())
    }

    /// A message of a worker, unless the coordinator is away or the generation over.
    pub(crate) fn hear(world: &mut World, name: Name, said: Said) -> Result<(), Broken> {
        let now = world.now;
        let Some(coordinator) = &mut world.coordinator else { return Ok(()) };
        // behind what came before it
        if now < coordinator.away_until || !coordinator.unheard.is_empty() {
            coordinator.unheard.push((name, Some(said)));
            return Ok(());
        }
        let (generation, rank) = name;
        let Some(station) = coordinator.station.as_mut().filter(|s| s.generation == generation) else { return Ok(()) };
        let own = worker_name(rank);
        if let Some(member) = station.membership.members.iter_mut().find(|m| m.name == own) {
            member.last_heard = now;
        }
        let all = station.membership.world as usize;
        match said {
            Said::Register => {
                let host = "here".to_string();
                station.membership.join(Member { name: own, host, pid: rank, last_heard: now, broken_since: None });
                return Coordinator::review(world);
            }
            Said::Back => {
                let host = "here".to_string();
                station.membership.rejoin(Member { name: own, host, pid: rank, last_heard: now, broken_since: None });
            }
            Said::Beat(step) => station.step = station.step.max(step),
            Said::Ready => {
                station.ready.insert(rank);
                if station.ready.len() == all {
                    return Coordinator::event(world, Event::Ready { generation });
                }
            }
            Said::LetDown => {
                station.done.insert(rank);
                station.let_down.get_or_insert(now);
            }
            Said::Shard(step, value) => {
                station.step = station.step.max(step);
                let shards = station.shards.entry(step).or_default();
                shards.insert(rank);
                if shards.len() == all {
                    return world.commit(generation, step, value);
                }
            }
            Said::Finished => {
                station.done.insert(rank);
                station.finished.insert(rank);
                if station.finished.len() == all {
                    if !world.disk.contains_key(&LAST_STEP) {
                        return Err(Broken("finished before its last state was committed".into()));
                    }
                    return Coordinator::event(world, Event::Finished { generation });
                }
            }
            Said::Stopped => {
                station.done.insert(rank);
                station.stopped.insert(rank);
                if station.stopped.len() == all {
                    return Coordinator::event(world, Event::Stopped { generation });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn exited(world: &mut World, name: Name) -> Result<(), Broken> {
        let now = world.now;
        let Some(coordinator) = &mut world.coordinator else { return Ok(()) };
        // behind what came before it
        if now < coordinator.away_until || !coordinator.unheard.is_empty() {
            coordinator.unheard.push((name, None));
            return Ok(());
        }
        let (generation, rank) = name;
        let enough = coordinator.job.enough_without_replacement();
        let Some(station) = coordinator.station.as_mut().filter(|s| s.generation == generation) else { return Ok(()) };
        if station.done.contains(&rank) {
            return Ok(());
        }
        if station.membership.does_without(&worker_name(rank), enough) {
            return Coordinator::review(world);
        }
        Coordinator::lose(world, generation, format!("{} was killed", worker_name(rank)))
    }

    /// Time passes: who was away hears what it missed, and nobody is blamed for that.
    pub(crate) fn tick(world: &mut World) -> Result<(), Broken> {
        let now = world.now;
        let Some(coordinator) = &mut world.coordinator else { return Ok(()) };
        if now < coordinator.away_until {
            return Ok(());
        }
        let gap = now - std::mem::replace(&mut coordinator.awake_at, now);
        let unheard = std::mem::take(&mut coordinator.unheard);
        if gap >= AWAY_MS
            && let Some(station) = &mut coordinator.station
        {
            station.membership.forgive(gap);
        }
        for (name, said) in unheard {
            match said {
                Some(said) => Coordinator::hear(world, name, said)?,
                None => Coordinator::exited(world, name)?,
            }
        }
        if gap < AWAY_MS {
            Coordinator::review(world)?;
        }
        let Some(Coordinator { job, .. }) = &world.coordinator else { return Ok(()) };
        let due = job.history.grow.is_some_and(|grow| grow.at <= now) && job.world < job.workers;
        match job.phase {
            Phase::Queued => Coordinator::event(world, Event::Placed),
            Phase::Running { .. } if due => Coordinator::event(world, Event::GrowDue),
            _ => Ok(()),
        }
    }

    fn review(world: &mut World) -> Result<(), Broken> {
        let now = world.now;
        let Some(coordinator) = &mut world.coordinator else { return Ok(()) };
        let timeouts = coordinator.timeouts;
        let Some(station) = &mut coordinator.station else { return Ok(()) };
        let generation = station.generation;
        let mut membership = station.membership.clone();
        for member in &mut membership.members {
            if station.done.contains(&member.pid) {
                member.last_heard = now;
            }
        }
        if station.let_down.is_some_and(|since| now - since >= timeouts.let_down_ms()) {
            return Coordinator::lose(world, generation, "a worker was let down".into());
        }
        match membership.review(now, &timeouts) {
            Verdict::Wait(_) => Ok(()),
            Verdict::Complete(_) => {
                station.membership.formed = true;
                let size = station.membership.world;
                let from = world.disk.keys().max().copied();
                for name in of(world, generation) {
                    let loading = 20 + world.random.below(100);
                    world.plan(loading, What::Load(name, from));
                }
                world.plan(150, What::Step(generation, size));
                Ok(())
            }
            Verdict::Incomplete(present) => Coordinator::event(world, Event::Incomplete { generation, present }),
            Verdict::Lost { worker, how } => Coordinator::lose(world, generation, format!("{worker} {how}")),
            Verdict::NotSaved(text) => Coordinator::lose(world, generation, text),
        }
    }

    fn lose(world: &mut World, generation: u64, text: String) -> Result<(), Broken> {
        let station = world.coordinator.as_ref().and_then(|c| c.station.as_ref());
        let step = station.map_or(0, |station| station.step);
        let failure = Failure { kind: FailureKind::WorkerLost, text };
        Coordinator::event(world, Event::GenerationFailed { generation, failure, step })
    }
}

fn put(store: &MemoryStore, job: &Job, when: Precondition) -> Version {
    store.put(KEY, serde_json::to_vec(job).unwrap(), when).now_or_never().unwrap().unwrap()
}

fn of(world: &World, generation: u64) -> Vec<Name> {
    world.workers.keys().filter(|(of, _)| *of == generation).copied().collect()
}
