//! What the pool's status says.

use std::collections::HashMap;

use jiff::Timestamp;

use super::application::POOL_LABEL;
use super::certificate::CERTIFICATE_READY;
use super::conditions::{self, Finding, seconds};
use super::counts::int32;
use super::outlook::{Outlook, describe_failure, describe_start};
use super::sessions::Drafts;
use super::{drains, identity, pool_conditions, reasons};
use crate::api::{InstanceState, InstanceStatus, SparkSessionPoolStatus};
use crate::model::{Instance, InstancePhase, PoolView};

pub fn pool_status(
    view: &PoolView,
    drafts: &Drafts<'_>,
    outlook: &Outlook,
    certificate: Option<&Finding>,
    now: Timestamp,
) -> SparkSessionPoolStatus {
    let (load, before) = (drafts.load(), view.pool.status.instances_by_name());
    let instances: Vec<_> = view
        .instances
        .iter()
        .map(|instance| {
            let sessions = load.get(instance.name.as_str()).copied().unwrap_or(0);
            let before = before.get(instance.name.as_str()).copied();
            instance_status(view, outlook, instance, before, sessions, now)
        })
        .collect();
    let old = &view.pool.status;
    let generation = view.pool.meta.generation;
    let mut findings = vec![
        pool_conditions::accepted(view),
        pool_conditions::ready(view, drafts, outlook, now),
        pool_conditions::scaled(view, outlook, now),
        pool_conditions::up_to_date(view, outlook),
    ];
    findings.extend(certificate.cloned());
    findings.extend(identity::finding(view));
    debug_assert!(findings.iter().all(reasons::lists_of_pool), "not on the page of reasons: {findings:?}");
    // A pool that asks for no certificate any more says nothing of one.
    let mut conditions = old.conditions.clone();
    conditions.retain(|condition| certificate.is_some() || condition.type_ != CERTIFICATE_READY);
    SparkSessionPoolStatus {
        observed_generation: Some(generation),
        total_active_sessions: int32(load.values().sum()),
        pending_sessions: int32(drafts.waiting()),
        current_replicas: int32(view.instances.iter().filter(|instance| instance.is_alive()).count()),
        ready_replicas: int32(view.ready_count()),
        desired_replicas: outlook.size.desired,
        selector: Some(format!("{POOL_LABEL}={}", view.pool.name())),
        last_scale_time: if outlook.resized.is_some() {
            Some(seconds(now))
        } else {
            old.last_scale_time.clone()
        },
        scale_down: outlook.scale_down.clone(),
        next_ordinal: outlook.next_ordinal,
        consecutive_failures: outlook.failures.consecutive,
        recent_start_seconds: recent_starts(view, &before, now),
        last_failure_time: outlook.failures.last_time.map(seconds),
        last_failed_start_time: outlook.failures.last_start.map(seconds),
        last_failure_message: outlook.failures.last_message.clone(),
        conditions: conditions::merge(&conditions, &findings, generation, now),
        instances,
    }
}

/// Of instances that answer since the status was last written, beside those that it has.
fn recent_starts(view: &PoolView, before: &HashMap<&str, &InstanceStatus>, now: Timestamp) -> Vec<i32> {
    const KEPT: usize = 8;
    // Longer is no start: the driver was started anew, or the clock jumped.
    const LONGEST: i64 = 3600;
    let old = &view.pool.status;
    let started =
        view.instances.iter().filter(|instance| instance.phase == InstancePhase::Ready).filter(|it| {
            before
                .get(it.name.as_str())
                .is_some_and(|before| before.state == InstanceState::Pending && before.ready_at.is_none())
        });
    let took = started.map(|instance| now.duration_since(instance.created_at).as_secs());
    let took = took.filter(|took| (0..=LONGEST).contains(took)).filter_map(|took| i32::try_from(took).ok());
    let all: Vec<i32> = old.recent_start_seconds.iter().copied().chain(took).collect();
    all[all.len().saturating_sub(KEPT)..].to_vec()
}

fn instance_status(
    view: &PoolView,
    outlook: &Outlook,
    instance: &Instance,
    before: Option<&InstanceStatus>,
    sessions: usize,
    now: Timestamp,
) -> InstanceStatus {
    let drain = outlook.drains.get(&instance.name);
    let state = match instance.phase {
        InstancePhase::Failed => InstanceState::Failed,
        InstancePhase::Deleting => InstanceState::Terminated,
        _ if drain.is_some() => InstanceState::Draining,
        InstancePhase::Starting => InstanceState::Pending,
        // One that drains no more is one that answers: others are removed without draining.
        InstancePhase::Ready | InstancePhase::Draining => InstanceState::Running,
    };
    let message = match state {
        InstanceState::Pending => Some(describe_start(instance)),
        InstanceState::Failed => Some(describe_failure(instance)),
        InstanceState::Draining => drain.map(|drain| {
            let why = drains::why(drain.reason);
            let at =
                drains::deadline(&view.pool, drain).map(|at| format!(", at {} at the latest", seconds(at).0));
            let at = at.unwrap_or_default();
            format!("takes no new sessions, since {why}, and goes when the {sessions} it has have ended{at}")
        }),
        InstanceState::Running | InstanceState::Terminated => None,
    };
    InstanceStatus {
        name: instance.name.clone(),
        state,
        active_sessions: int32(sessions),
        endpoint: instance.endpoint.map(|endpoint| endpoint.to_string()),
        spark_application_state: Some(instance.launcher_state.clone()).filter(|state| !state.is_empty()),
        driver_pod: instance.pod.as_ref().map(|(name, _)| name.clone()),
        created_at: Some(seconds(instance.created_at)),
        ready_at: before
            .and_then(|before| before.ready_at.clone())
            .or_else(|| (instance.phase == InstancePhase::Ready).then(|| seconds(now))),
        drain: drain.filter(|_| state == InstanceState::Draining).cloned(),
        outdated: outlook.outdated.contains(&instance.name),
        message,
    }
}
