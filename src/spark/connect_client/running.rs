//! What runs in a session: its active streaming queries by Spark's own command, and the executions that are under way
//! by our interceptor (`deploy/spark`), since no call of Spark Connect lists those.
//!
//! The question is an execution in the session, which the interceptor does not count, and moves Spark's own idle clock
//! for it. That clock runs for a day at least (`plan::application`), and a session is asked about only when it is about to
//! end or while something runs in it, so nothing lives longer for it.

use http::uri::PathAndQuery;
use tonic::Status;

use super::{
    CLIENT_TYPE, CallError, Caller, Connection, Server, own_answer, says_invalid_handle, within_call_timeout,
};
use crate::spark::connect_messages::{
    Command, ExecutePlanRequest, ExecutePlanResponse, Plan, StreamingQueryManagerCommand,
};
use crate::spark::probe::innermost;

/// In the request it asks our interceptor, in the answer's head it has the number of executions.
const RUNNING_HEADER: &str = "x-spark-session-running";

/// What runs in one Spark session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Of each active streaming query its name, or its id where it has none. Both are the user's to choose.
    pub streaming_queries: Vec<String>,
    /// Executions that are under way, the question itself not among them. `None` where the server does not tell: it runs
    /// without our interceptor, or with an earlier one.
    pub executions: Option<usize>,
}

impl Running {
    pub fn is_nothing(&self) -> bool {
        self.streaming_queries.is_empty() && self.executions.unwrap_or(0) == 0
    }
}

/// Asks what runs in the session. In one that Spark does not have any more, nothing does; one that it has not heard of is
/// begun by the question. Takes as long as [`super::CALL_TIMEOUT`] and the connection at most.
pub async fn running(server: &Server, caller: &Caller) -> Result<Running, CallError> {
    let mut connection = Connection::open(server, caller).await?;
    match connection.ask().await? {
        Ok(running) => Ok(running),
        Err(status) if says_invalid_handle(&status) => Ok(Running::default()),
        Err(status) => Err(connection.unwilling(&status, [])),
    }
}

impl Connection<'_> {
    /// `Err` inside is Spark's own answer; outside, there was none.
    async fn ask(&mut self) -> Result<Result<Running, Status>, CallError> {
        let address = self.server.address;
        let no_connection = |reason| CallError::NoConnection { address, reason };
        let command = StreamingQueryManagerCommand { active: Some(true) };
        let message = ExecutePlanRequest {
            session_id: self.caller.session_id.to_string(),
            user_context: Some(self.user_context()),
            plan: Some(Plan { command: Some(Command { streaming_query_manager_command: Some(command) }) }),
            client_type: Some(CLIENT_TYPE.to_owned()),
        };
        let mut request = self.request(message).map_err(no_connection)?;
        request.metadata_mut().insert(RUNNING_HEADER, tonic::metadata::MetadataValue::from_static("?"));
        let codec = tonic_prost::ProstCodec::<ExecutePlanRequest, ExecutePlanResponse>::default();
        let path = PathAndQuery::from_static("/spark.connect.SparkConnectService/ExecutePlan");
        let grpc = &mut self.grpc;
        let answer = async {
            grpc.ready().await.map_err(|error| no_connection(innermost(&error)))?;
            let read = async {
                let answer = grpc.server_streaming(request, path, codec).await?;
                let executions = answer.metadata().get(RUNNING_HEADER);
                let executions = executions.and_then(|value| value.to_str().ok()?.parse().ok());
                let mut parts = answer.into_inner();
                // Spark may report progress before, and its answer may end without the result.
                while let Some(part) = parts.message().await? {
                    if let Some(streaming_queries) = part.active_queries() {
                        return Ok(Running { streaming_queries, executions });
                    }
                }
                Err(Status::unknown("the answer does not say which streaming queries are active"))
            };
            own_answer(address, read.await)
        };
        within_call_timeout(address, answer).await
    }
}

impl ExecutePlanResponse {
    fn active_queries(self) -> Option<Vec<String>> {
        let queries = self.streaming_query_manager_command_result?.active?.active_queries;
        let named = queries.into_iter().map(|query| match query.name.filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => query.id.map(|id| id.id).unwrap_or_default(),
        });
        Some(named.collect())
    }
}

#[cfg(test)]
#[path = "running_tests.rs"]
mod tests;
