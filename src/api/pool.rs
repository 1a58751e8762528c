use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Lenient, SparkSessionPoolStatus};
use crate::model::Protocol;

/// As it is stored, perhaps by a later version.
type PoolStatus = Lenient<SparkSessionPoolStatus>;

/// What an administrator states once about a set of equal Spark servers behind one host name.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sparkinteractive.io",
    version = "v1alpha1",
    kind = "SparkSessionPool",
    plural = "sparksessionpools",
    shortname = "ssp",
    category = "spark",
    namespaced,
    status = "PoolStatus",
    derive = "PartialEq",
    doc = "A pool of interactive Spark servers behind one host name.",
    // What `kubectl scale` sets is how many there are at least: how many there are beyond is for the load to say.
    scale(
        spec_replicas_path = ".spec.replicas.min",
        status_replicas_path = ".status.currentReplicas",
        label_selector_path = ".status.selector"
    ),
    selectable = ".spec.type",
    selectable = ".spec.host",
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("the name of a pool may have at most 40 characters, so that the names made from it fit into labels"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.currentReplicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Sessions", type_ = "integer", json_path = ".status.totalActiveSessions"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.host", priority = 1),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.pendingSessions", priority = 1),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas", priority = 1),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.replicas.max", priority = 1),
    printcolumn(
        name = "Up-To-Date",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="UpToDate")].status"#,
        priority = 1
    ),
    printcolumn(
        name = "Scaled",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Scaled")].reason"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SparkSessionPoolSpec {
    /// What the servers speak: `connect` (Spark Connect, gRPC) or `thrift` (HiveServer2 over HTTP).
    #[x_kube(validation = ("self == oldSelf", "the type of a pool cannot change: create another pool"))]
    #[serde(rename = "type")]
    pub protocol: Protocol,
    /// Host name that clients call. One host may serve one pool of each type.
    #[schemars(length(min = 1, max = 253), regex(pattern = HOST_PATTERN))]
    pub host: String,
    /// How many instances there may be, and have to be.
    #[serde(default)]
    pub replicas: Replicas,
    /// When instances are started and given up within `replicas`.
    #[serde(default)]
    pub scaling: Scaling,
    /// The SparkApplication that every instance is made from. A change replaces the running instances, some at a
    /// time, each when its sessions have ended, or after `scaling.drainTimeoutSeconds`.
    pub spark_application_template: SparkApplicationTemplate,
    /// How many sessions there may be, how long they last, and what they start with.
    #[serde(default)]
    pub session_policy: SessionPolicy,
    /// Who may use the pool. Without it every user who can log in may; an empty one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Certificate for the host. Default: the one of `--tls-default-secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Who may share one driver: everyone in the pool (`Pool`), the sessions of one user (`User`), or nobody
    /// (`Session`). With `User` the pool has a driver for each user, or several by `scaling.maxSessionsPerInstance`; with
    /// `Session` one for each session. `scaling.metrics` and the thresholds do not count then, and only drivers without
    /// sessions are given up.
    #[serde(default)]
    pub sharing: Sharing,
    /// `Enforced`: a Connect server has the interceptor that sets the user who logged in, and refuses other sessions.
    /// `Trusted`: for images that cannot have it; the server believes what a client says of itself. Thrift servers are
    /// told the user in any case. A change to `Enforced` drains every instance that was started without the interceptor
    /// at the same time: raise `replicas.max` first if users must not wait.
    #[serde(default)]
    pub identity: IdentityMode,
}

/// A DNS name of lower-case labels; no wildcard, no port.
const HOST_PATTERN: &str = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";
/// A decimal fraction from 0 to 1, written as a string because JSON numbers lose digits.
const FRACTION_PATTERN: &str = r"^(0(\.[0-9]{1,4})?|1(\.0{1,4})?)$";

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.min <= self.max", "replicas.min must not be greater than replicas.max"))]
pub struct Replicas {
    /// Instances that always run; `kubectl scale` sets this. 0: start when the first user comes.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub min: i32,
    /// Instances that run at the same time, at most. One that is being ended counts until its Pod is gone, or its time to
    /// end is over. One that has failed does not count while it is kept for its log.
    #[serde(default = "default_max")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: i32,
}

impl Default for Replicas {
    fn default() -> Self {
        Self { min: 0, max: default_max() }
    }
}

fn default_max() -> i32 {
    5
}

#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[self.scaleDownThreshold, self.scaleUpThreshold].exists(it, !it.matches('^[01]([.][0-9]+)?$')) || \
     double(self.scaleDownThreshold) < double(self.scaleUpThreshold)",
    "scaling.scaleDownThreshold must be less than scaling.scaleUpThreshold"
))]
pub struct Scaling {
    /// The one measure that the pool is sized by.
    #[serde(default)]
    pub metrics: Metric,
    /// An instance more than the sessions need is started when they are more than this part of the places that the
    /// needed ones have at the target. By `activeSessions` only.
    #[serde(default = "default_scale_up")]
    #[schemars(length(max = 6), regex(pattern = FRACTION_PATTERN))]
    pub scale_up_threshold: String,
    /// Instances are given up when the sessions are less than this part of the places that all have at the target.
    /// By `activeSessions` only.
    #[serde(default = "default_scale_down")]
    #[schemars(length(max = 6), regex(pattern = FRACTION_PATTERN))]
    pub scale_down_threshold: String,
    /// Seconds for which there have to be more instances than needed before any is given up, counted anew from the
    /// last time that the pool grew or shrank. 0: at once.
    #[serde(default = "default_cooldown")]
    #[schemars(range(min = 0, max = 86_400))]
    pub cooldown_seconds: i32,
    /// Whether the sessions of an instance that the pool needs no more may go on there until they end, or until
    /// `drainTimeoutSeconds` are over. If not, they are ended at once. Instances that go for a changed template, an
    /// annotation or the interceptor drain in any case.
    #[serde(default = "default_true")]
    pub drain_before_scale_down: bool,
    /// Seconds after which the sessions that are left on a draining instance are ended. Without it they go on until
    /// they end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub drain_timeout_seconds: Option<i32>,
    /// Sessions that an instance takes at most, however many wait. Without it `targetPerInstance` decides when
    /// instances are started, and no session waits while one of them answers that it may share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_sessions_per_instance: Option<i32>,
    /// Instances that are kept beyond what the sessions need, so that a new user waits for none; they do not add to the
    /// one by `scaleUpThreshold`. With `replicas.min` 0, only while the pool has a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub spare_instances: Option<i32>,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            metrics: Metric::default(),
            scale_up_threshold: default_scale_up(),
            scale_down_threshold: default_scale_down(),
            cooldown_seconds: default_cooldown(),
            drain_before_scale_down: true,
            drain_timeout_seconds: None,
            max_sessions_per_instance: None,
            spare_instances: None,
        }
    }
}

