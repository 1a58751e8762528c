//! Addresses as Envoy writes them.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};

/// `None` for an address that is no IP address with a port.
pub fn socket(address: Option<&Address>) -> Option<SocketAddr> {
    let Kind::SocketAddress(SocketAddress { address, port_specifier, .. }) = address?.address.as_ref()?
    else {
        return None;
    };
    let Some(PortSpecifier::PortValue(port)) = port_specifier else { return None };
    let ip = address.parse::<std::net::IpAddr>().ok()?.to_canonical();
    Some(SocketAddr::new(ip, u16::try_from(*port).ok()?))
}
