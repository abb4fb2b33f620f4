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
        workers: 3,
        policy: Policy { min_workers: 2, max_restarts: 5, replace_within_ms: 30_000 },
        world: 3,
        submitted_at: 1,
        phase: Phase::Queued,
        since: 1,
        generation: 0,
        stopping: None,
        history: History::default(),
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

fn failed(generation: u64, step: u64) -> Event {
    Event::GenerationFailed { generation, failure: lost(), step }
}

#[test]
fn a_lost_worker_ends_the_generation_and_the_next_takes_over() {
    let mut job = running();
    let effects = job.apply(4, failed(1, 90)).unwrap();
    assert!(matches!(&effects[..], [Effect::Abort { generation: 1, .. }, Effect::Launch { generation: 2 }]));
    assert_eq!(job.phase, Phase::Recovering { generation: 2, culprit: lost() });
    assert_eq!(job.apply(5, failed(1, 90)), Err(Illegal::StaleGeneration { event: 1, live: 2 }));
    job.apply(6, Event::Ready { generation: 2 }).unwrap();
    assert_eq!(job.phase, Phase::Running { generation: 2 });
}

#[test]
fn what_would_happen_again_is_not_tried_again() {
    for kind in [FailureKind::BadInput, FailureKind::Training, FailureKind::Internal] {
        let mut job = running();
        let failure = Failure { kind, text: "a loss that is not finite".into() };
        let effects = job.apply(4, Event::GenerationFailed { generation: 1, failure, step: 9 }).unwrap();
        assert!(matches!(&effects[..], [Effect::Abort { generation: 1, .. }]));
        assert!(matches!(job.phase, Phase::Failed { .. }));
    }
}

#[test]
fn restarts_are_bounded_within_the_window_and_forgotten_after_it() {
    let mut job = running();
    let mut now = 10;
    for n in 1..=5 {
        job.apply(now, failed(n, n * 100)).unwrap();
        job.apply(now, Event::Ready { generation: n + 1 }).unwrap();
        now += 1000;
    }
    let mut later = job.clone();
    job.apply(now, failed(6, 600)).unwrap();
    let Phase::Failed { failure } = &job.phase else { panic!("{:?}", job.phase) };
    assert!(failure.text.starts_with("restarted 5 times within an hour"), "{}", failure.text);
    later.apply(now + RESTART_WINDOW_MS, failed(6, 600)).unwrap();
    assert!(matches!(later.phase, Phase::Recovering { generation: 7, .. }));
    assert_eq!(later.history.restarts.len(), 1);
}

#[test]
fn a_job_that_comes_no_further_is_given_up_with_its_last_words() {
    let mut job = running();
    for generation in 1..=3 {
        job.apply(generation, failed(generation, 200)).unwrap();
    }
    assert!(matches!(job.phase, Phase::Recovering { generation: 4, .. }), "{:?}", job.phase);
    job.apply(9, failed(4, 150)).unwrap();
    let Phase::Failed { failure } = &job.phase else { panic!("{:?}", job.phase) };
    assert_eq!(
        failure.text,
        "3 times in a row no step further than 200; the last time: worker 0 was killed by signal 9"
    );
}

#[test]
fn training_goes_on_with_fewer_workers_and_tries_for_all_of_them_later() {
    let mut job = running();
    job.apply(4, failed(1, 10)).unwrap();
    let effects = job.apply(30_004, Event::Incomplete { generation: 2, present: 2 }).unwrap();
    assert!(matches!(&effects[..], [Effect::Abort { generation: 2, .. }, Effect::Launch { generation: 3 }]));
    assert_eq!((job.world, job.workers), (2, 3));
    job.apply(30_005, Event::Ready { generation: 3 }).unwrap();
    let grow = job.history.grow.unwrap();
    assert_eq!(grow, Grow { at: 90_004, wait_ms: 60_000 });
    assert_eq!(job.apply(grow.at, Event::GrowDue).unwrap(), [Effect::CheckpointAndStop { generation: 3 }]);
    assert_eq!(job.apply(grow.at, Event::GrowDue).unwrap(), []);
    let effects = job.apply(90_100, Event::Stopped { generation: 3 }).unwrap();
    assert_eq!(effects, [Effect::Release { generation: 3 }, Effect::Launch { generation: 4 }]);
    assert_eq!((job.world, &job.phase), (3, &Phase::Starting { generation: 4 }));
    assert!(!grow.is_due(90_003, false) && grow.is_due(90_004, false));
    assert!(!grow.is_due(60_003, true) && grow.is_due(60_004, true), "a worker is there, and asks");
    let patient = Grow { at: 3_600_000, wait_ms: 3_600_000 };
    assert!(!patient.is_due(599_999, true) && patient.is_due(600_000, true));
    // and again, with more patience
    job.apply(120_100, Event::Incomplete { generation: 4, present: 2 }).unwrap();
    assert_eq!(job.history.grow.unwrap().wait_ms, 120_000);
    assert_eq!(job.history.restarts.len(), 1, "trying for more is no failure");
}

#[test]
fn a_worker_that_does_not_come_is_replaced_before_it_is_done_without() {
    let mut job = running();
    job.apply(4, failed(1, 10)).unwrap();
    assert_eq!(job.enough_without_replacement(), 3, "generation 2 wants all three");
    job.apply(5, failed(2, 0)).unwrap();
    assert_eq!(job.enough_without_replacement(), 2, "another one did not help");
}

