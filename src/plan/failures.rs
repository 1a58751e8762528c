//! Instances that fail: how the failures are counted, when the next attempt is made, and when none is made any more.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::Plan;
use super::endings::after;
use super::outlook::describe_failure;
use crate::api::{InstanceState, InstanceStatus};
use crate::model::{Instance, InstancePhase, PoolView};

const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_secs(300);

/// A driver that fails after it has existed for this long has not failed to start: it is replaced at once, and such a
/// one ends the row of failures before it.
const STABLE_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// After so many failures in a row, sessions stop waiting for the next attempt.
pub const FAILURES_BEFORE_GIVING_UP: i32 = 3;

/// After so many in a row, some 25 minutes with the backoff, nothing is started any more until somebody acts. Those that were given
/// up do not count as the last of them: it may be a node's fault, or a want of nodes, and others come.
const FAILURES_BEFORE_STOPPING: i32 = 10;

/// Failures in a row, as the pool's status keeps them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failures {
    /// Instances that fail while the next attempt is awaited count as one: they were started together.
    pub consecutive: i32,
    pub last_time: Option<Timestamp>,
    /// When the newest of the instances that were counted was created. `None` also where an earlier version of the
    /// operator has counted.
    pub last_start: Option<Timestamp>,
    pub last_message: Option<String>,
}

impl Failures {
    /// As the status has them, and what has failed since it was written.
    pub fn count(view: &PoolView, now: Timestamp, plan: &mut Plan) -> Self {
        let status = &view.pool.status;
        let before = status.instances_by_name();
        let was = |instance: &Instance| before.get(instance.name.as_str()).map(|status| status.state);
        // Whatever it looked like since: one whose Pod is deleted looks as if it were starting before it is said to fail.
        let answered = |instance: &Instance| {
            before.get(instance.name.as_str()).is_some_and(|status| status.has_answered())
        };
        let mut failures = Self {
            consecutive: status.consecutive_failures,
            last_time: status.last_failure_time.as_ref().map(|time| time.0),
            last_start: status.last_failed_start_time.as_ref().map(|time| time.0),
            last_message: status.last_failure_message.clone(),
        };
        let changed = status.observed_generation.is_some_and(|seen| seen != view.pool.meta.generation);
        if changed || failures.are_over(view, now, plan) {
            failures = Self::default();
        }
        let awaited = failures.next_attempt().is_some_and(|at| now < at);
        let (mut counted, mut by_themselves) = (false, false);
        for instance in view.instances.iter().filter(|instance| instance.phase == InstancePhase::Failed) {
            if was(instance) != Some(InstanceState::Failed) {
                let stable = answered(instance) && after(instance.created_at, STABLE_AFTER) <= now;
                if !stable {
                    counted = true;
                    by_themselves |= !instance.given_up;
                    failures.last_start = failures.last_start.max(Some(instance.created_at));
                }
                failures.last_time = Some(now);
            }
            // Also of one that is counted already: its log is read after that. One that has come back has nothing to say.
            if was(instance) != Some(InstanceState::Failed) || explains_itself(instance) {
                failures.last_message = Some(describe_failure(instance));
            }
        }
        if counted && !awaited {
            let most = if by_themselves { i32::MAX } else { FAILURES_BEFORE_STOPPING - 1 };
            failures.consecutive = failures.consecutive.saturating_add(1).min(most.max(failures.consecutive));
        }
        failures
    }

    /// An instance that began to answer after the last failed attempt was begun has been there for long enough, or a newer
    /// one has answered and was given up. The time of the failure says nothing about that: a driver whose Pod is deleted is
    /// replaced at the first sign of it, and its failure is counted when the Pod is gone.
    fn are_over(&self, view: &PoolView, now: Timestamp, plan: &mut Plan) -> bool {
        if self.consecutive == 0 {
            return false;
        }
        // An earlier version has noted no start: what began after the failure is newer in any case.
        let Some(begun) = self.last_start.or(self.last_time) else { return false };
        let told = &view.pool.status.instances;
        let there: HashSet<&str> = view.instances.iter().map(|it| it.name.as_str()).collect();
        // Gone. One that is about to go may be said to fail yet, and those that have failed are not newer.
        let given_up = |told: &&InstanceStatus| {
            let newer = told.created_at.as_ref().is_some_and(|created| begun < created.0);
            newer && told.has_answered() && !there.contains(told.name.as_str())
        };
        if told.iter().filter(given_up).any(|told| told.state != InstanceState::Failed) {
            return true;
        }
        let answered_before = |told: &&InstanceStatus| {
            // Statuses of earlier versions have no time of the first answer.
            let at = told.ready_at.as_ref().or(told.created_at.as_ref());
            told.has_answered() && at.is_none_or(|at| at.0 <= begun)
        };
        let before: HashSet<&str> =
            told.iter().filter(answered_before).map(|told| told.name.as_str()).collect();
        let ready = view.instances.iter().filter(|instance| instance.phase == InstancePhase::Ready);
        let since = ready.filter(|it| !before.contains(it.name.as_str())).map(|it| it.created_at).min();
        let Some(over) = since.map(|since| after(since, STABLE_AFTER)) else { return false };
        if now < over {
            plan.wake_at(over);
        }
        over <= now
    }

    /// No instance is created before. Beyond the last attempt somebody else decides when: see [`Self::stop`].
    pub fn next_attempt(&self) -> Option<Timestamp> {
        let counts = (1..FAILURES_BEFORE_STOPPING).contains(&self.consecutive);
        let last = self.last_time.filter(|_| counts)?;
        let doublings = u32::try_from(self.consecutive - 1).unwrap_or(0).min(10);
        Some(after(last, (FIRST_BACKOFF * 2_i32.pow(doublings)).min(LONGEST_BACKOFF)))
    }

    /// Until then those that have failed stay, so that their logs can be read.
    pub fn kept_until(&self) -> Timestamp {
        let first = self.last_time.map_or(Timestamp::MIN, |last| after(last, FIRST_BACKOFF));
        self.next_attempt().map_or(first, |next| next.max(first))
    }

    /// Nothing more is started. Who deletes the instances that have failed asks for one more attempt.
    pub fn stop(&self, view: &PoolView) -> bool {
        self.consecutive >= FAILURES_BEFORE_STOPPING
            && view.instances.iter().any(|instance| instance.phase == InstancePhase::Failed)
    }
}

fn explains_itself(instance: &Instance) -> bool {
    instance.message.is_some() || instance.last_words.is_some()
}
