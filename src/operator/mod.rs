//! The Kubernetes half: watches fill the stores, touched pools are planned, plans are carried out.
//!
//! What should happen is decided in `crate::plan`; here is only how it is learned and done. Watches,
//! readiness probes and what Envoy says ([`programmed`]) may run on any number of replicas, reconciling
//! on one.

mod apply;
mod convert;
pub mod programmed;
mod queue;
mod readiness;
mod reconcile;
mod stores;
pub mod watches;

pub use apply::{Applier, FIELD_MANAGER};
pub use convert::Watched;
pub use readiness::Readiness;
pub use reconcile::Reconciler;
pub use stores::Stores;
