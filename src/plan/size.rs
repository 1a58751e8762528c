//! How many instances a pool needs, and why. Nothing here knows how long it has needed them: see `super::shrinking`.

use std::collections::HashMap;

use super::counts::{count, int32};
use super::utilization::{Advice, Finding};
use crate::api::{Sharing, SparkSessionPoolSpec};

/// What the load asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Instances, within the pool's limits.
    pub desired: i32,
    /// A clause: "84 sessions at target 20".
    pub why: String,
    /// The load cannot be measured: the present number of instances stays.
    pub unmeasured: bool,
    /// It asks for more than `replicas.max`.
    pub limited: bool,
}

/// Instances that these sessions (by their users) ask for, within the pool's limits, where it has `present` of them.
///
/// By `activeSessions`: the sessions divided by the target. One instance more when the sessions are more than
/// `scaleUpThreshold` of the places that those have; and not fewer than there are, unless the sessions are less than
/// `scaleDownThreshold` of the places that all have. Spare instances come on top while the pool is in use.
/// `maxSessionsPerInstance` asks for more where the target would have an instance hold more than that.
///
/// By `cpu` and `memory`: what `measured` says, and spare instances. Drivers that are not shared are counted by those
/// who need one, whatever they use; `occupied` are those that take sessions and have some, each with the owners of its
/// sessions. No session moves: who is on a driver with others, from a time when it was shared, needs none for that session.
pub fn size(
    spec: &SparkSessionPoolSpec,
    users: &[&str],
    occupied: &[Vec<&str>],
    present: i32,
    measured: Option<&Advice>,
) -> Size {
    let measured = measured.filter(|_| spec.sharing == Sharing::Pool);
    // Who keeps what is there for want of figures adds no spare ones to it, or would do so again and again.
    let holds = measured.is_some_and(Advice::holds);
    let spare = if holds { 0 } else { spare(spec, users.len()) };
    let (needed, mut why) = match spec.sharing {
        Sharing::Pool => match measured {
            Some(advice) => by_use(spec, users.len(), spare, advice),
            None => shared(spec, users.len(), spare, count(present)),
        },
        Sharing::User => {
            let needed = occupied.len() + drivers_for_users(users, occupied, places(spec));
            let owners = of_each_user(users).len();
            let shared = occupied.iter().filter(|owners| !is_one_user_s(owners)).count();
            let shared = still_shared(shared, "sessions of several users");
            (needed + spare, format!("{} of {owners} user(s){shared}", sessions(users.len())))
        }
        Sharing::Session => {
            let placed: usize = occupied.iter().map(Vec::len).sum();
            let needed = occupied.len() + users.len().saturating_sub(placed);
            let shared = occupied.iter().filter(|owners| owners.len() > 1).count();
            let shared = still_shared(shared, "several sessions");
            (needed + spare, format!("{}, each on a driver of its own{shared}", sessions(users.len())))
        }
    };
    let unmeasured = measured.is_some_and(|advice| advice.finding == Finding::Unmeasured);
    if spare > 0 {
        why.push_str(&format!(" and {spare} spare"));
    }
    let needed = int32(needed);
    // A pool that was edited while its sessions run can have min above max only past validation.
    let desired = needed.max(spec.replicas.min).min(spec.replicas.max).max(0);
    if desired > needed {
        why.push_str(&format!(", and replicas.min is {}", spec.replicas.min));
    } else if desired < needed {
        why.push_str(&format!(" would need {needed}, and replicas.max is {}", spec.replicas.max));
    }
    Size { desired, why, unmeasured, limited: desired < needed }
}

