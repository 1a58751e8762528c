//! Envoy's question in the operator's words.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};

use jiff::Timestamp;
use uuid::Uuid;

use super::address::socket;
use crate::authn::{read_credentials, read_user_id};
use crate::model::{
    Call, Check, ClientConnection, CloneId, ConnectMethod, Credentials, CredentialsError,
    DEFAULT_SESSION_NAME, Protocol, UsedConnection,
};
use crate::spark::{connect_head, thrift_head, thrift_one_session};
use crate::xds::{NODE_LABEL, PROXIED_HEADER, THRIFT_PATH};

/// Names a Connect session: `sc://host/;x-spark-session=etl`.
const SESSION_NAME_HEADER: &str = "x-spark-session";

/// Headers that proxies add. Envoy takes a client's `x-forwarded-for` off, and puts it into [`PROXIED_HEADER`] first.
const PROXY_HEADERS: [&str; 3] = [PROXIED_HEADER, "forwarded", "via"];

/// Envoy says by it whether it shows the beginning of a body only. A client's own is removed (`xds::listener`).
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// Spark answers a HEAD with a body, for which Envoy ends the connection to it, with the requests of others.
const NOT_POSTED: &str =
    "Clients of Spark send POST requests only: connect with a Spark Connect or a JDBC client.";

/// Reads what Envoy says of a request. Never fails: what cannot be understood is part of the answer.
pub fn read(request: &CheckRequest) -> Check {
    let request = Request::of(request);
    let credentials = read_credentials(|name| request.header(name));
    Check {
        since: request.since,
        node: request.node.clone(),
        host: request.host(),
        path: request.path().to_owned(),
        call: call(&request),
        user_id_credentials: match credentials {
            Err(CredentialsError::Missing) => user_id_credentials(&request),
            _ => None,
        },
        credentials,
        peer: request.peer,
        connection: connection(&request),
    }
}

/// A proxy in front of Envoy says so, as most do.
fn connection(request: &Request<'_>) -> Option<UsedConnection> {
    let connection = ClientConnection {
        envoy: request.node.clone()?,
        client: request.client?,
        listener_port: request.listener_port?,
    };
    let proxied = PROXY_HEADERS.iter().any(|name| request.header(name).is_some());
    Some(UsedConnection { connection, since: request.since?, proxied })
}

/// The parts of a CheckRequest that matter, with its many optional levels taken off.
pub(super) struct Request<'a> {
    http: Option<&'a HttpRequest>,
    node: Option<String>,
    peer: Option<IpAddr>,
    client: Option<SocketAddr>,
    listener_port: Option<u16>,
    since: Option<Timestamp>,
}

impl<'a> Request<'a> {
    pub fn of(request: &'a CheckRequest) -> Self {
        let attributes = request.attributes.as_ref();
        let request = attributes.and_then(|attributes| attributes.request.as_ref());
        let since = request.and_then(|request| request.time.as_ref());
        let destination = attributes.and_then(|attributes| attributes.destination.as_ref());
        let node = destination.and_then(|peer| peer.labels.get(NODE_LABEL)).filter(|id| !id.is_empty());
        let source = attributes.and_then(|attributes| attributes.source.as_ref());
        Self {
            http: request.and_then(|request| request.http.as_ref()),
            node: node.cloned(),
            peer: source.and_then(address),
            client: source.and_then(|peer| socket(peer.address.as_ref())),
            listener_port: destination.and_then(|peer| socket(peer.address.as_ref())).map(|it| it.port()),
            since: since.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok()),
        }
    }

    /// Names are lower case in Envoy's map.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers().and_then(|headers| headers.get(name)).map(String::as_str)
    }

    /// Without the query string.
    pub fn path(&self) -> &'a str {
        self.full_path().split_once(['?', '#']).map_or(self.full_path(), |(path, _)| path)
    }

    pub fn is_grpc(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("application/grpc"))
    }

    fn is_post(&self) -> bool {
        self.http.is_some_and(|http| http.method == "POST")
    }

    pub fn headers(&self) -> Option<&'a HashMap<String, String>> {
        self.http.map(|http| &http.headers)
    }

    fn full_path(&self) -> &'a str {
        self.http.map_or("", |http| http.path.as_str())
    }

    /// Envoy has taken off the port and a trailing dot (`xds::listener`). Nothing more may be taken off here: it finds the
    /// route by exactly this name, in lower case, and would have none for a session that was started.
    fn host(&self) -> String {
        self.http.map_or("", |http| http.host.as_str()).to_ascii_lowercase()
    }

    /// How long the body is of which [`Self::body`] is the beginning; `None` if nobody says so. Envoy holds a body to the
    /// length that its header tells.
    fn body_length(&self) -> Option<usize> {
        match self.header("content-length") {
            Some(length) => length.parse().ok(),
            None => (self.header(PARTIAL_BODY)? == "false").then_some(self.body().len()),
        }
    }

    /// `raw_body` with `pack_as_bytes`, which is the only setting that binary bodies survive.
    fn body(&self) -> &'a [u8] {
        self.http
            .map_or(&[], |http| if http.raw_body.is_empty() { http.body.as_bytes() } else { &http.raw_body })
    }
}

