//! The time of one ext_authz check of a session that is being served: what every request of a user
//! pays. It asks the operator over gRPC, as Envoy does, but without Envoy; beside it, in turn, a gRPC
//! health check of the same server shows what the transport alone costs.
//!
//! Started by `benches/run`, which names the operator's address and the folder of Envoy's certificates, and has opened a Thrift session as the user of `SPARK_USER_NAME`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark may stop at any surprise"
)]

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

#[tokio::main]
async fn main() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("no other one is installed");
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

/// As Envoy does: over TLS, with its certificate.
async fn connect() -> Channel {
    let address = variable("OPERATOR_GRPC_ADDR");
    let config = Arc::new(tls());
    let connector = service_fn(move |_| {
        let (address, config) = (address.clone(), Arc::clone(&config));
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(OPERATOR_NAME).map_err(io::Error::other)?;
            TlsConnector::from(config).connect(name, stream).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://operator");
    endpoint.connect_with_connector(connector).await.expect("no connection to the operator")
}

/// The name in the operator's certificate, as `envoy/make-certificates` was told it.
const OPERATOR_NAME: &str = "spark-session-operator";

fn tls() -> ClientConfig {
    let folder = PathBuf::from(variable("ENVOY_CERTIFICATES"));
    let certificate = CertificateDer::from_pem_file(folder.join("tls.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.crt")).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = config.with_client_auth_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// A FetchResults of the user's Thrift session, as Envoy describes it.
fn check() -> CheckRequest {
    let login = format!("{}:{}", variable("SPARK_USER_NAME"), variable("SPARK_USER_PASSWORD"));
    let authorization = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(login));
    let mut message = vec![0x80, 1, 0, 1, 0, 0, 0, 12];
    message.extend(b"FetchResults");
    message.extend([0, 0, 0, 7]);
    let http = HttpRequest {
        method: "POST".into(),
        host: "localhost".into(),
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
