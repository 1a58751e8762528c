//! The time of one ext_authz check of a session that is being served: what every request of a user
//! pays. It asks the operator over gRPC, as Envoy does, but without Envoy; beside it, in turn, a gRPC
//! health check of the same server shows what the transport alone costs.
//!
//! Started by `benches/run`, which has opened a Thrift session as the user of `SPARK_USER_NAME`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark may stop at any surprise"
)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::main]
async fn main() {
    let checks = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(20_000);
    println!("\nwarm check                                p50      p99   [µs]   checks/s");
    for connections in [1, 64] {
        for (name, ask) in [("ext_authz check", true), ("gRPC health check (transport alone)", false)] {
            measure(name, connections, checks, ask).await;
        }
    }
}

async fn measure(name: &str, connections: usize, total: usize, ask_authz: bool) {
    let each = total / connections;
    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let channel = connect().await;
        tasks.push(tokio::spawn(async move { calls(channel, each, ask_authz).await }));
    }
    let mut times = Vec::with_capacity(total);
    for task in tasks {
        times.extend(task.await.expect("a connection failed"));
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    println!("  {name:<36} {:3} {:7.0} {:8.0} {rate:16.0}", connections, at(50), at(99));
}

async fn calls(channel: Channel, count: usize, ask_authz: bool) -> Vec<Duration> {
    let mut authz = AuthorizationClient::new(channel.clone());
    let mut health = HealthClient::new(channel);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        if ask_authz {
            let answer = authz.check(check()).await.expect("the check was not answered").into_inner();
            let allowed = matches!(answer.http_response, Some(HttpResponse::OkResponse(_)));
            assert!(allowed, "the check was refused: {answer:?}");
        } else {
            health.check(HealthCheckRequest::default()).await.expect("the health check was not answered");
        }
        times.push(started.elapsed());
    }
    times
}

async fn connect() -> Channel {
    let address = std::env::var("OPERATOR_GRPC_ADDR")
        .expect("OPERATOR_GRPC_ADDR: host:port of the operator's gRPC server");
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .expect("no connection to the operator")
}

/// A FetchResults of the user's Thrift session, as Envoy describes it.
fn check() -> CheckRequest {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let login = format!("{}:{}", variable("SPARK_USER_NAME"), variable("SPARK_USER_PASSWORD"));
    let authorization = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(login));
    let mut message = vec![0x80, 1, 0, 1, 0, 0, 0, 12];
    message.extend(b"FetchResults");
    message.extend([0, 0, 0, 7]);
    let http = HttpRequest {
        method: "POST".into(),
        host: "localhost:16000".into(),
        path: "/cliservice".into(),
        headers: HashMap::from([
            ("authorization".into(), authorization),
            (":path".into(), "/cliservice".into()),
        ]),
        raw_body: message,
        ..Default::default()
    };
    let request = Request { http: Some(http), ..Default::default() };
    CheckRequest { attributes: Some(AttributeContext { request: Some(request), ..Default::default() }) }
}
