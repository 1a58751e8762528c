//! Objects for tests, changed step by step like a sentence: `connect_pool("p").sized(0, 3)`.
//!
//! Unless a test says otherwise, everything belongs to pool `p`, sessions belong to alice, and all
//! of it was created at second 0.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};
use uuid::Uuid;

use super::connect_server::{INTERCEPTOR_CLASS, INTERCEPTORS_SETTING, token_secret_name};
use super::{
    Application, Certificate, ClientConnection, ClientConnections, DriverPod, Identity, Instance,
    InstancePhase, InstanceToken, Meta, Pool, Requests, Session, TlsSecret, TokenSecret, TokenState,
    UsedConnection, Utilization, ordinal_of,
};
use crate::api::{
    Access, DisconnectCause, IdentityMode, InstanceState, InstanceStatus, MetricType, Quota, QuotaMatch,
    SessionState, Sharing, SparkInteractiveSessionSpec, SparkInteractiveSessionStatus, SparkSessionPoolSpec,
    SparkSessionPoolStatus, ThriftConnection, Tls,
};

/// This many seconds after the tests' beginning of time.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub fn time(seconds: i64) -> Time {
    Time(at(seconds))
}

fn meta(name: &str) -> Meta {
    Meta {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        resource_version: 1,
        generation: 1,
        created_at: at(0),
        deleting: false,
        held: false,
        other_finalizers: Vec::new(),
    }
}

macro_rules! steps_of_every_object {
    ($($object:ty),*) => {$(
        #[allow(dead_code, reason = "not every kind needs every step")]
        impl $object {
            pub fn created(mut self, seconds: i64) -> Self {
                self.meta.created_at = at(seconds);
                self
            }

            pub fn version(mut self, version: u64) -> Self {
                self.meta.resource_version = version;
                self
            }

            pub fn with_uid(mut self, uid: &str) -> Self {
                self.meta.uid = uid.to_owned();
                self
            }

            pub fn being_deleted(mut self) -> Self {
                self.meta.deleting = true;
                self
            }

            /// Has the operator's finalizer.
            pub fn held(mut self) -> Self {
                self.meta.held = true;
                self
            }
        }
    )*};
}

steps_of_every_object!(Pool, Session, Application, DriverPod);

pub fn connect_pool(name: &str) -> Pool {
    pool(name, "connect")
}

pub fn thrift_pool(name: &str) -> Pool {
    pool(name, "thrift")
}

fn pool(name: &str, protocol: &str) -> Pool {
    let spec: SparkSessionPoolSpec = serde_json::from_value(json!({
        "type": protocol,
        "host": "spark.example.com",
        "sparkApplicationTemplate": { "spec": {} },
        "scaling": { "cooldownSeconds": 0 },
    }))
    .unwrap();
    Pool { meta: meta(name), spec, status: SparkSessionPoolStatus::default() }
}

impl Pool {
    pub fn sized(mut self, min: i32, max: i32) -> Self {
        (self.spec.replicas.min, self.spec.replicas.max) = (min, max);
        self
    }

    pub fn trusting(mut self) -> Self {
        self.spec.identity = IdentityMode::Trusted;
        self
    }

    pub fn with_host(mut self, host: &str) -> Self {
        self.spec.host = host.to_owned();
        self
    }

    pub fn with_certificate_in(mut self, secret: &str) -> Self {
        self.spec.tls = Some(Tls { secret_name: secret.to_owned() });
        self
    }

    pub fn with_template(mut self, spec: Value) -> Self {
        let Value::Object(spec) = spec else { panic!("a template is an object, not {spec}") };
        self.spec.spark_application_template.spec = spec;
        self
    }

    pub fn sessions_per_instance(mut self, target: i32) -> Self {
        self.spec.scaling.metrics.target_per_instance = Some(target);
        self
    }

    /// Sized by what its drivers use.
    pub fn measured_by(mut self, metric: MetricType) -> Self {
        self.spec.scaling.metrics.metric_type = metric;
        self
    }

    pub fn keeping_spare(mut self, instances: i32) -> Self {
        self.spec.scaling.spare_instances = Some(instances);
        self
    }

    pub fn with_places_per_instance(mut self, places: i32) -> Self {
        self.spec.scaling.max_sessions_per_instance = Some(places);
        self
    }

    pub fn scaling_up_above(mut self, fraction: &str) -> Self {
        self.spec.scaling.scale_up_threshold = fraction.to_owned();
        self
    }

