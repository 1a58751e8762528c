//! Requests as Envoy sends them, for tests.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::address::Address as Inner;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};

use envoy_types::pb::google::protobuf::Timestamp;

use crate::xds::NODE_LABEL;

pub const SESSION: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// A request that tests change step by step, like a sentence.
pub struct Asked(HttpRequest);

impl Asked {
    pub fn path(path: &str) -> Self {
        Self(HttpRequest {
            method: "POST".into(),
            path: path.into(),
            host: "spark.example.com".into(),
            ..HttpRequest::default()
        })
    }

    /// A Config call of Spark Connect.
    pub fn connect() -> Self {
        let message = [b"\x0a\x24".as_slice(), SESSION.as_bytes()].concat();
        let body = [&[0, 0, 0, 0, message.len() as u8], message.as_slice()].concat();
        Self::path("/spark.connect.SparkConnectService/Config")
            .header("content-type", "application/grpc")
            .body(&body)
    }

    /// An OpenSession call of hive-jdbc.
    pub fn thrift(path: &str) -> Self {
        Self::path(path)
            .header("content-type", "application/x-thrift")
            .body(b"\x80\x01\0\x01\0\0\0\x0bOpenSession\0\0\0\x01")
    }

    pub fn to(mut self, path: &str) -> Self {
        self.0.path = path.into();
        self
    }

    pub fn request_id(mut self, id: &str) -> Self {
        self.0.id = id.into();
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.0.host = host.into();
        self
    }

    pub fn method(mut self, method: &str) -> Self {
        self.0.method = method.into();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.insert(name.into(), value.into());
        self
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        self.0.raw_body = body.into();
        self
    }

    pub fn by_envoy(self) -> CheckRequest {
        let address = |ip: &str, port| {
            let port_specifier = Some(PortSpecifier::PortValue(port));
            let socket = SocketAddress { address: ip.into(), port_specifier, ..SocketAddress::default() };
            Some(Address { address: Some(Inner::SocketAddress(socket)) })
        };
        let labels = HashMap::from([(NODE_LABEL.to_owned(), "envoy-0".to_owned())]);
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(Peer { address: address("::ffff:10.0.0.7", 4711), ..Peer::default() }),
                destination: Some(Peer { address: address("10.0.0.1", 10_000), labels, ..Peer::default() }),
                request: Some(Request {
                    http: Some(self.0),
                    time: Some(Timestamp { seconds: 1_000, nanos: 500 }),
                }),
                ..AttributeContext::default()
            }),
        }
    }
}
