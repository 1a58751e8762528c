//! The few messages that `connect_client` exchanges: a subset of Spark Connect's `base.proto`, with its numbers. Spark
//! 3.5 does not know `silent`, and skips it.
//!
//! None of them can be printed: they hold values of configuration.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct UserContext {
    #[prost(string, tag = "1")]
    pub user_id: String,
    #[prost(string, tag = "2")]
    pub user_name: String,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct ConfigRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(message, optional, tag = "3")]
    pub operation: Option<Operation>,
    #[prost(string, optional, tag = "4")]
    pub client_type: Option<String>,
}

/// Spark has six more.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Operation {
    #[prost(message, optional, tag = "1")]
    pub set: Option<Set>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Set {
    #[prost(message, repeated, tag = "1")]
    pub pairs: Vec<KeyValue>,
    /// A key that is refused becomes a warning, and those after it are set.
    #[prost(bool, optional, tag = "2")]
    pub silent: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct ConfigResponse {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(string, repeated, tag = "3")]
    pub warnings: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct ReleaseSessionRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(string, optional, tag = "3")]
    pub client_type: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct ReleaseSessionResponse {
    #[prost(string, tag = "1")]
    pub session_id: String,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct ExecutePlanRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(message, optional, tag = "3")]
    pub plan: Option<Plan>,
    #[prost(string, optional, tag = "4")]
    pub client_type: Option<String>,
}

/// Spark has relations besides.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Plan {
    #[prost(message, optional, tag = "2")]
    pub command: Option<Command>,
}

/// Spark has many more.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Command {
    #[prost(message, optional, tag = "9")]
    pub streaming_query_manager_command: Option<StreamingQueryManagerCommand>,
}

/// Spark has six more.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct StreamingQueryManagerCommand {
    #[prost(bool, optional, tag = "1")]
    pub active: Option<bool>,
}

/// One part of a streamed answer.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct ExecutePlanResponse {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(message, optional, tag = "11")]
    pub streaming_query_manager_command_result: Option<StreamingQueryManagerCommandResult>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct StreamingQueryManagerCommandResult {
    #[prost(message, optional, tag = "1")]
    pub active: Option<ActiveResult>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct ActiveResult {
    #[prost(message, repeated, tag = "1")]
    pub active_queries: Vec<StreamingQueryInstance>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct StreamingQueryInstance {
    #[prost(message, optional, tag = "1")]
    pub id: Option<StreamingQueryInstanceId>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct StreamingQueryInstanceId {
    #[prost(string, tag = "1")]
    pub id: String,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct InterruptRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(string, optional, tag = "3")]
    pub client_type: Option<String>,
    #[prost(enumeration = "InterruptType", tag = "4")]
    pub interrupt_type: i32,
}

/// Spark has two more, for operations that are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum InterruptType {
    Unspecified = 0,
    All = 1,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct InterruptResponse {
    #[prost(string, tag = "1")]
    pub session_id: String,
}
