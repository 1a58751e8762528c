//! The head of a Spark Connect request: whose session it is about.
//!
//! Every request of `spark.connect.SparkConnectService` has the session id as field 1 and the user context as field
//! 2, and real clients write them first, even before a plan of 50 MB. So the first 8 KiB are enough to route.
//!
//! On the server the **last** of duplicated fields wins. A message that shows two is refused, since it could be
//! routed by one id and executed under the other. Only what is visible can be checked: for messages longer than the
//! prefix the instance (or the identity interceptor inside it) is the boundary.

use uuid::Uuid;

use super::protobuf::{self, Value};
use crate::model::{CloneId, ConnectHead, ConnectMethod};

/// All of Spark Connect lives under this path.
pub const SERVICE_PATH: &str = "/spark.connect.SparkConnectService/";

/// `CloneSessionRequest.new_session_id`.
const CLONE_FIELD: u64 = 4;

/// Why a request's head cannot be used, in words for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error(
        "The request came without its first message, so that the session it belongs to is unknown. \
         Send the first message together with the headers."
    )]
    Empty,
    #[error(
        "The request is compressed, so that the session it belongs to cannot be read. \
         Switch gRPC compression off in the client."
    )]
    Compressed,
    #[error("The request is not a gRPC message of Spark Connect.")]
    NotGrpc,
    #[error("The request is cut off before its session id.")]
    Cut,
    #[error("The request has no session id within its first {0} bytes.")]
    NoSession(usize),
    #[error("The request names its session or its user twice, which Spark Connect clients never do.")]
    Duplicate,
    #[error(
        "The request to clone a session is longer than {0} bytes, so that the clone's id cannot be told."
    )]
    LongClone(usize),
    /// Spark's own words for this mistake, so that a search for them helps.
    #[error(
        "[INVALID_HANDLE.FORMAT] The handle {0} is invalid. Handle must be an UUID string of the format \
         '00112233-4455-6677-8899-aabbccddeeff'. SQLSTATE: HY000"
    )]
    NotUuid(String),
    /// As `uuidgen` of macOS prints ids, and as Spark's Swift client made them before 0.3.0.
    #[error(
        "The session id {sent} has upper-case letters. Spark takes an id in another spelling for another session, so send \
         it as {id}."
    )]
    UpperCase { sent: String, id: Uuid },
}

/// The RPC that a path names, `None` if it is not Spark Connect's.
pub fn method(path: &str) -> Option<ConnectMethod> {
    let name = path.strip_prefix(SERVICE_PATH)?;
    Some(match name {
        "ExecutePlan" => ConnectMethod::ExecutePlan,
        "AnalyzePlan" => ConnectMethod::AnalyzePlan,
        "Config" => ConnectMethod::Config,
        "AddArtifacts" => ConnectMethod::AddArtifacts,
        "ArtifactStatus" => ConnectMethod::ArtifactStatus,
        "Interrupt" => ConnectMethod::Interrupt,
        "ReattachExecute" => ConnectMethod::ReattachExecute,
        "ReleaseExecute" => ConnectMethod::ReleaseExecute,
        "ReleaseSession" => ConnectMethod::ReleaseSession,
        "FetchErrorDetails" => ConnectMethod::FetchErrorDetails,
        "CloneSession" => ConnectMethod::CloneSession,
        _ => ConnectMethod::Unknown,
    })
}

/// Reads the head from `body`, the first bytes of a gRPC request, which may end anywhere after the session id.
///
/// Whether the message is complete is told by its own frame header and not by Envoy's
/// `x-envoy-auth-partial-body`: the frame is what Spark will go by.
pub fn read(method: ConnectMethod, body: &[u8]) -> Result<ConnectHead, HeadError> {
    let (message, complete) = first_message(body)?;
    let clones = method == ConnectMethod::CloneSession;
    if clones && !complete {
        return Err(HeadError::LongClone(body.len()));
    }
    let (mut session, mut clone) = (None, None);
    let mut user_seen = false;
    let mut observed = None;
    for field in protobuf::fields(message) {
        let field = field.map_err(|protobuf::Malformed| HeadError::NotGrpc)?;
        match field.number {
            1 if session.is_some() => return Err(HeadError::Duplicate),
            2 if user_seen => return Err(HeadError::Duplicate),
            CLONE_FIELD if clone.is_some() => return Err(HeadError::Duplicate),
            2 => user_seen = true,
            _ => {}
        }
        match field.value {
            Value::Bytes(value) if field.number == 1 => session = Some(parse_session(value)?),
            Value::Bytes(value) if clones && field.number == CLONE_FIELD => {
                clone = Some(CloneId { session_id: parse_session(value)?, chosen_by_client: true });
            }
            Value::Bytes(value) if Some(field.number) == observed_field(method) => {
                observed = std::str::from_utf8(value).ok().filter(|id| !id.is_empty()).map(beginning);
            }
            Value::Scalar if field.number == 1 => return Err(HeadError::NotGrpc),
            Value::Cut if complete => return Err(HeadError::NotGrpc),
            Value::Bytes(_) | Value::Scalar | Value::Cut => {}
        }
    }
    match session {
        Some(session_id) => Ok(ConnectHead { session_id, observed_server_session_id: observed, clone }),
        // An empty string is not sent at all in proto3: Spark would see the handle "".
        None if complete => Err(HeadError::NotUuid(String::new())),
        None => Err(HeadError::NoSession(body.len())),
    }
}

