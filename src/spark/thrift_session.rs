//! What names a session of a Thrift Server: the handle that OpenSession gives, and later calls carry.
//!
//! ```text
//! TSessionHandle {1: sessionId {1: guid binary, 2: secret binary}}
//! in calls:    <method>_args {1: <request> {1: TSessionHandle, …}}
//! in answers:  OpenSession_result {0: TOpenSessionResp {1: status, 2: version, 3: TSessionHandle, …}}
//! ```
//!
//! Whoever has both halves can use the session and close it. The guid alone is what Spark's pages show.

use std::fmt;

use uuid::Uuid;

use super::thrift_bytes::{Bytes, Malformed};
use super::thrift_head::{self, HeadError};
use super::thrift_type::{STRING, STRUCT};

/// One open session of a Thrift Server. `Debug` shows the half that is no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionHandle {
    pub id: Uuid,
    secret: [u8; 16],
}

impl SessionHandle {
    pub fn new(id: Uuid, secret: [u8; 16]) -> Self {
        Self { id, secret }
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why the handle in an answer to OpenSession cannot be told, in words for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("it is no answer in Thrift's binary protocol")]
    Head(#[from] HeadError),
    #[error("it is no answer to OpenSession")]
    OtherMethod,
    #[error("it cannot be read to its handle: {0:?}")]
    Malformed(Malformed),
    #[error("its handle has halves of another length than 16 bytes")]
    NoHandle,
}

impl From<Malformed> for AnswerError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

const METHOD: &str = "OpenSession";

/// The handle in an answer to OpenSession. `None` if no session was opened.
pub fn opened(answer: &[u8]) -> Result<Option<SessionHandle>, AnswerError> {
    let (method, result) = thrift_head::split_reply(answer)?;
    if method != METHOD {
        return Err(AnswerError::OtherMethod);
    }
    let Some(result) = result else { return Ok(None) };
    let mut bytes = Bytes(result);
    for number in [0, 3, 1] {
        if bytes.enter(STRUCT, number)?.is_none() {
            return Ok(None);
        }
    }
    let (id, secret) = (half(&mut bytes, 1)?, half(&mut bytes, 2)?);
    let (Some(id), Some(secret)) = (id, secret) else { return Err(AnswerError::NoHandle) };
    Ok(Some(SessionHandle { id: Uuid::from_bytes(id), secret }))
}

/// The guid in the arguments of a call, which may be cut anywhere behind it. `None` for calls that carry none, like
/// those on an operation.
pub(super) fn of_call(method: &str, arguments: &[u8]) -> Option<Uuid> {
    if !carries_session(method) {
        return None;
    }
    let mut bytes = Bytes(arguments);
    for _ in 0..3 {
        bytes.enter(STRUCT, 1).ok()??;
    }
    half(&mut bytes, 1).ok()?.map(Uuid::from_bytes)
}

fn half(bytes: &mut Bytes<'_>, number: i16) -> Result<Option<[u8; 16]>, Malformed> {
    if bytes.enter(STRING, number)?.is_none() {
        return Ok(None);
    }
    Ok(bytes.text()?.try_into().ok())
}

/// Those of TCLIService whose first argument is a session.
pub(super) fn carries_session(method: &str) -> bool {
    matches!(
        method,
        "CloseSession"
            | "GetInfo"
            | "ExecuteStatement"
            | "GetTypeInfo"
            | "GetCatalogs"
            | "GetSchemas"
            | "GetTables"
            | "GetTableTypes"
            | "GetColumns"
            | "GetFunctions"
            | "GetPrimaryKeys"
            | "GetCrossReference"
            | "GetDelegationToken"
            | "CancelDelegationToken"
            | "RenewDelegationToken"
            | "SetClientInfo"
            | "UploadData"
            | "DownloadData"
    )
}

/// A CloseSession call.
pub fn close_session(handle: &SessionHandle) -> Vec<u8> {
    let mut message = b"\x80\x01\0\x01\0\0\0\x0cCloseSession\0\0\0\0".to_vec();
    message.extend([STRUCT, 0, 1].repeat(3));
    for (number, half) in [(1, handle.id.as_bytes()), (2, &handle.secret)] {
        message.extend([STRING, 0, number, 0, 0, 0, 16]);
        message.extend(half);
    }
    // Ends of the identifier, the handle, the request and the arguments.
    message.extend([0; 4]);
    message
}

#[cfg(test)]
#[path = "thrift_session_tests.rs"]
mod tests;
