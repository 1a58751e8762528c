use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::util::pack_any;

use super::{Kind, Resource, Snapshot, Version, cluster, listener, route, secret, tls_listener};
use crate::model::Routing;

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
    /// How many requests each Envoy lets through to the operator in a second. `None`: any number.
    pub rate_limit: Option<NonZeroU32>,
    /// How long Envoy waits for our answer: longer than the longest hold, or held requests fail.
    pub ext_authz_timeout: Duration,
    /// How many bytes of a request's body a check carries: enough for the head of a Spark Connect request.
    pub max_body_head: u32,
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

/// The same, for one routing after another: clusters and routes that are as they were `before`, under the same
/// settings, are taken over. Making thousands of clusters anew for each that comes takes longer than Envoy does.
pub fn translate_after(
    before: Option<&(Routing, Snapshot)>,
    routing: &Routing,
    settings: &EnvoySettings,
) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, endpoint) in &routing.endpoints {
        let same = before.filter(|(then, _)| then.endpoints.get(name) == Some(endpoint));
        let resource = same.and_then(|(_, made)| made.of(Kind::Cluster).get(name).cloned());
        let resource = resource.unwrap_or_else(|| {
            Arc::new(Resource {
                version: Version::of(&(name, endpoint)),
                body: pack_any(cluster::cluster(name, endpoint)),
            })
        });
        snapshot.insert_shared(Kind::Cluster, name, resource);
    }
    if let Some(address) = settings.listen_addr {
        let body = pack_any(listener::plaintext(address, settings));
        snapshot.insert(Kind::Listener, LISTENER, Resource { version: Version::of(settings), body });
    }
    if let Some(tls) = &settings.tls {
        translate_tls(tls, routing, settings, &mut snapshot);
    }
    let same = before.filter(|(then, _)| then.hosts == routing.hosts);
    let routes = same.and_then(|(_, made)| made.of(Kind::Route).get(ROUTES).cloned()).unwrap_or_else(|| {
        let (version, body) = (Version::of(&routing.hosts), pack_any(route::routes(&routing.hosts)));
        Arc::new(Resource { version, body })
    });
    snapshot.insert_shared(Kind::Route, ROUTES, routes);
    snapshot
}

fn translate_tls(tls: &TlsListener, routing: &Routing, settings: &EnvoySettings, snapshot: &mut Snapshot) {
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
