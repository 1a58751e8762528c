use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{
    HeaderMutation, HeaderMutationRules, header_mutation, header_mutation::RemoveOnMatch,
};
use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, BackoffStrategy, GrpcService, HeaderValue, HeaderValueOption, Http2ProtocolOptions,
    HttpProtocolOptions, KeepaliveSettings, RetryPolicy, TcpKeepalive, TypedExtensionConfig,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
    header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::extensions::filters::http::{
    ext_authz::v3::{BufferSettings, ExtAuthz, ext_authz},
    on_demand::v3::{OnDemand, OnDemandCds},
    router::v3::Router,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
    http_connection_manager::{CodecType, RouteSpecifier, StripPortMode},
    http_filter,
};
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3 as early;
use envoy_types::pb::envoy::r#type::{
    matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
    v3::{HttpStatus, StatusCode},
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

use super::finished_operations::{self, LUA};
use super::http2;
use super::open_session::{self, EXT_PROC};
use super::proto::{address, duration, extension, from_ads, number, seconds, yes};
use super::route::THRIFT_BODY_BYTES;
use super::{
    BEGUN_HEADER, CLUSTER_HEADER, EnvoySettings, KEPT_TIMEOUT_HEADER, LISTENER, NODE_METADATA_KEY,
    OPEN_SESSION_HEADER, PROXIED_HEADER, ROUTES, SESSION_ID_HEADER, USER_HEADER, access_log, beginning,
    local_reply, rate_limit, trailers,
};
use crate::model::{Denial, DenialKind};

/// The name by which routes address this filter.
pub const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";

/// How long a request waits for a cluster which this Envoy has not heard of yet. Usually the check was
/// held until it had; this is for an Envoy whose ADS stream ends at another replica than its check did.
const ON_DEMAND_TIMEOUT_SECONDS: u64 = 5;

/// How long Envoy waits for one answer before it asks again. Longer than the operator holds a Connect request by default.
const ONE_TRY: Duration = Duration::from_secs(90);
/// Between two tries while the operator is away: at random up to the shorter at first, then up to the longer. Many requests
/// may wait: the shorter keeps them from coming to the other replica, or to the next process, in one moment.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(1500)];
/// More than there can be before the time for the whole check is over.
const TRIES: u32 = 2000;

/// Of a request: enough for a token with hundreds of groups in it. Envoy's default is 60.
const MAX_HEADERS_KIB: u32 = 96;

/// Requests of one client connection at the same time, each of which may hold its headers in Envoy and more. HTTP/2 has
/// clients wait, or open another connection, as a load balancer does that sends the requests of all users through few.
/// Envoy's own limit varies with its release.
const MAX_CONCURRENT_STREAMS: u32 = 256;

/// What tells servers behind a proxy whom they serve, and Envoy how long to wait and what to try twice: it believes
/// clients with private addresses.
const FORGED_PREFIXES: [&str; 2] = ["x-forwarded-", "x-envoy-"];

/// Without TLS: for a trusted network, or behind a load balancer that has it.
pub fn plaintext(listen_addr: SocketAddr, settings: &EnvoySettings) -> Listener {
    let chain = FilterChain { filters: vec![http(settings)], ..Default::default() };
    Listener { filter_chains: vec![chain], ..socket(LISTENER, listen_addr, settings) }
}

/// What all listeners have in common.
pub fn socket(name: &str, listen_addr: SocketAddr, settings: &EnvoySettings) -> Listener {
    Listener {
        name: name.to_owned(),
        address: Some(address(listen_addr)),
        // HTTP/1.1 knows no PINGs: a JDBC tool that vanished under a running query would hold it for ever.
        tcp_keepalive: Some(TcpKeepalive {
            keepalive_time: number(60),
            keepalive_interval: number(15),
            keepalive_probes: number(4),
        }),
        access_log: vec![access_log::connection_log(settings)],
        ..Default::default()
    }
}

/// The same with and without TLS.
pub fn http(settings: &EnvoySettings) -> Filter {
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack_any(connection_manager(settings)))),
    }
}