fn shared(spec: &SparkSessionPoolSpec, n: usize, spare: usize, present: usize) -> (usize, String) {
    let target = target(spec);
    let base = n.div_ceil(target);
    let up = fraction(&spec.scaling.scale_up_threshold, 1.0);
    let crowded = base > 0 && n > 1 && above(n, base * target, up);
    let by_places = n.div_ceil(places(spec));
    let needed = (base + usize::from(crowded)).max(base.max(by_places) + spare);
    let mut why = format!("{} at target {target}", sessions(n));
    if by_places > base + usize::from(crowded) {
        why.push_str(&format!(", at most {} on an instance", places(spec)));
    } else if crowded {
        why.push_str(&format!(", more than {} % of {base} instance(s)", percent(up)));
    }
    let down = fraction(&spec.scaling.scale_down_threshold, 0.0);
    // In a pool without sessions, and where all that there are are spare, nothing is held.
    let used = present.saturating_sub(spare);
    if needed < present && n > 0 && used > 0 && !below(n, used * target, down) {
        why.push_str(&format!(", no less than {} % of {used} instance(s)", percent(down)));
        return (present, why);
    }
    (needed, why)
}

fn by_use(spec: &SparkSessionPoolSpec, n: usize, spare: usize, advice: &Advice) -> (usize, String) {
    let (at_least, by_places) = (count(advice.at_least), n.div_ceil(places(spec)));
    // What is there may have a spare one among it already.
    let needed = count(advice.instances).max(at_least.max(by_places) + spare);
    if by_places > at_least && needed > count(advice.instances) {
        return (needed, format!("{}, at most {} on an instance", sessions(n), places(spec)));
    }
    (needed, advice.reason.clone())
}

/// Whether `n` is more than this part of `of`.
#[expect(clippy::cast_precision_loss, reason = "counts of sessions are far below 2^52")]
fn above(n: usize, of: usize, part: f64) -> bool {
    n as f64 > of as f64 * part + 1e-9
}

#[expect(clippy::cast_precision_loss, reason = "counts of sessions are far below 2^52")]
fn below(n: usize, of: usize, part: f64) -> bool {
    (n as f64) < of as f64 * part - 1e-9
}

fn fraction(text: &str, default: f64) -> f64 {
    text.parse().unwrap_or(default)
}

#[expect(clippy::cast_possible_truncation, reason = "a fraction from 0 to 1")]
fn percent(fraction: f64) -> i64 {
    (fraction * 100.0).round() as i64
}

fn sessions(n: usize) -> String {
    if n == 1 { "1 session".to_owned() } else { format!("{n} sessions") }
}

/// Instances beyond what is needed. A pool that may go to zero and has no session keeps none.
fn spare(spec: &SparkSessionPoolSpec, sessions: usize) -> usize {
    let in_use = sessions > 0 || spec.replicas.min > 0;
    spec.scaling.spare_instances.filter(|_| in_use).map_or(0, count)
}

/// Drivers for the sessions that are on none, beside the `occupied` ones. A user's sessions fit on what only they use.
fn drivers_for_users(users: &[&str], occupied: &[Vec<&str>], places: usize) -> usize {
    let mut without_place = of_each_user(users);
    for owner in occupied.iter().flatten() {
        without_place.entry(owner).and_modify(|sessions| *sessions = sessions.saturating_sub(1));
    }
    for owners in occupied.iter().filter(|owners| is_one_user_s(owners)) {
        let free = places.saturating_sub(owners.len());
        if let Some(sessions) = owners.first().and_then(|owner| without_place.get_mut(owner)) {
            *sessions = sessions.saturating_sub(free);
        }
    }
    without_place.values().map(|sessions| sessions.div_ceil(places)).sum()
}

fn is_one_user_s(owners: &[&str]) -> bool {
    owners.windows(2).all(|pair| pair[0] == pair[1])
}

/// A clause about drivers that were shared before the pool's `sharing` was changed.
fn still_shared(drivers: usize, has: &str) -> String {
    match drivers {
        0 => String::new(),
        1 => format!(", and 1 driver has {has}"),
        n => format!(", and {n} drivers have {has}"),
    }
}

fn of_each_user<'a>(users: &[&'a str]) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    for user in users {
        *counts.entry(*user).or_default() += 1;
    }
    counts
}

/// Sessions that an instance takes at most.
fn places(spec: &SparkSessionPoolSpec) -> usize {
    spec.scaling.max_sessions_per_instance.map_or(usize::MAX, count).max(1)
}

/// Sessions that an instance is meant to have.
pub fn target(spec: &SparkSessionPoolSpec) -> usize {
    count(spec.scaling.metrics.sessions_per_instance()).max(1)
}
