use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use prost::Message;

use super::*;

use crate::model::fixtures::certificate;
use crate::model::{Endpoint, Protocol, VirtualHost};

fn settings() -> EnvoySettings {
    EnvoySettings {
        listen_addr: Some(([0, 0, 0, 0], 8080).into()),
        tls: Some(TlsListener { listen_addr: ([0, 0, 0, 0], 8443).into() }),
        request_rates: RequestRates::default(),
        ext_authz_timeout: Duration::from_secs(60),
        max_body_head: 8192,
        activity_report_interval: Duration::from_secs(15),
        control_cluster: "spark-session-operator".to_owned(),
    }
}

fn routing() -> Routing {
    let mut routing = Routing::default();
    let host = VirtualHost { connect: Some("ns/pool".to_owned()), thrift: None };
    routing.hosts.insert("spark.example.com".to_owned(), host);
    let address = ([10, 0, 0, 1], 15002).into();
    routing.endpoints.insert("pool-0-uid".to_owned(), Endpoint { protocol: Protocol::Connect, address });
    routing
}

#[test]
fn translating_twice_gives_the_same_versions() {
    assert_eq!(translate(&routing(), &settings()), translate(&routing(), &settings()));
}

#[test]
fn a_new_instance_leaves_listener_and_routes_untouched() {
    let before = translate(&routing(), &settings());
    let mut more = routing();
    let address = ([10, 0, 0, 2], 15002).into();
    more.endpoints.insert("pool-1-uid".to_owned(), Endpoint { protocol: Protocol::Connect, address });
    let after = translate(&more, &settings());

    assert_eq!(after.of(Kind::Listener), before.of(Kind::Listener));
    assert_eq!(after.of(Kind::Route), before.of(Kind::Route));
    assert_eq!(after.of(Kind::Cluster).get("pool-0-uid"), before.of(Kind::Cluster).get("pool-0-uid"));
    assert_eq!(after.of(Kind::Cluster).len(), 2);
}

#[test]
fn a_longer_hold_changes_the_listener_only() {
    let before = translate(&routing(), &settings());
    let after =
        translate(&routing(), &EnvoySettings { ext_authz_timeout: Duration::from_secs(90), ..settings() });

    assert_ne!(after.of(Kind::Listener), before.of(Kind::Listener));
    assert_eq!(after.of(Kind::Route), before.of(Kind::Route));
    assert_eq!(after.of(Kind::Cluster), before.of(Kind::Cluster));
}

/// Serves these hosts with TLS, each by the certificate of the Secret beside it.
fn with_tls(hosts: &[(&str, &str)]) -> Routing {
    let mut routing = routing();
    for (host, secret) in hosts {
        routing.hosts.insert((*host).to_owned(), VirtualHost::default());
        routing.certificate_of_host.insert((*host).to_owned(), (*secret).to_owned());
        routing.certificates.insert((*secret).to_owned(), certificate(&[host], 0, 1000));
    }
    routing
}

fn listener(snapshot: &Snapshot) -> Listener {
    let body = &snapshot.of(Kind::Listener)[TLS_LISTENER].body;
    Listener::decode(body.value.as_slice()).unwrap()
}

#[test]
fn a_renewed_certificate_changes_its_secret_and_nothing_else() {
    let routing = with_tls(&[("a.example.com", "a"), ("b.example.com", "b")]);
    let before = translate(&routing, &settings());
    let mut renewed = routing;
    renewed.certificates.insert("a".to_owned(), certificate(&["a.example.com"], 0, 2000));
    let after = translate(&renewed, &settings());

    assert_ne!(after.of(Kind::Secret)["a"], before.of(Kind::Secret)["a"]);
    assert_eq!(after.of(Kind::Secret)["b"], before.of(Kind::Secret)["b"]);
    for kind in [Kind::Cluster, Kind::Listener, Kind::Route] {
        assert_eq!(after.of(kind), before.of(kind), "{kind}");
    }
}

