use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Certificate, Protocol};

/// What Envoy has to know: which hosts exist, and where the instances are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Routing {
    /// By host name, lower case, without a port.
    pub hosts: BTreeMap<String, VirtualHost>,
    /// By cluster name: one per driver Pod, named from pool, instance and Pod UID, so that a name
    /// never means two addresses.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// What the two below name, by the name of the Secret.
    pub certificates: BTreeMap<String, Arc<Certificate>>,
    /// By host: the Secret of its certificate.
    pub certificate_of_host: BTreeMap<String, String>,
    /// The Secret of the certificate for all other hosts.
    pub default_certificate: Option<String>,
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
