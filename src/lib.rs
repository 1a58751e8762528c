//! Pools of interactive Spark servers behind one host name and the users' own logins.
//!
//! Envoy carries every byte between clients and Spark. This crate decides: it reconciles the custom
//! resources, serves xDS to Envoy, and answers Envoy's ext_authz checks.
//!
//! ```text
//!  CRs, SparkApplications, driver Pods
//!         │ watch (every replica)
//!         ▼
//!      Stores ──► Inventory ──┬─► plan (pure) ──► Actions ──► apply ──► Kubernetes API
//!         ▲                   ├─► translate (pure) ──► Snapshot ──► ADS server ──► Envoy
//!         │ session CRs       └─► decide (pure) ◄── Identity ◄── authn ◄── Check ◄── Envoy
//!         └──── broker ◄──────────────┘
//! ```
//!
//! Reading order: [`api`] and [`model`] say what there is, [`plan`] what should be done about it,
//! [`operator`] does it. [`xds`] tells Envoy where the servers are; [`edge`] reads what Envoy asks,
//! [`authn`] tells who asks, [`broker`] answers. [`spark`] knows Spark's wire formats. [`app`] puts
//! it all together; [`explain`] and [`simulate`] are commands of their own.
//! `fair_share` is what bounds what clients can take up.
//!
//! Invariants
//! 1. Planners read only their arguments; `now` is one of them.
//! 2. Only `operator::apply` executes actions, on the replica that holds the Lease; only the broker
//!    creates sessions, on any.
//! 3. Watches are not consistent with each other: everything tolerates dangling references. Names
//!    are deterministic, so planning again cannot create twice.
//! 4. A failed translation never replaces what Envoy has; one bad pool never blocks the others.
//! 5. No lock is held across `.await`.
//! 6. Nothing secret is logged, stored in an object, or forwarded to Spark.

pub mod api;
pub mod model;
pub mod plan;

pub mod operator;

pub mod authn;
pub mod broker;
pub mod control_channel;
pub mod edge;
pub mod identity_jar;
pub mod spark;
pub mod xds;

pub mod app;
pub mod explain;
mod fair_share;
pub mod settings;
pub mod simulate;
pub mod telemetry;
