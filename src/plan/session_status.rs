//! What the sessions' statuses and Events say.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::conditions::{self, Finding, seconds};
use super::endings::{after, began};
use super::outlook::{describe_start, sentence};
use super::preparation::serves;
use super::session_objects::{finished_ttl, let_go, remove_when_due};
use super::sessions::{Draft, Drafts, Verdict};
use super::waiting::{QUEUED, Waiting, written};
use super::{About, Action, Event, Plan, reasons};
use crate::api::{SessionState, SparkInteractiveSessionStatus, WaitStatus};
use crate::model::{Instance, InstancePhase, PoolView, Session};

/// Reason of the condition of a session that no client uses, and that is kept by what runs in it.
pub(super) const QUERY_RUNNING: &str = "QueryRunning";

impl Drafts<'_> {
    /// The status of every session that changes, events about it, and the removal of those that
    /// ended long enough ago.
    pub fn report(&self, waits: &HashMap<usize, Waiting>, plan: &mut Plan) {
        let standings: HashMap<&str, Standing<'_>> =
            self.instances.iter().map(|(name, instance)| (*name, Standing::on(instance))).collect();
        let ttl = finished_ttl(&self.view.pool.spec.session_policy);
        for (n, draft) in self.drafts.iter().enumerate() {
            let session = draft.session;
            if session.is_finished() {
                if draft.is_left_alone() {
                    continue;
                }
                correct_times(session, draft.known, plan);
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
                _ if draft.is_left_alone() => continue,
                (Some(Verdict { reason, message }), on) => {
                    let endpoint =
                        on.and_then(|on| on.endpoint.clone()).filter(|_| !draft.state.is_finished());
                    let driver = on.and_then(|on| on.driver);
                    let finding = ready(false, reason, message.clone());
                    own = Standing { driver, ..Standing::new(draft.instance, endpoint, finding) };
                    &own
                }
                (None, Some(on)) if on.finding.status && draft.kept.is_some() => {
                    let finding = kept(draft, self.view);
                    let driver = on.driver;
                    own = Standing { driver, ..Standing::new(on.instance, on.endpoint.clone(), finding) };
                    &own
                }
                (None, Some(on)) if on.finding.status && draft.unused.is_some() => {
                    let finding =
                        ready(true, "Idle", draft.unused.map(|it| it.to_string()).unwrap_or_default());
                    let driver = on.driver;
                    own = Standing { driver, ..Standing::new(on.instance, on.endpoint.clone(), finding) };
                    &own
                }
                (None, on) => match (waits.get(&n), on) {
                    (Some(waiting), on) => {
                        let (wait, message) = written(session, waiting, self.view, self.now, plan);
                        let endpoint = on.and_then(|on| on.endpoint.clone());
                        let finding = ready(false, waiting.reason, message);
                        own = Standing {
                            driver: on.and_then(|on| on.driver),
                            wait: Some(wait),
                            ..Standing::new(draft.instance, endpoint, finding)
                        };
                        &own
                    }
                    (None, Some(on)) => on,
                    (None, None) if draft.held_back && draft.unwritable.is_some() => {
                        // If that is taken, which is no repetition, the next plan gives it a place.
                        let now = seconds(self.now).0;
                        let message =
                            format!("The API server did not take the session's status before {now}.");
                        own = Standing::new(None, None, ready(false, QUEUED, message));
                        &own
                    }
                    // Placed on an instance that is not in the view: nothing is known of it.
                    (None, None) => continue,
                },
            };
            let state = match draft.state {
                SessionState::Pending if standing.activates => SessionState::Active,
                state => state,
            };
            if std::ptr::eq(session, draft.known) && standing.is_told(draft, state) {
                debug_assert_eq!(standing.status(draft, state, self.now), planned_fields(session));
            } else {
                update_if_changed(draft.known, standing.status(draft, state, self.now), plan);
            }
        }
    }
}

/// Writes the times anew of a session that has ended by a clock that was ahead.
pub(super) fn correct_times(session: &Session, known: &Session, plan: &mut Plan) {
    if std::ptr::eq(session, known) {
        return;
    }
    let status = planned_fields(session);
    if status != planned_fields(known) {
        let (session, uid) = (session.meta.name.clone(), session.meta.uid.clone());
        plan.actions.push(Action::UpdateSessionStatus { session, uid, status: Box::new(status) });
    }
}

/// What a session that is not over is told: the same for all on one instance, and for all that wait.
struct Standing<'a> {
    instance: Option<&'a str>,
    endpoint: Option<String>,
    /// UID of the instance's driver Pod.
    driver: Option<&'a str>,
    /// A session that waits is active now.
    activates: bool,
    finding: Finding,
    wait: Option<WaitStatus>,
}

pub(super) fn ready(status: bool, reason: &'static str, message: String) -> Finding {
    let finding = Finding { type_: "Ready", status, reason, message };
    debug_assert!(reasons::lists_of_session(&finding), "not on the page of reasons: {finding:?}");
    finding
}

