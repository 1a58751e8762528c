//! A cluster of one pool in memory, which carries plans out as `operator::apply` does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::api::{InstanceState, SessionState, SparkInteractiveSessionStatus};
use crate::model::fixtures::{at, ready, starting};
use crate::model::{
    Going, Instance, InstancePhase, LeavingDriver, Meta, Pool, PoolCertificate, PoolView, Preparation,
    Progress, ReleaseOutcome, Session, SparkRuns, SparkSide, TEMPLATE_ANNOTATION, TokenState, is_host_name,
};
use crate::plan::{About, Action, Noted, Objection, Observations, Plan, Refusal, plan};

/// After so many plans in a row nothing is left to do, as long as nothing happens.
const ROUNDS: usize = 4;

#[derive(Clone, Debug)]
pub struct Cluster {
    pub pool: Pool,
    pub instances: Vec<Instance>,
    pub leaving: Vec<LeavingDriver>,
    pub sessions: Vec<Session>,
    pub observations: Observations,
    pub host_taken_by: Option<String>,
    pub certificate: Option<PoolCertificate>,
    pub identity_jar_url: Option<String>,
    /// Seconds since the beginning of the tests' time.
    pub now: i64,
    /// The API server says this to every SparkApplication.
    pub refuses: Option<(Objection, String)>,
    /// Sessions of which the API server takes nothing.
    pub unwritable: BTreeSet<String>,
    /// Instances that had failed before they were deleted: their driver runs no more.
    pub dead: BTreeSet<String>,
    /// Every event so far: reason and note.
    pub events: Vec<(&'static str, String)>,
    /// What the operator has done on Spark's side, and when sessions were used.
    pub spark_sides: HashMap<String, SparkSide>,
    pub activity: HashMap<String, Timestamp>,
    pub metrics_problem: Option<String>,
    /// Sessions, and their instance, that the plans had closed on Spark's side.
    pub releases: BTreeMap<String, String>,
    /// What Spark says of what runs in sessions when it is asked: `None` where it is still thinking, and where a session is
    /// not here, that nothing runs.
    pub spark_runs: BTreeMap<String, Option<SparkRuns>>,
    /// Sessions that Spark was asked about, and when.
    pub questions: Vec<(String, i64)>,
    /// Configurations that the plans had set: of a session, on its instance, for a Spark session.
    pub preparations: BTreeMap<(String, String, Uuid), BTreeMap<String, String>>,
    pool_is_gone: bool,
    names: BTreeSet<String>,
}

impl Cluster {
    pub fn of(pool: Pool) -> Self {
        Self {
            pool,
            instances: Vec::new(),
            leaving: Vec::new(),
            sessions: Vec::new(),
            observations: Observations::default(),
            host_taken_by: None,
            certificate: None,
            identity_jar_url: Some("http://operator/identity.jar".to_owned()),
            now: 0,
            refuses: None,
            unwritable: BTreeSet::new(),
            dead: BTreeSet::new(),
            events: Vec::new(),
            spark_sides: HashMap::new(),
            activity: HashMap::new(),
            metrics_problem: None,
            releases: BTreeMap::new(),
            spark_runs: BTreeMap::new(),
            questions: Vec::new(),
            preparations: BTreeMap::new(),
            pool_is_gone: false,
            names: BTreeSet::new(),
        }
    }

    pub fn instance(mut self, instance: Instance) -> Self {
        self.names.insert(instance.name.clone());
        self.instances.push(instance);
        self
    }

    pub fn session(mut self, session: Session) -> Self {
        self.sessions.push(session);
        self.sessions.sort_by_key(|session| (session.meta.created_at, session.meta.name.clone()));
        self
    }

    pub fn sessions(self, sessions: impl IntoIterator<Item = Session>) -> Self {
        sessions.into_iter().fold(self, Self::session)
    }

    pub fn at(mut self, seconds: i64) -> Self {
        self.now = seconds;
        self
    }

    pub fn refusing(self, words: &str) -> Self {
        self.objecting(Objection::Template, words)
    }

    pub fn objecting(mut self, objection: Objection, words: &str) -> Self {
        self.refuses = Some((objection, words.to_owned()));
        self
    }

    pub fn with_host_taken_by(mut self, pool: &str) -> Self {
        self.host_taken_by = Some(pool.to_owned());
        self
    }

    pub fn plan(&self) -> Plan {
        plan(&self.view(), &self.observations, at(self.now))
    }

