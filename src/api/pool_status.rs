use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lenient::Status;

/// What the operator has found and done. It writes all of it; what others write there is overwritten.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct SparkSessionPoolStatus {
    /// Version of the spec that the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The servers that there are.
    #[serde(default)]
    pub instances: Vec<InstanceStatus>,
    /// Sessions that hold a place on an instance.
    #[serde(default)]
    pub total_active_sessions: i32,
    /// Sessions that wait for a place.
    #[serde(default)]
    pub pending_sessions: i32,
    /// Instances that exist and have not failed.
    #[serde(default)]
    pub current_replicas: i32,
    /// Instances whose server answers.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Instances that the load asks for, within min and max.
    #[serde(default)]
    pub desired_replicas: i32,
    /// Label selector of the driver Pods: what sets `replicas.min` through the scale subresource, such as KEDA or a
    /// HorizontalPodAutoscaler, has to know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// When the pool last grew or shrank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// While the pool has more instances than it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScaleDownStatus>,
    /// Ordinal of the next instance: names are never used twice.
    #[serde(default)]
    pub next_ordinal: i64,
    /// Attempts in a row to start instances that failed; several instances that were started together count as one. 0
    /// again when an instance that began to answer after `lastFailedStartTime` has been there for five minutes, when one
    /// that was created after it has answered and was given up, or when the pool's spec changes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consecutive_failures: i32,
    /// When the last instance failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_time: Option<Time>,
    /// When the newest of the instances that count as `consecutiveFailures` was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed_start_time: Option<Time>,
    /// Seconds that the last instances took from their creation until their server answered, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_start_seconds: Vec<i32>,
    /// What the last failed instance said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_message: Option<String>,
    /// `Ready`: it serves, or starts when somebody comes. `Accepted`: clients reach it at its host. `Scaled`: it has the
    /// instances that the load asks for, and why; false with `CoolingDown` and `DriversInUse` is as usual, with `AtMaximum`
    /// and `NoRoom` the pool is as large as it may be, with `BackingOff`, `CrashLoop`, `StartBlocked`, `NotMeasured` and
    /// others something is wrong. `UpToDate`: no instance is made from an earlier template; false with `RollingOut` while
    /// they are replaced. `IdentityEnforced`, `CertificateReady`: as their names say. `Programmed`: an Envoy has all that
    /// belongs to the pool, its host included. Each with a reason and a message: see `crds/reasons.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Status for SparkSessionPoolStatus {
    /// Whether the server of an instance answers is found out anew.
    const STAND_INS: &'static [(&'static str, &'static str)] = &[("state", "Pending")];
}

impl SparkSessionPoolStatus {
    pub fn instances_by_name(&self) -> HashMap<&str, &InstanceStatus> {
        self.instances.iter().map(|instance| (instance.name.as_str(), instance)).collect()
    }
}

impl InstanceStatus {
    /// Whether its server has ever answered. Statuses of earlier versions say it by their state alone.
    pub fn has_answered(&self) -> bool {
        self.ready_at.is_some() || self.state == InstanceState::Running
    }
}

/// The pool is about to shrink.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDownStatus {
    /// How many it keeps for now, without those that are there for a moment to replace others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i32>,
    /// Since when it has had more than it needs.
    pub since: Time,
    /// The most instances that it has needed since then.
    pub to: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// One Spark server: a SparkApplication and its driver Pod.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Name of the SparkApplication.
    pub name: String,
    /// `Pending`: its server does not answer yet. `Running`: it does. `Draining`: it takes no new sessions. `Failed`: it
    /// will never answer again. `Terminated`: it is being deleted.
    pub state: InstanceState,
    /// Sessions on it.
    #[serde(default)]
    pub active_sessions: i32,
    /// Address and port of the Spark server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// State of the SparkApplication in the Spark Operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spark_application_state: Option<String>,
    /// Name of the Pod that the server runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_pod: Option<String>,
    /// When its SparkApplication was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// When its server first answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
    /// Why it takes no new sessions, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStatus>,
    /// Whether it was made from an earlier template of the pool.
    #[serde(default, skip_serializing_if = "is_false")]
    pub outdated: bool,
    /// What the instance waits for, or why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// `Requested`: by the annotation `sparkinteractive.io/drain`. `NoInterceptor`: it was started without the
    /// interceptor that the pool's `identity` asks for. `ScaleDown`: the pool needs fewer instances. `TemplateChanged`:
    /// the pool's template has changed.
    pub reason: DrainReason,
    /// Since when; the pool's `drainTimeoutSeconds` count from then.
    pub since: Time,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainReason {
    /// By the annotation `sparkinteractive.io/drain`.
    Requested,
    /// It was started without the interceptor that the pool's `identity` asks for.
    NoInterceptor,
    /// The pool needs fewer instances.
    ScaleDown,
    /// The pool's template has changed.
    TemplateChanged,
}

#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstanceState {
    /// Created; its server does not answer yet.
    Pending,
    /// Its server answers.
    Running,
    /// Takes no new sessions.
    Draining,
    Failed,
    /// Being deleted.
    Terminated,
}

impl InstanceState {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Draining, Self::Failed, Self::Terminated];

    /// As objects have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Draining => "Draining",
            Self::Failed => "Failed",
            Self::Terminated => "Terminated",
        }
    }
}