/// Of a session that what runs in it keeps.
fn kept(draft: &Draft<'_>, view: &PoolView) -> Finding {
    let (place, words) = (draft.instance.unwrap_or_default(), draft.kept.as_deref().unwrap_or_default());
    let ends = view.pool.spec.session_policy.max_lifetime_minutes.map_or_else(String::new, |minutes| {
        let at = after(began(draft.session), SignedDuration::from_mins(minutes.into()));
        format!(", until {} at the latest", seconds(at).0)
    });
    let message =
        format!("Served by instance {place}. No client uses it now, but {words}, which keeps it{ends}.");
    ready(true, QUERY_RUNNING, message)
}

impl<'a> Standing<'a> {
    fn new(instance: Option<&'a str>, endpoint: Option<String>, finding: Finding) -> Self {
        Self { instance, endpoint, driver: None, activates: false, finding, wait: None }
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
        let driver = instance.pod.as_ref().map(|(_, uid)| uid.as_str());
        Self { activates: serves(instance), driver, ..Self::new(Some(name), endpoint, finding) }
    }

    /// While an instance shows no driver, the last one stands: by it a successor is known for what it is.
    fn driver<'b>(&'b self, session: &'b Session) -> Option<&'b str> {
        let stays = self.instance.is_some() && self.instance == session.status.assigned_instance.as_deref();
        self.driver.or(session.status.driver_uid.as_deref().filter(|_| stays))
    }

    /// Whether the session's status says so already, so that [`Self::status`] would change nothing. Nearly all
    /// sessions are told already, and making their statuses to find that out costs most of a plan.
    fn is_told(&self, draft: &Draft<'_>, state: SessionState) -> bool {
        let session = draft.session;
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
            && told.driver_uid.as_deref() == self.driver(session)
            && told.wait == self.wait
            && (session.spec.session_id.is_none() || told.session_id == session.spec.session_id)
            && (session.spec.name.is_none() || told.session_id.is_some() || draft.own_session_id().is_none())
            && draft.setup.as_ref().is_none_or(|setup| {
                setup.prepared == told.prepared_session_ids
                    && setup.conf == told.conf
                    && setup.failures == told.setup_failures
            })
            && told.created_at.is_some()
            && told.observed_generation == Some(session.meta.generation)
    }

    fn status(
        &self,
        draft: &Draft<'_>,
        state: SessionState,
        now: Timestamp,
    ) -> SparkInteractiveSessionStatus {
        let session = draft.session;
        let told = &session.status;
        let (mut prepared, conf, mut failures) = draft.setup.as_ref().map_or_else(
            || (told.prepared_session_ids.clone(), told.conf.clone(), told.setup_failures.clone()),
            |setup| (setup.prepared.clone(), setup.conf.clone(), setup.failures.clone()),
        );
        if state.is_finished() {
            (prepared, failures) = (Vec::new(), Vec::new());
        }
        let generation = session.meta.generation;
        SparkInteractiveSessionStatus {
            state,
            assigned_instance: self.instance.map(str::to_owned),
            endpoint: self.endpoint.clone(),
            driver_uid: self.driver(session).filter(|_| !state.is_finished()).map(str::to_owned),
            session_id: draft.own_session_id(),
            created_at: session.status.created_at.clone().or_else(|| Some(seconds(session.meta.created_at))),
            client_session_ids: Vec::new(),
            cloned_session_ids: Vec::new(),
            prepared_session_ids: prepared,
            setup_failures: failures,
            connections: Vec::new(),
            client_connections: Vec::new(),
            disconnected_at: None,
            disconnect_cause: None,
            conf,
            wait: self.wait.clone(),
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

/// The fields of a session's status that the planner owns. The session id is the broker's where the spec has neither an
/// id nor a name: the first connection brings it.
pub(super) fn planned_fields(session: &Session) -> SparkInteractiveSessionStatus {
    let planned = session.spec.session_id.is_some() || session.spec.name.is_some();
    let session_id = session.status.session_id.clone().filter(|_| planned);
    SparkInteractiveSessionStatus {
        session_id,
        client_session_ids: Vec::new(),
        cloned_session_ids: Vec::new(),
        connections: Vec::new(),
        client_connections: Vec::new(),
        disconnected_at: None,
        disconnect_cause: None,
        last_activity_at: None,
        released_at: None,
        ..session.status.clone()
    }
}

pub(super) fn update_if_changed(session: &Session, status: SparkInteractiveSessionStatus, plan: &mut Plan) {
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

fn told(session: &Session, warning: bool, reason: &'static str, note: String) -> Action {
    let about = About::Session { name: session.meta.name.clone(), uid: session.meta.uid.clone() };
    Action::Event(Event { about, warning, reason, note })
}
