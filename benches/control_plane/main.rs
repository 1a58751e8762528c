//! The figures of the Envoy control plane, taken with the real Envoy: `benches/run` obtains what is needed, builds and
//! starts this.
//!
//! ```text
//! warm    a request of a known session through Envoy, beside a no-op ext_authz in an Envoy of the same configuration
//! push    one more cluster, to Envoy's ACK of it, beside go-control-plane
//! cold    first requests on pools without an instance: how many fail, and for how long they are held
//! memory  resident set of the operator, and its CPU time for each session that changes
//! sessions  what the operator adds to the beginning of a session, and what it writes for one that is in use
//! planner from a waiting session to its SparkApplication; the cost of an event; requests when nothing happens
//! auth    a login that is remembered beside no login at all, what a new one adds to the provider's time, and its memory
//! ```
//!
//! Spark is played by a stand-in here: what is measured is the way to it. The phases of a start with real Spark are
//! measured by `benches/cold_start.py`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark may stop at any surprise"
)]

mod auth;
mod cold;
mod control_plane;
mod domain;
mod envoy;
mod figures;
mod kubernetes;
mod memory;
mod operator;
mod planner;
mod process;
mod push;
mod session_writes;
mod sessions;
mod spark;
mod spark_operator;
mod warm;

#[path = "../../tests/support/asking.rs"]
mod asking;
#[path = "../../tests/oidc_server/mod.rs"]
#[allow(dead_code, reason = "tests make it do more")]
mod oidc_server;
#[path = "../../tests/support/signer.rs"]
#[allow(dead_code, reason = "tests make it do more")]
mod signer;
#[path = "../../tests/stand_in/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests make it do more")]
mod stand_in;

use std::path::PathBuf;

/// How much of everything: enough for figures, or just enough to see that it works.
#[derive(Clone, Copy)]
pub struct Size {
    pub quick: bool,
}

impl Size {
    pub fn of<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// What `benches/run` has obtained and built.
pub fn part(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set: use benches/run")).into()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let size = Size { quick: arguments.iter().any(|argument| argument == "--quick") };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    println!("\n{}", figures::machine());
    for part in arguments.iter().filter(|argument| !argument.starts_with("--")) {
        match part.as_str() {
            "warm" => warm::measure(size).await,
            "push" => push::measure(size).await,
            "cold" => cold::measure(size).await,
            "memory" => memory::measure(size).await,
            "planner" => planner::measure(size).await,
            "sessions" => sessions::measure(size).await,
            "auth" => auth::measure(size).await,
            other => panic!("no part is called {other}"),
        }
    }
}
