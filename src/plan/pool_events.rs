//! What is told of a pool in Events: what happened since its status was last written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::seconds;
use super::drains;
use super::outlook::{Outlook, describe_failure};
use super::reasons;
use super::{About, Event};
use crate::api::{InstanceState, InstanceStatus, SparkSessionPoolStatus};
use crate::model::{Instance, InstancePhase, PoolView};

pub(super) const SCALED_UP: &str = "ScaledUp";
const INSTANCE_TAKEN_BACK: &str = "InstanceTakenBack";
pub(super) const INSTANCE_CREATED: &str = "InstanceCreated";

pub(super) fn created(instance: &str) -> String {
    format!("Created instance {instance}.")
}

pub(super) const INSTANCE_REMOVED: &str = "InstanceRemoved";
pub(super) const INSTANCE_ADOPTED: &str = "InstanceAdopted";

pub(super) fn removed(instance: &str) -> String {
    format!("Removed instance {instance}.")
}

pub(super) fn adopted(instance: &str) -> String {
    format!("SparkApplication {instance}, which nobody owned, is an instance of this pool.")
}

fn taken_back(instance: &str) -> String {
    format!("Instance {instance}, which was about to go, takes sessions again.")
}

/// What happened to the instances since the status was last written.
pub fn events(view: &PoolView, status: &SparkSessionPoolStatus, outlook: &Outlook) -> Vec<Event> {
    let pool = &view.pool;
    let before = pool.status.instances_by_name();
    let event = |warning, reason, note| {
        let about = About::Pool { name: pool.meta.name.clone(), uid: pool.meta.uid.clone() };
        Event { about, warning, reason, note }
    };
    let mut events = Vec::new();
    if let Some((from, to)) = outlook.resized {
        let reason = if from < to { SCALED_UP } else { "ScaledDown" };
        events.push(event(false, reason, format!("{from} → {to}: {}.", outlook.size.why)));
    }
    events.extend(outlook.created.iter().map(|name| event(false, INSTANCE_CREATED, created(name))));
    for (name, drain) in &outlook.drains {
        if before.get(name.as_str()).map(|told| told.state) != Some(InstanceState::Draining) {
            let at = drains::deadline(pool, drain).map(|at| format!(", at {} at the latest", seconds(at).0));
            let note = format!(
                "Instance {name} takes no new sessions, since {}, and goes when those it has have ended{}.",
                drains::why(drain.reason),
                at.unwrap_or_default()
            );
            events.push(event(false, "InstanceDraining", note));
        }
    }
    for name in &outlook.taken_back {
        events.push(event(false, INSTANCE_TAKEN_BACK, taken_back(name)));
    }
    for instance in &view.instances {
        let told = before.get(instance.name.as_str()).copied();
        let was = told.map(|told| told.state);
        match instance.phase {
            InstancePhase::Ready if was == Some(InstanceState::Draining) => {
                let told = outlook.taken_back.contains(&instance.name)
                    || outlook.drains.contains_key(&instance.name);
                events.extend((!told).then(|| event(false, INSTANCE_TAKEN_BACK, taken_back(&instance.name))));
            }
            InstancePhase::Ready if was != Some(InstanceState::Running) => {
                let endpoint = instance.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default();
                events.push(event(
                    false,
                    "InstanceReady",
                    format!("Instance {} answers at {endpoint}.", instance.name),
                ));
            }
            InstancePhase::Failed if was != Some(InstanceState::Failed) => {
                let mut note = describe_failure(instance);
                note[..1].make_ascii_uppercase();
                events.push(event(true, "InstanceFailed", note));
            }
            // Read after it was told.
            InstancePhase::Failed if has_news(instance, told) => {
                let words = instance.last_words.as_deref().unwrap_or_default();
                let note = format!("The log of instance {}'s driver ends: {words}", instance.name);
                events.push(event(true, "InstanceFailed", note));
            }
            _ => {}
        }
    }
    events.extend(outlook.removed.iter().map(|name| event(false, INSTANCE_REMOVED, removed(name))));
    for condition in &status.conditions {
        let old = pool.status.conditions.iter().find(|old| old.type_ == condition.type_);
        let told = match (condition.type_.as_str(), condition.reason.as_str()) {
            ("UpToDate", "UpToDate") if old.is_some() => Some((false, "RolledOut")),
            // The same rollout, with another attempt.
            ("UpToDate", "RollingOut")
                if outlook.failures.consecutive > 0 && old.is_some_and(|old| old.reason == "BackingOff") =>
            {
                None
            }
            (type_, reason) => reasons::told(type_, reason),
        };
        if let Some((warning, reason)) = told
            && old.is_none_or(|old| old.reason != condition.reason)
            && !is_told_by_another(condition, &status.conditions)
        {
            events.push(event(warning, reason, condition.message.clone()));
        }
    }
    events
}

/// Whether a condition that says more of the pool as a whole has the same reason.
fn is_told_by_another(condition: &Condition, all: &[Condition]) -> bool {
    const IN_ORDER: [&str; 3] = ["Ready", "Scaled", "UpToDate"];
    let Some(place) = IN_ORDER.iter().position(|type_| *type_ == condition.type_) else { return false };
    let same =
        |it: &Condition| IN_ORDER[..place].contains(&it.type_.as_str()) && it.reason == condition.reason;
    all.iter().any(same)
}

/// Whether the driver's last words are not in the status yet.
fn has_news(instance: &Instance, told: Option<&InstanceStatus>) -> bool {
    let told = told.and_then(|told| told.message.as_ref());
    instance.last_words.as_ref().is_some_and(|words| told.is_none_or(|told| !told.contains(words)))
}