fn default_scale_up() -> String {
    "0.8".to_owned()
}
fn default_scale_down() -> String {
    "0.3".to_owned()
}
fn default_cooldown() -> i32 {
    300
}
fn default_true() -> bool {
    true
}

/// The one measure that a pool is sized by.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// `activeSessions`: sessions, placed and waiting. `cpu`, `memory`: what the driver Pods use of their requests, by
    /// metrics.k8s.io; where that does not answer, the number of instances stays.
    #[serde(rename = "type", default)]
    pub metric_type: MetricType,
    /// Sessions per instance, or percent of the requested CPU or memory. Default 20 sessions or 80 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub target_per_instance: Option<i32>,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub enum MetricType {
    #[default]
    ActiveSessions,
    Cpu,
    Memory,
}

impl Metric {
    /// Sessions per instance, or percent of the requested CPU or memory.
    pub fn target(&self) -> i32 {
        self.target_per_instance.unwrap_or(self.metric_type.default_target())
    }

    /// Sessions that an instance is meant to have, whatever the pool is measured by.
    pub fn sessions_per_instance(&self) -> i32 {
        match self.metric_type {
            MetricType::ActiveSessions => self.target(),
            MetricType::Cpu | MetricType::Memory => MetricType::ActiveSessions.default_target(),
        }
    }
}

