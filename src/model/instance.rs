use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::application_state::{Prospect, prospect};
use super::connect_server::{forces_identity, token_secret_name};
use super::{Application, DriverPod, Endpoint, Pool, Protocol, Utilization};

/// On a SparkApplication: identifies the template that it was made from.
pub const TEMPLATE_ANNOTATION: &str = "sparkinteractive.io/template-hash";

/// On a SparkApplication, with the value `true`: the instance is to be emptied. Without it, the
/// instance takes sessions again.
pub const DRAIN_ANNOTATION: &str = "sparkinteractive.io/drain";

/// One Spark server of a pool. It says nothing of SparkApplications, so that another launcher can
/// stand beside the Spark Operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub name: String,
    pub uid: String,
    /// Nobody owns its SparkApplication, as in a restored backup.
    pub orphaned: bool,
    pub ordinal: i64,
    pub created_at: Timestamp,
    pub phase: InstancePhase,
    /// Of one that is being deleted.
    pub going: Option<Going>,
    /// Of a failed one: nobody else says so, it has not come in time.
    pub given_up: bool,
    /// Somebody, or the interceptor that it lacks, asks for it to be emptied, whatever the load is.
    pub told_to_drain: bool,
    /// Name and UID of the driver Pod.
    pub pod: Option<(String, String)>,
    /// The container of its driver is being created on its node.
    pub creating: bool,
    /// Where the server listens, once the Pod has an address.
    pub endpoint: Option<SocketAddr>,
    /// What the launcher calls the state.
    pub launcher_state: String,
    /// What it waits for, or why it failed.
    pub message: Option<String>,
    /// Of a failed one: the end of its driver's log, once that is read.
    pub last_words: Option<String>,
    pub token: TokenState,
    /// Whether the server takes the user from Envoy, whatever the request says.
    pub forces_identity: bool,
    /// Identifies the template that it was made from; `None` where it was made before templates were told apart.
    pub template: Option<String>,
    /// Since when its driver runs. Its server answers later.
    pub started_at: Option<Timestamp>,
    /// How busy its driver is, if that is measured.
    pub utilization: Option<Utilization>,
}

/// How an instance is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Going {
    /// With its SparkApplication, and not only its driver Pod.
    pub for_good: bool,
    /// End of the time that its driver has to end by itself. `None` while the driver is not being deleted.
    pub until: Option<Timestamp>,
}

/// The kubelet kills what has not ended by then, and says so. Where it does not, the node is lost.
const KILLED_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// The Spark Operator may be submitting a driver while its SparkApplication is being deleted.
const SUBMITTED_WITHIN: SignedDuration = SignedDuration::from_secs(60);

impl Going {
    fn of(application: &Application, pod: Option<&DriverPod>) -> Option<Self> {
        let for_good = application.meta.deleting;
        let until = match pod {
            Some(pod) if pod.meta.deleting => pod.killed_at,
            Some(pod) if !pod.ended => None,
            _ => application.deleted_at.and_then(|at| at.checked_add(SUBMITTED_WITHIN).ok()),
        };
        (for_good || pod.is_some_and(|pod| pod.meta.deleting)).then_some(Self { for_good, until })
    }
}

/// What is known of the token without which the server answers nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// The server was started without one.
    NotAsked,
    /// In a Secret.
    Kept,
    /// By this process alone: its Secret is gone.
    Remembered,
    Unknown,
}

/// Whether the server in a driver Pod can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    NotYet,
    Answers,
    /// Did answer, and accepts no connections any more.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstancePhase {
    /// Exists; the server does not answer yet.
    Starting,
    /// The server answers.
    Ready,
    /// Keeps the sessions it has, takes no others, and goes when the last one has ended.
    Draining,
    /// Will never answer again.
    Failed,
    /// Is being deleted.
    Deleting,
}