    pub fn view(&self) -> PoolView {
        PoolView {
            pool: Arc::new(self.pool.clone()),
            host_taken_by: self.host_taken_by.clone(),
            host_invalid: !is_host_name(&self.pool.spec.host),
            certificate: self.certificate.clone(),
            identity_jar_url: self.identity_jar_url.clone(),
            instances: self.instances.clone(),
            leaving: self.leaving.clone(),
            free_ordinal: self.instances.iter().map(|it| it.ordinal + 1).max().unwrap_or(0),
            sessions: self.sessions.iter().cloned().map(Arc::new).collect(),
            spark_sides: self.spark_sides.clone(),
            activity: self.activity.clone(),
            metrics_problem: self.metrics_problem.clone(),
        }
    }

    /// After one plan.
    pub fn planned(mut self) -> Self {
        self.carry_out(self.plan());
        self
    }

    /// After as many plans as it takes until there is nothing to do.
    pub fn settled(mut self) -> Self {
        self.settle();
        self
    }

    /// The same, but for a plan that creates instances.
    pub fn settled_unless_it_creates(self) -> Self {
        if self.creates().is_empty() { self.settled() } else { self }
    }

    pub fn settle(&mut self) {
        self.observations.begin_plan(self.sessions.iter(), at(self.now));
        for _ in 0..=ROUNDS {
            let plan = self.plan();
            if plan.actions.iter().all(|action| self.is_done(action)) {
                return;
            }
            self.carry_out(plan);
        }
        panic!("after {ROUNDS} plans there is still something to do: {:#?}", self.plan().actions);
    }

    /// What is asked for until it is done, and done once.
    fn is_done(&self, action: &Action) -> bool {
        match action {
            Action::ReleaseSpark { session, instance, .. } => self.releases.get(session) == Some(instance),
            Action::AskSpark { session, .. } => self.questions.contains(&(session.clone(), self.now)),
            Action::PrepareSpark { session, instance, spark_session_id, .. } => {
                self.preparations.contains_key(&(session.clone(), instance.clone(), *spark_session_id))
            }
            _ => false,
        }
    }

