//! The sessions of a pool while its plan is made, and which of them wait in vain.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::Plan;
use super::conditions::seconds;
use super::endings::Unused;
use super::outlook::{FAILURES_BEFORE_GIVING_UP, Outlook, describe_start};
use super::preparation::Setup;
use crate::api::{SessionState, SparkInteractiveSessionSpec};
use crate::model::{Instance, InstancePhase, PoolView, Protocol, Session, SessionKey};

/// `sessionPolicy.startTimeoutSeconds` where the pool does not say.
const DEFAULT_START_TIMEOUT: SignedDuration = SignedDuration::from_mins(15);

/// The sessions of a pool while the plan is made: each starts as its status says.
pub struct Drafts<'a> {
    pub(super) view: &'a PoolView,
    pub(super) now: Timestamp,
    pub(super) instances: HashMap<&'a str, &'a Instance>,
    pub(super) drafts: Vec<Draft<'a>>,
}

pub(super) struct Draft<'a> {
    pub session: &'a Session,
    protocol: Protocol,
    pub state: SessionState,
    pub instance: Option<&'a str>,
    /// Of the end that is decided: now, or in an earlier plan if the session is still being released.
    pub verdict: Option<Verdict>,
    /// Of an idle session.
    pub unused: Option<Unused>,
    /// Of a Connect session that has a place.
    pub setup: Option<Setup>,
}

pub(super) struct Verdict {
    pub reason: &'static str,
    pub message: String,
}

impl Draft<'_> {
    /// Holds a place in the quota.
    pub fn counts(&self) -> bool {
        !self.state.is_finished()
    }

    /// Is neither over nor about to be.
    pub fn goes_on(&self) -> bool {
        self.counts() && self.verdict.is_none()
    }

    pub fn waits(&self) -> bool {
        self.goes_on() && self.instance.is_none()
    }

    /// What keeps it from being used though it has a place, in words.
    pub fn preparing(&self) -> Option<&str> {
        self.setup.as_ref()?.preparing.as_deref()
    }

    /// Spark Connect's id of the session where it does not come from a client: from the spec, or from its name.
    pub fn own_session_id(&self) -> Option<String> {
        let SparkInteractiveSessionSpec { session_id, name, user, pool, .. } = &self.session.spec;
        let told = || self.session.status.session_id.clone();
        session_id.clone().or_else(|| {
            let name = name.clone().filter(|_| self.protocol == Protocol::Connect)?;
            let key = SessionKey::Named { pool: pool.clone(), user: user.clone(), name };
            told().or_else(|| Some(key.spark_session_id().to_string()))
        })
    }

    pub fn end(&mut self, state: SessionState, reason: &'static str, message: String) {
        self.state = state;
        self.verdict = Some(Verdict { reason, message });
    }

    /// The session ends; whether something has to be done on its server first is decided later.
    pub fn condemn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.verdict = Some(Verdict { reason, message: message.into() });
    }
}

impl<'a> Drafts<'a> {
    pub fn new(view: &'a PoolView, now: Timestamp) -> Self {
        // One that is deleted and not held is gone, though the watch may show it once more.
        let drafts = view.sessions.iter().filter(|session| !session.meta.deleting || session.meta.held);
        let drafts = drafts
            .map(|session| Draft {
                session,
                protocol: view.pool.protocol(),
                state: session.status.state,
                instance: session.status.assigned_instance.as_deref().filter(|_| !session.is_finished()),
                verdict: None,
                unused: None,
                setup: None,
            })
            .collect();
        let instances = view.instances.iter().map(|instance| (instance.name.as_str(), instance)).collect();
        Self { view, now, instances, drafts }
    }

    /// The owner of every session that needs a place, one entry a session. What a draining instance
    /// still holds needs no other.
    pub fn users(&self) -> Vec<&'a str> {
        let drains =
            |name: &str| self.instances.get(name).is_some_and(|i| i.phase == InstancePhase::Draining);
        self.drafts
            .iter()
            .filter(|draft| draft.counts() && !draft.instance.is_some_and(drains))
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
                    "No instance of pool {} was ready within {} s: {cause}. {MORE}",
                    view.pool.name(),
                    patience.as_secs()
                );
                draft.end(SessionState::Failed, "StartTimeout", message);
            } else {
                plan.wake_at(deadline);
            }
        }
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

const MORE: &str = "Try again later; the pool's administrator finds more with `kubectl describe ssp`.";

/// Whether waiting is in vain, and why.
fn hopeless(view: &PoolView, outlook: &Outlook) -> Option<(&'static str, String)> {
    let pool = view.pool.name();
    if view.instances.iter().any(|instance| instance.takes_sessions()) {
        return None;
    }
    if let Some(refusal) = &outlook.refusal {
        let message = format!(
            "Pool {pool} cannot start an instance, its sparkApplicationTemplate is refused: {refusal}. The \
             administrator of the pool has to correct it."
        );
        return Some(("TemplateRefused", message));
    }
    if view.lacks_interceptor() {
        let message = format!(
            "Pool {pool} cannot start an instance: its spec.identity is Enforced, and the operator was started without \
             --identity-jar-url. The administrator of the operator has to set it."
        );
        return Some(("NoInterceptor", message));
    }
    let failures = &outlook.failures;
    if failures.consecutive >= FAILURES_BEFORE_GIVING_UP && outlook.next_attempt.is_some() {
        let cause = failures.last_message.as_deref().unwrap_or("no cause is known");
        let message = format!(
            "Pool {pool} cannot start an instance, {} in a row failed. The last: {cause}. {MORE}",
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
    if view.host_invalid {
        return ("InvalidHost", "the host of this pool is no DNS name, so no instance is started".to_owned());
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
