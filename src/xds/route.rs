use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch,
    VirtualHost as EnvoyHost, header_matcher::HeaderMatchSpecifier, route, route_action, route_match,
};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{
    BufferSettings, CheckSettings, ExtAuthzPerRoute, ext_authz_per_route,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use imbl::OrdMap;

use super::beginning;
use super::finished_operations;
use super::listener::EXT_AUTHZ;
use super::open_session;
use super::proto::{number, seconds};
use super::{BEGUN_HEADER, CLUSTER_HEADER, OPEN_SESSION_HEADER, ROUTES};
use crate::model::{Protocol, VirtualHost};

/// Keys of the ext_authz context by which a check says what its route knows.
pub const CONTEXT_POOL: &str = "pool";
pub const CONTEXT_PROTOCOL: &str = "protocol";

/// No host is called so: the model knows DNS names only.
const ANY_HOST: &str = "*";
const CONNECT_PREFIX: &str = "/spark.connect.SparkConnectService/";
/// Where every Thrift server answers. An allowed Thrift request is given this `:path` by ext_authz: what
/// follows it in the client's path, the name of the session, is for us alone.
pub const THRIFT_PATH: &str = "/cliservice";

/// How many bytes of a Thrift call a check carries: most statements as a whole.
pub const THRIFT_BODY_BYTES: u32 = 64 << 10;

/// The headers by which Envoy finds a route: the first two are set by the check, the others by Envoy, which matches no route
/// without the last. The check takes off all others that Spark does not read (`edge::forwarded_headers`).
pub const ROUTING_HEADERS: [&str; 4] =
    [CLUSTER_HEADER, OPEN_SESSION_HEADER, BEGUN_HEADER, "x-forwarded-proto"];

pub fn routes(hosts: &OrdMap<String, VirtualHost>) -> RouteConfiguration {
    let unknown = VirtualHost::default();
    let named = hosts.iter().map(|(name, host)| (name.as_str(), host));
    RouteConfiguration {
        name: ROUTES.to_owned(),
        virtual_hosts: named
            .chain([(ANY_HOST, &unknown)])
            .map(|(name, host)| virtual_host(name, host))
            .collect(),
        ..Default::default()
    }
}

/// Every host has the same routes, known or not and with or without such a pool: a request that
/// leads nowhere still reaches ext_authz, whose refusal says why in the client's own protocol.
fn virtual_host(name: &str, host: &VirtualHost) -> EnvoyHost {
    EnvoyHost {
        name: name.to_owned(),
        domains: vec![name.to_owned()],
        routes: vec![
            connect_clone_session_route(host),
            connect_route(host),
            being_checked(connect_route(host)),
            beginning_connect_clone_session_route(host),
            beginning_connect_route(host),
            thrift_route_with_query(host),
            thrift_open_session_route(host),
            thrift_route(host),
            being_checked(thrift_route(host)),
            beginning_thrift_route(host),
            any_other_route(),
        ],
        ..Default::default()
    }
}

fn connect_route(host: &VirtualHost) -> Route {
    let pool = host.pool(Protocol::Connect);
    Route {
        name: "connect".to_owned(),
        r#match: checked_already(route_match::PathSpecifier::Prefix(CONNECT_PREFIX.to_owned())),
        typed_per_filter_config: HashMap::from([checked(pool, Protocol::Connect), open_session::off()]),
        request_headers_to_remove: ROUTING_HEADERS.map(str::to_owned).to_vec(),
        action: Some(pool.map_or_else(not_found, |_| to_the_sessions_instance())),
        ..Default::default()
    }
}

/// A CloneSession call after its check, which has chosen the clone's id.
fn connect_clone_session_route(host: &VirtualHost) -> Route {
    let mut route = connect_route(host);
    route.name = "connect-clone-session".to_owned();
    if let Some(matching) = &mut route.r#match {
        matching.headers = vec![open_session::marked()];
    }
    route.typed_per_filter_config.extend([open_session::on_for_requests()]);
    route
}

fn beginning_connect_route(host: &VirtualHost) -> Route {
    let checked = checked(host.pool(Protocol::Connect), Protocol::Connect);
    Route {
        name: "connect-beginning".to_owned(),
        r#match: matching(route_match::PathSpecifier::Prefix(CONNECT_PREFIX.to_owned())),
        typed_per_filter_config: HashMap::from([checked]),
        action: Some(beginning::limited()),
        ..Default::default()
    }
}

/// The calls of which the check marks some.
fn beginning_connect_clone_session_route(host: &VirtualHost) -> Route {
    let mut route = beginning_connect_route(host);
    route.name = "connect-clone-session-beginning".to_owned();
    route.r#match = matching(route_match::PathSpecifier::Path(format!("{CONNECT_PREFIX}CloneSession")));
    route.typed_per_filter_config.extend([open_session::off()]);
    route
}

/// No query string may reach Spark: `?doAs=eve` makes HiveServer2 run as someone else. None of Envoy's
/// path rewrites takes it off, and `:path` is closed to its header mutations, so ext_authz overwrites
/// `:path` and Envoy matches anew. What is still here then was not overwritten, and stops.
fn thrift_route_with_query(host: &VirtualHost) -> Route {
    let mut route = thrift_route(host);
    route.name = "thrift-with-query".to_owned();
    if let Some(matching) = &mut route.r#match {
        matching.headers.push(with_query());
    }
    route.action = Some(answer(400, "A Thrift URL must not have a query string."));
    route
}