    pub fn cooling_down(mut self, seconds: i32) -> Self {
        self.spec.scaling.cooldown_seconds = seconds;
        self
    }

    pub fn shared_by(mut self, sharing: Sharing) -> Self {
        self.spec.sharing = sharing;
        self
    }

    pub fn allowing_each_user(mut self, sessions: i32) -> Self {
        self.spec.session_policy.max_sessions_per_user = sessions;
        self
    }

    pub fn allowing_in_total(mut self, sessions: i32) -> Self {
        self.spec.session_policy.max_total_sessions = sessions;
        self
    }

    pub fn allowing_user(self, user: &str, sessions: i32) -> Self {
        self.with_quota(&[user], &[], sessions)
    }

    pub fn allowing_group(self, group: &str, sessions: i32) -> Self {
        self.with_quota(&[], &[group], sessions)
    }

    fn with_quota(mut self, users: &[&str], groups: &[&str], sessions: i32) -> Self {
        self.spec.session_policy.quotas.push(Quota {
            subject: QuotaMatch { users: texts(users), groups: texts(groups) },
            max_sessions_per_user: Some(sessions),
            session_conf: Default::default(),
        });
        self
    }

    pub fn open_to(mut self, users: &[&str], groups: &[&str]) -> Self {
        self.spec.access = Some(Access { users: texts(users), groups: texts(groups) });
        self
    }

    pub fn giving_up_after(mut self, seconds: i32) -> Self {
        self.spec.session_policy.start_timeout_seconds = Some(seconds);
        self
    }

    pub fn keeping_ended_sessions(mut self, minutes: i32) -> Self {
        self.spec.session_policy.finished_ttl_minutes = Some(minutes);
        self
    }

    pub fn ending_idle_sessions(mut self, minutes: i32) -> Self {
        self.spec.session_policy.idle_timeout_minutes = minutes;
        self
    }

    pub fn ending_disconnected_sessions(mut self, minutes: i32) -> Self {
        self.spec.session_policy.disconnected_timeout_minutes = Some(minutes);
        self
    }

    pub fn ending_sessions_after(mut self, minutes: i32) -> Self {
        self.spec.session_policy.max_lifetime_minutes = Some(minutes);
        self
    }

