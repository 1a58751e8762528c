//! The objects of one pool in memory, and plans that are carried out on them as `operator::apply` does: at once, and
//! always with success, unless it is said otherwise.
//!
//! SparkApplications and Pods are made as Kubernetes has them and read as the operator reads them. No time passes here:
//! what an action sets going (a driver that starts) is ended from outside.

mod carry_out;
mod usage;

pub use usage::MEASURED_EVERY;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde_json::json;

use super::clock::{self, Second};
use super::world::WorldError;
use crate::api::{
    SparkApplication, SparkApplicationStatus, SparkInteractiveSessionSpec, SparkInteractiveSessionStatus,
    SparkSessionPool, SparkSessionPoolSpec, SparkSessionPoolStatus,
};
use crate::model::connect_server::token_secret_name;
use crate::model::{
    DRAIN_ANNOTATION, Instance, InstancePhase, InstanceToken, Inventory, Kind, Meta, Object, Policy, Pool,
    PoolView, Session, TokenSecret,
};
use crate::operator::Watched;
use crate::plan::{INSTANCE_LABEL, Observations, POOL_LABEL};

/// Of every driver. Which one is meant is never told by its address here.
const ADDRESS: &str = "10.0.0.1";

pub struct Cluster {
    inventory: Inventory,
    pool: String,
    /// As the API server has them.
    applications: BTreeMap<String, SparkApplication>,
    observations: Observations,
    /// The API server says this to every SparkApplication.
    refuses: Option<String>,
    version: u64,
    sessions: u64,
}

impl Cluster {
    pub fn new(pool: SparkSessionPool, now: Second) -> Self {
        let policy =
            Policy { identity_jar_url: Some("http://operator/identity.jar".to_owned()), ..Policy::default() };
        let mut cluster = Self {
            inventory: Inventory::with_policy(policy),
            pool: pool.name_any(),
            applications: BTreeMap::new(),
            observations: Observations::default(),
            refuses: None,
            version: 0,
            sessions: 0,
        };
        let meta = cluster.meta(&pool.name_any(), now);
        let status = SparkSessionPoolStatus::default();
        cluster.inventory.put(Object::Pool(Pool { meta, spec: pool.spec, status }));
        cluster
    }

    pub fn observations(&self) -> &Observations {
        &self.observations
    }

