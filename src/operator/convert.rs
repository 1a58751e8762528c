//! Kubernetes objects to domain objects, once, before any lock is taken. Messages of others lose what looks like a
//! secret here, since they go into conditions and Events.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::quantity;
use crate::api::{
    SessionState, SparkApplication, SparkInteractiveSession, SparkInteractiveSessionStatus, SparkSessionPool,
    Unread,
};
use crate::model::connect_server::{TOKEN_KEY, TOKEN_SECRET_TYPE};
use crate::model::{
    Application, Certificate, DRAIN_ANNOTATION, DriverPod, FINALIZER, InstanceToken, Kind, Meta, Object,
    Pool, Requests, Session, TEMPLATE_ANNOTATION, TlsSecret, TokenSecret, spark_version,
};
use crate::plan::{INSTANCE_LABEL, POOL_LABEL};
use crate::spark::secret_words::without_secrets;

/// A Kubernetes kind that the operator watches.
pub trait Watched {
    const KIND: Kind;

    /// `None` for an object that is not one of ours.
    fn into_domain(self) -> Option<Object>;
}

impl Watched for SparkSessionPool {
    const KIND: Kind = Kind::Pool;

    fn into_domain(self) -> Option<Object> {
        let (meta, mut spec, read) = (meta(self.metadata)?, self.spec, self.status.unwrap_or_default());
        spec.session_policy.idle_timeout_minutes = spark_version::idle_timeout_minutes(&spec);
        tell_unread(Self::KIND, &meta, &read.unread);
        let mut status = read.status;
        if read.unread.iter().any(|unread| unread.field != "conditions") {
            write_anew(&mut status.observed_generation);
        }
        Some(Object::Pool(Pool { meta, spec, status }))
    }
}

impl Watched for SparkInteractiveSession {
    const KIND: Kind = Kind::Session;

    fn into_domain(self) -> Option<Object> {
        let (meta, spec, read) = (meta(self.metadata)?, self.spec, self.status.unwrap_or_default());
        tell_unread(Self::KIND, &meta, &read.unread);
        let state = read.lacks("state").then(|| state_by_the_rest(&read));
        let mut status = read.status;
        if let Some(state) = state {
            status.state = state;
            write_anew(&mut status.observed_generation);
        }
        Some(Object::Session(Session { arrived: meta.resource_version, meta, spec, status }))
    }
}

impl Watched for SparkApplication {
    const KIND: Kind = Kind::Application;

    fn into_domain(mut self) -> Option<Object> {
        let pool = self.metadata.labels.as_mut()?.remove(POOL_LABEL)?;
        let state = self.status.and_then(|read| read.status.application_state).unwrap_or_default();
        let spark_conf = match self.spec.fields.remove("sparkConf") {
            Some(serde_json::Value::Object(conf)) => conf,
            _ => serde_json::Map::new(),
        };
        Some(Object::Application(Application {
            draining: annotation(&self.metadata, DRAIN_ANNOTATION) == Some("true"),
            template: annotation(&self.metadata, TEMPLATE_ANNOTATION).map(str::to_owned),
            controller: controller(&self.metadata).map(str::to_owned),
            deleted_at: self.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            meta: meta(self.metadata)?,
            pool,
            state: state.state,
            error_message: state.error_message.as_deref().filter(|it| !it.is_empty()).map(without_secrets),
            spark_conf,
        }))
    }
}

impl Watched for Pod {
    const KIND: Kind = Kind::Pod;

    fn into_domain(mut self) -> Option<Object> {
        let labels = self.metadata.labels.as_mut()?;
        let (pool, instance) = (labels.remove(POOL_LABEL)?, labels.remove(INSTANCE_LABEL)?);
        let status = self.status.unwrap_or_default();
        let phase = status.phase.as_deref().unwrap_or_default();
        let containers = status.container_statuses.as_deref().unwrap_or_default();
        let unschedulable = status.conditions.iter().flatten().find_map(|condition| {
            let waits = condition.type_ == "PodScheduled" && condition.status == "False";
            condition.message.clone().filter(|_| waits)
        });
        // The driver's own first: a sidecar, which is an init container too, ends after it.
        let message = containers.iter().find_map(trouble);
        let preparing = || status.init_container_statuses.iter().flatten().find_map(trouble_before);
        let message = message.or_else(preparing).or(unschedulable).or(status.message);
        Some(Object::Pod(DriverPod {
            owned: controller(&self.metadata).is_some(),
            killed_at: self.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            meta: meta(self.metadata)?,
            pool,
            instance,
            ip: status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()),
            node: self.spec.as_mut().and_then(|spec| spec.node_name.take()),
            ended: matches!(phase, "Failed" | "Succeeded"),
            creating: containers.iter().any(is_being_created),
            message: message.as_deref().map(without_secrets),
            requests: self.spec.as_ref().map(requests).unwrap_or_default(),
            started_at: started_at(containers),
        }))
    }
}

/// What counts as not there since a later version has written it.
fn tell_unread(kind: Kind, meta: &Meta, unread: &[Unread]) {
    for Unread { problem, .. } in unread {
        tracing::warn!(
            ?kind,
            name = meta.name,
            problem,
            "part of a status cannot be read, and counts as not there"
        );
    }
}

