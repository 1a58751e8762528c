//! What the sessions' statuses and Events say, and when the objects of ended ones go.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::conditions::{self, Finding, seconds};
use super::outlook::{Outlook, describe_start};
use super::sessions::{Drafts, Verdict, why_waiting};
use super::{About, Action, Event, Plan};
use crate::api::{SessionState, SparkInteractiveSessionStatus};
use crate::model::{Instance, InstancePhase, Meta, Session};

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
            if !meta.held && !meta.deleting {
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

    /// The status of every session that changes, events about it, and the removal of those that
    /// ended long enough ago.
    pub fn report(&self, outlook: &Outlook, plan: &mut Plan) {
        let (reason, message) = why_waiting(self.view, outlook);
        let waiting = Standing::new(None, None, ready(false, reason, sentence(&message)));
        let standings: HashMap<&str, Standing<'_>> =
            self.instances.iter().map(|(name, instance)| (*name, Standing::on(instance))).collect();
        let ttl = self
            .view
            .pool
            .spec
            .session_policy
            .finished_ttl_minutes
            .map_or(DEFAULT_FINISHED_TTL, |minutes| SignedDuration::from_mins(minutes.into()));
        for draft in &self.drafts {
            let session = draft.session;
            if session.is_finished() {
                if !let_go(session, plan) {
                    remove_when_due(session, ttl, self.now, plan);
                }
                continue;
            }
            let own;
            let standing = match (&draft.verdict, draft.instance.and_then(|name| standings.get(name))) {
                (Some(verdict), _) if draft.state.is_finished() && session.meta.deleting => {
                    // Its status would be gone with it.
                    let_go(session, plan);
                    plan.actions.push(told(session, false, "SessionTerminated", verdict.message.clone()));
                    continue;
                }
                (Some(Verdict { reason, message }), on) => {
                    let endpoint =
                        on.and_then(|on| on.endpoint.clone()).filter(|_| !draft.state.is_finished());
                    own = Standing::new(draft.instance, endpoint, ready(false, reason, message.clone()));
                    &own
                }
                (None, Some(on)) if on.finding.status && draft.unused.is_some() => {
                    let finding =
                        ready(true, "Idle", draft.unused.map(|it| it.to_string()).unwrap_or_default());
                    own = Standing::new(on.instance, on.endpoint.clone(), finding);
                    &own
                }
                (None, Some(on)) => on,
                (None, None) => &waiting,
            };
            let state = match draft.state {
                SessionState::Pending if standing.activates => SessionState::Active,
                state => state,
            };
            if standing.is_told(session, state) {
                debug_assert_eq!(standing.status(session, state, self.now), planned_fields(session));
            } else {
                update_if_changed(session, standing.status(session, state, self.now), plan);
            }
        }
    }
}

/// What a session that is not over is told: the same for all on one instance, and for all that wait.
struct Standing<'a> {
    instance: Option<&'a str>,
    endpoint: Option<String>,
    /// A session that waits is active now.
    activates: bool,
    finding: Finding,
}

fn ready(status: bool, reason: &'static str, message: String) -> Finding {
    Finding { type_: "Ready", status, reason, message }
}

impl<'a> Standing<'a> {
    fn new(instance: Option<&'a str>, endpoint: Option<String>, finding: Finding) -> Self {
        Self { instance, endpoint, activates: false, finding }
    }

    fn on(instance: &'a Instance) -> Self {
        let name = &instance.name;
        let finding = match instance.phase {
            InstancePhase::Ready => ready(true, "Placed", format!("Served by instance {name}.")),
            InstancePhase::Draining => {
                let message = format!("Served by instance {name}, which takes no new sessions.");
                ready(true, "InstanceDraining", message)
            }
            _ => ready(false, "InstanceStarting", sentence(&describe_start(instance))),
        };
        let endpoint = instance.endpoint.map(|endpoint| endpoint.to_string());
        let activates = instance.phase == InstancePhase::Ready;
        Self { activates, ..Self::new(Some(name), endpoint, finding) }
    }

