//! How long the objects of sessions stay: finalizers, the removal of ended ones, and sessions without a pool.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::conditions::{self, seconds};
use super::past::session_in_the_past;
use super::session_status::{correct_times, planned_fields, ready, update_if_changed};
use super::sessions::Drafts;
use super::{About, Action, Plan};
use crate::api::{SessionPolicy, SessionState, SparkInteractiveSessionStatus};
use crate::model::{Meta, Session};

/// `sessionPolicy.finishedTtlMinutes` where the pool does not say.
const DEFAULT_FINISHED_TTL: SignedDuration = SignedDuration::from_mins(60);

/// A pool and a session that are applied together may be seen in either order.
const POOL_PATIENCE: SignedDuration = SignedDuration::from_secs(5);

impl Drafts<'_> {
    /// Has the objects of sessions that are on an instance stay until they are released there, and lets a deleted pool
    /// go when its last session has ended.
    pub fn hold(&self, plan: &mut Plan) {
        let pool = &self.view.pool.meta;
        let placed =
            self.drafts.iter().filter(|draft| !draft.state.is_finished() && draft.instance.is_some());
        let mut any = false;
        for draft in placed {
            any = true;
            let meta = &draft.session.meta;
            if !meta.held && !meta.deleting && !draft.is_left_alone() {
                let about = About::Session { name: meta.name.clone(), uid: meta.uid.clone() };
                plan.actions.push(Action::SetFinalizer { about, hold: true });
            }
        }
        let ended = || self.drafts.iter().all(|draft| draft.session.is_finished());
        let hold = any && !pool.deleting && !pool.held;
        if hold || (pool.deleting && pool.held && ended()) {
            let about = About::Pool { name: pool.name.clone(), uid: pool.uid.clone() };
            plan.actions.push(Action::SetFinalizer { about, hold });
        }
    }
}

pub(super) fn finished_ttl(policy: &SessionPolicy) -> SignedDuration {
    let minutes = policy.finished_ttl_minutes;
    minutes.map_or(DEFAULT_FINISHED_TTL, |minutes| SignedDuration::from_mins(minutes.into()))
}

/// Sessions whose pool does not exist (any more): nothing can be done for them.
pub fn plan_without_pool(sessions: &[Arc<Session>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for known in sessions {
        let session = &*session_in_the_past(known, now);
        if session.meta.deleting {
            // Its server goes with the pool: there is nothing to close.
            let_go(session, &mut plan);
            continue;
        }
        if session.is_finished() {
            correct_times(session, known, &mut plan);
            let_go(session, &mut plan);
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
        let finding = ready(false, reason, message);
        let status = SparkInteractiveSessionStatus {
            state,
            finished_at: Some(seconds(now)),
            endpoint: None,
            driver_uid: None,
            wait: None,
            prepared_session_ids: Vec::new(),
            setup_failures: Vec::new(),
            observed_generation: Some(session.meta.generation),
            conditions: conditions::merge(
                &session.status.conditions,
                &[finding],
                session.meta.generation,
                now,
            ),
            ..planned_fields(session)
        };
        update_if_changed(known, status, &mut plan);
    }
    plan
}

/// Sessions whose pool exists and cannot be read, as when its object is older or newer than this operator: nothing is
/// done about them, and nothing ends, but they say so.
pub fn plan_unreadable_pool(sessions: &[Arc<Session>], problem: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    // One that is ending goes on with the reason that its condition has.
    let told =
        |session: &&Arc<Session>| !session.is_finished() && session.status.state != SessionState::Terminating;
    for session in sessions.iter().filter(told) {
        let message = format!(
            "This operator cannot read SparkSessionPool {} ({}): the session is left as it is until it can.",
            session.spec.pool,
            problem.trim_end_matches('.')
        );
        let (told, generation) = (&session.status.conditions, session.meta.generation);
        let finding = ready(false, "PoolUnreadable", message);
        let status = SparkInteractiveSessionStatus {
            observed_generation: Some(generation),
            conditions: conditions::merge(told, &[finding], generation, now),
            ..planned_fields(session)
        };
        update_if_changed(session, status, &mut plan);
    }
    plan
}

/// Takes the finalizer off, if it is there, and tells whether it was.
pub(super) fn let_go(session: &Session, plan: &mut Plan) -> bool {
    let Meta { name, uid, held, .. } = &session.meta;
    if *held {
        let about = About::Session { name: name.clone(), uid: uid.clone() };
        plan.actions.push(Action::SetFinalizer { about, hold: false });
    }
    *held
}

pub(super) fn remove_when_due(session: &Session, ttl: SignedDuration, now: Timestamp, plan: &mut Plan) {
    let Some(at) = session.status.finished_at.as_ref().and_then(|at| at.0.checked_add(ttl).ok()) else {
        return;
    };
    if now < at {
        return plan.wake_at(at);
    }
    let (name, uid) = (session.meta.name.clone(), session.meta.uid.clone());
    plan.actions.push(Action::DeleteSession { name, uid });
}