    fn carry_out(&mut self, plan: Plan) {
        if self.is_refused(&plan) {
            // As the reconciler, which goes on with what does not depend on it; here the next plan has that again.
            return;
        }
        for action in plan.actions {
            match action {
                Action::UpdatePoolStatus { uid, status, .. } => {
                    assert_eq!(uid, self.pool.meta.uid);
                    self.pool.status = as_stored(&*status);
                }
                Action::UpdatePoolCondition { .. } => panic!("not the planner's: {action:?}"),
                Action::CreateInstance { application, .. } => {
                    if let Some((objection, message)) = self.refuses.clone() {
                        let generation = self.pool.meta.generation;
                        let at = at(self.now);
                        self.observations.refusal = Some(Refusal { generation, at, objection, message });
                        // The reconciler goes on with what does not depend on it; here the next plan has that again.
                        return;
                    }
                    self.observations.refusal = None;
                    let name = application.metadata.name.unwrap();
                    assert!(self.names.insert(name.clone()), "the name {name} was used before");
                    let template = application.metadata.annotations.unwrap().remove(TEMPLATE_ANNOTATION);
                    assert!(template.is_some(), "an instance without its template's hash");
                    let created_at = at(self.now);
                    self.instances.push(Instance { template, created_at, ..starting(&name) });
                    self.instances.sort_by_key(|instance| instance.ordinal);
                }
                Action::AdoptInstance { name, uid, .. } => {
                    let instance = self.instances.iter_mut().find(|it| it.name == name && it.uid == uid);
                    instance.unwrap().orphaned = false;
                }
                Action::CreateToken { instance, uid, .. } => {
                    let instance = self.find_instance(&instance);
                    assert_eq!(uid, instance.uid);
                    instance.token = TokenState::Kept;
                }
                Action::DeleteInstance { name, uid } => {
                    let instance = self.find_instance(&name);
                    assert_eq!(uid, instance.uid);
                    let told = &self.pool.status.instances;
                    let given_up = told.iter().any(|it| it.name == name && it.state == InstanceState::Failed);
                    if given_up || self.find_instance(&name).phase == InstancePhase::Failed {
                        self.dead.insert(name.clone());
                    }
                    let instance = self.find_instance(&name);
                    let until = instance.going.and_then(|going| going.until);
                    instance.phase = InstancePhase::Deleting;
                    instance.going = Some(Going { for_good: true, until });
                }
                Action::UpdateSessionStatus { session, uid, status } => {
                    let session = self.find_session(&session);
                    assert_eq!(uid, session.meta.uid);
                    assert_eq!(
                        (&status.released_at, &status.last_activity_at),
                        (&None, &None),
                        "not its own"
                    );
                    let others = std::mem::take(&mut session.status);
                    session.status = SparkInteractiveSessionStatus {
                        session_id: status.session_id.clone().or(others.session_id),
                        last_activity_at: others.last_activity_at,
                        released_at: others.released_at,
                        client_session_ids: others.client_session_ids,
                        cloned_session_ids: others.cloned_session_ids,
                        client_connections: others.client_connections,
                        disconnected_at: others.disconnected_at,
                        disconnect_cause: others.disconnect_cause,
                        connections: others.connections,
                        ..as_stored(&*status)
                    };
                }
                Action::DeleteSession { name, uid } => {
                    assert_eq!(uid, self.find_session(&name).meta.uid);
                    self.delete_session(&name);
                }
                Action::SetFinalizer { about: About::Pool { uid, .. }, hold } => {
                    assert_eq!(uid, self.pool.meta.uid);
                    assert_ne!(self.pool.meta.held, hold, "is so already");
                    self.pool.meta.held = hold;
                    self.pool_is_gone = self.pool.meta.deleting && !hold;
                }
                Action::SetFinalizer { about: About::Session { name, uid }, hold } => {
                    let session = self.find_session(&name);
                    assert_eq!(uid, session.meta.uid);
                    assert_ne!(session.meta.held, hold, "is so already");
                    session.meta.held = hold;
                    self.sessions.retain(|session| session.meta.held || !session.meta.deleting);
                }
                Action::ReleaseSpark { session, uid, instance } => {
                    assert_eq!(uid, self.find_session(&session).meta.uid);
                    assert!(self.find_instance(&instance).is_alive(), "{instance} is not there");
                    self.releases.insert(session, instance);
                }
                Action::AskSpark { session, uid, instance, asked_at } => {
                    assert_eq!(uid, self.find_session(&session).meta.uid);
                    assert_eq!(self.place_of(&session), Some(instance.as_str()));
                    assert_eq!(asked_at, at(self.now));
                    self.questions.push((session.clone(), self.now));
                    self.answer(&session, asked_at);
                }
                Action::PrepareSpark { session, uid, instance, spark_session_id, conf } => {
                    let place = self.find_session(&session);
                    assert_eq!(
                        (&uid, place.status.assigned_instance.as_ref()),
                        (&place.meta.uid, Some(&instance))
                    );
                    assert!(!conf.0.is_empty(), "nothing to set");
                    self.preparations.insert((session, instance, spark_session_id), conf.0);
                }
                Action::Event(event) => self.events.push((event.reason, event.note)),
            }
        }
    }

    /// Notes the sessions that the plan would write, and that cannot be written.
    fn is_refused(&mut self, plan: &Plan) -> bool {
        let writes = |action: &&Action| {
            matches!(action, Action::UpdateSessionStatus { .. } | Action::SetFinalizer { hold: true, .. })
        };
        let written: BTreeSet<&str> =
            plan.actions.iter().filter(writes).filter_map(Action::session).collect();
        let refused = self
            .sessions
            .iter()
            .filter(|it| written.contains(it.meta.name.as_str()) && self.unwritable.contains(&it.meta.name));
        let mut any = false;
        for session in refused {
            let Meta { uid, resource_version, .. } = &session.meta;
            let noted = self.observations.unwritable.note(uid, *resource_version, "too large", at(self.now));
            assert_ne!(noted, Noted::InSpiteOfIt, "{} was tried again", session.meta.name);
            any = true;
        }
        any
    }

    /// As `operator::spark_sessions` notes it: what runs counts as a use.
    fn answer(&mut self, session: &str, asked_at: Timestamp) {
        let Some(runs) = self.spark_runs.get(session).cloned().unwrap_or(Some(SparkRuns::Nothing)) else {
            return;
        };
        if matches!(runs, SparkRuns::Something(_)) {
            self.activity.insert(session.to_owned(), asked_at);
        }
        let uid = self.find_session(session).meta.uid.clone();
        self.spark_sides.entry(uid).or_default().note_running(asked_at, runs);
    }

    /// From now on Spark says this when it is asked what runs in the session.
    pub fn running(mut self, session: &str, runs: Option<SparkRuns>) -> Self {
        self.spark_runs.insert(session.to_owned(), runs);
        self
    }

