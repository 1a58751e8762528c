//! The operator's own calls to a Spark Connect server, in a user's name: it sets configuration, ends sessions, and asks
//! what runs in them.
//!
//! Not here: when to call, and again after a failure (`operator::spark_sessions`). Nothing is kept between calls. No
//! error holds a value of the configuration.

mod running;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::connect_messages::{
    ConfigRequest, ConfigResponse, InterruptRequest, InterruptResponse, InterruptType, KeyValue, Operation,
    ReleaseSessionRequest, ReleaseSessionResponse, Set, UserContext,
};
use super::probe::innermost;
use super::redaction;
use crate::model::{AppliedConf, InstanceToken};
use crate::xds::{SESSION_ID_HEADER, USER_HEADER};

pub use running::{Running, running};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Tells these calls from the user's own in Spark's log.
const CLIENT_TYPE: &str = "spark-session-operator";

/// A server, and what it asks for where it asks for something.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub address: SocketAddr,
    pub token: Option<InstanceToken>,
}

/// Whose session: with both, Spark tells sessions apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub user: String,
    pub session_id: Uuid,
}

/// Why a call has not done what it was for, in words for the session's status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("no connection to Spark at {address}: {reason}")]
    NoConnection { address: SocketAddr, reason: String },
    #[error("no answer from Spark at {address} within {} s", .after.as_secs())]
    TimedOut { address: SocketAddr, after: Duration },
    /// The server, or something before it, does not let the operator do it now.
    #[error("Spark at {address} answers {code:?}: {reason}")]
    Unwilling { address: SocketAddr, code: Code, reason: String },
}

/// Sets the configuration key by key as far as Spark takes it. An error: nothing is known of any key.
pub async fn set_conf(
    server: &Server,
    caller: &Caller,
    conf: &BTreeMap<String, String>,
) -> Result<AppliedConf, CallError> {
    if conf.is_empty() {
        return Ok(AppliedConf::default());
    }
    let mut connection = Connection::open(server, caller).await?;
    let secrets = || conf.values().map(String::as_str);
    match connection.set(conf, true).await? {
        Ok(answer) if answer.warnings.is_empty() => {
            return Ok(AppliedConf { applied: conf.keys().cloned().collect(), refused: Vec::new() });
        }
        Ok(_) => {}
        Err(status) if is_about_configuration(&status) => {}
        Err(status) => return Err(connection.unwilling(&status, secrets())),
    }
    // Which key it was, and why, is said for certain only of one alone.
    let mut outcome = AppliedConf::default();
    for (key, value) in conf {
        match connection.set([(key, value)], false).await? {
            Ok(_) => outcome.applied.push(key.clone()),
            Err(status) if is_about_configuration(&status) => {
                outcome.refused.push((key.clone(), redaction::reason(status.message(), secrets())));
            }
            Err(status) => return Err(connection.unwilling(&status, secrets())),
        }
    }
    Ok(outcome)
}

/// Ends the session with all that runs in it. One that the server does not have, or not any more, is ended.
///
/// Spark 3.5 has no such call. There, what runs in the session is interrupted, and the server forgets the session by
/// itself, an hour after its last request (`SparkConnectService.CACHE_TIMEOUT_SECONDS` in Spark 3.5.7, no setting).
pub async fn release_session(server: &Server, caller: &Caller) -> Result<(), CallError> {
    let mut connection = Connection::open(server, caller).await?;
    let message = ReleaseSessionRequest {
        session_id: caller.session_id.to_string(),
        user_context: Some(connection.user_context()),
        client_type: Some(CLIENT_TYPE.to_owned()),
    };
    let released: Result<ReleaseSessionResponse, _> =
        connection.call("/spark.connect.SparkConnectService/ReleaseSession", message).await?;
    match released {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound || says_invalid_handle(&status) => Ok(()),
        Err(status) if status.code() == Code::Unimplemented => interrupt_all(&mut connection).await,
        Err(status) => Err(connection.unwilling(&status, [])),
    }
}

async fn interrupt_all(connection: &mut Connection<'_>) -> Result<(), CallError> {
    let message = InterruptRequest {
        session_id: connection.caller.session_id.to_string(),
        user_context: Some(connection.user_context()),
        client_type: Some(CLIENT_TYPE.to_owned()),
        interrupt_type: InterruptType::All.into(),
    };
    let interrupted: Result<InterruptResponse, _> =
        connection.call("/spark.connect.SparkConnectService/Interrupt", message).await?;
    interrupted.map(drop).map_err(|status| connection.unwilling(&status, []))
}

struct Connection<'a> {
    server: &'a Server,
    caller: &'a Caller,
    grpc: tonic::client::Grpc<Channel>,
}

