//! Which sessions get in, where they are placed, and when they end.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::conditions::{self, Finding, seconds};
use super::instances::{FAILURES_BEFORE_GIVING_UP, Outlook, describe_start};
use super::{About, Action, Event, Plan, quota};
use crate::api::{SessionState, Sharing, SparkInteractiveSessionStatus};
use crate::model::{Instance, InstancePhase, PoolView, Protocol, Session};

/// Where the pool does not say: `sessionPolicy.startTimeoutSeconds`, `finishedTtlMinutes`.
const DEFAULT_START_TIMEOUT: SignedDuration = SignedDuration::from_mins(15);
const DEFAULT_FINISHED_TTL: SignedDuration = SignedDuration::from_mins(60);

/// The sessions of a pool while the plan is made: each starts as its status says.
pub struct Drafts<'a> {
    view: &'a PoolView,
    now: Timestamp,
    instances: HashMap<&'a str, &'a Instance>,
    drafts: Vec<Draft<'a>>,
}

struct Draft<'a> {
    session: &'a Session,
    state: SessionState,
    instance: Option<&'a str>,
    verdict: Option<(&'static str, String)>,
}

impl Draft<'_> {
    /// Holds a place in the quota.
    fn counts(&self) -> bool {
        !self.state.is_finished()
    }

    fn waits(&self) -> bool {
        self.counts() && self.instance.is_none()
    }

    fn end(&mut self, state: SessionState, reason: &'static str, message: String) {
        self.state = state;
        self.verdict = Some((reason, message));
    }
}

impl<'a> Drafts<'a> {
    pub fn new(view: &'a PoolView, now: Timestamp) -> Self {
        let drafts = view.sessions.iter().filter(|session| !session.meta.deleting);
        let drafts = drafts
            .map(|session| Draft {
                session,
                state: session.status.state,
                instance: session.status.assigned_instance.as_deref().filter(|_| !session.is_finished()),
                verdict: None,
            })
            .collect();
        let instances = view.instances.iter().map(|instance| (instance.name.as_str(), instance)).collect();
        Self { view, now, instances, drafts }
    }

    /// An instance that is gone takes its Connect sessions with it: their temporary views and
    /// cached data were there. A Thrift session is opened anew elsewhere.
    pub fn release_lost(&mut self) {
        for draft in &mut self.drafts {
            let Some(name) = draft.instance else { continue };
            if self.instances.get(name).is_some_and(|instance| instance.is_alive()) {
                continue;
            }
            draft.instance = None;
            match self.view.pool.protocol() {
                Protocol::Connect => {
                    let message =
                        format!("Instance {name}, which held this session, is gone. Start a new session.");
                    draft.end(SessionState::Terminated, "InstanceLost", message);
                }
                Protocol::Thrift => draft.state = SessionState::Pending,
            }
        }
    }

    /// Sessions that have a place keep it; the others are counted in the order in which they came.
    pub fn admit(&mut self) {
        let policy = &self.view.pool.spec.session_policy;
        let mut of_user: HashMap<&str, usize> = HashMap::new();
        let mut in_total = 0;
        for draft in self.drafts.iter().filter(|draft| draft.counts() && draft.instance.is_some()) {
            *of_user.entry(&draft.session.spec.user).or_default() += 1;
            in_total += 1;
        }
        for draft in self.drafts.iter_mut().filter(|draft| draft.counts() && draft.instance.is_none()) {
            let spec = &draft.session.spec;
            let count = of_user.entry(&spec.user).or_default();
            match quota::check(policy, self.view.pool.name(), &spec.user, &spec.groups, *count, in_total) {
                Ok(()) => {
                    *count += 1;
                    in_total += 1;
                }
                Err(exceeded) => draft.end(SessionState::Failed, "QuotaExceeded", exceeded.to_string()),
            }
        }
    }

