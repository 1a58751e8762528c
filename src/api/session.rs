use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    status = "SparkInteractiveSessionStatus",
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
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
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
    #[schemars(length(max = 1000))]
    pub groups: Vec<String>,
    /// Spark configuration of this session.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spark_conf: BTreeMap<String, String>,
    /// Spark Connect's id of the session (a UUID, chosen by the client). Without it the user's
    /// first connection brings its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"))]
    pub session_id: Option<String>,
    /// Name among the user's sessions: the last part of `/cliservice/<name>`. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,63}$"))]
    pub name: Option<String>,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct SparkInteractiveSessionStatus {
    #[serde(default)]
    pub state: SessionState,
    /// Name of the instance (a SparkApplication) that holds the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_instance: Option<String>,
    /// Address and port of that instance's Spark server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Spark Connect's id of the session, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_at: Option<Time>,
    /// When the client released the session, as `spark.stop()` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Time>,
    /// When the session ended or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
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
