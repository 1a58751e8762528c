use std::collections::{BTreeSet, HashMap};

use envoy_types::pb::envoy::config::core::v3::{ConfigSource, TransportSocket, transport_socket};
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener, ListenerFilter, listener_filter};
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::matching::common_inputs::network::v3::ServerNameInput;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsParameters, tls_parameters::TlsProtocol,
};
use envoy_types::pb::google::protobuf::{Any, StringValue};
use envoy_types::pb::xds::core::v3::TypedExtensionConfig;
use envoy_types::pb::xds::r#type::matcher::v3::{
    Matcher,
    matcher::{
        MatcherTree, MatcherType, OnMatch,
        matcher_tree::{MatchMap, TreeType},
        on_match,
    },
};
use envoy_types::util::pack_any;
use imbl::OrdMap;

use super::listener::{http, socket};
use super::proto::{from_ads, seconds};
use super::{EnvoySettings, TLS_LISTENER, TlsListener};
use crate::model::Routing;

/// How long the listener waits for a certificate before it opens without: one that does not come must not
/// hold up the others. Usually it has come before the listener.
const CERTIFICATE_TIMEOUT_SECONDS: u64 = 5;
/// For a handshake. Clients that open connections and say nothing would otherwise pile up.
const HANDSHAKE_TIMEOUT_SECONDS: u64 = 10;

/// One filter chain for each certificate. A change of a chain ends its connections after Envoy's drain time, so
/// a chain knows only the name of its certificate: a renewed certificate is another secret of the same name, and
/// the hosts are in the matcher, whose change leaves all chains and their connections alone.
pub fn tls_listener(tls: &TlsListener, routing: &Routing, settings: &EnvoySettings) -> Listener {
    let secrets: BTreeSet<&String> = routing.certificate_of_host.values().collect();
    let default = routing.default_certificate.as_ref();
    Listener {
        listener_filters: vec![tls_inspector()],
        filter_chains: secrets.into_iter().map(|secret| chain(secret, secret, settings)).collect(),
        filter_chain_matcher: by_server_name(&routing.certificate_of_host),
        default_filter_chain: default.map(|secret| chain("default", secret, settings)),
        ..socket(TLS_LISTENER, tls.listen_addr, settings)
    }
}

/// Reads the name of the server from the client's first message.
fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pack_any(TlsInspector::default()))),
        ..Default::default()
    }
}

fn chain(name: &str, secret: &str, settings: &EnvoySettings) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filters: vec![http(settings)],
        transport_socket: Some(TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(transport_socket::ConfigType::TypedConfig(tls_context(secret))),
        }),
        transport_socket_connect_timeout: seconds(HANDSHAKE_TIMEOUT_SECONDS),
        ..Default::default()
    }
}

fn tls_context(secret: &str) -> Any {
    let certificate = SdsSecretConfig {
        name: secret.to_owned(),
        sds_config: Some(ConfigSource {
            initial_fetch_timeout: seconds(CERTIFICATE_TIMEOUT_SECONDS),
            ..from_ads()
        }),
    };
    pack_any(DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..Default::default()
            }),
            tls_certificate_sds_secret_configs: vec![certificate],
            // gRPC needs the first, JDBC tools speak the second only.
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// From a host to the chain of its certificate. `None` without hosts: Envoy takes no empty map, and leaves
/// everybody to the default chain without a matcher, too.
fn by_server_name(certificate_of_host: &OrdMap<String, String>) -> Option<Matcher> {
    let to_chain = |secret: &String| OnMatch {
        on_match: Some(on_match::OnMatch::Action(TypedExtensionConfig {
            name: "filter-chain".to_owned(),
            typed_config: Some(pack_any(StringValue { value: secret.clone() })),
        })),
        ..Default::default()
    };
    // gRPC sends the name as it stands in the URL, with a trailing dot if it has one; other clients take that off.
    let names = |host: &str| [host.to_owned(), format!("{host}.")];
    let chains = certificate_of_host.iter().map(|(host, secret)| (names(host), to_chain(secret)));
    let map: HashMap<_, _> =
        chains.flat_map(|(names, chain)| names.map(|name| (name, chain.clone()))).collect();
    let tree = MatcherTree {
        input: Some(TypedExtensionConfig {
            name: "server-name".to_owned(),
            typed_config: Some(pack_any(ServerNameInput::default())),
        }),
        tree_type: Some(TreeType::ExactMatchMap(MatchMap { map })),
    };
    (!certificate_of_host.is_empty())
        .then(|| Matcher { matcher_type: Some(MatcherType::MatcherTree(tree)), ..Default::default() })
}
