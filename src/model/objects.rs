//! The objects that the operator watches, reduced to what it reasons about.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Instance, Protocol, Requests};
use crate::api::{
    IdentityMode, SetupFailure, SparkInteractiveSessionSpec, SparkInteractiveSessionStatus,
    SparkSessionPoolSpec, SparkSessionPoolStatus,
};

/// Keeps a deleted session until it is released on Spark's side, and a deleted pool until its sessions are.
pub const FINALIZER: &str = "sparkinteractive.io/release";

/// What every watched object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub name: String,
    pub uid: String,
    /// Orders the versions of one object; 0 where unknown. Kubernetes compares them as numbers.
    pub resource_version: u64,
    pub generation: i64,
    pub created_at: Timestamp,
    pub deleting: bool,
    /// Has [`FINALIZER`].
    pub held: bool,
    /// What others hold it by.
    pub other_finalizers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub meta: Meta,
    pub spec: SparkSessionPoolSpec,
    pub status: SparkSessionPoolStatus,
}

impl Pool {
    pub fn name(&self) -> &str {
        &self.meta.name
    }

    pub fn protocol(&self) -> Protocol {
        self.spec.protocol
    }

    /// Whether its servers shall take the user from Envoy and not from the request. Thrift Servers always do.
    pub fn enforces_identity(&self) -> bool {
        self.protocol() == Protocol::Connect && self.spec.identity == IdentityMode::Enforced
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    pub meta: Meta,
    pub spec: SparkInteractiveSessionSpec,
    pub status: SparkInteractiveSessionStatus,
    /// Orders sessions that were created in the same second: the resource version that was seen first.
    pub arrived: u64,
}

impl Session {
    pub fn name(&self) -> &str {
        &self.meta.name
    }

    /// The name that its owner calls it by: `default` unless the spec says otherwise.
    pub fn called(&self) -> &str {
        self.spec.name.as_deref().unwrap_or(super::DEFAULT_SESSION_NAME)
    }

    /// Spark Connect's id: from the spec, or from the connection that claimed the session.
    pub fn spark_session_id(&self) -> Option<Uuid> {
        self.spec.session_id.as_deref().or(self.status.session_id.as_deref()).and_then(|id| id.parse().ok())
    }

    /// All ids under which Spark knows it: its own, and those of the clients that share it.
    pub fn spark_session_ids(&self) -> impl Iterator<Item = Uuid> {
        let of_clients = self.status.client_session_ids.iter().filter_map(|id| id.parse().ok());
        let own = self.spark_session_id();
        own.into_iter().chain(of_clients.filter(move |id| Some(*id) != own))
    }

    /// Public halves of the handles of its Thrift connections.
    pub fn thrift_handles(&self) -> impl Iterator<Item = Uuid> {
        self.status.connections.iter().filter_map(|connection| connection.id.parse().ok())
    }

    /// Whether the Spark session of this id has its configuration, its own or that of its original.
    pub fn is_prepared(&self, id: Uuid) -> bool {
        let status = &self.status;
        let prepared = status.prepared_session_ids.iter().chain(&status.cloned_session_ids);
        prepared.into_iter().any(|prepared| prepared.parse() == Ok(id))
    }

    /// Why the Spark session of this id does not have its configuration yet, if that is known.
    pub fn setup_failure(&self, id: Uuid) -> Option<&SetupFailure> {
        self.status.setup_failures.iter().find(|failure| failure.session_id.parse() == Ok(id))
    }

    /// Whether the session's instance is this one, which has another driver by now: what the session had there is gone.
    /// Not known, and so false, where one of the two drivers is not.
    pub fn has_lost_driver_of(&self, instance: &Instance) -> bool {
        let is_on_it = self.status.assigned_instance.as_ref() == Some(&instance.name);
        match (&self.status.driver_uid, &instance.pod) {
            (Some(told), Some((_, uid))) => is_on_it && told != uid,
            _ => false,
        }
    }

    pub fn is_finished(&self) -> bool {
        self.status.state.is_finished()
    }

    /// The reason and the message of the `Ready` condition, for those who ask about the session.
    pub fn explanation(&self) -> Option<(&str, &str)> {
        let ready = self.status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
        Some((&ready.reason, &ready.message))
    }
}

/// A SparkApplication that carries an instance of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    pub meta: Meta,
    pub pool: String,
    /// UID of the object that controls it, by its owner references.
    pub controller: Option<String>,
    /// When it was deleted, if it is being deleted.
    pub deleted_at: Option<Timestamp>,
    /// State in the Spark Operator's words; empty while it has not looked at the application.
    pub state: String,
    pub error_message: Option<String>,
    /// Somebody has asked for the instance to be emptied: see [`super::DRAIN_ANNOTATION`].
    pub draining: bool,
    /// Value of [`super::TEMPLATE_ANNOTATION`].
    pub template: Option<String>,
    pub spark_conf: Map<String, Value>,
}

impl Application {
    /// Whether it is an instance of this pool. One that nobody controls is: it lost its owner in a restored backup. One
    /// that another object controls, as a namesake that was deleted, is not, whatever its labels say.
    pub fn belongs_to(&self, pool: &Pool) -> bool {
        self.pool == pool.meta.name && self.controller.as_ref().is_none_or(|uid| *uid == pool.meta.uid)
    }
}

/// The Pod that the Spark server runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverPod {
    pub meta: Meta,
    pub pool: String,
    /// Name of the SparkApplication.
    pub instance: String,
    pub ip: Option<IpAddr>,
    /// Where it runs, once that is decided.
    pub node: Option<String>,
    /// Goes with the SparkApplication that owns it.
    pub owned: bool,
    /// Of one that is being deleted: when its time to end by itself is over.
    pub killed_at: Option<Timestamp>,
    /// Has ended, well or badly.
    pub ended: bool,
    /// Has a node, and its container is being created there: its image is pulled if the node does not have it.
    pub creating: bool,
    /// Why it waits or ended, in the kubelet's words: `ImagePullBackOff: …`.
    pub message: Option<String>,
    pub requests: Requests,
    /// Since when all its containers run.
    pub started_at: Option<Timestamp>,
}
