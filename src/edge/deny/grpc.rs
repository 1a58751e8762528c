//! gRPC: what Spark Connect clients make of a status.
//!
//! - A user sees the message alone only with a `grpc-status-details-bin`, a base64 google.rpc.Status. Its code and
//!   message must be those of the call, or PySpark fails with a ValueError: the body (Envoy turns it into
//!   `grpc-message`) and the details are made from the same string.
//! - Any status with RetryInfo is retried, whatever its code: only what waiting cures carries it.
//! - ErrorInfo is not sent by habit: on seeing it PySpark asks for a conf before it shows the error, which is one more
//!   refused call, and for UNAVAILABLE ten more minutes of retries. The Scala client dies of an ErrorInfo that has no
//!   `classes` ("head of empty list") and so loses the reason.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use envoy_types::pb::envoy::service::auth::v3::DeniedHttpResponse;
use envoy_types::pb::google::protobuf::{Any, Duration as ProtoDuration};
use envoy_types::pb::google::rpc::{Code, Status};
use prost::Message;

use super::{clipped, http_response, meaning};
use crate::edge::headers;
use crate::model::{ConnectMethod, Denial, DenialKind};

/// gRPC clients limit all headers together, C-core and Java to 8 KiB; above it the user sees only that they are too long.
const HEADER_BUDGET: usize = 6 * 1024;
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
const ERROR_DOMAIN: &str = "sparkinteractive.io";

pub fn denied(denial: &Denial, method: Option<ConnectMethod>) -> DeniedHttpResponse {
    let retry = retry_after(denial);
    let code = if retry.is_some() { Code::Unavailable } else { meaning(denial.kind).grpc };
    let message = message(denial);
    let details = retry.map(retry_info).into_iter().chain(error_info(denial.kind, method)).collect();
    let status = Status { code: code.into(), message: message.clone(), details };
    let headers = vec![
        headers::set("content-type", "application/grpc"),
        headers::set("grpc-status", i32::from(code).to_string()),
        headers::set("grpc-status-details-bin", BASE64_STANDARD_NO_PAD.encode(status.encode_to_vec())),
    ];
    http_response(meaning(denial.kind).http, headers, message)
}

/// Whether and when the client should go on by itself. An outage is waited for only if the denial says how long;
/// a quota is not, since its user has to do something.
fn retry_after(denial: &Denial) -> Option<Duration> {
    match denial.kind {
        DenialKind::NotReady | DenialKind::TooManyWaiting => {
            Some(denial.retry_after.unwrap_or(DEFAULT_RETRY))
        }
        DenialKind::Unavailable => denial.retry_after,
        _ => None,
    }
}

fn message(denial: &Denial) -> String {
    let text = match error_class(denial.kind) {
        Some(class) if !denial.message.starts_with('[') => format!("[{class}] {}", denial.message),
        _ => denial.message.clone(),
    };
    let text = clipped(&defused(text), 3 * HEADER_BUDGET, thirds_in_headers);
    if text.is_empty() { meaning(denial.kind).reason.to_owned() } else { text }
}

/// PySpark looks for these words in the text of any error and then calls again at once, for ever. They may stand in
/// what a driver said on its way down.
fn defused(text: String) -> String {
    ["INVALID_HANDLE.SESSION_NOT_FOUND", "INVALID_HANDLE.OPERATION_NOT_FOUND", "INVALID_CURSOR.DISCONNECTED"]
        .iter()
        .fold(text, |text, trigger| text.replace(trigger, &trigger.replace('.', " ")))
}

/// A character's share of the headers, in thirds of a byte: percent-encoded in `grpc-message`, base64 in the details.
fn thirds_in_headers(character: char) -> usize {
    let bytes = character.len_utf8();
    let plain = matches!(character, ' '..'~') && character != '%';
    (if plain { 3 } else { 9 * bytes }) + 4 * bytes
}

fn error_class(kind: DenialKind) -> Option<&'static str> {
    match kind {
        DenialKind::SessionClosed => Some("INVALID_HANDLE.SESSION_CLOSED"),
        DenialKind::SessionChanged => Some("INVALID_HANDLE.SESSION_CHANGED"),
        _ => None,
    }
}

/// Both ends of a session are SESSION_CHANGED to programs: it is the only class on which PySpark takes its session for
/// over, so that `getOrCreate()` makes a new one instead of returning the dead one again.
///
/// Not on Config: PySpark asks for a conf before the first query of a session and ignores that this fails, but would
/// take the session for over, and then shows NO_ACTIVE_SESSION in place of the reason. The query itself brings it.
fn error_info(kind: DenialKind, method: Option<ConnectMethod>) -> Option<Any> {
    error_class(kind).filter(|_| method != Some(ConnectMethod::Config))?;
    let metadata = [
        ("errorClass", "INVALID_HANDLE.SESSION_CHANGED"),
        ("classes", r#"["org.apache.spark.SparkException"]"#),
        ("messageParameters", "{}"),
        ("sqlState", "HY000"),
    ];
    let info = ErrorInfo {
        reason: meaning(kind).reason.to_owned(),
        domain: ERROR_DOMAIN.to_owned(),
        metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    };
    Some(any("google.rpc.ErrorInfo", &info))
}

fn retry_info(after: Duration) -> Any {
    let delay = ProtoDuration {
        seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        nanos: after.subsec_nanos().cast_signed(),
    };
    any("google.rpc.RetryInfo", &RetryInfo { retry_delay: Some(delay) })
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// `google.rpc.ErrorInfo`; envoy-types has only what Envoy itself uses of google.rpc.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(string, tag = "2")]
    pub domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: BTreeMap<String, String>,
}

/// `google.rpc.RetryInfo`
#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<ProtoDuration>,
}