fn address(peer: &Peer) -> Option<IpAddr> {
    match peer.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => socket.address.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()),
        _ => None,
    }
}

fn call(request: &Request<'_>) -> Call {
    let path = request.path();
    if let Some(method) = connect_head::method(path) {
        if !request.is_grpc() {
            let problem = "Spark Connect speaks gRPC: connect with PySpark or another Spark Connect client.";
            return malformed(Protocol::Connect, problem);
        }
        if !request.is_post() {
            return malformed(Protocol::Connect, NOT_POSTED);
        }
        let session_name = request.header(SESSION_NAME_HEADER).map(|value| sent_once(value).to_owned());
        if session_name.as_deref().is_some_and(|name| name.contains(',')) {
            let problem =
                "Different names of a session, x-spark-session, were sent with one request; send one.";
            return malformed(Protocol::Connect, problem);
        }
        if session_name.as_deref().is_some_and(|name| !is_session_name(name)) {
            let problem = "The session's name, x-spark-session, must have 1 to 63 letters, digits, dots, dashes or \
                           underscores.";
            return malformed(Protocol::Connect, problem);
        }
        return match connect_head::read(method, request.body()) {
            Ok(mut head) => {
                if method == ConnectMethod::CloneSession && head.clone.is_none() {
                    head.clone = Some(clone_id(request, head.session_id));
                }
                Call::Connect { method, head, session_name }
            }
            Err(error) => malformed(Protocol::Connect, error.to_string()),
        };
    }
    match thrift_session_name(path) {
        Some(Ok(name)) => thrift_call(name, request),
        Some(Err(problem)) => malformed(Protocol::Thrift, problem),
        None => Call::Other { grpc: request.is_grpc() },
    }
}

/// JVM clients send what $SPARK_REMOTE and the URL say, which Envoy joins by a comma. No name of a session has one.
fn sent_once(value: &str) -> &str {
    match value.split_once(',') {
        Some((first, rest)) if rest.split(',').all(|other| other.trim() == first.trim()) => first.trim(),
        _ => value,
    }
}

/// The same each time that Envoy asks about the same request, so that one clone is one session.
fn clone_id(request: &Request<'_>, parent: Uuid) -> CloneId {
    let id = request.http.map_or("", |http| http.id.as_str());
    let name = format!("{id}/{}", request.since.map_or(0, Timestamp::as_nanosecond));
    CloneId { session_id: Uuid::new_v5(&parent, name.as_bytes()), chosen_by_client: false }
}

fn user_id_credentials(request: &Request<'_>) -> Option<Credentials> {
    connect_head::method(request.path())?;
    read_user_id(connect_head::user_id(request.body())?)
}

fn thrift_call(name: &str, request: &Request<'_>) -> Call {
    let session_name = name.to_owned();
    if request.body().is_empty() {
        return Call::Thrift { session_name, head: None };
    }
    if !request.is_post() {
        return malformed(Protocol::Thrift, NOT_POSTED);
    }
    if request.header("content-encoding").is_some_and(|coding| coding != "identity") {
        return malformed(
            Protocol::Thrift,
            "The request's body is compressed. Switch compression off in the client.",
        );
    }
    let head = match thrift_head::read(request.body()) {
        Ok(head) => head,
        Err(error) => return malformed(Protocol::Thrift, error.to_string()),
    };
    match thrift_one_session::check(request.body(), request.body_length()) {
        Ok(()) => Call::Thrift { session_name, head: Some(head) },
        Err(error) => malformed(Protocol::Thrift, error.to_string()),
    }
}

/// `None` if the path is not Thrift's at all.
fn thrift_session_name(path: &str) -> Option<Result<&str, &'static str>> {
    let rest = path.strip_prefix(THRIFT_PATH)?;
    // PyHive posts to `/cliservice/`.
    if rest.is_empty() || rest == "/" {
        return Some(Ok(DEFAULT_SESSION_NAME));
    }
    let name = rest.strip_prefix('/')?;
    if is_session_name(name) {
        Some(Ok(name))
    } else {
        Some(Err(
            "The session's name in the path, /cliservice/<name>, must have 1 to 63 letters, digits, dots, dashes or \
             underscores.",
        ))
    }
}

fn is_session_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

fn malformed(protocol: Protocol, problem: impl Into<String>) -> Call {
    Call::Malformed { protocol, problem: problem.into() }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