    /// Whether the session's status says so already, so that [`Self::status`] would change nothing. Nearly all
    /// sessions are told already, and making their statuses to find that out costs most of a plan.
    fn is_told(&self, session: &Session, state: SessionState) -> bool {
        let Finding { type_, status, reason, message } = &self.finding;
        let told = &session.status;
        let mut conditions = told.conditions.iter().filter(|condition| condition.type_ == *type_);
        let said = conditions.next().is_some_and(|condition| {
            condition.status == if *status { "True" } else { "False" }
                && condition.reason == *reason
                && condition.message == *message
                && condition.observed_generation == Some(session.meta.generation)
        });
        said && conditions.next().is_none()
            && told.conditions.is_sorted_by(|a, b| a.type_ <= b.type_)
            && told.state == state
            && !state.is_finished()
            && told.finished_at.is_none()
            && told.assigned_instance.as_deref() == self.instance
            && told.endpoint == self.endpoint
            && (session.spec.session_id.is_none() || told.session_id == session.spec.session_id)
            && told.created_at.is_some()
            && told.observed_generation == Some(session.meta.generation)
    }

    fn status(
        &self,
        session: &Session,
        state: SessionState,
        now: Timestamp,
    ) -> SparkInteractiveSessionStatus {
        let generation = session.meta.generation;
        SparkInteractiveSessionStatus {
            state,
            assigned_instance: self.instance.map(str::to_owned),
            endpoint: self.endpoint.clone(),
            session_id: session.spec.session_id.clone(),
            created_at: session.status.created_at.clone().or_else(|| Some(seconds(session.meta.created_at))),
            client_session_ids: Vec::new(),
            prepared_session_ids: Vec::new(),
            connections: Vec::new(),
            conf: None,
            wait: None,
            last_activity_at: None,
            released_at: None,
            finished_at: state.is_finished().then(|| seconds(now)),
            observed_generation: Some(generation),
            conditions: conditions::merge(
                &session.status.conditions,
                std::slice::from_ref(&self.finding),
                generation,
                now,
            ),
        }
    }
}

/// Sessions whose pool does not exist (any more): nothing can be done for them.
pub fn plan_without_pool(sessions: &[Arc<Session>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for session in sessions {
        if session.meta.deleting {
            // Its server goes with the pool: there is nothing to close.
            let_go(session, &mut plan);
            continue;
        }
        if session.is_finished() {
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

/// Takes the finalizer off, if it is there, and tells whether it was.
fn let_go(session: &Session, plan: &mut Plan) -> bool {
    let Meta { name, uid, held, .. } = &session.meta;
    if *held {
        let about = About::Session { name: name.clone(), uid: uid.clone() };
        plan.actions.push(Action::SetFinalizer { about, hold: false });
    }
    *held
}

fn told(session: &Session, warning: bool, reason: &'static str, note: String) -> Action {
    let about = About::Session { name: session.meta.name.clone(), uid: session.meta.uid.clone() };
    Action::Event(Event { about, warning, reason, note })
}

fn remove_when_due(session: &Session, ttl: SignedDuration, now: Timestamp, plan: &mut Plan) {
    let Some(at) = session.status.finished_at.as_ref().and_then(|at| at.0.checked_add(ttl).ok()) else {
        return;
    };
    if now < at {
        return plan.wake_at(at);
    }
    let (name, uid) = (session.meta.name.clone(), session.meta.uid.clone());
    plan.actions.push(Action::DeleteSession { name, uid });
}

/// The fields of a session's status that the planner owns. The session id is the broker's where the
/// spec has none: the first connection brings it.
fn planned_fields(session: &Session) -> SparkInteractiveSessionStatus {
    let session_id = session.spec.session_id.as_ref().and(session.status.session_id.clone());
    SparkInteractiveSessionStatus {
        session_id,
        client_session_ids: Vec::new(),
        connections: Vec::new(),
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
    let note = reason(&status).map(|(_, message)| message).unwrap_or_default();
    let news = |status: &SparkInteractiveSessionStatus| reason(status).map(|(reason, _)| reason);
    let event = match status.state {
        SessionState::Failed => Some((true, "SessionFailed")),
        SessionState::Terminated => Some((false, "SessionTerminated")),
        SessionState::Terminating if old.state != SessionState::Terminating => {
            Some((false, "SessionTerminating"))
        }
        SessionState::Active if !matches!(old.state, SessionState::Active | SessionState::Idle) => {
            Some((false, "SessionActive"))
        }
        SessionState::Pending if news(&old) != news(&status) => Some((false, "SessionWaiting")),
        _ => None,
    };
    plan.actions.push(Action::UpdateSessionStatus { session: name, uid, status: Box::new(status) });
    if let Some((warning, reason)) = event {
        plan.actions.push(told(session, warning, reason, note));
    }
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let rest = characters.as_str();
    let stop = if rest.ends_with(['.', '…', ')']) { "" } else { "." };
    format!("{first}{rest}{stop}")
}
