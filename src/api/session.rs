use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lenient::{Lenient, Status};

/// As it is stored, perhaps by a later version.
type SessionStatus = Lenient<SparkInteractiveSessionStatus>;

/// One user's place on an instance of a pool.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "sparkinteractive.io",
    version = "v1alpha1",
    kind = "SparkInteractiveSession",
    plural = "sparkinteractivesessions",
    shortname = "sis",
    category = "spark",
    namespaced,
    status = "SessionStatus",
    derive = "PartialEq",
    doc = "A user's interactive Spark session in a pool.",
    selectable = ".spec.user",
    selectable = ".spec.pool",
    selectable = ".status.state",
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Instance", type_ = "string", json_path = ".status.assignedInstance"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Session ID", type_ = "string", json_path = ".status.sessionId", priority = 1),
    printcolumn(name = "Last Activity", type_ = "date", json_path = ".status.lastActivityAt", priority = 1),
    printcolumn(name = "Disconnected", type_ = "date", json_path = ".status.disconnectedAt", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SparkInteractiveSessionSpec {
    /// Login name of the owner. Nobody else may use the session.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = ("self == oldSelf", "the user of a session cannot change"))]
    pub user: String,
    /// Name of the SparkSessionPool in the same namespace.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = ("self == oldSelf", "the pool of a session cannot change"))]
    pub pool: String,
    /// Groups of the owner, for quotas. Taken from the token when the session came through Envoy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 1024)))]
    #[x_kube(validation = (
        "self.map(group, size(group)).sum() <= 81920",
        "groups may have at most 81920 characters together"
    ))]
    pub groups: Vec<String>,
    /// Spark configuration of this session: overrides the pool's, except for its `protectedConf`. Keys, each counted twice, and
    /// values may have at most 131,072 characters together: more would leave no room for the session's status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1000, "additionalProperties" = { "type": "string", "maxLength": 131_072 }))]
    #[x_kube(validation = (
        "self.map(key, 2 * size(key) + size(self[key])).sum() <= 131072",
        "sparkConf may have at most 131072 characters, keys counted twice: set what is larger in a file or in the pool"
    ))]
    pub spark_conf: BTreeMap<String, String>,
    /// Spark Connect's id of the session (a UUID, chosen by the client). Without it the user's
    /// first connection brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"))]
    pub session_id: Option<String>,
    /// Name of the session of which this one is a copy (`spark.cloneSession()`): it gets a place on that session's instance or
    /// none at all, and has that session's configuration instead of the pool's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub cloned_from: Option<String>,
    /// Name among the user's sessions: the last part of `/cliservice/<name>`, or the header `x-spark-session`. Without it a
    /// Thrift session is called `default`, and a Connect session has no name, only its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"))]
    pub name: Option<String>,
}

/// What the operator has found and done.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct SparkInteractiveSessionStatus {
    /// `Pending`: waits for a place. `Active`: has one on an instance that answers. `Idle`: the same, but not used for a
    /// while. `Terminating`: is being closed on its instance. `Terminated`: has ended; the object is kept for the pool's
    /// `finishedTtlMinutes`. `Failed`: could not start.
    #[serde(default)]
    pub state: SessionState,
    /// Name of the instance (a SparkApplication) that holds the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_instance: Option<String>,
    /// Address and port of that instance's Spark server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// UID of the Pod of that server. Another Pod is another server, and knows nothing of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_uid: Option<String>,
    /// Spark Connect's id of the session, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// When its object was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// When it was last used; written about once in `--activity-interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_at: Option<Time>,
    /// Of a named Connect session: the Spark session ids of the clients that share it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_session_ids: Vec<String>,
    /// Those of `clientSessionIds` that Spark made as copies of others (`spark.cloneSession()`), whose configuration they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cloned_session_ids: Vec<String>,
    /// Those of `clientSessionIds` that have the session's configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepared_session_ids: Vec<String>,
    /// Spark sessions of clients that cannot be used, because setting their configuration fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["sessionId"]))]
    pub setup_failures: Vec<SetupFailure>,
    /// Of a Thrift session: its open connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub connections: Vec<ThriftConnection>,
    /// The open connections over which clients of a Connect session have sent requests, as the Envoys report them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["envoy", "client", "listenerPort"]))]
    pub client_connections: Vec<ClientConnectionStatus>,
    /// When the last of the `clientConnections` ended. The next request of the session removes this field. A Thrift session
    /// never has it, because JDBC clients may open a connection for each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected_at: Option<Time>,
    /// How the last of the `clientConnections` ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect_cause: Option<DisconnectCause>,
    /// The Spark configuration that it was given. Keys only: a value may be a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conf: Option<ConfStatus>,
    /// What it waits for, as long as it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitStatus>,
    /// When the client released the session, as `spark.stop()` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Time>,
    /// When the session ended or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Version of the spec that the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: whether it can be used, and else what it waits for, or why it ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Status for SparkInteractiveSessionStatus {}

