//! MEMBERSHIP (pure): who is in a generation, when it is complete, and who counts as lost, each with a reason in words.
//! Takes `now`; keeps no clock.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

use crate::job::UnixMs;
use crate::placement::{self, worker_name};
use accord_spec::Recovery;

/// Every time-out of a generation, derived from `recovery`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How often a worker says that it lives.
    pub heartbeat_ms: u64,
    /// A worker silent for this long is lost.
    pub silent_ms: u64,
    /// After a stream broke: how long the launcher has to say how the process ended, which explains more.
    pub exit_report_ms: u64,
    /// From launch until every worker has registered.
    pub register_ms: u64,
    /// From the request to save and end until it is done: a step and a checkpoint.
    pub stop_ms: u64,
    /// How long a worker has to end by itself before it is killed.
    pub grace_ms: u64,
    /// How long the workers that a new coordinator adopts have to come: they notice first that the old one is gone.
    pub rejoin_ms: u64,
}

impl Timeouts {
    pub fn of(recovery: &Recovery) -> Timeouts {
        let detect = recovery.detect_within_ms;
        Timeouts {
            heartbeat_ms: (detect / 10).max(10),
            silent_ms: detect,
            exit_report_ms: (detect / 5).clamp(100, 1000),
            register_ms: recovery.replace_within_ms.max(detect),
            stop_ms: (detect * 12).max(60_000),
            grace_ms: detect,
            rejoin_ms: 2 * detect + 2000,
        }
    }

    /// Of workers on other machines, whose ends take longer to be told: a kubelet needs a second or two.
    pub fn of_remote(recovery: &Recovery) -> Timeouts {
        let detect = recovery.detect_within_ms;
        Timeouts { exit_report_ms: (detect * 3 / 5).clamp(100, 5000), ..Timeouts::of(recovery) }
    }

    /// After a worker said that another one let it down: how long that one's own end, or silence, has to show.
    pub fn let_down_ms(&self) -> u64 {
        self.silent_ms + self.exit_report_ms
    }
}

/// One registered worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub name: String,
    pub host: String,
    pub pid: u32,
    pub last_heard: UnixMs,
    /// Its stream broke.
    pub broken_since: Option<UnixMs>,
}

/// The workers of one generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    pub world: u32,
    pub launched_at: UnixMs,
    pub members: Vec<Member>,
    /// Names of those that ended before they registered: nobody waits for them.
    pub absent: Vec<String>,
    /// The members were told to form.
    pub formed: bool,
    /// They were asked to save and end.
    pub stopping_since: Option<UnixMs>,
    /// None: what there is counts at the deadline for registering.
    pub patience: Option<Patience>,
}

/// How workers are waited for that come when a cluster has room for them: too few are no failure, however long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub at_least: u32,
    /// How long all of them are waited for.
    pub within_ms: u64,
}

/// What to do about a generation now.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing; why.
    Wait(String),
    /// Everyone is here: form.
    Complete(String),
    /// Some did not come in time; how many did.
    Incomplete(u32),
    /// A worker is gone or silent; what it did.
    Lost { worker: String, how: String },
    /// The workers did not end when asked to; in words.
    NotSaved(String),
}

impl Membership {
    pub fn new(world: u32, launched_at: UnixMs) -> Membership {
        Membership {
            world,
            launched_at,
            members: Vec::new(),
            absent: Vec::new(),
            formed: false,
            stopping_since: None,
            patience: None,
        }
    }

    /// A generation that trains under an earlier coordinator.
    pub fn adopted(world: u32, now: UnixMs) -> Membership {
        Membership { formed: true, ..Membership::new(world, now) }
    }

    /// A worker ended. `true`: it had not come yet, and the others may be `enough` to form without it.
    pub fn does_without(&mut self, name: &str, enough: u32) -> bool {
        let came = self.formed || self.members.iter().any(|m| m.name == name);
        let others = (self.world as usize).saturating_sub(self.absent.len() + 1);
        if came || others < enough.max(1) as usize {
            return false;
        }
        self.absent.push(name.into());
        true
    }

    /// Takes a worker back that was a member, here or with an earlier coordinator.
    pub fn rejoin(&mut self, member: Member) {
        self.members.retain(|m| m.name != member.name);
        self.members.push(member);
    }

