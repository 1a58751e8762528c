//! What the pool's status and its events say.

use std::collections::HashMap;

use jiff::Timestamp;

use super::certificate::CERTIFICATE_READY;
use super::conditions::{self, Finding, seconds};
use super::outlook::{Outlook, describe_failure, describe_start};
use super::sessions::Drafts;
use super::{About, Event, identity};
use crate::api::{InstanceState, InstanceStatus, SparkSessionPoolStatus};
use crate::model::{Instance, InstancePhase, Pool, PoolView};

pub fn pool_status(
    view: &PoolView,
    drafts: &Drafts<'_>,
    outlook: &Outlook,
    certificate: Option<&Finding>,
    now: Timestamp,
) -> SparkSessionPoolStatus {
    let load = drafts.load();
    let instances: Vec<_> = view
        .instances
        .iter()
        .map(|instance| instance_status(instance, load.get(instance.name.as_str()).copied().unwrap_or(0)))
        .collect();
    let old = &view.pool.status;
    let generation = view.pool.meta.generation;
    let mut findings = vec![accepted(view), ready(view, drafts, outlook)];
    findings.extend(certificate.cloned());
    findings.extend(identity::finding(view));
    // A pool that asks for no certificate any more says nothing of one.
    let mut conditions = old.conditions.clone();
    conditions.retain(|condition| certificate.is_some() || condition.type_ != CERTIFICATE_READY);
    SparkSessionPoolStatus {
        observed_generation: Some(generation),
        total_active_sessions: count(load.values().sum()),
        pending_sessions: count(drafts.waiting()),
        current_replicas: count(view.instances.iter().filter(|instance| instance.is_alive()).count()),
        ready_replicas: count(ready_count(view)),
        desired_replicas: outlook.desired,
        last_scale_time: if outlook.scaled { Some(seconds(now)) } else { old.last_scale_time.clone() },
        next_ordinal: outlook.next_ordinal,
        consecutive_failures: outlook.failures.consecutive,
        recent_start_seconds: recent_starts(view, now),
        last_failure_time: outlook.failures.last_time.map(seconds),
        last_failure_message: outlook.failures.last_message.clone(),
        conditions: conditions::merge(&conditions, &findings, generation, now),
        instances,
    }
}

/// Of instances that answer since the status was last written, beside those that it has.
fn recent_starts(view: &PoolView, now: Timestamp) -> Vec<i32> {
    const KEPT: usize = 8;
    // Longer is no start: the driver was started anew, or the clock jumped.
    const LONGEST: i64 = 3600;
    let old = &view.pool.status;
    let started =
        view.instances.iter().filter(|instance| instance.phase == InstancePhase::Ready).filter(|it| {
            let before = old.instances.iter().find(|old| old.name == it.name);
            before.is_some_and(|before| before.state == InstanceState::Pending)
        });
    let took = started.map(|instance| now.duration_since(instance.created_at).as_secs());
    let took = took.filter(|took| (0..=LONGEST).contains(took)).filter_map(|took| i32::try_from(took).ok());
    let all: Vec<i32> = old.recent_start_seconds.iter().copied().chain(took).collect();
    all[all.len().saturating_sub(KEPT)..].to_vec()
}

fn instance_status(instance: &Instance, sessions: usize) -> InstanceStatus {
    let message = match instance.phase {
        InstancePhase::Starting => Some(describe_start(instance)),
        InstancePhase::Failed => Some(describe_failure(instance)),
        InstancePhase::Draining => {
            Some(format!("takes no new sessions, and goes when the {sessions} it has have ended"))
        }
        InstancePhase::Ready | InstancePhase::Deleting => None,
    };
    InstanceStatus {
        name: instance.name.clone(),
        state: match instance.phase {
            InstancePhase::Starting => InstanceState::Pending,
            InstancePhase::Ready => InstanceState::Running,
            InstancePhase::Draining => InstanceState::Draining,
            InstancePhase::Failed => InstanceState::Failed,
            InstancePhase::Deleting => InstanceState::Terminated,
        },
        active_sessions: count(sessions),
        endpoint: instance.endpoint.map(|endpoint| endpoint.to_string()),
        spark_application_state: Some(instance.launcher_state.clone()).filter(|state| !state.is_empty()),
        driver_pod: instance.pod.as_ref().map(|(name, _)| name.clone()),
        created_at: Some(seconds(instance.created_at)),
        message,
    }
}

fn accepted(view: &PoolView) -> Finding {
    let (status, reason, message) = match &view.host_taken_by {
        None if view.host_invalid => {
            let message = format!(
                "Host {} is not a DNS name: lower-case letters, digits and hyphens, in labels separated by dots, \
                 without a wildcard and without a port. No client reaches the pool. Correct spec.host.",
                view.pool.spec.host.escape_debug()
            );
            (false, "InvalidHost", message)
        }
        None => (true, "Accepted", format!("Clients reach the pool at host {}.", view.pool.spec.host)),
        Some(other) => {
            let message = format!(
                "Host {} with type {} belongs to pool {other}, which is older. Choose another host, or delete one of \
                 the pools.",
                view.pool.spec.host,
                view.pool.protocol()
            );
            (false, "HostConflict", message)
        }
    };
    Finding { type_: "Accepted", status, reason, message }
}

