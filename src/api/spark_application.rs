use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lenient::{Lenient, Status};

/// As any version of the Spark Operator writes it.
type ApplicationStatus = Lenient<SparkApplicationStatus>;

/// The Spark Operator's resource, as far as it matters here: its spec passes through untouched, and
/// of its status only what says how the driver is doing is read.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sparkoperator.k8s.io",
    version = "v1beta2",
    kind = "SparkApplication",
    plural = "sparkapplications",
    namespaced,
    status = "ApplicationStatus",
    derive = "PartialEq",
    schema = "disabled"
)]
pub struct SparkApplicationSpec {
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SparkApplicationStatus {
    #[serde(default)]
    pub application_state: Option<ApplicationState>,
}

impl Status for SparkApplicationStatus {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationState {
    /// `SUBMITTED`, `RUNNING`, `FAILED`, … ; empty for a new application.
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub error_message: Option<String>,
}