    pub fn with_status(mut self, change: impl FnOnce(&mut SparkSessionPoolStatus)) -> Self {
        change(&mut self.status);
        self
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// A session that nobody has placed yet.
pub fn session(name: &str) -> Session {
    Session {
        meta: meta(name),
        spec: SparkInteractiveSessionSpec {
            user: "alice".to_owned(),
            pool: "p".to_owned(),
            groups: Vec::new(),
            spark_conf: Default::default(),
            cloned_from: None,
            session_id: None,
            name: None,
        },
        arrived: 0,
        status: SparkInteractiveSessionStatus::default(),
    }
}

impl Session {
    pub fn of(mut self, user: &str) -> Self {
        self.spec.user = user.to_owned();
        self
    }

    pub fn in_groups(mut self, groups: &[&str]) -> Self {
        self.spec.groups = texts(groups);
        self
    }

    pub fn in_pool(mut self, pool: &str) -> Self {
        self.spec.pool = pool.to_owned();
        self
    }

    /// Called so by its owner, as in `/cliservice/<name>`.
    pub fn named(mut self, name: &str) -> Self {
        self.spec.name = Some(name.to_owned());
        self
    }

    pub fn clone_of(mut self, parent: &str) -> Self {
        self.spec.cloned_from = Some(parent.to_owned());
        self
    }

    pub fn with_spark_id(mut self, id: Uuid) -> Self {
        self.spec.session_id = Some(id.to_string());
        self
    }

    /// Got its Spark session id from the user's first connection.
    pub fn claimed_by(mut self, id: Uuid) -> Self {
        self.status.session_id = Some(id.to_string());
        self
    }

    pub fn shared_by_clients(mut self, ids: &[Uuid]) -> Self {
        self.status.client_session_ids = ids.iter().map(Uuid::to_string).collect();
        self
    }

    /// Of its clients, those that Spark copied.
    pub fn with_cloned_clients(mut self, ids: &[Uuid]) -> Self {
        self.status.cloned_session_ids = ids.iter().map(Uuid::to_string).collect();
        self
    }

    /// Has a connection of this handle, opened on that instance.
    pub fn connected(mut self, id: Uuid, instance: &str) -> Self {
        let connection = ThriftConnection { id: id.to_string(), instance: instance.to_owned() };
        self.status.connections.push(connection);
        self
    }

    /// Its client has a connection of this port open.
    pub fn connected_from(mut self, port: u16, seconds: i64) -> Self {
        let connection = ClientConnection {
            envoy: "envoy-0".to_owned(),
            client: ([10, 0, 0, 7], port).into(),
            listener_port: 10_000,
        };
        let used = UsedConnection { connection, since: at(seconds), proxied: false };
        let mut connections = ClientConnections::of(&self);
        connections.opened(&used, false);
        self.status.client_connections = connections.open;
        (self.status.disconnected_at, self.status.disconnect_cause) = (None, None);
        self
    }

    /// Its client's last connection ended then.
    pub fn disconnected(mut self, seconds: i64, cause: DisconnectCause) -> Self {
        self.status.client_connections.clear();
        self.status.disconnected_at = Some(time(seconds));
        self.status.disconnect_cause = Some(cause);
        self
    }

    /// Active, with its configuration.
    pub fn on(mut self, instance: &str) -> Self {
        self.status.assigned_instance = Some(instance.to_owned());
        self.status.prepared_session_ids = self.spark_session_ids().map(|id| id.to_string()).collect();
        self.in_state(SessionState::Active)
    }

    /// On the driver with this UID.
    pub fn driven_by(mut self, uid: &str) -> Self {
        self.status.driver_uid = Some(uid.to_owned());
        self
    }

    pub fn in_state(mut self, state: SessionState) -> Self {
        self.status.state = state;
        self
    }

    /// Last used then, as its status says.
    pub fn used(mut self, seconds: i64) -> Self {
        self.status.last_activity_at = Some(time(seconds));
        self
    }

    /// Ended by its client.
    pub fn released(mut self, seconds: i64) -> Self {
        self.status.released_at = Some(time(seconds));
        self
    }

    pub fn ended(mut self, state: SessionState, reason: &str, message: &str, seconds: i64) -> Self {
        self.status.finished_at = Some(time(seconds));
        self.in_state(state).explained(reason, message, seconds)
    }

    /// Not ready, with a condition that says why.
    pub fn explained(mut self, reason: &str, message: &str, seconds: i64) -> Self {
        self.status.conditions = vec![Condition {
            type_: "Ready".to_owned(),
            status: "False".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: Some(1),
            last_transition_time: time(seconds),
        }];
        self
    }
}

/// An instance whose server answers, at an address made from its ordinal.
pub fn ready(name: &str) -> Instance {
    let ordinal = ordinal_of(name).unwrap();
    let last = u8::try_from(ordinal % 200 + 1).unwrap();
    Instance {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        orphaned: false,
        ordinal,
        created_at: at(0),
        phase: InstancePhase::Ready,
        going: None,
        given_up: false,
        told_to_drain: false,
        pod: Some((format!("{name}-driver"), format!("uid-of-{name}-driver"))),
        creating: false,
        endpoint: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 15002)),
        launcher_state: "RUNNING".to_owned(),
        message: None,
        last_words: None,
        token: TokenState::Kept,
        forces_identity: true,
        template: None,
        started_at: Some(at(0)),
        utilization: None,
    }
}

impl Instance {
    pub fn running_since(mut self, seconds: i64) -> Self {
        self.started_at = Some(at(seconds));
        self
    }

    /// Uses these thousandths of its CPU and of its memory, in the 15 seconds until then.
    pub fn using(mut self, cpu: u32, memory: u32, seconds: i64) -> Self {
        self.utilization = Some(Utilization {
            at: at(seconds),
            window: SignedDuration::from_secs(15),
            cpu: Some(cpu),
            memory: Some(memory),
        });
        self
    }
}

/// An instance that the Spark Operator has not looked at yet.
pub fn starting(name: &str) -> Instance {
    Instance {
        phase: InstancePhase::Starting,
        pod: None,
        endpoint: None,
        launcher_state: "SUBMITTED".to_owned(),
        started_at: None,
        ..ready(name)
    }
}

pub fn failed(name: &str, message: &str) -> Instance {
    Instance {
        phase: InstancePhase::Failed,
        launcher_state: "FAILED".to_owned(),
        message: Some(message.to_owned()).filter(|message| !message.is_empty()),
        ..ready(name)
    }
}