#[test]
fn a_host_more_under_a_certificate_leaves_its_filter_chain_as_it_is() {
    let hosts = [("a.example.com", "wildcard"), ("b.example.com", "wildcard")];
    let before = translate(&with_tls(&hosts[..1]), &settings());
    let after = translate(&with_tls(&hosts), &settings());

    assert_ne!(after.of(Kind::Listener)[TLS_LISTENER], before.of(Kind::Listener)[TLS_LISTENER]);
    assert_eq!(after.of(Kind::Listener)[LISTENER], before.of(Kind::Listener)[LISTENER]);
    assert_ne!(listener(&after).filter_chain_matcher, listener(&before).filter_chain_matcher);
    // Envoy ends the connections of a filter chain that changed.
    assert_eq!(listener(&after).filter_chains, listener(&before).filter_chains);
}

#[test]
fn a_pool_with_a_certificate_of_its_own_leaves_the_other_filter_chains_as_they_are() {
    let hosts = [("a.example.com", "a"), ("b.example.com", "b")];
    let before = listener(&translate(&with_tls(&hosts[..1]), &settings()));
    let after = listener(&translate(&with_tls(&hosts), &settings()));
    assert_eq!(after.filter_chains.len(), 2);
    assert!(after.filter_chains.contains(&before.filter_chains[0]));
}

#[test]
fn the_listener_with_tls_waits_for_the_first_certificate() {
    let without = translate(&routing(), &settings());
    assert_eq!(without.of(Kind::Listener).keys().collect::<Vec<_>>(), [LISTENER]);
    let mut routing = routing();
    routing.certificates.insert("default".to_owned(), certificate(&["*.example.com"], 0, 1000));
    routing.default_certificate = Some("default".to_owned());
    let with = translate(&routing, &settings());
    assert_eq!(with.of(Kind::Listener).keys().collect::<Vec<_>>(), [LISTENER, TLS_LISTENER]);
    assert!(listener(&with).filter_chain_matcher.is_none(), "Envoy takes no empty map");
}

#[test]
fn without_a_listener_for_it_no_key_leaves_the_operator() {
    let snapshot =
        translate(&with_tls(&[("a.example.com", "a")]), &EnvoySettings { tls: None, ..settings() });
    assert!(snapshot.of(Kind::Secret).is_empty());
    assert_eq!(snapshot.of(Kind::Listener).keys().collect::<Vec<_>>(), [LISTENER]);
}

#[test]
fn plaintext_can_be_off() {
    let settings = EnvoySettings { listen_addr: None, ..settings() };
    let snapshot = translate(&with_tls(&[("a.example.com", "a")]), &settings);
    assert_eq!(snapshot.of(Kind::Listener).keys().collect::<Vec<_>>(), [TLS_LISTENER]);
}

#[test]
fn a_secret_does_not_show_in_a_snapshot() {
    let snapshot = translate(&with_tls(&[("a.example.com", "a")]), &settings());
    let body = &snapshot.of(Kind::Secret)["a"].body;
    let secret = Secret::decode(body.value.as_slice()).unwrap();
    assert!(secret.r#type.is_some());
    let shown = format!("{snapshot:?}");
    assert!(!shown.contains("PRIVATE") && !shown.contains("value"), "{shown}");
}

#[test]
fn one_routing_after_another_gives_what_each_gives_by_itself() {
    let address = ([10, 0, 0, 9], 15002).into();
    let mut more = routing();
    more.endpoints.insert("pool-9-uid".to_owned(), Endpoint { protocol: Protocol::Connect, address });
    let mut other = more.clone();
    other.endpoints.insert("pool-9-uid".to_owned(), Endpoint { protocol: Protocol::Thrift, address });
    other.hosts.insert("other.example.com".to_owned(), VirtualHost::default());
    let hosts = [("a.example.com", "a"), ("b.example.com", "b")];
    let mut renewed = with_tls(&hosts);
    renewed.certificates.insert("a".to_owned(), certificate(&["a.example.com"], 0, 2000));
    let worlds = [
        routing(),
        Routing::default(),
        more.clone(),
        more,
        other,
        with_tls(&hosts),
        renewed,
        with_tls(&hosts[1..]),
        routing(),
    ];
    let mut before = None;
    for routing in worlds {
        let snapshot = translate_after(before.as_ref(), &routing, &settings());
        assert_eq!(snapshot, translate(&routing, &settings()));
        before = Some((routing, snapshot));
    }
}