fn connection_manager(settings: &EnvoySettings) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: "spark".to_owned(),
        // HTTP/1.1, and HTTP/2 by ALPN or by its preface: one port for JDBC tools and for gRPC.
        codec_type: CodecType::Auto.into(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(from_ads()),
            route_config_name: ROUTES.to_owned(),
        })),
        // A held check and a query that computes for hours both look idle.
        stream_idle_timeout: seconds(0),
        request_headers_timeout: seconds(10),
        max_request_headers_kb: number(MAX_HEADERS_KIB),
        common_http_protocol_options: Some(HttpProtocolOptions {
            // Of connections without a request. A kernel session of a notebook sends one sooner or later.
            idle_timeout: seconds(3600),
            max_headers_count: number(100),
            ..Default::default()
        }),
        // gRPC clients send the port along in `:authority`, and the dot of a name that was given with one. Both the check
        // (`edge::check`) and the routes know hosts without them.
        strip_port_mode: Some(StripPortMode::StripAnyHostPort(true)),
        strip_trailing_host_dot: true,
        // Otherwise the client's address, by which failed logins are limited, is what the client says.
        use_remote_address: yes(),
        normalize_path: yes(),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: number(MAX_CONCURRENT_STREAMS),
            // A token is one header. Without it 64.
            max_header_field_size_kb: number(MAX_HEADERS_KIB),
            connection_keepalive: Some(KeepaliveSettings {
                interval: seconds(30),
                timeout: seconds(15),
                ..Default::default()
            }),
            ..http2::options()
        }),
        early_header_mutation_extensions: vec![forget_what_only_we_may_say()],
        http_filters: http_filters(settings),
        access_log: vec![access_log::access_log(settings)],
        access_log_options: Some(access_log::options(settings)),
        local_reply_config: Some(local_reply::in_words(settings)),
        ..Default::default()
    }
}

fn http_filters(settings: &EnvoySettings) -> Vec<HttpFilter> {
    let limited = rate_limit::local_rate_limit(settings.request_rates)
        .map(|limit| http_filter("envoy.filters.http.local_ratelimit", pack_any(limit)));
    let open_session = http_filter(EXT_PROC, pack_any(open_session::processor(settings)));
    let others = [
        http_filter(EXT_AUTHZ, pack_any(ext_authz(settings))),
        // Only where the first route has a setting for it.
        HttpFilter { disabled: true, ..open_session },
        http_filter("envoy.filters.http.on_demand", pack_any(on_demand())),
        http_filter("envoy.filters.http.router", pack_any(router())),
    ];
    // Before the limit, which is for the operator: one JDBC tool alone can ask for more rows in a second than it allows.
    let programs = finished_operations::filter(THRIFT_BODY_BYTES, settings.max_body_head);
    let repeated = http_filter(LUA, pack_any(programs));
    // First, so that whatever has the route looked for again finds the mark of `beginning`.
    let marked = http_filter(trailers::FILTER, pack_any(trailers::of_requests_removed()));
    [marked, repeated].into_iter().chain(limited).chain(others).collect()
}

