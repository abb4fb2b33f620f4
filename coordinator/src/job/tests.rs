use super::*;
use proptest::prelude::*;

fn queued() -> Job {
    Job {
        id: JobId("ml-100k-0011223344".into()),
        name: "ml-100k".into(),
        submission_id: "s".into(),
        job_toml: String::new(),
        job_root: "/data".into(),
        run_dir: "/runs/ml-100k".into(),
        token: "t".into(),
        priority: 0,
        world: 1,
        submitted_at: 1,
        phase: Phase::Queued,
        since: 1,
        generation: 0,
        stopping: false,
    }
}

fn running() -> Job {
    let mut job = queued();
    job.apply(2, Event::Placed).unwrap();
    job.apply(3, Event::Ready { generation: 1 }).unwrap();
    job
}

fn lost() -> Failure {
    Failure { kind: FailureKind::WorkerLost, text: "worker 0 was killed by signal 9".into() }
}

#[test]
fn a_job_runs_from_queue_to_success() {
    let mut job = queued();
    assert_eq!(job.apply(2, Event::Placed).unwrap(), vec![Effect::Launch { generation: 1 }]);
    assert_eq!(job.apply(3, Event::Ready { generation: 1 }).unwrap(), vec![]);
    assert_eq!(job.apply(4, Event::Finished { generation: 1 }).unwrap(), vec![Effect::Release { generation: 1 }]);
    assert_eq!((job.phase, job.since), (Phase::Succeeded, 4));
}

#[test]
fn a_suspension_saves_first_and_is_asked_for_once() {
    let mut job = running();
    assert_eq!(job.apply(4, Event::SuspendAsked).unwrap(), vec![Effect::CheckpointAndStop { generation: 1 }]);
    assert_eq!(job.apply(5, Event::SuspendAsked).unwrap(), vec![]);
    assert_eq!(job.phase, Phase::Running { generation: 1 });
    job.apply(6, Event::Stopped { generation: 1 }).unwrap();
    assert_eq!(job.phase, Phase::Suspended);
}

#[test]
fn a_worker_that_stops_unasked_fails_the_job() {
    let mut job = running();
    job.apply(4, Event::Stopped { generation: 1 }).unwrap();
    assert!(matches!(job.phase, Phase::Failed { .. }), "{:?}", job.phase);
}

#[test]
fn a_lost_worker_fails_the_job_and_ends_the_rest() {
    let mut job = running();
    let effects = job.apply(4, Event::GenerationFailed { generation: 1, failure: lost() }).unwrap();
    assert!(matches!(&effects[..], [Effect::Abort { generation: 1, .. }]));
    assert_eq!(job.phase, Phase::Failed { failure: lost() });
}

#[test]
fn a_restarted_coordinator_queues_the_job_and_starts_a_new_generation() {
    let mut job = running();
    job.apply(9, Event::CoordinatorRestarted).unwrap();
    assert_eq!(job.phase, Phase::Queued);
    assert_eq!(job.apply(10, Event::Placed).unwrap(), vec![Effect::Launch { generation: 2 }]);
    let stale = job.apply(11, Event::Ready { generation: 1 });
    assert_eq!(stale, Err(Illegal::StaleGeneration { event: 1, live: 2 }));
}

#[test]
fn a_job_that_is_over_stays_as_it_is() {
    let mut job = running();
    job.apply(4, Event::Finished { generation: 1 }).unwrap();
    let before = job.clone();
    assert_eq!(job.apply(5, Event::CancelAsked), Ok(vec![]));
    assert!(job.apply(6, Event::SuspendAsked).is_err());
    assert!(job.apply(7, Event::Placed).is_err());
    assert_eq!(job, before);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Placed),
        (0..4u64).prop_map(|generation| Event::Ready { generation }),
        (0..4u64).prop_map(|generation| Event::Finished { generation }),
        (0..4u64).prop_map(|generation| Event::Stopped { generation }),
        (0..4u64).prop_map(|generation| Event::GenerationFailed { generation, failure: lost() }),
        Just(Event::SuspendAsked),
        Just(Event::CancelAsked),
        Just(Event::CoordinatorRestarted),
    ]
}

proptest! {
    #[test]
    fn any_schedule_keeps_the_invariants(events in prop::collection::vec(any_event(), 0..40)) {
        let mut job = queued();
        let mut launched = Vec::new();
        for (now, event) in (2..).zip(events) {
            let before = job.clone();
            match job.apply(now, event) {
                // a refused event changes nothing
                Err(_) => prop_assert_eq!(&job, &before),
                Ok(effects) => for effect in effects {
                    match effect {
                        // each generation is launched once, in order
                        Effect::Launch { generation } => {
                            prop_assert_eq!(generation, launched.len() as u64 + 1);
                            launched.push(generation);
                        }
                        // every other effect is about the generation that was live
                        Effect::CheckpointAndStop { generation }
                        | Effect::Abort { generation, .. }
                        | Effect::Release { generation } => {
                            prop_assert_eq!(Some(generation), before.phase.live_generation());
                        }
                    }
                },
            }
            prop_assert_eq!(job.generation, launched.len() as u64);
            prop_assert!(job.phase.live_generation().is_none_or(|g| g == job.generation));
            // what is over stays over, but for a suspended job that is cancelled
            if before.phase.is_over() && before.phase != Phase::Suspended {
                prop_assert_eq!(&job.phase, &before.phase);
            }
            // workers never outlive their phase silently: leaving a live phase, but by a restart, releases them
            prop_assert!(!job.stopping || job.phase.live_generation().is_some());
        }
    }
}
