//! Where Envoy's questions come in: the only place that reads and writes the protobuf of ext_authz, ext_proc and
//! ALS.
//!
//! ```text
//! CheckRequest ──► check::read ──► model::Check ──► Checker (the broker) ──► model::Verdict
//!                                                                              │
//! CheckResponse ◄── allow::response (route: cluster, upstream's credentials) ◄─┤
//!               ◄── deny::response  (refusal in the client's own protocol)   ◄─┘
//! ```
//!
//! [`open_session`] is the way of one Thrift call after its check: it is given the session's Spark configuration, and its
//! answer tells the handle of what was opened.
//!
//! [`access_log`] hears of requests that are open for long, since their sessions are in use, and of connections that end.
//!
//! Everything but [`ext_authz`], [`open_session`] and [`access_log`], the gRPC services, is pure. Nothing is decided here: who may do what is
//! the broker's business. What is forced here is form: an answer that Envoy would take for a yes is only ever made from
//! a route, and no client credential passes on to Spark.

pub mod access_log;
mod address;
pub mod allow;
pub mod check;
pub mod deny;
pub mod ext_authz;
mod forwarded_headers;
mod headers;
pub mod open_session;

pub use access_log::{AccessLogSink, access_log_service};
pub use ext_authz::{Checker, service};
pub use open_session::{Openings, open_session_service};

#[cfg(test)]
mod testing;
