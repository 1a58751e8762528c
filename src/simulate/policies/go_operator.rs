//! The rule of the Go operator, which this one replaces.
//!
//! - It looks at a pool every 30 s, and once more when the pool's status has changed; instances that begin to answer, and
//!   sessions that come, are no reason to look.
//! - It wants ceil(sessions / target) instances. Where those that answer have more than `scaleUpThreshold` of the target
//!   on average, it wants one more *than those that answer*, whatever the first number was.
//! - A surplus goes if it has no session (or, without `drainBeforeScaleDown`, with those that it has), one cooldown after
//!   it last tried to shrink. Starting instances starts no cooldown.
//! - A session that finds no instance tries again every 10 s, and finds those that answered when the pool was last
//!   looked at.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::hands::{Hands, load, target, waits};
use crate::model::{Instance, InstancePhase, PoolView};
use crate::plan::{Observations, Plan};
use crate::simulate::world::Planner;

const LOOKS_EVERY: SignedDuration = SignedDuration::from_secs(30);
const TRIES_EVERY: SignedDuration = SignedDuration::from_secs(10);

#[derive(Default)]
pub struct GoOperator {
    looks_at: Option<Timestamp>,
    /// The pool's status: instances and whether they answer, and sessions.
    status: (Vec<(String, InstancePhase)>, usize),
    shrunk_at: Option<Timestamp>,
    next_ordinal: i64,
    /// When each waiting session tries again.
    tries_at: HashMap<String, Timestamp>,
}

impl Planner for GoOperator {
    fn plan(&mut self, view: &PoolView, _: &Observations, now: Timestamp) -> Plan {
        let mut hands = Hands::new(view, now);
        hands.end_and_admit();
        while self.looks_at.is_none_or(|at| at <= now) {
            let news = self.note(view);
            let changed = self.scale(view, now, &mut hands);
            self.looks_at = Some(if news { now } else { later(now, LOOKS_EVERY) });
            if changed {
                // Looks again with what it has done.
                self.looks_at = Some(now);
                break;
            }
        }
        self.place(view, now, &mut hands);
        let tries = self.tries_at.values().copied();
        let wake_at = tries.chain(self.looks_at).filter(|at| *at > now).min();
        hands.into_plan(wake_at)
    }
}

impl GoOperator {
    /// Writes the status; tells whether it has changed.
    fn note(&mut self, view: &PoolView) -> bool {
        let instances =
            view.instances.iter().map(|instance| (instance.name.clone(), instance.phase)).collect();
        let status = (instances, load(view).values().sum());
        std::mem::replace(&mut self.status, status) != self.status
    }

    /// Tells whether it did anything.
    fn scale<'a>(&mut self, view: &'a PoolView, now: Timestamp, hands: &mut Hands<'a>) -> bool {
        let of = |phase| view.instances.iter().filter(move |instance| instance.phase == phase);
        let ready = of(InstancePhase::Ready).count();
        let existing = ready + of(InstancePhase::Starting).count();
        let desired = desired(view, ready);
        if existing < desired {
            hands.create(desired - existing, &mut self.next_ordinal);
            return true;
        }
        let cooldown = SignedDuration::from_secs(view.pool.spec.scaling.cooldown_seconds.into());
        let cools = self.shrunk_at.is_some_and(|at| now <= later(at, cooldown));
        if ready <= desired || cools {
            return false;
        }
        self.shrunk_at = Some(now);
        let load = load(view);
        let kept = |instance: &&Instance| {
            !view.pool.spec.scaling.drain_before_scale_down || !load.contains_key(instance.name.as_str())
        };
        let surplus: Vec<&Instance> = of(InstancePhase::Ready).filter(kept).take(ready - desired).collect();
        surplus.iter().for_each(|instance| hands.delete(instance));
        !surplus.is_empty()
    }

    fn place(&mut self, view: &PoolView, now: Timestamp, hands: &mut Hands<'_>) {
        let answers =
            |(name, phase): &(String, InstancePhase)| (*phase == InstancePhase::Ready).then(|| name.clone());
        let known: BTreeSet<String> = self.status.0.iter().filter_map(answers).collect();
        let tries_at = &mut self.tries_at;
        hands.place(
            |instance| known.contains(instance),
            |session| {
                let at = tries_at.entry(session.meta.name.clone()).or_insert(now);
                let tries = *at <= now;
                if tries {
                    *at = later(now, TRIES_EVERY);
                }
                tries
            },
        );
        let waiting: BTreeSet<&str> =
            view.sessions.iter().filter(|session| waits(session)).map(|session| session.name()).collect();
        self.tries_at.retain(|session, _| waiting.contains(session.as_str()));
    }
}

fn desired(view: &PoolView, ready: usize) -> usize {
    let spec = &view.pool.spec;
    let target = target(view);
    let sessions = view.sessions.iter().filter(|session| !session.is_finished()).count();
    let mut desired = sessions.div_ceil(target);
    let threshold =
        spec.scaling.scale_up_threshold.parse().ok().filter(|threshold| *threshold > 0.0).unwrap_or(0.8);
    #[expect(clippy::cast_precision_loss, reason = "counts of sessions are far below 2^52")]
    let crowded = ready > 0 && sessions as f64 / ready as f64 > target as f64 * threshold;
    if crowded {
        desired = ready + 1;
    }
    let limit = |replicas: i32| usize::try_from(replicas).unwrap_or(0);
    desired.max(limit(spec.replicas.min)).min(limit(spec.replicas.max))
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
