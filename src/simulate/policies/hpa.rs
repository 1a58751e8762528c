//! A HorizontalPodAutoscaler over the number of sessions, with its defaults, and somebody who starts and removes what it
//! says.
//!
//! Every 15 s it wants ceil(sessions / target) instances, unless the load is within 10 % of the target; at most twice as
//! many as there are, or four more; fewer only if it wanted fewer for 300 s; never none, since from none it cannot start.
//! What starts goes before what answers, and of that the newest: with its sessions, of which it knows nothing.

use std::cmp::Reverse;
use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::hands::{Hands, target};
use crate::model::{Instance, InstancePhase, PoolView};
use crate::plan::{Observations, Plan};
use crate::simulate::world::Planner;

const LOOKS_EVERY: SignedDuration = SignedDuration::from_secs(15);
const STABILIZATION: SignedDuration = SignedDuration::from_secs(300);
const TOLERANCE: f64 = 0.1;

#[derive(Default)]
pub struct Hpa {
    looks_at: Option<Timestamp>,
    replicas: usize,
    next_ordinal: i64,
    /// What it wanted, and when.
    wanted: VecDeque<(Timestamp, usize)>,
}

impl Planner for Hpa {
    fn plan(&mut self, view: &PoolView, _: &Observations, now: Timestamp) -> Plan {
        let mut hands = Hands::new(view, now);
        hands.end_and_admit();
        if self.looks_at.is_none_or(|at| at <= now) {
            self.replicas = self.look(view, now);
            self.looks_at = now.checked_add(LOOKS_EVERY).ok();
        }
        let mut existing: Vec<&Instance> =
            view.instances.iter().filter(|instance| instance.takes_sessions()).collect();
        if existing.len() < self.replicas {
            hands.create(self.replicas - existing.len(), &mut self.next_ordinal);
        }
        existing.sort_by_key(|instance| (instance.phase == InstancePhase::Ready, Reverse(instance.ordinal)));
        let surplus = existing.len().saturating_sub(self.replicas);
        for instance in existing.into_iter().take(surplus) {
            hands.delete(instance);
        }
        hands.place(|_| true, |_| true);
        hands.into_plan(self.looks_at)
    }
}

impl Hpa {
    fn look(&mut self, view: &PoolView, now: Timestamp) -> usize {
        let limit = |replicas: i32| usize::try_from(replicas).unwrap_or(0);
        let replicas = &view.pool.spec.replicas;
        let (min, max) = (limit(replicas.min).max(1), limit(replicas.max));
        let current = self.replicas;
        let sessions = view.sessions.iter().filter(|session| !session.is_finished()).count();
        let wanted =
            if current == 0 { min } else { wanted(sessions, current, target(view)) }.clamp(min, max.max(min));
        self.wanted.push_back((now, wanted));
        let old = |(at, _): &(Timestamp, usize)| now.duration_since(*at) > STABILIZATION;
        while self.wanted.front().is_some_and(old) {
            self.wanted.pop_front();
        }
        if wanted >= current {
            return if current == 0 { wanted } else { wanted.min((2 * current).max(current + 4)) };
        }
        let lately = self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(wanted);
        lately.min(current)
    }
}

fn wanted(sessions: usize, current: usize, target: usize) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "counts of sessions are far below 2^52")]
    let load = sessions as f64 / (current * target) as f64;
    if (load - 1.0).abs() <= TOLERANCE { current } else { sessions.div_ceil(target) }
}