    /// The owner of every session that needs a place, one entry a session.
    pub fn users(&self) -> Vec<&'a str> {
        self.drafts
            .iter()
            .filter(|draft| draft.counts())
            .map(|draft| draft.session.spec.user.as_str())
            .collect()
    }

    /// Sessions by instance.
    pub fn load(&self) -> HashMap<&'a str, usize> {
        let mut load = HashMap::new();
        for instance in self.drafts.iter().filter(|draft| draft.counts()).filter_map(|draft| draft.instance) {
            *load.entry(instance).or_default() += 1;
        }
        load
    }

    pub fn waiting(&self) -> usize {
        self.drafts.iter().filter(|draft| draft.waits()).count()
    }

    /// Gives each waiting session the least-loaded instance that answers and that it may share.
    pub fn place(&mut self, removed: &[String]) {
        let mut users: HashMap<&'a str, Vec<&'a str>> = HashMap::new();
        for draft in self.drafts.iter().filter(|draft| draft.counts()) {
            if let Some(instance) = draft.instance {
                users.entry(instance).or_default().push(&draft.session.spec.user);
            }
        }
        let sharing = self.view.pool.spec.sharing;
        let ready: Vec<&'a Instance> = self
            .view
            .instances
            .iter()
            .filter(|instance| instance.phase == InstancePhase::Ready && !removed.contains(&instance.name))
            .collect();
        for draft in self.drafts.iter_mut().filter(|draft| draft.waits()) {
            let user = draft.session.spec.user.as_str();
            let load = |instance: &Instance| users.get(instance.name.as_str()).map_or(0, Vec::len);
            let shares = |instance: &Instance| match sharing {
                Sharing::Pool => true,
                Sharing::User => {
                    users.get(instance.name.as_str()).is_none_or(|users| users.iter().all(|u| *u == user))
                }
                Sharing::Session => load(instance) == 0,
            };
            let chosen =
                ready.iter().filter(|instance| shares(instance)).min_by_key(|i| (load(i), i.ordinal));
            if let Some(instance) = chosen {
                draft.instance = Some(&instance.name);
                users.entry(&instance.name).or_default().push(user);
            }
        }
    }

    /// Ends the waiting of those for whom no instance will come, with the cause.
    pub fn give_up(&mut self, outlook: &Outlook, plan: &mut Plan) {
        let view = self.view;
        let now = self.now;
        let policy = &view.pool.spec.session_policy;
        let patience = policy
            .start_timeout_seconds
            .map_or(DEFAULT_START_TIMEOUT, |seconds| SignedDuration::from_secs(seconds.into()));
        let hopeless = hopeless(view, outlook);
        for draft in self.drafts.iter_mut().filter(|draft| draft.waits()) {
            if let Some((reason, message)) = &hopeless {
                draft.end(SessionState::Failed, reason, message.clone());
                continue;
            }
            let deadline = waiting_since(draft.session, now).checked_add(patience).unwrap_or(Timestamp::MAX);
            if deadline <= now {
                let (_, cause) = why_waiting(view, outlook);
                let message = format!(
                    "No instance of pool {} was ready within {} s: {cause}",
                    view.pool.name(),
                    patience.as_secs()
                );
                draft.end(SessionState::Failed, "StartTimeout", message);
            } else {
                plan.wake_at(deadline);
            }
        }
    }

    /// The status of every session that changes, events about it, and the removal of those that
    /// ended long enough ago.
    pub fn finish(&self, outlook: &Outlook, plan: &mut Plan) {
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
            if let Some(finished) = status.finished_at.as_ref().filter(|_| session.is_finished()) {
                match finished.0.checked_add(ttl) {
                    Ok(at) if at <= self.now => {
                        let (name, uid) = (session.meta.name.clone(), session.meta.uid.clone());
                        plan.actions.push(Action::DeleteSession { name, uid });
                        continue;
                    }
                    Ok(at) => plan.wake_at(at),
                    Err(_) => {}
                }
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
    for session in sessions.iter().filter(|session| !session.meta.deleting && !session.is_finished()) {
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

/// The fields of a session's status that the planner owns. The session id is the broker's where the
/// spec has none: the first connection brings it.
fn planned_fields(session: &Session) -> SparkInteractiveSessionStatus {
    let session_id = session.spec.session_id.as_ref().and(session.status.session_id.clone());
    SparkInteractiveSessionStatus { session_id, last_activity_at: None, ..session.status.clone() }
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

/// Since when the session waits: since its `Ready` condition became false, or since it exists.
fn waiting_since(session: &Session, now: Timestamp) -> Timestamp {
    let ready = session.status.conditions.iter().find(|condition| condition.type_ == "Ready");
    match ready {
        Some(condition) if condition.status == "False" => condition.last_transition_time.0,
        Some(_) => now,
        None => session.meta.created_at,
    }
}

/// Whether waiting is in vain, and why.
fn hopeless(view: &PoolView, outlook: &Outlook) -> Option<(&'static str, String)> {
    let pool = view.pool.name();
    if view.instances.iter().any(|instance| instance.is_alive()) {
        return None;
    }
    if let Some(refusal) = &outlook.refusal {
        let message = format!(
            "Pool {pool} cannot start an instance, its sparkApplicationTemplate is refused: {refusal}. The \
             administrator of the pool has to correct it."
        );
        return Some(("TemplateRefused", message));
    }
    let failures = &outlook.failures;
    if failures.consecutive >= FAILURES_BEFORE_GIVING_UP && outlook.next_attempt.is_some() {
        let cause = failures.last_message.as_deref().unwrap_or("no cause is known");
        let message = format!(
            "Pool {pool} cannot start an instance, {} in a row failed. The last: {cause}",
            failures.consecutive
        );
        return Some(("InstanceFailed", message));
    }
    None
}

/// What the waiting sessions of this pool wait for.
pub fn why_waiting(view: &PoolView, outlook: &Outlook) -> (&'static str, String) {
    if let Some(other) = &view.host_taken_by {
        return ("HostTaken", format!("pool {other} has this pool's host and type already"));
    }
    if let Some(refusal) = &outlook.refusal {
        return ("TemplateRefused", format!("the API server refuses the template: {refusal}"));
    }
    let starting = view.instances.iter().find(|instance| instance.phase == InstancePhase::Starting);
    if let Some(instance) = starting {
        return ("InstanceStarting", describe_start(instance));
    }
    if let Some(name) = outlook.created.first() {
        return ("InstanceStarting", format!("instance {name} is being created"));
    }
    if let Some(at) = outlook.next_attempt {
        let cause = outlook.failures.last_message.as_deref().unwrap_or("the last instance failed");
        return ("InstanceFailed", format!("{cause}; the next attempt is at {}", seconds(at).0));
    }
    ("NoPlace", "every instance is in use, and the pool is at its maximum".to_owned())
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let rest = characters.as_str();
    let stop = if rest.ends_with(['.', '…', ')']) { "" } else { "." };
    format!("{first}{rest}{stop}")
}