impl<'a> Connection<'a> {
    async fn open(server: &'a Server, caller: &'a Caller) -> Result<Self, CallError> {
        let address = server.address;
        let failed =
            |error: tonic::transport::Error| CallError::NoConnection { address, reason: innermost(&error) };
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
        match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
            Ok(channel) => {
                Ok(Self { server, caller, grpc: tonic::client::Grpc::new(channel.map_err(failed)?) })
            }
            Err(_) => Err(CallError::TimedOut { address, after: CONNECT_TIMEOUT }),
        }
    }

    async fn set<'b>(
        &mut self,
        pairs: impl IntoIterator<Item = (&'b String, &'b String)>,
        silent: bool,
    ) -> Result<Result<ConfigResponse, Status>, CallError> {
        let pair =
            |(key, value): (&String, &String)| KeyValue { key: key.clone(), value: Some(value.clone()) };
        let set = Set { pairs: pairs.into_iter().map(pair).collect(), silent: silent.then_some(true) };
        let message = ConfigRequest {
            session_id: self.caller.session_id.to_string(),
            user_context: Some(self.user_context()),
            operation: Some(Operation { set: Some(set) }),
            client_type: Some(CLIENT_TYPE.to_owned()),
        };
        self.call("/spark.connect.SparkConnectService/Config", message).await
    }

    fn user_context(&self) -> UserContext {
        UserContext { user_id: self.caller.user.clone(), user_name: self.caller.user.clone() }
    }

    /// `Err` inside is Spark's own answer; outside, there was none.
    async fn call<M, A>(&mut self, path: &'static str, message: M) -> Result<Result<A, Status>, CallError>
    where
        M: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let address = self.server.address;
        let no_connection = |reason| CallError::NoConnection { address, reason };
        let request = self.request(message).map_err(no_connection)?;
        let codec = tonic_prost::ProstCodec::<M, A>::default();
        let grpc = &mut self.grpc;
        let answer = async {
            grpc.ready().await.map_err(|error| no_connection(innermost(&error)))?;
            let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
            own_answer(address, answer.map(tonic::Response::into_inner))
        };
        within_call_timeout(address, answer).await
    }

    /// With the headers that Envoy sets on the user's own requests (`edge::allow`).
    fn request<M>(&self, message: M) -> Result<Request<M>, String> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        let not_ascii = |_| "its token cannot be sent".to_owned();
        if let Some(token) = &self.server.token {
            let mut bearer =
                MetadataValue::try_from(format!("Bearer {}", token.expose())).map_err(not_ascii)?;
            bearer.set_sensitive(true);
            metadata.insert("authorization", bearer);
        }
        let session_id = MetadataValue::try_from(self.caller.session_id.to_string()).map_err(not_ascii)?;
        metadata.insert(SESSION_ID_HEADER, session_id);
        metadata.insert_bin(USER_HEADER, MetadataValue::from_bytes(self.caller.user.as_bytes()));
        Ok(request)
    }

    fn unwilling<'b>(&self, status: &Status, secrets: impl IntoIterator<Item = &'b str>) -> CallError {
        CallError::Unwilling {
            address: self.server.address,
            code: status.code(),
            reason: redaction::reason(status.message(), secrets),
        }
    }
}

/// Tells Spark's own answer, which may be a refusal (`Err` inside), from a connection that has failed.
fn own_answer<A>(address: SocketAddr, answer: Result<A, Status>) -> Result<Result<A, Status>, CallError> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(status) => match no_answer_of_its_own(&status) {
            Some(reason) => Err(CallError::NoConnection { address, reason }),
            None => Ok(Err(status)),
        },
    }
}

/// Gives a call up after [`CALL_TIMEOUT`].
async fn within_call_timeout<A>(
    address: SocketAddr,
    answer: impl Future<Output = Result<A, CallError>>,
) -> Result<A, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(CallError::TimedOut { address, after: CALL_TIMEOUT }),
    }
}

/// What went wrong, where the status was made on this side, out of a broken connection.
fn no_answer_of_its_own(status: &Status) -> Option<String> {
    std::error::Error::source(status).map(innermost)
}

/// As against one that says nothing of what was asked, where the next attempt may succeed.
///
/// A session that Spark has closed belongs to the former: nothing can be set in it any more, and its client will hear
/// of that from Spark.
fn is_about_configuration(status: &Status) -> bool {
    // tonic made it of an HTTP status: something before Spark has answered.
    let guessed = status.message().starts_with("grpc-status header missing");
    !guessed
        && !matches!(
            status.code(),
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::PermissionDenied
                | Code::ResourceExhausted
                | Code::Unauthenticated
                | Code::Unavailable
                | Code::Unimplemented
        )
}

fn says_invalid_handle(status: &Status) -> bool {
    status.message().starts_with("[INVALID_HANDLE.")
}

#[cfg(test)]
#[path = "connect_client_tests.rs"]
mod tests;
