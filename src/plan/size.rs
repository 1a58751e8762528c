use std::collections::HashMap;

use crate::api::{MetricType, Sharing, SparkSessionPoolSpec};

/// Sessions per instance where the pool does not say.
const DEFAULT_SESSIONS_PER_INSTANCE: i32 = 20;

/// Instances that these sessions (by their users) ask for, within the pool's limits.
///
/// By `activeSessions`: the sessions divided by the target, and one instance more when the load per
/// instance is above `scaleUpThreshold`. Pools with a CPU or memory metric are sized by sessions
/// too, 20 per instance: the metrics API is not read here. `maxSessionsPerInstance` asks for more instances where the
/// target would have them hold more than that.
pub fn desired(spec: &SparkSessionPoolSpec, users: &[&str]) -> i32 {
    let needed = match spec.sharing {
        Sharing::Pool => shared(spec, users.len()),
        Sharing::User => of_each_user(users).values().map(|sessions| sessions.div_ceil(places(spec))).sum(),
        Sharing::Session => users.len(),
    };
    let needed = i32::try_from(needed).unwrap_or(i32::MAX);
    // A pool that was edited while its sessions run can have min above max only past validation.
    needed.max(spec.replicas.min).min(spec.replicas.max).max(0)
}

fn shared(spec: &SparkSessionPoolSpec, sessions: usize) -> usize {
    let target = target(spec);
    let base = sessions.div_ceil(target);
    let threshold: f64 = spec.scaling.scale_up_threshold.parse().unwrap_or(1.0);
    #[expect(clippy::cast_precision_loss, reason = "counts of sessions are far below 2^52")]
    let crowded = base > 0 && sessions as f64 > (base * target) as f64 * threshold;
    let base = base + usize::from(crowded && sessions > 1);
    base.max(sessions.div_ceil(places(spec)))
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
    let places = spec.scaling.max_sessions_per_instance.and_then(|places| usize::try_from(places).ok());
    places.unwrap_or(usize::MAX).max(1)
}

fn target(spec: &SparkSessionPoolSpec) -> usize {
    let metric = &spec.scaling.metrics;
    let target = match metric.metric_type {
        MetricType::ActiveSessions => metric.target_per_instance.unwrap_or(DEFAULT_SESSIONS_PER_INSTANCE),
        MetricType::Cpu | MetricType::Memory => DEFAULT_SESSIONS_PER_INSTANCE,
    };
    usize::try_from(target).unwrap_or(1).max(1)
}