fn thrift_route(host: &VirtualHost) -> Route {
    let pool = host.pool(Protocol::Thrift);
    Route {
        name: "thrift".to_owned(),
        r#match: checked_already(route_match::PathSpecifier::PathSeparatedPrefix(THRIFT_PATH.to_owned())),
        typed_per_filter_config: thrift_filters(pool),
        request_headers_to_remove: ROUTING_HEADERS.map(str::to_owned).to_vec(),
        // HiveServer2's cookie would stand for a login that the next request may not have.
        response_headers_to_remove: vec!["set-cookie".to_owned()],
        action: Some(pool.map_or_else(not_found, |_| to_the_sessions_instance())),
        ..Default::default()
    }
}

fn beginning_thrift_route(host: &VirtualHost) -> Route {
    Route {
        name: "thrift-beginning".to_owned(),
        r#match: matching(route_match::PathSpecifier::PathSeparatedPrefix(THRIFT_PATH.to_owned())),
        typed_per_filter_config: thrift_filters(host.pool(Protocol::Thrift)),
        action: Some(beginning::limited()),
        ..Default::default()
    }
}

fn thrift_filters(pool: Option<&str>) -> HashMap<String, Any> {
    HashMap::from([finished_operations::on(), checked(pool, Protocol::Thrift), open_session::off()])
}

/// An OpenSession call after its check, which is what sets the header; before it, it is a call like any other.
fn thrift_open_session_route(host: &VirtualHost) -> Route {
    let mut route = thrift_route(host);
    route.name = "thrift-open-session".to_owned();
    if let Some(matching) = &mut route.r#match {
        matching.headers = vec![open_session::marked()];
    }
    route.typed_per_filter_config.extend([open_session::on()]);
    route
}

/// Everything else is answered by ext_authz, without its body: a bidirectional gRPC stream (server
/// reflection) sends none until it hears an answer, and would hang in the check (envoy#42800).
fn any_other_route() -> Route {
    let settings = CheckSettings { disable_request_body_buffering: true, ..Default::default() };
    Route {
        name: "other".to_owned(),
        r#match: matching(route_match::PathSpecifier::Prefix("/".to_owned())),
        typed_per_filter_config: HashMap::from([check_settings(settings), finished_operations::off()]),
        action: Some(not_found()),
        ..Default::default()
    }
}

fn matching(path: route_match::PathSpecifier) -> Option<RouteMatch> {
    Some(RouteMatch { path_specifier: Some(path), ..Default::default() })
}

/// The same for requests after their check, which is what sets the header.
fn checked_already(path: route_match::PathSpecifier) -> Option<RouteMatch> {
    let headers = vec![present(CLUSTER_HEADER)];
    matching(path).map(|matching| RouteMatch { headers, ..matching })
}

/// The route of a request whose beginning has come, and whose check is not answered yet. It leads nowhere before that is.
fn being_checked(mut route: Route) -> Route {
    route.name.push_str("-being-checked");
    if let Some(matching) = &mut route.r#match {
        matching.headers = vec![present(BEGUN_HEADER)];
    }
    route.action = Some(to_the_sessions_instance());
    route
}

fn present(header: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: header.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::PresentMatch(true)),
        ..Default::default()
    }
}

fn checked(pool: Option<&str>, protocol: Protocol) -> (String, Any) {
    let mut context = HashMap::from([(CONTEXT_PROTOCOL.to_owned(), protocol.to_string())]);
    if let Some(pool) = pool {
        context.insert(CONTEXT_POOL.to_owned(), pool.to_owned());
    }
    // The check looks for a second handle in a Thrift call, behind its statement (`spark::thrift_one_session`).
    let body = BufferSettings {
        max_request_bytes: THRIFT_BODY_BYTES,
        allow_partial_message: true,
        pack_as_bytes: true,
    };
    let with_request_body = (protocol == Protocol::Thrift).then_some(body);
    check_settings(CheckSettings { context_extensions: context, with_request_body, ..Default::default() })
}

fn check_settings(settings: CheckSettings) -> (String, Any) {
    let per_route =
        ExtAuthzPerRoute { r#override: Some(ext_authz_per_route::Override::CheckSettings(settings)) };
    (EXT_AUTHZ.to_owned(), pack_any(per_route))
}

/// `:path` with a query string. Path matchers do not look at it.
fn with_query() -> HeaderMatcher {
    let question_mark = StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Contains("?".to_owned())),
        ..Default::default()
    };
    HeaderMatcher {
        name: ":path".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(question_mark)),
        ..Default::default()
    }
}

fn to_the_sessions_instance() -> route::Action {
    route::Action::Route(RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::ClusterHeader(CLUSTER_HEADER.to_owned())),
        // Queries run as long as they run.
        timeout: seconds(0),
        idle_timeout: seconds(0),
        // Only where the server cannot have seen the request: nothing must run twice.
        retry_policy: Some(RetryPolicy {
            retry_on: "connect-failure,refused-stream,reset-before-request".to_owned(),
            num_retries: number(2),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// What a client hears if ext_authz let a request pass that leads nowhere.
fn not_found() -> route::Action {
    answer(404, "No Spark pool is served here. Check the host and the path of the URL.")
}

fn answer(status: u32, text: &str) -> route::Action {
    route::Action::DirectResponse(DirectResponseAction {
        status,
        body: Some(DataSource {
            specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    })
}
