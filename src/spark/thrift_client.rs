//! The operator's own call to a Thrift Server: it closes a session that a client has left.
//!
//! Not here: which, and when (`broker::ThriftSessions`).

use std::net::SocketAddr;
use std::time::Duration;

use super::probe::{innermost, plain_http_client};
use super::thrift_bytes::{Bytes, MAX_DEPTH};
use super::thrift_head;
use super::thrift_session::{self, SessionHandle};
use super::thrift_type::{I32, STRING, STRUCT};
use super::thrift_user;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Of an answer, in bytes: an error may hold a Java stack trace.
const LONGEST_ANSWER: usize = 64 * 1024;
/// In the words of Spark 4.1, which says the same of a wrong secret half.
const NO_SUCH_SESSION: &str = "Session does not exist";

/// Why a session may still be open, in words for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    #[error("no answer from the Thrift Server at {address}: {reason}")]
    NoAnswer { address: SocketAddr, reason: String },
    #[error("the Thrift Server at {address} answers HTTP {status}")]
    Http { address: SocketAddr, status: u16 },
    #[error("the Thrift Server at {address} gives no answer to CloseSession that can be read")]
    Unreadable { address: SocketAddr },
    #[error("the Thrift Server at {address} refuses: {reason}")]
    Refused { address: SocketAddr, reason: String },
}

/// Connections to all Thrift Servers.
#[derive(Clone, Debug)]
pub struct ThriftClient(reqwest::Client);

impl ThriftClient {
    pub fn new() -> anyhow::Result<Self> {
        plain_http_client().map(Self).map_err(|error| anyhow::anyhow!(error))
    }

    /// Closes it with all that runs in it, in this user's name. One that the server does not have is closed.
    pub async fn close_session(
        &self,
        address: SocketAddr,
        user: &str,
        handle: &SessionHandle,
    ) -> Result<(), CloseError> {
        let no_answer = |reason: String| CloseError::NoAnswer { address, reason };
        let request = self
            .0
            .post(format!("http://{address}/cliservice"))
            .header("authorization", thrift_user::authorization(user))
            .header("content-type", "application/x-thrift")
            .timeout(TIMEOUT)
            .body(thrift_session::close_session(handle));
        let mut response = request.send().await.map_err(|error| no_answer(innermost(&error)))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(CloseError::Http { address, status });
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(innermost(&error)))? {
            answer.extend(chunk);
            if answer.len() > LONGEST_ANSWER {
                break;
            }
        }
        match outcome(&answer) {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) if reason.contains(NO_SUCH_SESSION) => Ok(()),
            Some(Err(reason)) => Err(CloseError::Refused { address, reason }),
            None => Err(CloseError::Unreadable { address }),
        }
    }
}

/// What the server says, as far as it can be read: CloseSession_result {0: TCloseSessionResp {1: TStatus {1: statusCode,
/// 5: errorMessage, …}}}.
fn outcome(answer: &[u8]) -> Option<Result<(), String>> {
    const CODE: (u8, i16) = (I32, 1);
    const MESSAGE: (u8, i16) = (STRING, 5);
    const SUCCESS: i32 = 0;
    const SUCCESS_WITH_INFO: i32 = 1;
    const INVALID_HANDLE: i32 = 4;
    let ("CloseSession", result) = thrift_head::split_reply(answer).ok()? else { return None };
    let Some(result) = result else { return Some(Err("an exception".to_owned())) };
    let mut bytes = Bytes(result);
    bytes.enter(STRUCT, 0).ok()??;
    bytes.enter(STRUCT, 1).ok()??;
    let (mut code, mut message) = (None, String::new());
    while let Ok(Some(field)) = bytes.field() {
        match field {
            CODE => code = Some(i32::from_be_bytes(bytes.array().ok()?)),
            MESSAGE => {
                let said = String::from_utf8_lossy(bytes.text().ok()?).into_owned();
                message = said.lines().next().unwrap_or_default().chars().take(300).collect();
            }
            (kind, _) => bytes.skip(kind, MAX_DEPTH).ok()?,
        }
    }
    match code? {
        SUCCESS | SUCCESS_WITH_INFO | INVALID_HANDLE => Some(Ok(())),
        code if message.is_empty() => Some(Err(format!("status {code}"))),
        _ => Some(Err(message)),
    }
}

#[cfg(test)]
#[path = "thrift_client_tests.rs"]
mod tests;
