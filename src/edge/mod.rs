//! Where Envoy's questions come in: the only place that reads and writes ext_authz protobuf.
//!
//! ```text
//! CheckRequest ──► check::read ──► model::Check ──► Checker (the broker) ──► model::Verdict
//!                                                                              │
//! CheckResponse ◄── allow::response (route: cluster, upstream's credentials) ◄─┤
//!               ◄── deny::response  (refusal in the client's own protocol)   ◄─┘
//! ```
//!
//! Everything but [`ext_authz`], the gRPC service around it, is pure. Nothing is decided here: who may do what is
//! the broker's business. What is forced here is form: an answer that Envoy would take for a yes is only ever made from
//! a route, and no client credential passes on to Spark.

pub mod allow;
pub mod check;
pub mod deny;
pub mod ext_authz;
mod headers;

pub use ext_authz::{Checker, service};

#[cfg(test)]
mod testing;