impl Instance {
    /// Joins what the two watches know. `reach` is what the probes of that Pod found.
    pub(super) fn assemble(
        pool: &Pool,
        application: &Application,
        pod: Option<&DriverPod>,
        reach: Reach,
        token: TokenState,
    ) -> Self {
        let answers = reach == Reach::Answers;
        let protocol = pool.protocol();
        let forces_identity = forces_identity(&application.spark_conf);
        // It was started before the pool, or the operator, asked for more. Who is on it stays there.
        let outdated = pool.enforces_identity() && !forces_identity;
        let token_lost = answers && token == TokenState::Unknown;
        let endpoint = pod
            .and_then(|pod| pod.ip)
            .map(|ip| SocketAddr::new(ip, server_port(protocol, &application.spark_conf)));
        let going = Going::of(application, pod);
        let phase = if going.is_some() {
            InstancePhase::Deleting
        } else if prospect(&application.state) == Prospect::Ended
            || pod.is_some_and(|pod| pod.ended)
            || token_lost
            || reach == Reach::Lost
        {
            InstancePhase::Failed
        } else if application.draining || outdated {
            InstancePhase::Draining
        } else if answers && endpoint.is_some() {
            InstancePhase::Ready
        } else {
            InstancePhase::Starting
        };
        let message = application.error_message.clone().or_else(|| pod.and_then(|pod| pod.message.clone()));
        let message = message.or_else(|| {
            token_lost.then(|| {
                let secret = token_secret_name(&application.meta.name);
                format!(
                    "its token is lost, since Secret {secret} was deleted: nobody can reach its server any more"
                )
            })
        });
        let message = message.or_else(|| {
            let address = endpoint.filter(|_| reach == Reach::Lost)?;
            Some(format!(
                "its address {address} takes no connections any more, though its Pod is said to run"
            ))
        });
        Self {
            name: application.meta.name.clone(),
            uid: application.meta.uid.clone(),
            orphaned: application.controller.is_none(),
            ordinal: ordinal_of(&application.meta.name).unwrap_or(-1),
            created_at: application.meta.created_at,
            phase,
            going,
            given_up: false,
            told_to_drain: application.draining || outdated,
            pod: pod.map(|pod| (pod.meta.name.clone(), pod.meta.uid.clone())),
            creating: pod.is_some_and(|pod| pod.creating),
            endpoint,
            launcher_state: application.state.clone(),
            message,
            last_words: None,
            token,
            forces_identity,
            template: application.template.clone(),
            started_at: pod.and_then(|pod| pod.started_at),
            utilization: None,
        }
    }

    /// Envoy's name of the server. It holds the Pod's UID, so that it never means two addresses.
    pub fn cluster(&self) -> Option<String> {
        let (_, pod_uid) = self.pod.as_ref()?;
        self.endpoint.map(|_| cluster_name(&self.name, pod_uid))
    }

    /// Whether the sessions that it has can stay.
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, InstancePhase::Starting | InstancePhase::Ready | InstancePhase::Draining)
    }

    /// Of one that is being deleted: from then on its driver does not run any more, whether that is confirmed or not.
    pub fn gone_at(&self) -> Option<Timestamp> {
        self.going?.until?.checked_add(KILLED_WITHIN).ok()
    }

    /// Whether its driver takes the room of one.
    pub fn may_run(&self, now: Timestamp) -> bool {
        match self.phase {
            InstancePhase::Failed => false,
            InstancePhase::Deleting => self.gone_at().is_none_or(|at| now < at),
            InstancePhase::Starting | InstancePhase::Ready | InstancePhase::Draining => true,
        }
    }

    /// Whether further sessions may come to it, now or when it answers.
    pub fn takes_sessions(&self) -> bool {
        matches!(self.phase, InstancePhase::Starting | InstancePhase::Ready)
    }
}

/// Envoy's name of the server in this driver Pod of the instance.
pub fn cluster_name(instance: &str, pod_uid: &str) -> String {
    format!("{instance}/{pod_uid}")
}

/// What Envoy needs to reach the server in this Pod, whether it answers already or not.
pub(super) fn endpoint_of(
    protocol: Protocol,
    application: &Application,
    pod: &DriverPod,
) -> Option<Endpoint> {
    let port = server_port(protocol, &application.spark_conf);
    pod.ip.filter(|_| !pod.ended).map(|ip| Endpoint { protocol, address: SocketAddr::new(ip, port) })
}

/// Spark's configuration key of the server's port, and the port without it.
pub const fn port_setting(protocol: Protocol) -> (&'static str, u16) {
    match protocol {
        Protocol::Connect => ("spark.connect.grpc.binding.port", 15002),
        Protocol::Thrift => ("spark.hadoop.hive.server2.thrift.http.port", 10001),
    }
}

/// The port that the server listens on, from the configuration of its application.
pub fn server_port(protocol: Protocol, spark_conf: &Map<String, Value>) -> u16 {
    let (key, default) = port_setting(protocol);
    match spark_conf.get(key) {
        Some(Value::String(port)) => port.trim().parse().unwrap_or(default),
        Some(Value::Number(port)) => port.as_u64().and_then(|port| port.try_into().ok()).unwrap_or(default),
        _ => default,
    }
}

/// Name of the pool's instance with this ordinal.
pub fn instance_name(pool: &str, ordinal: i64) -> String {
    format!("{pool}-{ordinal}")
}

pub fn ordinal_of(instance: &str) -> Option<i64> {
    instance.rsplit_once('-')?.1.parse().ok().filter(|ordinal| *ordinal >= 0)
}
