//! TCLIService over HTTP: every call succeeds, OpenSession gives a handle, and CloseSession takes it back.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri};
use spark_session_operator::model::ThriftHead;
use spark_session_operator::spark::thrift_head;

use uuid::Uuid;

use super::seen::Seen;
use super::{MEGABYTES, OPERATION_STATE, instance};

const STRICT_REPLY: [u8; 4] = [0x80, 1, 0, 2];
const STOP: u8 = 0;
const I32: u8 = 8;
const STRING: u8 = 11;
const STRUCT: u8 = 12;

pub fn router(pod: Arc<str>, seen: Seen) -> Router {
    Router::new().fallback(answer).with_state((pod, seen))
}

async fn answer(
    State((pod, seen)): State<(Arc<str>, Seen)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "Thrift calls are posted").into_response();
    }
    let Ok(head) = thrift_head::read(&body) else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "no call of TCLIService").into_response();
    };
    tokio::time::sleep(instance::pause(&headers)).await;
    let state = instance::asked(&headers, OPERATION_STATE).and_then(|state| state.try_into().ok());
    let mut reply = reply(&head, state, &seen);
    reply.resize(reply.len() + ((instance::asked(&headers, MEGABYTES).unwrap_or(0) as usize) << 20), 7);
    let mut answer = reply.into_response();
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/x-thrift"));
    answer.headers_mut().extend(instance::answer_headers(&pod, &uri, &headers, body.len()));
    answer
}

/// `{success: {status: {statusCode: SUCCESS}, …}}`
fn reply(call: &ThriftHead, operation_state: Option<i32>, seen: &Seen) -> Vec<u8> {
    if let Some(handle) = call.session_handle.filter(|_| call.method == "CloseSession") {
        seen.with(|seen| {
            seen.open.remove(&handle);
            seen.closed.insert(handle);
        });
    }
    let mut reply = STRICT_REPLY.to_vec();
    string(&mut reply, call.method.as_bytes());
    reply.extend(call.sequence_id.to_be_bytes());
    field(&mut reply, STRUCT, 0);
    field(&mut reply, STRUCT, 1);
    field(&mut reply, I32, 1);
    reply.extend(0_i32.to_be_bytes());
    reply.push(STOP);
    if call.method == "OpenSession" {
        // HIVE_CLI_SERVICE_PROTOCOL_V8, and a handle: {sessionId: {guid, secret}}
        field(&mut reply, I32, 2);
        reply.extend(7_i32.to_be_bytes());
        field(&mut reply, STRUCT, 3);
        field(&mut reply, STRUCT, 1);
        let (handle, secret) = (Uuid::new_v4(), Uuid::new_v4());
        seen.with(|seen| seen.open.insert(handle));
        for (number, half) in [(1, handle), (2, secret)] {
            field(&mut reply, STRING, number);
            string(&mut reply, half.as_bytes());
        }
        reply.extend([STOP, STOP]);
    }
    if let Some(state) = operation_state.filter(|_| call.method == "GetOperationStatus") {
        field(&mut reply, I32, 2);
        reply.extend(state.to_be_bytes());
    }
    reply.extend([STOP, STOP]);
    reply
}

fn field(bytes: &mut Vec<u8>, kind: u8, number: i16) {
    bytes.push(kind);
    bytes.extend(number.to_be_bytes());
}

fn string(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend(u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(value);
}
