//! The operator against the real Envoy: what no golden file can tell. `tests/run envoy` gives these tests what they need.
//!
//! Each scenario is a [`World`](world::World) of its own: a namespace in a real API server, the operator's real binary
//! and a real Envoy as processes, and a stand-in for Spark within this process (`tests/stand_in`). Envoy refuses
//! configuration with unknown fields, and starts from the files of `envoy/`, as in production.
//!
//! Not here: what a real Spark, a real login and real clients make of it (`tests/e2e`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in helpers, which clippy does not take for tests.

#[path = "../stand_in/mod.rs"]
mod stand_in;

#[path = "../chaos/proxy.rs"]
#[allow(dead_code, reason = "other tests make it do more")]
mod api_proxy;
#[path = "../support/asking.rs"]
mod asking;
#[path = "../support/certificates.rs"]
mod certificates;
#[path = "../support/namespace.rs"]
#[allow(dead_code, reason = "other tests need less of it")]
mod namespace;

mod bootstrap;
mod connect_client;
mod mutual_tls;
mod operator;
mod pools;
mod process;
mod proxy;
mod raw_client;
mod raw_h2;
mod raw_h2_streams;
mod thrift_client;
mod tls_client;
mod wait;
mod world;

mod activity;
mod attacks;
mod blind_replica;
mod cancelled;
mod certificates_refused;
mod churn;
mod cold_start;
mod connections;
mod control_channel;
mod crowd;
mod disconnected;
mod failover;
mod finished_operations;
mod held_checks;
mod held_memory;
mod hosts;
mod large_and_long;
mod lost_address;
mod memory;
mod outage;
mod programmed;
mod rate_limit;
mod refused;
mod replicas;
mod restarts;
mod shared_connection;
mod spoofing;
mod thrift_handles;
mod tls;
mod unanswered;
mod unfinished;
mod unread;