#[test]
fn a_worker_that_is_leaving_makes_the_job_save_and_go_on_with_another() {
    let mut job = queued();
    job.apply(2, Event::Placed).unwrap();
    assert_eq!(job.apply(3, Event::Leaving { generation: 1 }).unwrap(), [], "nothing is trained yet");
    job.apply(3, Event::Ready { generation: 1 }).unwrap();
    let leaving = Event::Leaving { generation: 1 };
    assert_eq!(job.apply(4, leaving.clone()).unwrap(), [Effect::CheckpointAndStop { generation: 1 }]);
    assert_eq!(job.apply(4, leaving.clone()).unwrap(), [], "another one of the same node");
    let mut suspending = job.clone();
    suspending.apply(5, Event::SuspendAsked).unwrap();
    suspending.apply(5, leaving).unwrap();
    assert_eq!(suspending.stopping, Some(Stopping::Suspend));
    let effects = job.apply(6, Event::Stopped { generation: 1 }).unwrap();
    assert_eq!(effects, [Effect::Release { generation: 1 }, Effect::Launch { generation: 2 }]);
    assert_eq!((job.world, job.history.restarts.len()), (3, 0), "it is no failure");
}

#[test]
fn too_few_workers_are_waited_for_and_then_given_up() {
    let mut job = running();
    for generation in 1..=3 {
        job.apply(4, Event::Incomplete { generation, present: 1 }).unwrap_or_default();
        job.apply(5, failed(generation, 0)).unwrap_or_default();
    }
    assert!(matches!(job.phase, Phase::Failed { .. }), "{:?}", job.phase);
}

#[test]
fn a_running_job_is_scaled_at_a_checkpoint() {
    let mut job = running();
    assert_eq!(job.apply(4, Event::ScaleAsked { workers: 3 }).unwrap(), []);
    let effects = job.apply(5, Event::ScaleAsked { workers: 1 }).unwrap();
    assert_eq!(effects, [Effect::CheckpointAndStop { generation: 1 }]);
    job.apply(6, Event::Stopped { generation: 1 }).unwrap();
    assert_eq!((job.world, &job.phase), (1, &Phase::Starting { generation: 2 }));
    // nothing is trained yet: at once
    let effects = job.apply(7, Event::ScaleAsked { workers: 4 }).unwrap();
    assert!(matches!(&effects[..], [Effect::Abort { generation: 2, .. }, Effect::Launch { generation: 3 }]));
    assert_eq!(job.world, 4);
}

#[test]
fn suspended_and_failed_jobs_are_resumed() {
    let mut job = running();
    job.apply(4, Event::SuspendAsked).unwrap();
    job.apply(5, failed(1, 9)).unwrap();
    assert_eq!(job.phase, Phase::Suspended, "the newest checkpoint is its state");
    job.apply(6, Event::ResumeAsked).unwrap();
    assert_eq!(job.phase, Phase::Queued);

    let mut job = running();
    let failure = Failure { kind: FailureKind::Internal, text: "the disk is full".into() };
    job.apply(4, Event::GenerationFailed { generation: 1, failure, step: 9 }).unwrap();
    job.apply(5, Event::ResumeAsked).unwrap();
    assert_eq!(job.phase, Phase::Queued);
    job.apply(6, Event::CancelAsked).unwrap();
    assert!(job.apply(7, Event::ResumeAsked).is_err());
}

#[test]
fn a_suspension_that_is_taken_back_goes_on_once_its_state_is_saved() {
    let mut job = running();
    job.apply(4, Event::SuspendAsked).unwrap();
    assert_eq!(job.apply(5, Event::ResumeAsked).unwrap(), []);
    let effects = job.apply(6, Event::Stopped { generation: 1 }).unwrap();
    assert_eq!(effects, [Effect::Release { generation: 1 }, Effect::Launch { generation: 2 }]);
}

#[test]
fn a_restarted_coordinator_adopts_the_workers_and_starts_new_ones_when_they_are_gone() {
    let mut job = running();
    assert_eq!(job.apply(9, Event::CoordinatorRestarted).unwrap(), vec![Effect::Adopt { generation: 1 }]);
    assert_eq!(job.phase, Phase::Running { generation: 1 });
    job.apply(9, Event::WorkersGone { generation: 1 }).unwrap();
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
        (0..4u64, 0..9u64).prop_map(|(generation, step)| failed(generation, step)),
        (0..4u64, 0..4u32).prop_map(|(generation, present)| Event::Incomplete { generation, present }),
        Just(Event::ResumeAsked),
        (1..5u32).prop_map(|workers| Event::ScaleAsked { workers }),
        Just(Event::GrowDue),
        Just(Event::SuspendAsked),
        Just(Event::CancelAsked),
        Just(Event::CoordinatorRestarted),
        (0..4u64).prop_map(|generation| Event::WorkersGone { generation }),
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
                        Effect::Adopt { generation }
                        | Effect::CheckpointAndStop { generation }
                        | Effect::Abort { generation, .. }
                        | Effect::Release { generation } => {
                            prop_assert_eq!(Some(generation), before.phase.live_generation());
                        }
                    }
                },
            }
            prop_assert_eq!(job.generation, launched.len() as u64);
            prop_assert!(job.phase.live_generation().is_none_or(|g| g == job.generation));
            // what is over stays over, but for a job that is resumed, and a suspended one that is cancelled
            let may_go_on = matches!(before.phase, Phase::Suspended | Phase::Failed { .. });
            if before.phase.is_over() && !may_go_on {
                prop_assert_eq!(&job.phase, &before.phase);
            }
            // workers never outlive their phase silently: leaving a live phase, but by a restart, releases them
            prop_assert!(job.stopping.is_none() || job.phase.live_generation().is_some());
            prop_assert!(job.history.restarts.len() <= job.policy.max_restarts as usize);
        }
    }
}
