use super::*;
use crate::store::{MemoryStore, Stored, Version};
use futures::future::{BoxFuture, pending};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const TTL: Duration = Duration::from_secs(10);
const WITHIN: Duration = Duration::from_secs(600);

fn candidate(id: &str) -> Candidate {
    Candidate { id: id.into(), address: format!("{id}.example:7411") }
}

async fn won(store: &Arc<dyn ClusterStore>, id: &str) -> Leadership {
    timeout(WITHIN, campaign(Arc::clone(store), &candidate(id), TTL)).await.expect("an election in time").unwrap()
}

fn shared() -> (MemoryStore, Arc<dyn ClusterStore>) {
    let memory = MemoryStore::new();
    (memory.clone(), Arc::new(memory))
}

async fn leads(store: &MemoryStore) -> Option<String> {
    leader(store).await.unwrap().map(|leader| leader.id)
}

/// What a line to a store may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Whole,
    /// Every call fails.
    Cut,
    /// No call ever answers.
    Silent,
    /// The next write happens, and its answer is lost.
    LosesAnAnswer,
}

/// A memory store at the end of a line.
struct Remote {
    store: MemoryStore,
    line: Mutex<Line>,
}

impl Remote {
    fn new(store: &MemoryStore) -> Arc<Remote> {
        Arc::new(Remote { store: store.clone(), line: Mutex::new(Line::Whole) })
    }

    fn set(&self, line: Line) {
        *self.line.lock().unwrap() = line;
    }

    /// The memory store acts when it is called, not when it is waited for: a call that does not arrive is not made.
    fn over<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&'a MemoryStore) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        match *self.line.lock().unwrap() {
            Line::Whole | Line::LosesAnAnswer => call(&self.store),
            Line::Cut => Box::pin(async { Err(StoreError::Unavailable("the line is cut".into())) }),
            Line::Silent => Box::pin(pending()),
        }
    }
}

