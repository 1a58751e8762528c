use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::util::pack_any;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::{
    Kind, RequestRates, Resource, Snapshot, Version, cluster, listener, route, secret, tls_listener,
};
use crate::model::{Endpoint, Routing, VirtualHost};

/// The name of the plaintext listener.
pub const LISTENER: &str = "spark";
/// The name of the listener with TLS.
pub const TLS_LISTENER: &str = "spark-tls";
/// The name of the only route configuration.
pub const ROUTES: &str = "spark";

/// Key in the bootstrap's `node.metadata` whose string fields Envoy repeats in every ext_authz check, as
/// `attributes.destination.labels`.
pub const NODE_METADATA_KEY: &str = "spark-session-operator";
/// The label in there that repeats `node.id`. Envoy itself does not say in a check who asks.
pub const NODE_LABEL: &str = "node";

/// What of Envoy's configuration is the administrator's choice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnvoySettings {
    /// Where Envoy listens for Spark's clients without TLS. `None`: nowhere.
    pub listen_addr: Option<SocketAddr>,
    /// `None`: no TLS, also where nobody can tell who would be given the keys.
    pub tls: Option<TlsListener>,
    /// How many requests each Envoy lets through to the operator.
    pub request_rates: RequestRates,
    /// How long Envoy waits for our answer: longer than the longest hold, or held requests fail.
    pub ext_authz_timeout: Duration,
    /// How many bytes of a request's body a check carries: enough for the head of a Spark Connect request.
    pub max_body_head: u32,
    /// How often Envoy tells of a request that is still open; of shorter ones it tells nothing.
    pub activity_report_interval: Duration,
    /// The bootstrap's static cluster that leads to the operator.
    pub control_cluster: String,
}

/// Where Envoy listens for Spark's clients with TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsListener {
    pub listen_addr: SocketAddr,
}

/// Makes Envoy's resources of the domain. The same input always gives the same versions.
pub fn translate(routing: &Routing, settings: &EnvoySettings) -> Snapshot {
    translate_after(None, routing, settings)
}

/// The same, for one routing after another under the same settings: the work is with what differs from `before`.
/// Making thousands of clusters anew for each that comes takes longer than Envoy does.
pub fn translate_after(
    before: Option<&(Routing, Snapshot)>,
    routing: &Routing,
    settings: &EnvoySettings,
) -> Snapshot {
    let Some((then, snapshot)) = before else {
        let mut snapshot = Snapshot::default();
        for (name, endpoint) in &routing.endpoints {
            snapshot.insert(Kind::Cluster, name, translate_cluster(name, endpoint));
        }
        if let Some(address) = settings.listen_addr {
            let body = pack_any(listener::plaintext(address, settings));
            snapshot.insert(Kind::Listener, LISTENER, Resource { version: Version::of(settings), body });
        }
        translate_tls(routing, settings, &mut snapshot);
        snapshot.insert(Kind::Route, ROUTES, translate_hosts(&routing.hosts));
        return snapshot;
    };
    let mut snapshot = snapshot.clone();
    for difference in then.endpoints.diff(&routing.endpoints) {
        match difference {
            DiffItem::Add(name, endpoint) | DiffItem::Update { new: (name, endpoint), .. } => {
                snapshot.insert(Kind::Cluster, name, translate_cluster(name, endpoint));
            }
            DiffItem::Remove(name, _) => snapshot.remove(Kind::Cluster, name),
        }
    }
    if !then.has_same_tls(routing) {
        snapshot.clear(Kind::Secret);
        snapshot.remove(Kind::Listener, TLS_LISTENER);
        translate_tls(routing, settings, &mut snapshot);
    }
    if then.hosts != routing.hosts {
        snapshot.insert(Kind::Route, ROUTES, translate_hosts(&routing.hosts));
    }
    snapshot
}

fn translate_cluster(name: &str, endpoint: &Endpoint) -> Resource {
    Resource { version: Version::of(&(name, endpoint)), body: pack_any(cluster::cluster(name, endpoint)) }
}

fn translate_hosts(hosts: &OrdMap<String, VirtualHost>) -> Resource {
    Resource { version: Version::of(hosts), body: pack_any(route::routes(hosts)) }
}

fn translate_tls(routing: &Routing, settings: &EnvoySettings, snapshot: &mut Snapshot) {
    let Some(tls) = &settings.tls else { return };
    for (name, certificate) in &routing.certificates {
        let resource = Resource {
            version: Version::of(&(name, certificate)),
            body: pack_any(secret::secret(name, certificate)),
        };
        snapshot.insert(Kind::Secret, name, resource);
    }
    // Without a certificate Envoy would take no connection, and refuse a listener that has no filter chain.
    if !routing.certificates.is_empty() {
        let certificates = (&routing.certificate_of_host, &routing.default_certificate);
        let listener = Resource {
            version: Version::of(&(settings, certificates)),
            body: pack_any(tls_listener::tls_listener(tls, routing, settings)),
        };
        snapshot.insert(Kind::Listener, TLS_LISTENER, listener);
    }
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
