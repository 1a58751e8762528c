//! The Kubernetes half: watches fill the stores, touched pools are planned, plans are carried out.
//!
//! What should happen is decided in `crate::plan`; here is only how it is learned and done. Watches,
//! readiness probes and what Envoy says ([`programmed`]) run on every replica; one, the holder of a
//! Lease, plans and carries plans out.

mod access_log_recorders;
mod activity;
mod api_client;
mod apply;
mod apply_error;
mod client_connections;
mod convert;
mod driver_log;
mod driver_metrics;
mod endings;
mod events;
mod history;
mod leadership;
mod lease;
mod liveness;
mod outage;
mod pool_metrics;
pub mod programmed;
mod quantity;
mod queue;
mod readiness;
mod reconcile;
pub mod serving_status;
mod session_patch;
mod snapshot;
mod spark_sessions;
mod stores;
mod takeover;
mod tokens;
pub mod watches;
mod watching;

#[cfg(test)]
mod replicas_tests;

pub use access_log_recorders::AccessLogRecorders;
pub use activity::{Activity, ActivityWriter};
pub use api_client::Clients;
pub use apply::{Applier, FIELD_MANAGER};
pub use apply_error::ApplyError;
pub use client_connections::{ConnectionRecorder, ConnectionWriter};
pub use convert::Watched;
pub use driver_log::DriverLogs;
pub use driver_metrics::DriverMetrics;
pub use events::Events;
pub use history::History;
pub use leadership::{Candidate, Leadership, LeaseName, Term};
pub use lease::{HolderIdentity, LeaseTiming};
pub use liveness::Liveness;
pub use pool_metrics::PoolMetrics;
pub use readiness::Readiness;
pub use reconcile::Reconciler;
pub use session_patch::SessionPatch;
pub use snapshot::snapshot;
pub use spark_sessions::{SparkClients, Unused};
pub use stores::Stores;
pub use takeover::Takeover;
