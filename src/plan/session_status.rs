//! What the sessions' statuses and Events say, and when the objects of ended ones go.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::conditions::{self, Finding, seconds};
use super::outlook::{Outlook, describe_start};
use super::sessions::{Draft, Drafts, why_waiting};
use super::{About, Action, Event, Plan};
use crate::api::{SessionState, SparkInteractiveSessionStatus};
use crate::model::{InstancePhase, Session};

/// `sessionPolicy.finishedTtlMinutes` where the pool does not say.
const DEFAULT_FINISHED_TTL: SignedDuration = SignedDuration::from_mins(60);

/// A pool and a session that are applied together may be seen in either order.
const POOL_PATIENCE: SignedDuration = SignedDuration::from_secs(5);

impl Drafts<'_> {
    /// The status of every session that changes, events about it, and the removal of those that
    /// ended long enough ago.
    pub fn report(&self, outlook: &Outlook, plan: &mut Plan) {
        let waiting = why_waiting(self.view, outlook);
        let ttl = self
            .view
            .pool
            .spec
            .session_policy
            .finished_ttl_minutes
            .map_or(DEFAULT_FINISHED_TTL, |minutes| SignedDuration::from_mins(minutes.into()));
        for draft in &self.drafts {
            let session = draft.session;
            let status = self.status_of(draft, &waiting);
            if session.is_finished() && remove_when_due(session, ttl, self.now, plan) {
                continue;
            }
            update_if_changed(session, status, plan);
        }
    }

    fn status_of(
        &self,
        draft: &Draft<'_>,
        waiting: &(&'static str, String),
    ) -> SparkInteractiveSessionStatus {
        let session = draft.session;
        if session.is_finished() {
            return planned_fields(session);
        }
        let instance = draft.instance.and_then(|name| self.instances.get(name));
        let mut state = draft.state;
        let (ready, reason, message) = match (&draft.verdict, instance) {
            (Some((reason, message)), _) => (false, *reason, message.clone()),
            (None, Some(instance)) if instance.phase == InstancePhase::Ready => {
                if state == SessionState::Pending {
                    state = SessionState::Active;
                }
                (true, "Placed", format!("Served by instance {}.", instance.name))
            }
            (None, Some(instance)) if instance.phase == InstancePhase::Draining => {
                let message = format!("Served by instance {}, which takes no new sessions.", instance.name);
                (true, "InstanceDraining", message)
            }
            (None, Some(instance)) => (false, "InstanceStarting", sentence(&describe_start(instance))),
            (None, None) => (false, waiting.0, sentence(&waiting.1)),
        };
        let finding = Finding { type_: "Ready", status: ready, reason, message };
        let finished = state.is_finished();
        SparkInteractiveSessionStatus {
            state,
            assigned_instance: draft.instance.map(str::to_owned),
            endpoint: instance
                .and_then(|instance| instance.endpoint)
                .filter(|_| !finished)
                .map(|at| at.to_string()),
            session_id: session.spec.session_id.clone(),
            created_at: session.status.created_at.clone().or_else(|| Some(seconds(session.meta.created_at))),
            last_activity_at: None,
            released_at: None,
            finished_at: finished.then(|| seconds(self.now)),
            observed_generation: Some(session.meta.generation),
            conditions: conditions::merge(
                &session.status.conditions,
                &[finding],
                session.meta.generation,
                self.now,
            ),
        }
    }
}

/// Sessions whose pool does not exist (any more): nothing can be done for them.
pub fn plan_without_pool(sessions: &[Arc<Session>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for session in sessions.iter().filter(|session| !session.meta.deleting) {
        if session.is_finished() {
            remove_when_due(session, DEFAULT_FINISHED_TTL, now, &mut plan);
            continue;
        }
        let patience = session.meta.created_at.checked_add(POOL_PATIENCE).unwrap_or(Timestamp::MAX);
        if session.status.assigned_instance.is_none() && now < patience {
            plan.wake_at(patience);
            continue;
        }
        let pool = &session.spec.pool;
        let (state, reason, message) = match session.status.assigned_instance {
            Some(_) => (SessionState::Terminated, "PoolDeleted", format!("Pool {pool} was deleted.")),
            None => {
                let message = format!(
                    "There is no SparkSessionPool named {pool} in this namespace. `kubectl get ssp` lists those there are."
                );
                (SessionState::Failed, "PoolNotFound", message)
            }
        };
        let finding = Finding { type_: "Ready", status: false, reason, message };
        let status = SparkInteractiveSessionStatus {
            state,
            finished_at: Some(seconds(now)),
            endpoint: None,
            observed_generation: Some(session.meta.generation),
            conditions: conditions::merge(
                &session.status.conditions,
                &[finding],
                session.meta.generation,
                now,
            ),
            ..planned_fields(session)
        };
        update_if_changed(session, status, &mut plan);
    }
    plan
}

/// Returns whether it is due.
fn remove_when_due(session: &Session, ttl: SignedDuration, now: Timestamp, plan: &mut Plan) -> bool {
    let Some(at) = session.status.finished_at.as_ref().and_then(|at| at.0.checked_add(ttl).ok()) else {
        return false;
    };
    if now < at {
        plan.wake_at(at);
        return false;
    }
    let (name, uid) = (session.meta.name.clone(), session.meta.uid.clone());
    plan.actions.push(Action::DeleteSession { name, uid });
    true
}

/// The fields of a session's status that the planner owns. The session id is the broker's where the
/// spec has none: the first connection brings it.
fn planned_fields(session: &Session) -> SparkInteractiveSessionStatus {
    let session_id = session.spec.session_id.as_ref().and(session.status.session_id.clone());
    SparkInteractiveSessionStatus {
        session_id,
        last_activity_at: None,
        released_at: None,
        ..session.status.clone()
    }
}

fn update_if_changed(session: &Session, status: SparkInteractiveSessionStatus, plan: &mut Plan) {
    let old = planned_fields(session);
    if status == old {
        return;
    }
    let reason = |status: &SparkInteractiveSessionStatus| {
        status.conditions.iter().find(|c| c.type_ == "Ready").map(|c| (c.reason.clone(), c.message.clone()))
    };
    let (name, uid) = (session.meta.name.clone(), session.meta.uid.clone());
    let about = About::Session { name: name.clone(), uid: uid.clone() };
    let note = reason(&status).map(|(_, message)| message).unwrap_or_default();
    let told = match status.state {
        SessionState::Failed => Some((true, "SessionFailed")),
        SessionState::Terminated => Some((false, "SessionTerminated")),
        SessionState::Active if old.state != SessionState::Active => Some((false, "SessionActive")),
        SessionState::Pending if reason(&old).map(|r| r.0) != reason(&status).map(|r| r.0) => {
            Some((false, "SessionWaiting"))
        }
        _ => None,
    };
    plan.actions.push(Action::UpdateSessionStatus { session: name, uid, status: Box::new(status) });
    if let Some((warning, reason)) = told {
        plan.actions.push(Action::Event(Event { about, warning, reason, note }));
    }
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let rest = characters.as_str();
    let stop = if rest.ends_with(['.', '…', ')']) { "" } else { "." };
    format!("{first}{rest}{stop}")
}