/// The planner writes a status that is not about this version of the spec.
fn write_anew(observed_generation: &mut Option<i64>) {
    *observed_generation = None;
}

/// Of a session whose state has a name that this version does not know: one that has a place keeps it, and does not begin
/// anew on another instance.
fn state_by_the_rest(status: &SparkInteractiveSessionStatus) -> SessionState {
    match (&status.finished_at, &status.assigned_instance) {
        (Some(_), _) => SessionState::Terminated,
        (None, Some(_)) => SessionState::Active,
        (None, None) => SessionState::Pending,
    }
}

/// The type that `kubectl create secret tls` and cert-manager give their Secrets.
pub const TLS_SECRET_TYPE: &str = "kubernetes.io/tls";

impl Watched for Secret {
    const KIND: Kind = Kind::Secret;

    fn into_domain(self) -> Option<Object> {
        if self.type_.as_deref() != Some(TLS_SECRET_TYPE) {
            return None;
        }
        let data = self.data.unwrap_or_default();
        let bytes = |key: &str| data.get(key).map_or(&[][..], |value| &value.0);
        let certificate = Certificate::parse(bytes("tls.crt"), bytes("tls.key")).map(Arc::new);
        Some(Object::Secret(TlsSecret { meta: meta(self.metadata)?, certificate }))
    }
}

/// The same kind of object under another name, since it is watched by itself: every replica needs the tokens, whether it
/// serves certificates or not.
#[derive(Clone, Resource, Deserialize)]
#[resource(inherit = Secret)]
pub struct InstanceSecret {
    pub metadata: ObjectMeta,
    #[serde(default, rename = "type")]
    pub type_: Option<String>,
    #[serde(default)]
    pub data: BTreeMap<String, ByteString>,
}

impl From<Secret> for InstanceSecret {
    fn from(Secret { metadata, type_, data, .. }: Secret) -> Self {
        Self { metadata, type_, data: data.unwrap_or_default() }
    }
}

/// Without its data.
impl fmt::Debug for InstanceSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("InstanceSecret").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

impl Watched for InstanceSecret {
    const KIND: Kind = Kind::Token;

    fn into_domain(mut self) -> Option<Object> {
        if self.type_.as_deref() != Some(TOKEN_SECRET_TYPE) {
            return None;
        }
        let instance = self.metadata.labels.as_mut()?.remove(INSTANCE_LABEL)?;
        let token =
            String::from_utf8(self.data.remove(TOKEN_KEY)?.0).ok().filter(|token| !token.is_empty())?;
        Some(Object::Token(TokenSecret {
            meta: meta(self.metadata)?,
            instance,
            token: InstanceToken::new(token),
        }))
    }
}

fn is_being_created(container: &ContainerStatus) -> bool {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.and_then(|waiting| waiting.reason.as_deref()) == Some("ContainerCreating")
}

/// What keeps a container from running, or that it has ended, in the kubelet's words.
fn trouble(container: &ContainerStatus) -> Option<String> {
    waits_for(container).or_else(|| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        let reason = ended.reason.as_deref().unwrap_or("Terminated");
        Some(format!("driver container ended with exit code {}, reason {reason}", ended.exit_code))
    })
}

/// The same of one that has to end, or to run, before the driver's may start.
fn trouble_before(container: &ContainerStatus) -> Option<String> {
    let trouble = waits_for(container).or_else(|| {
        let ended = container.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        Some(format!("it ended with exit code {}", ended.exit_code))
    });
    trouble.map(|trouble| format!("{trouble} (init container {})", container.name))
}

fn waits_for(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
        return None;
    }
    Some(match &waiting.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    })
}

/// Of all containers that run as long as their Pod does, as the Horizontal Pod Autoscaler counts them.
fn requests(pod: &PodSpec) -> Requests {
    let sidecars = pod.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers: Vec<_> = pod.containers.iter().chain(sidecars).collect();
    let sum = |resource: &str, read: fn(&Quantity) -> Option<u64>| {
        let requested = containers.iter().map(|container| {
            let requests = container.resources.as_ref()?.requests.as_ref()?;
            requests.get(resource).and_then(read)
        });
        requested.sum::<Option<u64>>().filter(|_| !containers.is_empty())
    };
    Requests {
        cpu_millis: sum("cpu", quantity::millis),
        memory_bytes: sum("memory", quantity::units),
        containers: containers.len(),
    }
}

fn started_at(containers: &[ContainerStatus]) -> Option<Timestamp> {
    let started = containers.iter().map(|container| {
        let running = container.state.as_ref()?.running.as_ref()?;
        running.started_at.as_ref().map(|time| time.0)
    });
    started.collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// UID of the object that controls this one.
pub(super) fn controller(meta: &ObjectMeta) -> Option<&str> {
    let mut owners = meta.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

fn meta(meta: ObjectMeta) -> Option<Meta> {
    let mut other_finalizers = meta.finalizers.unwrap_or_default();
    let all = other_finalizers.len();
    other_finalizers.retain(|finalizer| finalizer != FINALIZER);
    Some(Meta {
        name: meta.name?,
        uid: meta.uid?,
        resource_version: meta.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
        generation: meta.generation.unwrap_or(0),
        created_at: meta.creation_timestamp.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        deleting: meta.deletion_timestamp.is_some(),
        held: other_finalizers.len() < all,
        other_finalizers,
    })
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