/// A client could steer itself to any instance whenever an answer of ours lacked the routing header, and have its
/// queries run twice by Envoy's. Early, because filters run only after the first route matching.
fn forget_what_only_we_may_say() -> TypedExtensionConfig {
    let action = |action| HeaderMutation { action: Some(action) };
    let by_prefix = |prefix: &str| {
        let prefix = StringMatcher {
            match_pattern: Some(MatchPattern::Prefix(prefix.to_owned())),
            ..Default::default()
        };
        header_mutation::Action::RemoveOnMatch(RemoveOnMatch { key_matcher: Some(prefix) })
    };
    let by_name = |name: &str| header_mutation::Action::Remove(name.to_owned());
    let names = [
        BEGUN_HEADER,
        KEPT_TIMEOUT_HEADER,
        CLUSTER_HEADER,
        OPEN_SESSION_HEADER,
        SESSION_ID_HEADER,
        USER_HEADER,
        PROXIED_HEADER,
    ]
    .map(by_name);
    let proxied = header_mutation::Action::Append(HeaderValueOption {
        header: Some(HeaderValue {
            key: PROXIED_HEADER.to_owned(),
            value: "%REQ(x-forwarded-for)%".to_owned(),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        // Without a proxy there is no such header.
        keep_empty_value: false,
        ..Default::default()
    });
    // In this order: the client's own value goes first, and its `x-forwarded-for` is read before that goes, too.
    let forged = FORGED_PREFIXES.map(by_prefix);
    let mutations =
        names.into_iter().chain([proxied, beginning::keep_timeout()]).chain(forged).map(action).collect();
    extension(
        "envoy.http.early_header_mutation.header_mutation",
        pack_any(early::HeaderMutation { mutations }),
    )
}

/// How a local reply tells that a check was not answered: an expression (CEL).
pub const UNCHECKED: &str = r#"response.code_details == "ext_authz_error""#;

/// What the client hears then. A gRPC client comes back by itself, as it does without these words.
pub fn unchecked() -> Denial {
    let message = "The Spark session operator does not answer, and nothing was done. Try again; if this lasts, \
                   tell the administrators.";
    let retry_after = Some(Duration::from_secs(1));
    Denial { retry_after, ..Denial::new(DenialKind::Unavailable, message) }
}

fn ext_authz(settings: &EnvoySettings) -> ExtAuthz {
    ExtAuthz {
        transport_api_version: ApiVersion::V3.into(),
        services: Some(ext_authz::Services::GrpcService(GrpcService {
            timeout: duration(settings.ext_authz_timeout),
            retry_policy: Some(again_after(TRIES, PAUSES)),
            initial_metadata: vec![one_try_takes(ONE_TRY)],
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: settings.control_cluster.clone(),
                ..Default::default()
            })),
        })),
        with_request_body: Some(BufferSettings {
            max_request_bytes: settings.max_body_head,
            allow_partial_message: true,
            pack_as_bytes: true,
        }),
        // Without it the route keeps the cluster it had before our answer: none.
        clear_route_cache: true,
        failure_mode_allow: false,
        // The default, 403, tells clients never to try again. What they read is in `unchecked`.
        status_on_error: Some(HttpStatus { code: StatusCode::ServiceUnavailable.into() }),
        // `allow_expression` restricts nothing unless everything else is disallowed. Our answer takes off whatever Spark
        // does not read (`edge::forwarded_headers`), and of pseudo-headers changes `:path` alone: nothing else can take
        // the query string off a Thrift request (see `route`).
        decoder_header_mutation_rules: Some(HeaderMutationRules {
            disallow_all: yes(),
            allow_expression: Some(RegexMatcher { regex: "[^:].*|:path".to_owned(), ..Default::default() }),
            ..Default::default()
        }),
        bootstrap_metadata_labels_key: NODE_METADATA_KEY.to_owned(),
        ..Default::default()
    }
}

/// A restart or a failover of the operator must not reach a client whose query goes on: beeline asks every few
/// seconds for its state, and takes a 503 for the end. A check changes nothing that a second one would not find, so it is
/// asked again for minutes: also one that was held when its operator died. How many requests may wait like that is in the
/// bootstrap (`max_retries` of the operator's cluster).
pub fn again_after(tries: u32, [first, longest]: [Duration; 2]) -> RetryPolicy {
    RetryPolicy {
        retry_on: "connect-failure,refused-stream,reset,unavailable".to_owned(),
        num_retries: number(tries),
        retry_back_off: Some(BackoffStrategy {
            base_interval: duration(first),
            max_interval: duration(longest),
        }),
        ..Default::default()
    }
}

/// `max_interval` is a second thing, which Envoy documents nowhere: the time after which one try is given up and the next
/// begins (`convertCoreToRouteRetryPolicy`), so that held checks would be asked anew all the time. This header says another
/// time, to Envoy's router and to nobody else.
pub fn one_try_takes(time: Duration) -> HeaderValue {
    HeaderValue {
        key: "x-envoy-upstream-rq-per-try-timeout-ms".to_owned(),
        value: time.as_millis().to_string(),
        ..Default::default()
    }
}

fn router() -> Router {
    // It comes after the check, which decides what Spark is told.
    Router { suppress_envoy_headers: true, ..Default::default() }
}

fn on_demand() -> OnDemand {
    OnDemand {
        odcds: Some(OnDemandCds {
            source: Some(from_ads()),
            timeout: seconds(ON_DEMAND_TIMEOUT_SECONDS),
            ..Default::default()
        }),
    }
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}
