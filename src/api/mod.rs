//! The custom resources: `SparkSessionPool` and `SparkInteractiveSession` are ours,
//! `SparkApplication` belongs to the Spark Operator.
//!
//! Field names, defaults and printer columns are those of the Go operator that this project
//! replaces, so its manifests apply unchanged; every field it did not have is optional. These
//! types say what may be written into an object. What an object means is `crate::model`'s matter.

pub mod crds;
mod lenient;
mod pool;
mod pool_status;
mod reference;
mod session;
mod spark_application;

pub use lenient::{Lenient, Unread};
pub use pool::{
    Access, IdentityMode, Metric, MetricType, Quota, QuotaMatch, Replicas, Scaling, SessionPolicy, Sharing,
    SparkApplicationTemplate, SparkSessionPool, SparkSessionPoolSpec, Tls,
};
pub use pool_status::{
    DrainReason, DrainStatus, InstanceState, InstanceStatus, ScaleDownStatus, SparkSessionPoolStatus,
};
pub use session::{
    ClientConnectionStatus, ConfStatus, DisconnectCause, RefusedConfStatus, SessionState, SetupFailure,
    SparkInteractiveSession, SparkInteractiveSessionSpec, SparkInteractiveSessionStatus, ThriftConnection,
    WaitPhase, WaitStatus,
};
pub use spark_application::{SparkApplication, SparkApplicationSpec, SparkApplicationStatus};

/// API group of the project's own resources.
pub const GROUP: &str = "sparkinteractive.io";
