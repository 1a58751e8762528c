use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, UpstreamConnectionOptions, circuit_breakers::Thresholds, cluster,
};
use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, HttpProtocolOptions as CommonHttpOptions, TcpKeepalive,
};
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
    },
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

use super::http2;
use super::proto::{address, number, seconds};
use crate::model::{Endpoint, Protocol};

/// Admission is the operator's business (quotas, placement); Envoy's own limits of 1,024 would refuse
/// requests behind its back.
const NO_LIMIT: u32 = 100_000;

/// One driver Pod. STATIC, because the name already means exactly one address: there is nothing to
/// resolve, and no endpoint discovery to wait for before the first request.
pub fn cluster(name: &str, endpoint: &Endpoint) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
            cluster::DiscoveryType::Static.into(),
        )),
        connect_timeout: seconds(2),
        load_assignment: Some(only_endpoint(name, endpoint)),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_connections: number(NO_LIMIT),
                max_pending_requests: number(NO_LIMIT),
                max_requests: number(NO_LIMIT),
                max_retries: number(NO_LIMIT),
                ..Default::default()
            }],
            ..Default::default()
        }),
        common_lb_config: Some(cluster::CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..Default::default()
        }),
        typed_extension_protocol_options: HashMap::from([(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            protocol_options(endpoint.protocol),
        )]),
        // Finds a node that vanished within a minute, also under a query that sends nothing for hours.
        // Not HTTP/2 PINGs: Spark leaves gRPC's server at its default of one PING in five minutes, and
        // the third that comes sooner ends the connection with all its queries (`too_many_pings`).
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_time: number(30),
                keepalive_interval: number(10),
                keepalive_probes: number(3),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn only_endpoint(cluster: &str, endpoint: &Endpoint) -> endpoint::ClusterLoadAssignment {
    let host = endpoint::Endpoint { address: Some(address(endpoint.address)), ..Default::default() };
    let host = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(host)),
        ..Default::default()
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints { lb_endpoints: vec![host], ..Default::default() }],
        ..Default::default()
    }
}

fn protocol_options(protocol: Protocol) -> Any {
    let (common, config) = match protocol {
        Protocol::Connect => (None, ProtocolConfig::Http2ProtocolOptions(http2::options())),
        // HTTP/1.1 has one request on a connection at a time, so that an answer which nobody reads holds up no other.
        // An idle connection is ours to close: the Thrift server closes its own after 30 minutes, and a
        // request sent at that moment would be lost. Requests that run are not idle.
        Protocol::Thrift => (
            Some(CommonHttpOptions { idle_timeout: seconds(300), ..Default::default() }),
            ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        ),
    };
    pack_any(HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })),
        ..Default::default()
    })
}