impl MetricType {
    /// Sessions, or percent.
    pub fn default_target(self) -> i32 {
        match self {
            Self::ActiveSessions => 20,
            Self::Cpu | Self::Memory => 80,
        }
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::ActiveSessions => "activeSessions",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SparkApplicationTemplate {
    /// Spec of a SparkApplication (sparkoperator.k8s.io/v1beta2), passed on to the Spark Operator with what makes the
    /// server reachable. `restartPolicy` becomes `Never` and `timeToLiveSeconds` is left out: the pool itself replaces and
    /// removes its instances.
    #[schemars(schema_with = "any_object")]
    pub spec: serde_json::Map<String, serde_json::Value>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPolicy {
    /// Sessions that one user may have in this pool at the same time, unless an entry of `quotas` says otherwise. One
    /// more is refused.
    #[serde(default = "default_per_user")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_sessions_per_user: i32,
    /// Sessions that all users together may have in this pool. One more is refused.
    #[serde(default = "default_total")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_total_sessions: i32,
    /// Minutes without a request after which a session ends; an open request keeps it in use, and so does what runs in it,
    /// by `runningQueriesKeepSessions`. A change applies to the
    /// sessions that there are, too. A Connect server itself ends a session after twice what this was when the server was
    /// started, and at least 24 hours: drain older ones if it grows beyond that. Where the template's `sparkVersion` is 3.5,
    /// at most 55 minutes count for a Connect session, since its server forgets it after 60.
    #[serde(default = "default_idle")]
    #[schemars(range(min = 1, max = 525_600))]
    pub idle_timeout_minutes: i32,
    /// Minutes after which a Connect session ends when no connection of its clients is open any more
    /// (`status.disconnectedAt`). Without it: never for that reason. A change applies to existing sessions, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 525_600))]
    pub disconnected_timeout_minutes: Option<i32>,
    /// Minutes after which a session ends even while it is used. Without it: never. A change applies to the sessions that
    /// there are, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 525_600))]
    pub max_lifetime_minutes: Option<i32>,
    /// Whether a Connect session that no client uses is kept by what runs in it: a streaming query, or a query whose
    /// client has gone. Spark is asked before `idleTimeoutMinutes` end a session, and `maxLifetimeMinutes` end it all the
    /// same: without them a streaming query keeps its session, and its instance, for as long as it runs. A Thrift Server is
    /// not asked.
    #[serde(default = "default_true")]
    pub running_queries_keep_sessions: bool,
    /// Seconds that a session may wait for an instance before it fails, with the cause. An instance that has not answered ten
    /// seconds after that counts as failed and is replaced; each failed attempt doubles the time of the next one, up to
    /// 15 minutes. Default 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub start_timeout_seconds: Option<i32>,
    /// Minutes that the object of an ended session is kept. Default 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 525_600))]
    pub finished_ttl_minutes: Option<i32>,
    /// Spark configuration that every session starts with. `sessionConf` of a quota, `sparkConf` of the session and
    /// the client override it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub default_session_conf: BTreeMap<String, String>,
    /// Configuration keys (or prefixes ending in `*`) that come from the pool and its quotas only: what users set for
    /// them where a session is made or opened is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub protected_conf: Vec<String>,
    /// Exceptions for users and groups. The first entry that matches a user counts, and only that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub quotas: Vec<Quota>,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            max_sessions_per_user: default_per_user(),
            max_total_sessions: default_total(),
            idle_timeout_minutes: default_idle(),
            disconnected_timeout_minutes: None,
            max_lifetime_minutes: None,
            running_queries_keep_sessions: true,
            start_timeout_seconds: None,
            finished_ttl_minutes: None,
            default_session_conf: BTreeMap::new(),
            protected_conf: Vec::new(),
            quotas: Vec::new(),
        }
    }
}

fn default_per_user() -> i32 {
    5
}
fn default_total() -> i32 {
    200
}
fn default_idle() -> i32 {
    720
}

/// What holds for some users instead of the pool's own rules.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Whom it is for. Of several entries that match a user, only the first counts.
    #[serde(rename = "match")]
    pub subject: QuotaMatch,
    /// Instead of the pool's `maxSessionsPerUser`. 0: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_sessions_per_user: Option<i32>,
    /// Spark configuration for sessions of these users: overrides `defaultSessionConf`, and is overridden by the
    /// session's and the client's, except for `protectedConf`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub session_conf: BTreeMap<String, String>,
}

/// Matches a user who is named, or who is in one of the groups.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[x_kube(validation = (
    "(has(self.users) && self.users.size() > 0) || (has(self.groups) && self.groups.size() > 0)",
    "a quota has to name users or groups"
))]
pub struct QuotaMatch {
    /// Login names, as the claim of `--oidc-user-claim` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub users: Vec<String>,
    /// Groups, as the claim of `--oidc-groups-claim` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub groups: Vec<String>,
}

/// Those who are named, or in one of the groups, may use the pool.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[x_kube(validation = (
    "(has(self.users) && self.users.size() > 0) || (has(self.groups) && self.groups.size() > 0)",
    "access has to name users or groups; without it everyone who can log in may use the pool"
))]
pub struct Access {
    /// Login names, as the claim of `--oidc-user-claim` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub users: Vec<String>,
    /// Groups, as the claim of `--oidc-groups-claim` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub groups: Vec<String>,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// A Secret of type kubernetes.io/tls in the pool's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Sharing {
    #[default]
    Pool,
    User,
    Session,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum IdentityMode {
    #[default]
    Enforced,
    Trusted,
}