fn ready(view: &PoolView, drafts: &Drafts<'_>, outlook: &Outlook) -> Finding {
    let ready = ready_count(view);
    let (status, reason, message) = if view.host_taken_by.is_some() {
        (false, "HostConflict", "Another pool has the host; see the condition Accepted.".to_owned())
    } else if view.host_invalid {
        (false, "InvalidHost", "No client can name the host; see the condition Accepted.".to_owned())
    } else if let Some(refusal) = &outlook.refusal {
        (false, "TemplateRefused", format!("The API server refuses the sparkApplicationTemplate: {refusal}"))
    } else if ready > 0 {
        (
            true,
            "InstancesReady",
            format!("{ready} of {} instance(s) answer.", outlook.desired.max(count(ready))),
        )
    } else if view.lacks_interceptor() {
        let message = "No server can be started; see the condition IdentityEnforced.";
        (false, "NoInterceptor", message.to_owned())
    } else if outlook.failures.consecutive > 0 {
        let cause = outlook.failures.last_message.clone().unwrap_or_default();
        let next =
            outlook.next_attempt.map(|at| format!("; next attempt at {}", seconds(at).0)).unwrap_or_default();
        (
            false,
            "InstanceFailed",
            format!("{} instance(s) in a row failed: {cause}{next}", outlook.failures.consecutive),
        )
    } else if outlook.desired > 0 || drafts.waiting() > 0 {
        (false, "InstancesStarting", format!("{} instance(s) are starting.", outlook.desired))
    } else {
        (true, "ScaledToZero", "No instance runs; the first user starts one.".to_owned())
    };
    Finding { type_: "Ready", status, reason, message }
}

/// What happened to the instances since the status was last written.
pub fn events(view: &PoolView, status: &SparkSessionPoolStatus, outlook: &Outlook) -> Vec<Event> {
    let pool = &view.pool;
    let before: HashMap<&str, InstanceState> =
        pool.status.instances.iter().map(|instance| (instance.name.as_str(), instance.state)).collect();
    let event = |warning, reason, note| {
        let about = About::Pool { name: pool.meta.name.clone(), uid: pool.meta.uid.clone() };
        Event { about, warning, reason, note }
    };
    let mut events = Vec::new();
    let sizes = |verb: &str, name: &str| {
        let (sessions, waiting) = (status.total_active_sessions, status.pending_sessions);
        format!(
            "{verb} instance {name}: {} wanted for {sessions} placed and {waiting} waiting session(s).",
            status.desired_replicas
        )
    };
    events.extend(outlook.created.iter().map(|name| event(false, "InstanceCreated", sizes("Created", name))));
    for instance in &view.instances {
        let was = before.get(instance.name.as_str()).copied();
        match instance.phase {
            InstancePhase::Ready if was != Some(InstanceState::Running) => {
                let endpoint = instance.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default();
                events.push(event(
                    false,
                    "InstanceReady",
                    format!("Instance {} answers at {endpoint}.", instance.name),
                ));
            }
            InstancePhase::Draining if was != Some(InstanceState::Draining) => {
                let note = format!(
                    "Instance {} takes no new sessions, and goes when those it has have ended.",
                    instance.name
                );
                events.push(event(false, "InstanceDraining", note));
            }
            // Once more when the end of its log is there.
            InstancePhase::Failed if was != Some(InstanceState::Failed) || news_of(pool, instance) => {
                let mut note = describe_failure(instance);
                note[..1].make_ascii_uppercase();
                events.push(event(true, "InstanceFailed", note));
            }
            _ => {}
        }
    }
    events.extend(outlook.removed.iter().map(|name| event(false, "InstanceRemoved", sizes("Removed", name))));
    for condition in &status.conditions {
        let old = pool.status.conditions.iter().find(|old| old.type_ == condition.type_);
        let bad = match (condition.type_.as_str(), condition.reason.as_str()) {
            ("Accepted", "HostConflict") => "HostConflict",
            ("Accepted", "InvalidHost") => "InvalidHost",
            (_, "TemplateRefused") => "TemplateRefused",
            ("IdentityEnforced", "NoInterceptor") => "NoInterceptor",
            ("IdentityEnforced", "OutdatedInstances") => "OutdatedInstances",
            _ => continue,
        };
        if old.is_none_or(|old| old.reason != condition.reason) {
            events.push(event(true, bad, condition.message.clone()));
        }
    }
    events
}

/// Whether the driver's last words are not in the status yet.
fn news_of(pool: &Pool, instance: &Instance) -> bool {
    let mut told = pool.status.instances.iter().filter(|told| told.name == instance.name);
    let told = told.next().and_then(|told| told.message.as_ref());
    instance.last_words.as_ref().is_some_and(|words| told.is_none_or(|told| !told.contains(words)))
}

fn ready_count(view: &PoolView) -> usize {
    view.instances.iter().filter(|instance| instance.phase == InstancePhase::Ready).count()
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
