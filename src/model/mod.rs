//! The domain: pools, instances, sessions and requests, in the words of Spark and Kubernetes.
//!
//! Everything here is plain data and pure functions. It knows the shapes of the custom resources
//! (`crate::api`), but no Kubernetes client, no Envoy protobuf, no socket and no clock: where time
//! matters, `now` is a parameter.

mod application_state;
mod certificate;
mod client_connections;
pub mod connect_server;
mod credentials;
#[cfg(test)]
pub mod fixtures;
mod host;
mod identity;
mod instance;
mod inventory;
mod objects;
mod policy;
mod protocol;
mod request;
mod routing;
mod session_conf;
mod session_key;
mod spark_side;
pub mod spark_version;
mod tls;
mod utilization;

pub use application_state::{APPLICATION_STATES, ApplicationState, Prospect};
pub use certificate::{Certificate, CertificateProblem};
pub use client_connections::{
    ClientConnection, ClientConnections, EndedConnection, MOST_CONNECTIONS, REPLACED_BY_NEWER, UsedConnection,
};
pub use connect_server::{InstanceToken, TokenSecret};
pub use credentials::{Charset, Credentials, CredentialsError};
pub use host::is_host_name;
pub use identity::{Identity, UntoldGroups, UntoldReason};
pub use instance::{
    DRAIN_ANNOTATION, Going, Instance, InstancePhase, TEMPLATE_ANNOTATION, TokenState, cluster_name,
    instance_name, ordinal_of, port_setting, server_port,
};
pub use inventory::{Inventory, Kind, LeavingDriver, Object, PoolView, ServerAddress};
pub use objects::{Application, DriverPod, FINALIZER, Meta, Pool, Session};
pub use policy::Policy;
pub use protocol::Protocol;
pub use request::{
    Call, Check, CloneId, ConnectHead, ConnectMethod, Denial, DenialKind, Route, ThriftHead, Verdict,
};
pub use routing::{Endpoint, Routing, VirtualHost};
pub use session_conf::{
    ConfRefusal, ConfSource, ConfToSet, Opening, ProtectedConf, RefusedConf, SessionConf, is_text,
};
pub use session_key::{DEFAULT_SESSION_NAME, SessionKey, own_spark_session_id};
pub use spark_side::{
    AppliedConf, Preparation, Progress, ReleaseOutcome, RunningAnswer, SparkRuns, SparkSide,
};
pub use tls::{PoolCertificate, SecretProblem, TlsOff, TlsPolicy, TlsSecret};
pub use utilization::{Requests, Usage, Utilization};
