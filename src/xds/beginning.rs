//! How long a request may take to begin. Its check needs the beginning of its body, so that nobody has logged in before
//! that has come, and Envoy holds its headers for whoever sent them. A check that waits for an instance, and a query that
//! computes, are not bound by this.
//!
//! Envoy has no time limit that ends when a check begins. Its limit for a whole request would end uploads, and its limit for
//! silence would end held checks, while a client that sends a byte now and then would never meet it. But a limit
//! can be a route's, and counts from the request's first byte:
//!
//! ```text
//!  headers ──► route with a limit ──► enough of the body, or its end ──► Lua has the route looked for again
//!                                                                        ──► route without a limit ──► check
//! ```
//!
//! By the second time the request has a header that it had not at the first: the first filter adds it, and Envoy looks for
//! routes again only when it is told to. (Each of the routes has to be one that can lead somewhere: Envoy leaves the limit as it
//! is when it comes to a direct response.)
//!
//! Not here: how long headers may take (`request_headers_timeout`), and which routes there are (`route`).

use std::time::Duration;

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation::Action};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HeaderValue, HeaderValueOption, data_source, header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::config::route::v3::{RouteAction, route, route_action};

use super::proto::duration;
use super::{BEGUN_HEADER, CLUSTER_HEADER, KEPT_TIMEOUT_HEADER};
use crate::model::{Denial, DenialKind};

/// From the first byte of a request to the end of its body, or to as much of it as a check carries.
const LIMIT: Duration = Duration::from_secs(10);

const TIMEOUT_HEADER: &str = "grpc-timeout";

/// How a local reply tells that the limit was reached: an expression (CEL).
pub const LATE: &str = r#"response.code_details == "max_duration_timeout""#;

/// What the client hears then. A gRPC client comes back by itself.
pub fn refusal() -> Denial {
    let message = format!(
        "The request was given up: its beginning did not come within {} seconds. Nothing was done; try again, over a \
         better connection if this lasts.",
        LIMIT.as_secs()
    );
    let retry_after = Some(Duration::from_secs(1));
    Denial { retry_after, ..Denial::new(DenialKind::Unavailable, message) }
}

/// A program in Lua that waits until a check with so many bytes of the body can begin, and then does what `program` says.
pub fn awaiting(bytes: u32, program: &str) -> DataSource {
    let source = format!("local ENOUGH = {bytes}\n{}\n{program}", include_str!("beginning.lua"));
    DataSource { specifier: Some(data_source::Specifier::InlineString(source)), ..Default::default() }
}

/// The whole program where nothing else is to be done.
pub const NOTHING_ELSE: &str = "function envoy_on_request(request)\n  await_beginning(request)\nend\n";

/// For a filter before Lua. Where Envoy limits a request by its route, it also tells the server so, in the
/// client's `grpc-timeout`: Spark would end the query then. So what the client said comes back, which may be nothing.
pub fn mark() -> Vec<HeaderMutation> {
    let kept = format!("%REQ({KEPT_TIMEOUT_HEADER})%");
    let actions = [
        append(BEGUN_HEADER, "1"),
        Action::Remove(TIMEOUT_HEADER.to_owned()),
        append(TIMEOUT_HEADER, &kept),
        Action::Remove(KEPT_TIMEOUT_HEADER.to_owned()),
    ];
    actions.map(|action| HeaderMutation { action: Some(action) }).into()
}

/// Before any route is looked for.
pub fn keep_timeout() -> Action {
    append(KEPT_TIMEOUT_HEADER, &format!("%REQ({TIMEOUT_HEADER})%"))
}

/// Nothing, where the value is empty.
fn append(header: &str, value: &str) -> Action {
    let header = HeaderValue { key: header.to_owned(), value: value.to_owned(), ..Default::default() };
    let append_action = HeaderAppendAction::OverwriteIfExistsOrAdd.into();
    Action::Append(HeaderValueOption { header: Some(header), append_action, ..Default::default() })
}

/// Of a request that has not begun. It leads nowhere, since the check comes first; but only a route that could lead
/// somewhere can have a time limit.
pub fn limited() -> route::Action {
    route::Action::Route(RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::ClusterHeader(CLUSTER_HEADER.to_owned())),
        max_stream_duration: Some(route_action::MaxStreamDuration {
            max_stream_duration: duration(LIMIT),
            ..Default::default()
        }),
        ..Default::default()
    })
}