impl ClusterStore for Remote {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        self.over(|store| store.get(key))
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Stored)>, StoreError>> {
        self.over(|store| store.list(prefix))
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Version, StoreError>> {
        let written = self.over(|store| store.write(write));
        let mut line = self.line.lock().unwrap();
        if *line != Line::LosesAnAnswer {
            return written;
        }
        *line = Line::Whole;
        Box::pin(async { Err(StoreError::Unavailable("the answer is lost".into())) })
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, StoreError>> {
        self.over(|store| store.grant(ttl))
    }

    fn keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.over(|store| store.keep_alive(lease))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.over(|store| store.revoke(lease))
    }

    fn watch(&self, prefix: &str) -> BoxFuture<'_, Result<Watch, StoreError>> {
        self.over(|store| store.watch(prefix))
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_waits_until_the_first_resigns() {
    let (memory, store) = shared();
    let first = won(&store, "a").await;
    let found = leader(&memory).await.unwrap().unwrap();
    assert_eq!((found.id.as_str(), found.address.as_str()), ("a", "a.example:7411"));
    let second = tokio::spawn({
        let store = Arc::clone(&store);
        async move { won(&store, "b").await }
    });
    sleep(20 * TTL).await;
    assert!(first.is_held() && !second.is_finished(), "a leader that speaks up stays");
    assert_eq!(leads(&memory).await.as_deref(), Some("a"));

    let lost = first.lost();
    let resigned_at = Instant::now();
    first.resign().await.unwrap();
    lost.await;
    let second = second.await.unwrap();
    assert!(second.is_held());
    assert_eq!(leads(&memory).await.as_deref(), Some("b"));
    assert!(resigned_at.elapsed() < TTL / 10, "nobody waits for a lease to end: {:?}", resigned_at.elapsed());
}

/// What a leader does that is cut off, by a line that fails or one that is silent.
async fn a_leader_cut_off_stops_before_another_starts(line: Line) {
    let (memory, store) = shared();
    let remote = Remote::new(&memory);
    let far: Arc<dyn ClusterStore> = remote.clone();
    let first = won(&far, "a").await;
    let fence = first.fence();
    far.write(Write::put("jobs/1", b"a".to_vec(), Precondition::Absent).fenced(fence.clone())).await.unwrap();
    sleep(3 * TTL + TTL / 5).await;
    assert!(first.is_held());

    remote.set(line);
    let cut_at = Instant::now();
    let lost = async {
        first.lost().await;
        assert!(!first.is_held());
        Instant::now()
    };
    let taken = async { (won(&store, "b").await, Instant::now()) };
    let (lost_at, (second, won_at)) = futures::join!(lost, taken);
    assert!(lost_at < won_at, "{:?} after the other started", lost_at - won_at);
    assert!(lost_at - cut_at <= TTL && won_at - cut_at <= 2 * TTL, "{:?} {:?}", lost_at - cut_at, won_at - cut_at);

    // what the deposed leader still sends
    remote.set(Line::Whole);
    for when in [Precondition::Any, Precondition::Version(1)] {
        let late = far.write(Write::put("jobs/1", b"late".to_vec(), when).fenced(fence.clone())).await;
        assert!(matches!(late, Err(StoreError::Fenced { .. })), "{late:?}");
        let late = far.write(Write::delete("jobs/1", when).fenced(fence.clone())).await;
        assert!(matches!(late, Err(StoreError::Fenced { .. })), "{late:?}");
    }
    assert_eq!(memory.get("jobs/1").await.unwrap().unwrap().value, b"a");
    store.write(Write::put("jobs/1", b"b".to_vec(), Precondition::Version(1)).fenced(second.fence())).await.unwrap();
    sleep(2 * TTL).await;
    assert!(second.is_held() && !first.is_held(), "the deposed leader's keeper does not come back");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_line_fails_stops_before_another_starts() {
    a_leader_cut_off_stops_before_another_starts(Line::Cut).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_line_is_silent_stops_before_another_starts() {
    a_leader_cut_off_stops_before_another_starts(Line::Silent).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_costs_no_leadership() {
    let (memory, _) = shared();
    let remote = Remote::new(&memory);
    let far: Arc<dyn ClusterStore> = remote.clone();
    let first = won(&far, "a").await;
    for line in [Line::Cut, Line::Silent] {
        remote.set(line);
        sleep(TTL / 3).await;
        remote.set(Line::Whole);
        sleep(2 * TTL).await;
        assert!(first.is_held());
        assert_eq!(leads(&memory).await.as_deref(), Some("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_whose_answer_was_lost_still_leads_in_the_end() {
    let (memory, _) = shared();
    let remote = Remote::new(&memory);
    remote.set(Line::LosesAnAnswer);
    let far: Arc<dyn ClusterStore> = remote.clone();
    let first = won(&far, "a").await;
    sleep(3 * TTL).await;
    assert!(first.is_held());
    assert_eq!(leads(&memory).await.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_candidate_waits_for_a_store_that_is_away() {
    let (memory, _) = shared();
    let remote = Remote::new(&memory);
    remote.set(Line::Cut);
    let far: Arc<dyn ClusterStore> = remote.clone();
    let (first, ()) = futures::join!(won(&far, "a"), async {
        sleep(5 * TTL).await;
        remote.set(Line::Whole);
    });
    assert!(first.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_lease_ended_by_others_is_noticed_at_the_next_keep_alive() {
    let (memory, store) = shared();
    let first = won(&store, "a").await;
    memory.revoke(first.lease).await.unwrap();
    timeout(TTL / 2, first.lost()).await.expect("within a third of the lease");
    assert!(!first.is_held());
    let second = won(&store, "a").await;
    assert_ne!(first.fence(), second.fence(), "a new term of the same candidate is another");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_leadership_is_followed_when_its_lease_ends() {
    let (_, store) = shared();
    drop(won(&store, "a").await);
    let dropped_at = Instant::now();
    won(&store, "b").await;
    assert!(dropped_at.elapsed() <= 2 * TTL, "{:?}", dropped_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn of_many_candidates_one_leads_at_a_time() {
    let (_, store) = shared();
    let leading = Arc::new(AtomicUsize::new(0));
    let terms = (0..5).map(|i| {
        let (store, leading) = (Arc::clone(&store), Arc::clone(&leading));
        tokio::spawn(async move {
            for term in 0..4 {
                let leadership = won(&store, &format!("c{i}")).await;
                assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "another leads");
                sleep(TTL / 2 + TTL * term).await;
                assert!(leadership.is_held());
                leading.fetch_sub(1, Ordering::SeqCst);
                // by turns politely, and as if it had died
                if (i + term) % 2 == 0 {
                    leadership.resign().await.unwrap();
                }
            }
        })
    });
    for term in futures::future::join_all(terms).await {
        term.unwrap();
    }
}
