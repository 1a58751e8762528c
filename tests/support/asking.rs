//! Asks the operator what Envoy asks it, without an Envoy.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine;
use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use envoy_types::pb::google::protobuf::Timestamp;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// One connection; clones share it.
#[derive(Clone)]
pub struct Asking {
    operator: AuthorizationClient<Channel>,
    envoy: Option<&'static str>,
    header: Option<(&'static str, String)>,
}

impl Asking {
    pub async fn new(operator: SocketAddr) -> Self {
        let channel = Endpoint::from_shared(format!("http://{operator}")).unwrap().connect().await.unwrap();
        Self { operator: AuthorizationClient::new(channel), envoy: None, header: None }
    }

    /// In the name of this Envoy, to which the client of each session has a connection of its own.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn for_envoy(self, envoy: &'static str) -> Self {
        Self { envoy: Some(envoy), ..self }
    }

    /// With one more header in each request.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn with_header(self, name: &'static str, value: String) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// About one call of Spark Connect to this host, with this body. Returns the answer, and how long it took.
    pub async fn check(
        &mut self,
        host: &str,
        user: &str,
        method: &str,
        body: Vec<u8>,
    ) -> (CheckResponse, Duration) {
        let login = base64::prelude::BASE64_STANDARD.encode(format!("{user}:password"));
        let mut headers = HashMap::from([
            ("authorization".to_owned(), format!("Bearer {login}")),
            ("content-type".to_owned(), "application/grpc".to_owned()),
        ]);
        headers.extend(self.header.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let http = HttpRequest {
            method: "POST".into(),
            host: host.to_owned(),
            path: format!("/spark.connect.SparkConnectService/{method}"),
            headers,
            raw_body: body,
            ..HttpRequest::default()
        };
        let port =
            http.raw_body.iter().fold(0_u16, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        let request = Request { http: Some(http), time: Some(Timestamp::default()) };
        let mut attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
        if let Some(envoy) = self.envoy {
            attributes.source = Some(peer(port.into(), HashMap::new()));
            attributes.destination =
                Some(peer(10_000, HashMap::from([("node".to_owned(), envoy.to_owned())])));
        }
        let begin = Instant::now();
        let answer =
            self.operator.check(CheckRequest { attributes: Some(attributes) }).await.unwrap().into_inner();
        (answer, begin.elapsed())
    }

    /// A call of this session, which is let through. How long that took.
    #[allow(dead_code, reason = "not every test needs it")]
    pub async fn call(&mut self, host: &str, user: &str, method: &str, session: Uuid) -> Duration {
        let (answer, took) = self.check(host, user, method, message(session)).await;
        let allowed = matches!(answer.http_response, Some(HttpResponse::OkResponse(_)));
        assert!(allowed, "{user} is not let in: {answer:?}");
        took
    }
}

fn peer(port: u32, labels: HashMap<String, String>) -> Peer {
    let port_specifier = Some(PortSpecifier::PortValue(port));
    let socket =
        SocketAddress { address: "127.0.0.1".to_owned(), port_specifier, ..SocketAddress::default() };
    Peer { address: Some(Address { address: Some(Kind::SocketAddress(socket)) }), labels, ..Peer::default() }
}

/// A gRPC message with the first field that all requests of Spark Connect have: the session's id.
pub fn message(session: Uuid) -> Vec<u8> {
    [&[0, 0, 0, 0, 38, 0x0a, 36], session.to_string().as_bytes()].concat()
}
