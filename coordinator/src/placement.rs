//! PLACEMENT (pure): which queued jobs may start, which worker gets which rank, and how many threads it has.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

use crate::job::{JobId, UnixMs};

/// A job that waits for room.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    pub id: JobId,
    pub priority: i32,
    pub submitted_at: UnixMs,
}

/// The jobs to start now: highest priority first, then oldest, as many as there is room for.
pub fn startable(mut waiting: Vec<Waiting>, running: usize, room: usize) -> Vec<JobId> {
    waiting.sort_by(|a, b| {
        (b.priority.cmp(&a.priority)).then(a.submitted_at.cmp(&b.submitted_at)).then_with(|| a.id.cmp(&b.id))
    });
    waiting.into_iter().take(room.saturating_sub(running)).map(|w| w.id).collect()
}

/// The name a launcher gives the worker of a rank.
pub fn worker_name(rank: u32) -> String {
    format!("worker-{rank}")
}

/// The rank of each named worker: the launcher numbered them.
pub fn rank_of(name: &str) -> Option<u32> {
    name.strip_prefix("worker-")?.parse().ok()
}

/// CPU threads of one worker: what the job asks for, or its share of the machine's cores.
pub fn threads(asked: usize, cores: usize, local_workers: u32) -> u32 {
    let share = cores / (local_workers.max(1) as usize);
    let threads = if asked > 0 { asked } else { share.max(1) };
    u32::try_from(threads).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: &str, priority: i32, submitted_at: UnixMs) -> Waiting {
        Waiting { id: JobId(id.into()), priority, submitted_at }
    }

    #[test]
    fn priority_then_age_decides_who_starts() {
        let queue = vec![waiting("a", 0, 1), waiting("b", 5, 3), waiting("c", 0, 0), waiting("d", 5, 2)];
        let ids = |n| startable(queue.clone(), 0, n).into_iter().map(|j| j.0).collect::<Vec<_>>();
        assert_eq!(ids(3), ["d", "b", "c"]);
        assert!(startable(queue, 1, 1).is_empty());
    }

    #[test]
    fn a_worker_gets_the_rank_in_its_name() {
        assert_eq!(rank_of(&worker_name(3)), Some(3));
        assert_eq!(rank_of("someone"), None);
    }

    #[test]
    fn threads_are_the_share_of_the_cores_unless_asked_for() {
        assert_eq!(threads(0, 8, 2), 4);
        assert_eq!(threads(0, 1, 4), 1);
        assert_eq!(threads(3, 8, 1), 3);
    }
}