/// A Spark session of a session that is in use otherwise, and that its own client waits for.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetupFailure {
    /// Spark Connect's id of that session.
    pub session_id: String,
    /// When the first attempt failed. They go on.
    pub since: Time,
    /// What its client hears.
    pub message: String,
    /// The client is refused, and not kept waiting any more: the pool's `startTimeoutSeconds` are over.
    #[serde(default)]
    pub gave_up: bool,
}

/// A session that a JDBC client has opened on a Thrift Server.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThriftConnection {
    /// The public half of its handle, as Spark's pages show it.
    pub id: String,
    /// Name of the instance.
    pub instance: String,
}

/// A client's connection to an Envoy, over which requests of the session came.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientConnectionStatus {
    /// `node.id` of the Envoy.
    pub envoy: String,
    /// Address and port of the client, as that Envoy sees them.
    pub client: String,
    /// Port of the Envoy's listener.
    pub listener_port: u16,
    /// When the first request of the session came over this connection, by the Envoy's clock.
    pub since: MicroTime,
    /// The connection belongs to a proxy in front of Envoy, or carries requests of several users. Its end says nothing about
    /// the session's client, so the session counts as connected from then on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// How a client's last connection ended.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisconnectCause {
    /// The client closed or reset the connection, as the operating system does for a program that ends.
    ClosedByClient,
    /// Envoy closed the connection, because the client did not answer any more.
    ConnectionLost,
    /// The connection had not been used for 25 minutes or more when it was closed. The client may still be there: gRPC clients
    /// close a connection that they have not used for half an hour, and open another one for the next request.
    Unused,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ConfStatus {
    /// Keys that Spark has taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applied: Vec<String>,
    /// Keys that it does not have, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedConfStatus>,
    /// Further keys, for which there is no room here: all together have 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<i32>,
}

/// A key that the session does not have. It runs without.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedConfStatus {
    /// Its configuration key, without the value.
    pub key: String,
    /// In Spark's words where Spark refused it.
    pub reason: String,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitStatus {
    /// `Queued`: for a place, since all instances are full. `StartingInstance`: its instance is being submitted, or has no
    /// node yet. `PullingImage`: the driver's container is being created. `StartingSpark`: the driver runs, and does not
    /// answer yet. `ApplyingConf`: the instance answers, and gets the session's configuration.
    pub phase: WaitPhase,
    /// Place in the queue of the pool's waiting sessions, from 1. It moves a little later than the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<i32>,
    /// When the wait should be over, by the pool's recent starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_at: Option<Time>,
    /// When this was found.
    pub as_of: Time,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitPhase {
    /// For a place: all instances are full, and the pool is at its maximum, or may not start another.
    Queued,
    /// The Spark Operator submits the instance, or its driver Pod has no node yet.
    StartingInstance,
    /// The driver's container is being created: its image is pulled if the node does not have it.
    PullingImage,
    /// The driver runs; its server does not answer yet.
    StartingSpark,
    /// The instance answers; the session's configuration is being set.
    ApplyingConf,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum SessionState {
    /// Waits for a place.
    #[default]
    Pending,
    /// Has a place on an instance that answers.
    Active,
    /// Active, but not used for a while.
    Idle,
    /// Is being released on its instance.
    Terminating,
    /// Has ended; the object is kept for a while.
    Terminated,
    /// Could not start.
    Failed,
}

impl SessionState {
    /// Ended sessions hold no place and count against no quota.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Terminated | Self::Failed)
    }
}