    /// The rank for a worker of `host` that asks for a seat: the one it had, the one it would rather have, or the first that
    /// is free. None: all are taken.
    pub fn seat(&self, host: &str, preferred: Option<u32>) -> Option<u32> {
        if let Some(own) = self.rank_at(host) {
            return Some(own);
        }
        let is_free = |rank: &u32| self.members.iter().all(|m| m.name != worker_name(*rank));
        preferred.filter(|rank| *rank < self.world && is_free(rank)).or_else(|| (0..self.world).find(is_free))
    }

    /// Who registered from that host.
    pub fn rank_at(&self, host: &str) -> Option<u32> {
        self.members.iter().find(|m| m.host == host).and_then(|m| placement::rank_of(&m.name))
    }

    /// Takes a worker in. `false`: one of that name is here already, or the generation is full.
    pub fn join(&mut self, member: Member) -> bool {
        if self.members.iter().any(|m| m.name == member.name) || self.members.len() >= self.world as usize {
            return false;
        }
        self.members.push(member);
        true
    }

    /// Nobody listened for `ms`: that time counts for nobody's silence and no deadline.
    pub fn forgive(&mut self, ms: u64) {
        self.launched_at += ms;
        self.stopping_since = self.stopping_since.map(|since| since + ms);
        for member in &mut self.members {
            member.last_heard += ms;
            member.broken_since = member.broken_since.map(|since| since + ms);
        }
    }