    /// The servers of these instances answer.
    pub fn answering(mut self, names: &[&str]) -> Self {
        for name in names {
            let Instance { template, created_at, .. } = self.find_instance(name).clone();
            *self.find_instance(name) = Instance { template, created_at, ..ready(name) };
        }
        self
    }

    /// What was being deleted is gone.
    pub fn swept(mut self) -> Self {
        self.instances.retain(|instance| instance.phase != InstancePhase::Deleting);
        self
    }

    /// Name and state of every instance, as the pool's status has them.
    pub fn fleet(&self) -> Vec<(&str, InstanceState)> {
        self.pool.status.instances.iter().map(|told| (told.name.as_str(), told.state)).collect()
    }

    pub fn find_instance(&mut self, name: &str) -> &mut Instance {
        self.instances.iter_mut().find(|instance| instance.name == name).unwrap()
    }

    /// As `kubectl delete sis` does.
    pub fn delete_session(&mut self, name: &str) {
        self.find_session(name).meta.deleting = true;
        self.sessions.retain(|session| session.meta.held || !session.meta.deleting);
    }

    /// What came of closing the session on Spark's side.
    pub fn released(mut self, session: &str, outcome: ReleaseOutcome) -> Self {
        let uid = self.find_session(session).meta.uid.clone();
        self.spark_sides.entry(uid).or_default().release = Some(outcome);
        self
    }

    /// What came of setting the configuration for a Spark session, on the instance that the session is on.
    pub fn prepared(mut self, session: &str, id: Uuid, progress: Progress) -> Self {
        let on = self.place_of(session).unwrap().to_owned();
        let cluster = self.find_instance(&on).cluster().unwrap();
        let uid = self.find_session(session).meta.uid.clone();
        let side = self.spark_sides.entry(uid).or_default();
        side.prepared.insert(id, Preparation { cluster, progress });
        self
    }

    /// All activity since this second is seen.
    pub fn watching_since(mut self, seconds: i64) -> Self {
        self.observations.watching_since = Some(at(seconds));
        self
    }

    pub fn used(mut self, session: &str, seconds: i64) -> Self {
        self.activity.insert(session.to_owned(), at(seconds));
        self
    }

    pub fn has_pool(&self) -> bool {
        !self.pool_is_gone
    }

    pub fn find_session(&mut self, name: &str) -> &mut Session {
        self.sessions.iter_mut().find(|session| session.meta.name == name).unwrap()
    }

    /// Names of the instances that the next plan creates.
    pub fn creates(&self) -> Vec<String> {
        let created = |action: Action| match action {
            Action::CreateInstance { application, .. } => application.metadata.name,
            _ => None,
        };
        self.plan().actions.into_iter().filter_map(created).collect()
    }

    /// Names of the instances that the next plan deletes.
    pub fn deletes(&self) -> Vec<String> {
        let deleted = |action: Action| match action {
            Action::DeleteInstance { name, .. } => Some(name),
            _ => None,
        };
        self.plan().actions.into_iter().filter_map(deleted).collect()
    }

    /// Seconds at which the next plan wants to be made again.
    pub fn wakes_at(&self) -> Option<i64> {
        self.plan().wake_at.map(|wake_at| wake_at.as_second() - at(0).as_second())
    }

    pub fn state_of(&self, session: &str) -> SessionState {
        self.see_session(session).status.state
    }

    pub fn place_of(&self, session: &str) -> Option<&str> {
        self.see_session(session).status.assigned_instance.as_deref()
    }

    /// State, reason and message, as `kubectl get sis -o wide` shows them.
    pub fn told(&self, session: &str) -> (SessionState, &str, &str) {
        let (reason, message) = self.see_session(session).explanation().unwrap();
        (self.state_of(session), reason, message)
    }

    /// Status (whether it is true), reason and message of a condition of the pool.
    pub fn condition(&self, type_: &str) -> (bool, &str, &str) {
        let condition = self.pool.status.conditions.iter().find(|condition| condition.type_ == type_);
        let condition = condition.unwrap();
        (condition.status == "True", &condition.reason, &condition.message)
    }

    pub fn has_session(&self, name: &str) -> bool {
        self.sessions.iter().any(|session| session.meta.name == name)
    }

    fn see_session(&self, name: &str) -> &Session {
        self.sessions.iter().find(|session| session.meta.name == name).unwrap()
    }
}

/// What is read back after it was written.
fn as_stored<T: Serialize + DeserializeOwned>(status: &T) -> T {
    serde_json::from_value(serde_json::to_value(status).unwrap()).unwrap()
}
