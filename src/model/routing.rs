use std::net::SocketAddr;
use std::sync::Arc;

use imbl::OrdMap;

use super::{Certificate, Protocol};

/// What Envoy has to know: which hosts exist, and where the instances are.
///
/// A copy costs nothing, and of two that come from each other the differences are found without a look at the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Routing {
    /// By host name, lower case, without a port.
    pub hosts: OrdMap<String, VirtualHost>,
    /// By cluster name: one per driver Pod, named from pool, instance and Pod UID, so that a name
    /// never means two addresses.
    pub endpoints: OrdMap<String, Endpoint>,
    /// What the two below name, by the name of the Secret.
    pub certificates: OrdMap<String, Arc<Certificate>>,
    /// By host: the Secret of its certificate.
    pub certificate_of_host: OrdMap<String, String>,
    /// The Secret of the certificate for all other hosts.
    pub default_certificate: Option<String>,
}

impl Routing {
    pub fn has_same_tls(&self, other: &Self) -> bool {
        (&self.certificates, &self.certificate_of_host, &self.default_certificate)
            == (&other.certificates, &other.certificate_of_host, &other.default_certificate)
    }
}

/// The pools behind one host. The path of a request tells them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VirtualHost {
    pub connect: Option<String>,
    pub thrift: Option<String>,
}

impl VirtualHost {
    pub fn pool(&self, protocol: Protocol) -> Option<&str> {
        match protocol {
            Protocol::Connect => self.connect.as_deref(),
            Protocol::Thrift => self.thrift.as_deref(),
        }
    }
}

/// The Spark server in one driver Pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub protocol: Protocol,
    pub address: SocketAddr,
}