    /// What is to be done now.
    pub fn review(&self, now: UnixMs, timeouts: &Timeouts) -> Verdict {
        for member in &self.members {
            let lost = |how: String| Verdict::Lost { worker: member.name.clone(), how };
            if member.broken_since.is_some_and(|since| now.saturating_sub(since) >= timeouts.exit_report_ms) {
                return lost("lost its connection".into());
            }
            let silent = now.saturating_sub(member.last_heard);
            if silent >= timeouts.silent_ms {
                return lost(format!("was silent for {:.1} s", silent as f64 / 1000.0));
            }
        }
        if let Some(since) = self.stopping_since
            && now.saturating_sub(since) >= timeouts.stop_ms
        {
            return Verdict::NotSaved(format!("the state was not saved within {} s", timeouts.stop_ms / 1000));
        }
        if self.formed && now.saturating_sub(self.launched_at) >= timeouts.rejoin_ms {
            let missing = (0..self.world).map(worker_name).find(|name| self.members.iter().all(|m| m.name != *name));
            if let Some(worker) = missing {
                let how =
                    format!("did not come to the new coordinator within {:.1} s", timeouts.rejoin_ms as f64 / 1000.0);
                return Verdict::Lost { worker, how };
            }
        }
        if self.formed {
            return Verdict::Wait(format!("{} of {} workers train", self.members.len(), self.world));
        }
        let here = format!("{} of {} workers registered", self.members.len(), self.world);
        if self.members.len() >= self.world as usize {
            return Verdict::Complete(here);
        }
        let all_known = !self.absent.is_empty() && self.members.len() + self.absent.len() >= self.world as usize;
        let (at_least, within_ms) = self.patience.map_or((0, timeouts.register_ms), |p| (p.at_least, p.within_ms));
        let is_late = now.saturating_sub(self.launched_at) >= within_ms && self.members.len() >= at_least as usize;
        if all_known || is_late {
            return Verdict::Incomplete(self.members.len() as u32);
        }
        Verdict::Wait(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, last_heard: UnixMs) -> Member {
        Member { name: name.into(), host: "localhost".into(), pid: 7, last_heard, broken_since: None }
    }

    fn lost(how: &str) -> Verdict {
        Verdict::Lost { worker: "worker-0".into(), how: how.into() }
    }

    fn timeouts() -> Timeouts {
        Timeouts::of(&Recovery::default())
    }

    #[test]
    fn a_worker_that_ends_before_it_came_is_done_without_when_the_others_are_enough() {
        let mut three = Membership::new(3, 1000);
        assert!(three.join(member("worker-0", 1100)) && three.join(member("worker-1", 1100)));
        assert!(!three.does_without("worker-2", 3), "three are needed");
        assert!(!three.does_without("worker-1", 1), "it was there: it is lost");
        assert!(matches!(three.review(1200, &timeouts()), Verdict::Wait(_)));
        assert!(three.does_without("worker-2", 2));
        assert_eq!(three.review(1200, &timeouts()), Verdict::Incomplete(2));
        let mut one = Membership::new(1, 1000);
        assert!(!one.does_without("worker-0", 0), "nobody is left");
    }

    #[test]
    fn a_generation_is_complete_when_every_worker_registered() {
        let mut two = Membership::new(2, 1000);
        assert!(two.join(member("worker-0", 1100)));
        assert_eq!(two.review(1200, &timeouts()), Verdict::Wait("1 of 2 workers registered".into()));
        assert!(two.join(member("worker-1", 1200)));
        assert_eq!(two.review(1200, &timeouts()), Verdict::Complete("2 of 2 workers registered".into()));
    }

    #[test]
    fn a_name_joins_once_and_a_full_generation_takes_nobody() {
        let mut one = Membership::new(1, 0);
        assert!(one.join(member("worker-0", 0)));
        assert!(!one.join(member("worker-0", 0)));
        assert!(!one.join(member("worker-1", 0)));
    }

    #[test]
    fn workers_that_never_come_are_missed_at_the_deadline() {
        let mut two = Membership::new(2, 1000);
        two.join(member("worker-1", 31_000));
        assert!(matches!(two.review(30_999, &timeouts()), Verdict::Wait(_)));
        assert_eq!(two.review(31_000, &timeouts()), Verdict::Incomplete(1));
    }

    #[test]
    fn a_cluster_without_room_is_waited_for_until_there_are_enough() {
        let mut three = Membership::new(3, 1000);
        three.patience = Some(Patience { at_least: 2, within_ms: 5000 });
        three.join(member("worker-1", 86_400_000));
        assert!(matches!(three.review(86_400_000, &timeouts()), Verdict::Wait(_)), "one of two that are needed");
        three.join(member("worker-0", 86_400_000));
        assert_eq!(three.review(86_400_000, &timeouts()), Verdict::Incomplete(2));
    }

    #[test]
    fn a_seat_is_the_one_it_had_or_would_have_or_any() {
        let at = |name: &str, host: &str| Member { host: host.into(), ..member(name, 0) };
        let mut two = Membership::new(2, 0);
        assert_eq!(two.seat("pod-5", Some(5)), Some(0), "a rank beyond the world is none");
        two.join(at("worker-1", "pod-1"));
        assert_eq!(two.seat("pod-1", Some(0)), Some(1), "it is back");
        assert_eq!(two.seat("pod-2", Some(1)), Some(0));
        two.join(at("worker-0", "pod-2"));
        assert_eq!(two.seat("pod-3", Some(0)), None);
    }

    #[test]
    fn a_silent_worker_is_lost_after_detect_within() {
        let mut one = Membership::new(1, 0);
        one.join(member("worker-0", 1000));
        one.formed = true;
        assert!(matches!(one.review(5999, &timeouts()), Verdict::Wait(_)));
        assert_eq!(one.review(6000, &timeouts()), lost("was silent for 5.0 s"));
    }

    #[test]
    fn a_broken_stream_waits_for_the_exit_report_but_not_for_long() {
        let mut one = Membership::new(1, 0);
        one.join(Member { broken_since: Some(2000), ..member("worker-0", 2000) });
        one.formed = true;
        assert!(matches!(one.review(2999, &timeouts()), Verdict::Wait(_)));
        assert_eq!(one.review(3000, &timeouts()), lost("lost its connection"));
    }

    #[test]
    fn time_in_which_nobody_listened_is_no_silence() {
        let mut two = Membership::new(2, 0);
        two.join(member("worker-0", 1000));
        two.stopping_since = Some(1000);
        two.forgive(3_600_000);
        assert!(matches!(two.review(3_605_999, &timeouts()), Verdict::Wait(_)));
        assert!(matches!(two.review(3_606_000, &timeouts()), Verdict::Lost { .. }));
    }

    #[test]
    fn saving_has_a_deadline() {
        let mut one = Membership::new(1, 0);
        one.join(member("worker-0", 100_000));
        one.formed = true;
        one.stopping_since = Some(40_000);
        assert_eq!(one.review(100_000, &timeouts()), Verdict::NotSaved("the state was not saved within 60 s".into()));
    }
}
