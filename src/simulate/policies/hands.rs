//! What every other rule does alike: sessions get in, get a place and end, instances come and go.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::ObjectMeta;
use serde_json::Map;

use crate::api::{SessionState, SparkApplication, SparkApplicationSpec, SparkInteractiveSessionStatus};
use crate::model::{Instance, InstancePhase, PoolView, Session, instance_name};
use crate::plan::{Action, INSTANCE_LABEL, POOL_LABEL, Plan, quota};

/// Writes one plan.
pub struct Hands<'a> {
    view: &'a PoolView,
    now: Timestamp,
    actions: Vec<Action>,
    /// Instances that this plan deletes.
    deleted: Vec<&'a str>,
}

impl<'a> Hands<'a> {
    pub fn new(view: &'a PoolView, now: Timestamp) -> Self {
        Self { view, now, actions: Vec::new(), deleted: Vec::new() }
    }

    pub fn into_plan(self, wake_at: Option<Timestamp>) -> Plan {
        Plan { actions: self.actions, wake_at }
    }

    /// Sessions end when their users leave, or with their instance; new ones get in as far as the quotas let them.
    pub fn end_and_admit(&mut self) {
        let view = self.view;
        let mut of_user: HashMap<&str, Vec<&Session>> = HashMap::new();
        let mut in_total = 0;
        let alive = view.instances.iter().filter(|instance| instance.is_alive());
        let alive: HashSet<&str> = alive.map(|instance| instance.name.as_str()).collect();
        for session in &view.sessions {
            let user = session.spec.user.as_str();
            let instance = session.status.assigned_instance.as_deref();
            let lost = instance.is_some_and(|name| !alive.contains(name));
            if session.status.released_at.is_some() {
                self.write(session, SessionState::Terminated, "Released", None);
                continue;
            }
            if lost {
                self.write(session, SessionState::Terminated, "InstanceLost", None);
                continue;
            }
            if session.status.created_at.is_none() {
                let others = of_user.entry(user).or_default();
                let policy = &view.pool.spec.session_policy;
                let groups = &session.spec.groups;
                if !quota::has_room(policy, user, groups, others.len(), in_total) {
                    self.write(session, SessionState::Failed, "QuotaExceeded", None);
                    continue;
                }
                self.write(session, SessionState::Pending, "Pending", None);
            }
            of_user.entry(user).or_default().push(session);
            in_total += 1;
        }
    }

    /// Gives those who wait, and may try now, the emptiest of the instances that are known to answer.
    pub fn place(&mut self, mut known: impl FnMut(&str) -> bool, mut tries: impl FnMut(&Session) -> bool) {
        let view = self.view;
        let live = |session: &&Session| session.status.released_at.is_none();
        let waiting: Vec<&Session> = view
            .sessions
            .iter()
            .map(AsRef::as_ref)
            .filter(|it| waits(it))
            .filter(live)
            .filter(|it| tries(it))
            .collect();
        if waiting.is_empty() {
            return;
        }
        let mut load = load(view);
        let ready = view.instances.iter().filter(|instance| instance.phase == InstancePhase::Ready);
        let ready: Vec<&Instance> = ready.filter(|instance| known(&instance.name)).collect();
        let places = view.pool.spec.scaling.max_sessions_per_instance;
        let places = places.and_then(|places| usize::try_from(places).ok()).unwrap_or(usize::MAX);
        for session in waiting {
            let on = |name: &str| load.get(name).copied().unwrap_or(0);
            let emptiest = ready.iter().filter(|instance| !self.deleted.contains(&instance.name.as_str()));
            let emptiest = emptiest.min_by_key(|instance| (on(&instance.name), instance.ordinal));
            let Some(instance) = emptiest.filter(|instance| on(&instance.name) < places) else { return };
            *load.entry(&instance.name).or_default() += 1;
            self.write(session, SessionState::Active, "Placed", Some(&instance.name));
        }
    }

    /// Starts so many more, called by the next ordinals.
    pub fn create(&mut self, count: usize, next_ordinal: &mut i64) {
        let pool = self.view.pool.name();
        for _ in 0..count {
            let name = instance_name(pool, *next_ordinal);
            *next_ordinal += 1;
            let labels =
                [(POOL_LABEL, pool), (INSTANCE_LABEL, &name)].map(|(k, v)| (k.to_owned(), v.to_owned()));
            let mut application = SparkApplication::new(&name, SparkApplicationSpec { fields: Map::new() });
            let labels = Some(BTreeMap::from(labels));
            application.metadata = ObjectMeta { name: Some(name.clone()), labels, ..ObjectMeta::default() };
            let application = Box::new(application);
            self.actions.push(Action::CreateInstance { pool: pool.to_owned(), application });
        }
    }

    pub fn delete(&mut self, instance: &'a Instance) {
        self.deleted.push(&instance.name);
        self.actions.push(Action::DeleteInstance { name: instance.name.clone(), uid: instance.uid.clone() });
    }

    fn write(&mut self, session: &Session, state: SessionState, reason: &str, instance: Option<&str>) {
        let ready = Condition {
            type_: "Ready".to_owned(),
            status: if state == SessionState::Active { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(self.now),
        };
        let status = SparkInteractiveSessionStatus {
            state,
            assigned_instance: instance.map(str::to_owned),
            created_at: Some(Time(self.now)),
            conditions: vec![ready],
            ..SparkInteractiveSessionStatus::default()
        };
        let (session, uid) = (session.meta.name.clone(), session.meta.uid.clone());
        self.actions.push(Action::UpdateSessionStatus { session, uid, status: Box::new(status) });
    }
}

/// Was let in, and has no place.
pub fn waits(session: &Session) -> bool {
    session.status.created_at.is_some()
        && session.status.assigned_instance.is_none()
        && !session.is_finished()
}

/// Sessions by instance.
pub fn load(view: &PoolView) -> HashMap<&str, usize> {
    let mut load = HashMap::new();
    for name in view.sessions.iter().filter_map(|session| session.status.assigned_instance.as_deref()) {
        *load.entry(name).or_default() += 1;
    }
    load
}

/// Sessions per instance.
pub fn target(view: &PoolView) -> usize {
    let target = view.pool.spec.scaling.metrics.sessions_per_instance();
    usize::try_from(target).unwrap_or(0).max(1)
}
