//! A refusal in the client's own protocol, so that its user reads the reason.
//!
//! The same [`Denial`] takes three forms: a gRPC status for Spark Connect, a TCLIService response for JDBC tools, and a
//! small page or JSON for everything else. Which words and codes clients show, and which they swallow or retry for
//! minutes, was tried with real ones (PySpark and the Scala client 4.1, beeline, PyHive).

mod grpc;
mod web;

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, DeniedHttpResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::rpc::{Code, Status};

use super::check::Request;
use super::headers;
use crate::model::{Call, ConnectMethod, Denial, DenialKind, ThriftHead};
use crate::spark::thrift_reply;

/// What the client can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any gRPC call; `method` if it is one of Spark Connect's that could be read.
    Grpc { method: Option<ConnectMethod> },
    /// A call of TCLIService, answered under its own name and sequence id.
    Thrift(ThriftHead),
    /// Browsers and whatever else speaks HTTP.
    Http { html: bool },
}

impl Form {
    /// A call of TCLIService that nobody has read. Its client takes the answer for that of whatever it called.
    pub fn unread_thrift() -> Self {
        Self::Thrift(ThriftHead { method: String::new(), sequence_id: 0, session_handle: None })
    }

    /// `call` is what [`super::check::read`] made of the same request.
    pub fn of(request: &CheckRequest, call: &Call) -> Self {
        let request = Request::of(request);
        match call {
            Call::Connect { method, .. } => Self::Grpc { method: Some(*method) },
            _ if request.is_grpc() => Self::Grpc { method: None },
            Call::Thrift { head: Some(head), .. } => Self::Thrift(head.clone()),
            _ => Self::Http {
                html: request.header("accept").is_some_and(|accept| accept.contains("text/html")),
            },
        }
    }
}

/// What the client is told.
pub fn denied(denial: &Denial, form: &Form) -> DeniedHttpResponse {
    match form {
        Form::Grpc { method } => grpc::denied(denial, *method),
        Form::Thrift(head) => thrift(denial, head),
        Form::Http { html } => web::denied(denial, *html),
    }
}

/// The answer with which Envoy refuses the request.
pub fn response(denial: &Denial, form: &Form) -> CheckResponse {
    let meaning = meaning(denial.kind);
    CheckResponse {
        // Code 0, which is also what a missing status means, would be a yes, whatever stands beside it.
        status: Some(Status { code: meaning.grpc.into(), ..Status::default() }),
        dynamic_metadata: headers::metadata([("denied", meaning.reason)]),
        http_response: Some(HttpResponse::DeniedResponse(denied(denial, form))),
    }
}

/// What a kind of refusal is called in each protocol.
#[derive(Clone, Copy, Debug)]
struct Meaning {
    grpc: Code,
    http: u16,
    /// For programs and access logs.
    reason: &'static str,
    /// For JDBC: the classes of SQL:2016, which pools and tools look at.
    sql_state: &'static str,
}

/// `grpc` is what a client shows at once, but for `NotReady` and `TooManyWaiting`: clients retry UNAVAILABLE in silence for
/// ten minutes, which is right only where waiting helps.
fn meaning(kind: DenialKind) -> Meaning {
    let (grpc, http, reason, sql_state) = match kind {
        DenialKind::Unauthenticated => (Code::Unauthenticated, 401, "Unauthenticated", "28000"),
        DenialKind::LoginsLimited => (Code::ResourceExhausted, 429, "LoginsLimited", "28000"),
        DenialKind::PermissionDenied => (Code::PermissionDenied, 403, "PermissionDenied", "42501"),
        DenialKind::UnknownHost => (Code::NotFound, 404, "UnknownHost", "08001"),
        DenialKind::UnknownPath => (Code::Unimplemented, 404, "UnknownPath", "08001"),
        DenialKind::BadRequest => (Code::InvalidArgument, 400, "BadRequest", "08P01"),
        DenialKind::QuotaExceeded => (Code::ResourceExhausted, 429, "QuotaExceeded", "53400"),
        DenialKind::RateLimited => (Code::ResourceExhausted, 429, "RateLimited", "53400"),
        DenialKind::NotReady => (Code::Unavailable, 503, "NotReady", "08001"),
        DenialKind::TooManyWaiting => (Code::Unavailable, 503, "TooManyWaiting", "53300"),
        // Spark's own code for its INVALID_HANDLE errors; the Scala client looks for it.
        DenialKind::SessionClosed => (Code::Internal, 410, "SessionClosed", "08003"),
        DenialKind::SessionChanged => (Code::Internal, 410, "SessionChanged", "08003"),
        DenialKind::StartFailed => (Code::FailedPrecondition, 500, "StartFailed", "08001"),
        // "Try again, but at a higher level": a text at once beats silent minutes.
        DenialKind::Unavailable => (Code::Aborted, 503, "Unavailable", "08001"),
        DenialKind::Internal => (Code::Internal, 500, "Internal", "HY000"),
    };
    Meaning { grpc, http, reason, sql_state }
}

/// HTTP 200, since clients drop the body of any other status.
fn thrift(denial: &Denial, head: &ThriftHead) -> DeniedHttpResponse {
    http_response(200, vec![headers::set("content-type", "application/x-thrift")], thrift_reply(denial, head))
}

/// The body of that answer.
pub(super) fn thrift_reply(denial: &Denial, head: &ThriftHead) -> String {
    thrift_reply::error(head, meaning(denial.kind).sql_state, &denial.message)
}

fn http_response(status: u16, headers: Vec<HeaderValueOption>, body: String) -> DeniedHttpResponse {
    DeniedHttpResponse { status: Some(HttpStatus { code: status.into() }), headers, body }
}

/// The beginning of `text` as far as `budget` pays for its characters, without space at its ends.
fn clipped(text: &str, budget: usize, cost: impl Fn(char) -> usize) -> String {
    let mut left = budget;
    let fits = |character: &char| {
        let cost = cost(*character);
        let pays = cost <= left;
        left = left.saturating_sub(cost);
        pays
    };
    let kept: String = text.trim().chars().take_while(fits).collect();
    kept.trim_end().to_owned()
}

#[cfg(test)]
#[path = "deny_tests.rs"]
mod tests;