    /// `None` once the pool was deleted, and its last session has ended.
    pub fn view(&self) -> Option<PoolView> {
        self.inventory.pool_view(&self.pool)
    }

    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.inventory.sessions_in(&self.pool)
    }

    pub fn instance(&self, name: &str) -> Option<Instance> {
        self.inventory.instance(name)
    }

    pub fn is_starting(&self, name: &str) -> bool {
        self.instance(name).is_some_and(|instance| instance.phase == InstancePhase::Starting)
    }

    fn meta(&mut self, name: &str, now: Second) -> Meta {
        self.version += 1;
        Meta {
            name: name.to_owned(),
            uid: format!("{name}-uid-{}", self.version),
            resource_version: self.version,
            generation: 1,
            created_at: clock::timestamp(now),
            deleting: false,
            held: false,
            other_finalizers: Vec::new(),
        }
    }

    pub fn create_session(&mut self, user: &str, now: Second) -> String {
        self.sessions += 1;
        let meta = self.meta(&format!("s{}", self.sessions), now);
        let name = meta.name.clone();
        let spec = SparkInteractiveSessionSpec {
            user: user.to_owned(),
            pool: self.pool.clone(),
            groups: Vec::new(),
            spark_conf: BTreeMap::new(),
            cloned_from: None,
            session_id: None,
            name: None,
        };
        let status = SparkInteractiveSessionStatus::default();
        self.inventory.put(Object::Session(Session { arrived: meta.resource_version, meta, spec, status }));
        name
    }

    /// As a client does that closes it.
    pub fn release_session(&mut self, name: &str, now: Second) {
        self.change_session(name, |session| {
            session.status.released_at = Some(Time(clock::timestamp(now)));
        });
    }

    /// As `kubectl apply` does with another version of the pool.
    pub fn change_pool(&mut self, change: impl FnOnce(&mut SparkSessionPoolSpec)) {
        self.change(|pool| {
            let before = pool.spec.clone();
            change(&mut pool.spec);
            pool.meta.generation += i64::from(pool.spec != before);
        });
    }

    /// As `kubectl delete ssp` does, of a pool that has had a session.
    pub fn delete_pool(&mut self) {
        self.change(|pool| pool.meta.deleting = true);
    }

    /// As `kubectl annotate` does, or takes the annotation off.
    pub fn annotate_to_drain(&mut self, instance: &str, drain: bool) -> Result<(), WorldError> {
        self.change_application(instance, |application| {
            let annotations = application.annotations_mut();
            if drain {
                annotations.insert(DRAIN_ANNOTATION.to_owned(), "true".to_owned());
            } else {
                annotations.remove(DRAIN_ANNOTATION);
            }
        })
    }

    /// From now on the API server says this to every SparkApplication; `None`: it takes them.
    pub fn refuse_applications(&mut self, words: Option<&str>) {
        self.refuses = words.map(str::to_owned);
    }

    /// The instance's driver runs and answers since now, unless it was deleted or has failed meanwhile.
    pub fn answer(&mut self, instance: &str, now: Second) -> Result<(), WorldError> {
        if !self.instance(instance).is_some_and(|it| it.is_alive()) {
            return Ok(());
        }
        self.set_state(instance, "RUNNING", None)?;
        let uid = format!("{instance}-driver-uid");
        let labels =
            [(POOL_LABEL, self.pool.as_str()), (INSTANCE_LABEL, instance)].map(|(k, v)| (k.into(), v.into()));
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(driver_pod(instance)),
                uid: Some(uid.clone()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            status: Some(PodStatus {
                phase: Some("Running".to_owned()),
                pod_ip: Some(ADDRESS.to_owned()),
                container_statuses: Some(vec![usage::container_status(now)]),
                ..PodStatus::default()
            }),
            spec: Some(usage::pod_spec()),
        };
        self.put(pod.into_domain());
        self.inventory.server_answers(&uid);
        Ok(())
    }

    /// The Spark Operator has found the instance's driver dead.
    pub fn fail_instance(&mut self, instance: &str, words: &str) -> Result<(), WorldError> {
        self.set_state(instance, "FAILED", Some(words))
    }

    /// Nothing is left of it.
    pub fn remove_instance(&mut self, instance: &str) {
        self.applications.remove(instance);
        self.inventory.remove(Kind::Application, instance);
        self.inventory.remove(Kind::Pod, &driver_pod(instance));
        self.inventory.remove(Kind::Token, &token_secret_name(instance));
    }

    fn put_token(&mut self, instance: &str, now: Second) {
        let meta = self.meta(&token_secret_name(instance), now);
        let token = InstanceToken::new("simulated");
        self.inventory.put(Object::Token(TokenSecret { meta, instance: instance.to_owned(), token }));
    }

    fn put_application(&mut self, mut application: SparkApplication) {
        self.version += 1;
        application.metadata.resource_version = Some(self.version.to_string());
        self.applications.insert(application.name_any(), application.clone());
        self.put(application.into_domain());
    }

    /// What is not one of ours is not seen.
    fn put(&mut self, object: Option<Object>) {
        if let Some(object) = object {
            self.inventory.put(object);
        }
    }

    fn set_state(&mut self, instance: &str, state: &str, error: Option<&str>) -> Result<(), WorldError> {
        let status = json!({ "applicationState": { "state": state, "errorMessage": error } });
        let status: Option<SparkApplicationStatus> = serde_json::from_value(status).ok();
        self.change_application(instance, |application| application.status = status.map(Into::into))
    }

    fn change_application(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut SparkApplication),
    ) -> Result<(), WorldError> {
        let known = self.applications.get(name).cloned();
        let mut application = known.ok_or_else(|| WorldError::NoInstance(name.to_owned()))?;
        change(&mut application);
        self.put_application(application);
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(&mut Pool)) {
        let Some(pool) = self.inventory.pool(&self.pool) else { return };
        let mut pool = Pool::clone(pool);
        change(&mut pool);
        self.version += 1;
        pool.meta.resource_version = self.version;
        self.inventory.put(Object::Pool(pool));
    }

    fn change_session(&mut self, name: &str, change: impl FnOnce(&mut Session)) {
        let Some(session) = self.inventory.session(name) else { return };
        let mut session = Session::clone(session);
        change(&mut session);
        self.version += 1;
        session.meta.resource_version = self.version;
        self.inventory.put(Object::Session(session));
    }

    /// Removes what is over: nothing depends on its object being kept for a while.
    fn sweep(&mut self, session: &str) {
        let over = |it: &Arc<Session>| it.is_finished() || (it.meta.deleting && !it.meta.held);
        if self.inventory.session(session).is_some_and(over) {
            self.inventory.remove(Kind::Session, session);
        }
    }
}

fn driver_pod(instance: &str) -> String {
    format!("{instance}-driver")
}