/// A CloneSession call in which the client leaves the clone's id to the server, as one that asks for this id.
pub fn with_clone_id(body: &[u8], id: Uuid) -> Result<Vec<u8>, HeadError> {
    if read(ConnectMethod::CloneSession, body)?.clone.is_some() {
        return Err(HeadError::Duplicate);
    }
    let (message, _) = first_message(body)?;
    let id = id.to_string();
    // The field's number and that it is bytes, then their number, which is less than 128.
    let field = [(CLONE_FIELD << 3 | 2) as u8, id.len() as u8];
    let message = [message, &field, id.as_bytes()].concat();
    let length = u32::try_from(message.len()).map_err(|_| HeadError::LongClone(body.len()))?;
    Ok([&[0], &length.to_be_bytes()[..], &message].concat())
}

/// The `user_id` in the request's user context, as far as it can be read. Some people write a login there: not to be
/// shown.
pub fn user_id(body: &[u8]) -> Option<&str> {
    let (message, _) = first_message(body).ok()?;
    let bytes = |message, number| {
        protobuf::fields(message).map_while(Result::ok).find_map(|field| match field.value {
            Value::Bytes(value) if field.number == number => Some(value),
            _ => None,
        })
    };
    std::str::from_utf8(bytes(bytes(message, 2)?, 1)?).ok()
}

/// The field in which a request says which server-side session its client has seen.
fn observed_field(method: ConnectMethod) -> Option<u64> {
    match method {
        ConnectMethod::ExecutePlan | ConnectMethod::Config => Some(8),
        ConnectMethod::AnalyzePlan => Some(17),
        ConnectMethod::AddArtifacts | ConnectMethod::Interrupt | ConnectMethod::ReleaseExecute => Some(7),
        ConnectMethod::ReattachExecute => Some(6),
        ConnectMethod::FetchErrorDetails | ConnectMethod::CloneSession | ConnectMethod::ArtifactStatus => {
            Some(5)
        }
        ConnectMethod::ReleaseSession | ConnectMethod::Unknown => None,
    }
}

/// What is visible of the first gRPC message, and whether that is all of it.
fn first_message(body: &[u8]) -> Result<(&[u8], bool), HeadError> {
    let Some((flag, rest)) = body.split_first() else { return Err(HeadError::Empty) };
    match flag {
        0 => {}
        1 => return Err(HeadError::Compressed),
        _ => return Err(HeadError::NotGrpc),
    }
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Err(HeadError::Cut) };
    let length = u32::from_be_bytes(*length) as usize;
    match rest.get(..length) {
        Some(message) => Ok((message, true)),
        None => Ok((rest, false)),
    }
}

/// Only the one form that clients of Spark send, with dashes and in lower case: Spark compares ids letter by letter, and so
/// each other form of an id (upper case, no dashes, braces) would be one more session there.
fn parse_session(value: &[u8]) -> Result<Uuid, HeadError> {
    let shown = || beginning(&String::from_utf8_lossy(value));
    let id = Uuid::try_parse_ascii(value).ok().filter(|_| value.len() == 36);
    let id = id.ok_or_else(|| HeadError::NotUuid(shown()))?;
    match value.iter().any(u8::is_ascii_uppercase) {
        true => Err(HeadError::UpperCase { sent: shown(), id }),
        false => Ok(id),
    }
}

/// As much as is kept, or shown, of what should be an id.
fn beginning(id: &str) -> String {
    id.chars().take(64).collect()
}

#[cfg(test)]
#[path = "connect_head_tests.rs"]
mod tests;
