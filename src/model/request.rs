use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Credentials, CredentialsError, InstanceToken, Protocol, UsedConnection};

/// One request that Envoy holds until it hears a [`Verdict`], as far as the operator sees it:
/// headers and the first bytes of the body.
#[derive(Debug)]
pub struct Check {
    /// When the request came to Envoy, by Envoy's clock. Envoy may ask more than once about it.
    pub since: Option<Timestamp>,
    /// `node.id` of the Envoy that asks, if it says so.
    pub node: Option<String>,
    /// The host the client called: lower case, without a port.
    pub host: String,
    pub path: String,
    pub call: Call,
    pub credentials: Result<Credentials, CredentialsError>,
    /// A login in Spark Connect's `user_id`, looked for where there is no other.
    pub user_id_credentials: Option<Credentials>,
    /// The client's address as Envoy sees it.
    pub peer: Option<IpAddr>,
    /// The connection that the request came over. `None` where Envoy did not say all of it.
    pub connection: Option<UsedConnection>,
}

impl Check {
    /// Bytes of the parts that a client can make long.
    pub fn length(&self) -> usize {
        let login = self.credentials.as_ref().map_or(0, Credentials::length);
        let user_id = self.user_id_credentials.as_ref().map_or(0, Credentials::length);
        self.host.len() + self.path.len() + login + user_id
    }

    /// The same without those parts, none of which is needed once it is known who asks, and for which pool.
    pub fn without_login(self) -> Self {
        Self {
            host: String::new(),
            path: String::new(),
            credentials: Err(CredentialsError::Missing),
            user_id_credentials: None,
            ..self
        }
    }
}

/// What the client wants, told by path and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `session_name` is what the client calls a session that outlives its program, if it does.
    Connect { method: ConnectMethod, head: ConnectHead, session_name: Option<String> },
    /// `session_name` is the last part of `/cliservice/<name>`, `default` without one.
    Thrift { session_name: String, head: Option<ThriftHead> },
    /// A gRPC call that is not Spark Connect, or a body whose head cannot be read.
    Malformed { protocol: Protocol, problem: String },
    /// Any other path: browsers, scanners, wrong URLs.
    Other { grpc: bool },
}

/// RPCs of `spark.connect.SparkConnectService`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectMethod {
    ExecutePlan,
    AnalyzePlan,
    Config,
    AddArtifacts,
    ArtifactStatus,
    Interrupt,
    ReattachExecute,
    ReleaseExecute,
    ReleaseSession,
    FetchErrorDetails,
    CloneSession,
    /// A method of a later Spark: routed like the others.
    Unknown,
}

impl Call {
    /// Whether somebody works in the session who makes this call. Clients also clean up, some of them long after their
    /// user has gone.
    pub fn counts_as_activity(&self) -> bool {
        match self {
            Self::Connect { method, .. } => method.starts_session(),
            Self::Thrift { head, .. } => head.as_ref().is_some_and(|head| {
                !matches!(head.method.as_str(), "CloseSession" | "CloseOperation" | "CancelOperation")
            }),
            Self::Malformed { .. } | Self::Other { .. } => false,
        }
    }
}

impl ConnectMethod {
    /// Whether this call is reason enough to start a session (and with it an instance).
    /// Clean-up calls are not: without a session there is nothing to clean up.
    pub fn starts_session(self) -> bool {
        !matches!(
            self,
            Self::ReleaseExecute | Self::ReleaseSession | Self::Interrupt | Self::FetchErrorDetails
        )
    }
}

/// The fields that stand first in every Spark Connect request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectHead {
    /// Chosen by the client, one per `SparkSession`.
    pub session_id: Uuid,
    /// What the client believes the server's side of the session to be, if it has seen one.
    pub observed_server_session_id: Option<String>,
    /// Of a CloneSession call: the session that it makes.
    pub clone: Option<CloneId>,
}

/// Spark Connect's id of a session that is made as a copy of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneId {
    pub session_id: Uuid,
    /// It stands in the call. Else Spark would choose one that nobody here knows, and is given this one.
    pub chosen_by_client: bool,
}

/// The head of a Thrift binary-protocol message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThriftHead {
    pub method: String,
    /// Echoed in the answer, or the client refuses it.
    pub sequence_id: i32,
    /// The public half of the session's handle, where the call names one.
    pub session_handle: Option<Uuid>,
}

/// The answer to a [`Check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Route(Route),
    Deny(Denial),
    /// This replica stops: Envoy shall ask again, here or elsewhere. The client hears nothing of it.
    AskAgain,
}

/// Where an allowed request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Envoy's name of the instance's cluster.
    pub cluster: String,
    /// Name of the SparkInteractiveSession.
    pub session: String,
    pub pool: String,
    pub user: String,
    /// What the instance asks for, where it asks for something.
    pub token: Option<InstanceToken>,
}

/// A refusal in words that the client's user reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub kind: DenialKind,
    /// Complete sentences: what is wrong and what to do. Never holds a credential.
    pub message: String,
    /// When the client should try again by itself.
    pub retry_after: Option<Duration>,
}

impl Denial {
    pub fn new(kind: DenialKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// The kinds of refusal: each decides a gRPC status, an HTTP status and a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenialKind {
    /// No credentials, or wrong ones.
    Unauthenticated,
    /// Too many wrong passwords: this one is not even looked at.
    LoginsLimited,
    /// Known, but not allowed to use this pool or session.
    PermissionDenied,
    /// No pool has this host, or none for this protocol.
    UnknownHost,
    /// The path is neither Spark Connect's nor Thrift's.
    UnknownPath,
    /// The request cannot be understood.
    BadRequest,
    QuotaExceeded,
    /// More requests at once than Envoy lets through.
    RateLimited,
    /// Still starting: trying again later will work.
    NotReady,
    /// As many requests wait as may: trying again later will work.
    TooManyWaiting,
    /// The session has ended; a new one is needed.
    SessionClosed,
    /// The instance that held the session is gone.
    SessionChanged,
    /// The session cannot start: the message has the cause.
    StartFailed,
    /// A part of the system (identity provider, API server) does not answer.
    Unavailable,
    /// A defect of the operator itself; details are in its log.
    Internal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_up_is_no_activity() {
        let connect = |method| {
            let head = ConnectHead { session_id: Uuid::nil(), observed_server_session_id: None, clone: None };
            Call::Connect { method, head, session_name: None }.counts_as_activity()
        };
        use ConnectMethod::*;
        for method in [ExecutePlan, ReattachExecute, AnalyzePlan, Config, AddArtifacts, CloneSession, Unknown]
        {
            assert!(connect(method), "{method:?}");
        }
        for method in [ReleaseSession, ReleaseExecute, Interrupt, FetchErrorDetails] {
            assert!(!connect(method), "{method:?}");
        }
        let thrift = |method: &str| {
            let head = Some(ThriftHead { method: method.to_owned(), sequence_id: 1, session_handle: None });
            Call::Thrift { session_name: "default".to_owned(), head }.counts_as_activity()
        };
        for method in ["OpenSession", "ExecuteStatement", "GetOperationStatus", "FetchResults"] {
            assert!(thrift(method), "{method}");
        }
        for method in ["CloseSession", "CloseOperation", "CancelOperation"] {
            assert!(!thrift(method), "{method}");
        }
    }
}
