//! Short spellings of the protobuf wrappers that every resource needs.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{Any, BoolValue, Duration, UInt32Value};

pub fn duration(value: std::time::Duration) -> Option<Duration> {
    Some(Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    })
}

pub fn seconds(value: u64) -> Option<Duration> {
    duration(std::time::Duration::from_secs(value))
}

pub fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

pub fn address(socket: SocketAddr) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: socket.ip().to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(socket.port().into())),
            ..Default::default()
        })),
    }
}

/// The resource comes on the ADS stream. It is waited for without limit: an Envoy that opens its listener
/// after Envoy's default of 15 s without routes would answer every client 404.
pub fn from_ads() -> core::ConfigSource {
    core::ConfigSource {
        initial_fetch_timeout: seconds(0),
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource {},
        )),
        ..Default::default()
    }
}

pub fn extension(name: &str, config: Any) -> core::TypedExtensionConfig {
    core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) }
}