pub fn going(name: &str) -> Instance {
    Instance { phase: InstancePhase::Deleting, ..ready(name) }
}

pub fn draining(name: &str) -> Instance {
    Instance { phase: InstancePhase::Draining, told_to_drain: true, ..ready(name) }
}

/// The running SparkApplication of an instance of pool `p`, with the interceptor and without a token.
/// Of an instance, as the pool's status has it.
pub fn told(name: &str, state: InstanceState) -> InstanceStatus {
    InstanceStatus {
        name: name.to_owned(),
        state,
        active_sessions: 0,
        endpoint: None,
        spark_application_state: None,
        driver_pod: None,
        created_at: None,
        ready_at: matches!(state, InstanceState::Running | InstanceState::Draining).then(|| time(0)),
        drain: None,
        outdated: false,
        message: None,
    }
}

pub fn application(name: &str) -> Application {
    Application {
        meta: meta(name),
        pool: "p".to_owned(),
        controller: None,
        deleted_at: None,
        state: "RUNNING".to_owned(),
        error_message: None,
        draining: false,
        template: None,
        spark_conf: serde_json::Map::from_iter([(INTERCEPTORS_SETTING.to_owned(), json!(INTERCEPTOR_CLASS))]),
    }
}

impl Application {
    pub fn of_pool(mut self, pool: &str) -> Self {
        self.pool = pool.to_owned();
        self
    }

    pub fn reported(mut self, state: &str) -> Self {
        self.state = state.to_owned();
        self
    }

    pub fn with_conf(mut self, key: &str, value: &str) -> Self {
        self.spark_conf.insert(key.to_owned(), json!(value));
        self
    }
}

/// The driver Pod `<instance>-driver`, which has no address yet, and requests a core and 1 GiB.
pub fn driver(instance: &str) -> DriverPod {
    DriverPod {
        meta: meta(&format!("{instance}-driver")),
        pool: "p".to_owned(),
        instance: instance.to_owned(),
        ip: None,
        node: None,
        owned: true,
        killed_at: None,
        ended: false,
        creating: false,
        message: None,
        requests: Requests { cpu_millis: Some(1000), memory_bytes: Some(1 << 30), containers: 1 },
        started_at: None,
    }
}

impl DriverPod {
    /// It is being deleted, and is to have ended by then.
    pub fn killed_at(mut self, second: i64) -> Self {
        self.meta.deleting = true;
        self.killed_at = Some(at(second));
        self
    }

    pub fn running_since(mut self, seconds: i64) -> Self {
        self.started_at = Some(at(seconds));
        self
    }

    pub fn called(mut self, name: &str) -> Self {
        self.meta = Meta { name: name.to_owned(), uid: format!("uid-of-{name}"), ..self.meta };
        self
    }

    pub fn at_ip(mut self, ip: &str) -> Self {
        self.ip = Some(ip.parse().unwrap());
        self
    }

    pub fn that_ended(mut self) -> Self {
        self.ended = true;
        self
    }
}

/// A new self-signed certificate for these hosts, valid between these seconds of the tests' time.
pub fn certificate(hosts: &[&str], begins: i64, ends: i64) -> Arc<Certificate> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(texts(hosts)).unwrap();
    let time = |seconds| std::time::SystemTime::from(at(seconds)).into();
    (params.not_before, params.not_after) = (time(begins), time(ends));
    let chain = params.self_signed(&key).unwrap().pem();
    Arc::new(Certificate::parse(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap())
}

/// A Secret with a new certificate for these hosts.
pub fn tls_secret(name: &str, hosts: &[&str]) -> TlsSecret {
    TlsSecret { meta: meta(name), certificate: Ok(certificate(hosts, 0, 1_000_000)) }
}

/// The Secret with the token of an instance.
pub fn token_secret(instance: &str, token: &str) -> TokenSecret {
    TokenSecret {
        meta: meta(&token_secret_name(instance)),
        instance: instance.to_owned(),
        token: InstanceToken::new(token),
    }
}

/// A Secret with nothing in it.
pub fn empty_tls_secret(name: &str) -> TlsSecret {
    TlsSecret { meta: meta(name), certificate: Certificate::parse(b"", b"").map(Arc::new) }
}

pub fn alice() -> Identity {
    Identity::new("alice")
}

impl Identity {
    pub fn in_group(mut self, group: &str) -> Self {
        self.groups.push(group.to_owned());
        self
    }
}
