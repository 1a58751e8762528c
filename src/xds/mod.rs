//! What Envoy is told, and what each Envoy is known to have.
//!
//! ```text
//!  model::Routing ──► translate (pure) ──► Snapshot ──► Publisher ──┬─► one Stream per Envoy ──► ADS
//!                                                                  └─► programmed(): which Envoy has which cluster
//! ```
//!
//! `translate` turns the domain into Envoy's resources; `subscription` is the state machine of one resource
//! type on one stream, in the delta and the state-of-the-world variant, and knows neither sockets nor tasks;
//! `publisher` holds the newest snapshot and every stream's ACKs; `discovery` and `connection` speak gRPC, for
//! ADS and for the services of one type alike.
//!
//! Not here: who may use which session (`broker`), reading Envoy's checks (`edge`), and reading
//! certificates (`model::certificate`).

mod access_log;
mod beginning;
mod cluster;
mod connection;
mod discovery;
mod finished_operations;
mod http2;
mod listener;
mod local_reply;
mod node;
mod open_session;
mod proto;
mod publisher;
mod rate_limit;
mod resources;
mod route;
mod secret;
mod snapshot;
mod stream;
mod subscription;
mod tls_listener;
mod trailers;
mod translate;

pub use access_log::{ACTIVITY, CLOSE_TYPE, COUNTS, LOCAL_CLOSE_REASON};
pub use discovery::{DiscoveryService, MAX_REQUEST_BYTES};
pub use listener::EXT_AUTHZ;
pub use open_session::OPEN_SESSION_HEADER;
pub use publisher::{Connected, Programmed, Publisher, Registration, Rejected};
pub use rate_limit::RequestRates;
pub use resources::{Edition, Resources};
pub use route::{CONTEXT_POOL, CONTEXT_PROTOCOL, ROUTING_HEADERS, THRIFT_PATH};
pub use snapshot::{Editions, Kind, Resource, Snapshot, Version};
pub use stream::{Serves, Stream, Unserved};
pub use subscription::{
    DeltaSubscription, Due, Receipt, Refused, Rejection, SotwSubscription, Subscription, Verdict,
};
pub use translate::{
    EnvoySettings, LISTENER, NODE_LABEL, NODE_METADATA_KEY, ROUTES, TLS_LISTENER, TlsListener, translate,
    translate_after,
};

/// The header by which ext_authz tells Envoy the cluster of the session's instance.
///
/// Only our own answer may carry it: a client's is removed before any route is matched, and nobody
/// upstream sees it.
pub const CLUSTER_HEADER: &str = "x-spark-session-cluster";

/// The header by which a route tells that the beginning of a request has come (`beginning`). As with the cluster's header, a
/// client's own is removed before any route is matched, and nobody upstream sees it.
pub const BEGUN_HEADER: &str = "x-spark-session-begun";

/// The header that keeps a client's `grpc-timeout` while Envoy has its own there (`beginning`).
const KEPT_TIMEOUT_HEADER: &str = "x-spark-session-grpc-timeout";

/// The header by which ext_authz learns what a proxy in front of Envoy wrote into `x-forwarded-for`. Envoy takes that off
/// before ext_authz sees it, and puts the address of its own peer there.
pub const PROXIED_HEADER: &str = "x-spark-session-proxied";

/// The headers by which a Connect server is told the session that the request was checked for, and its user in base64
/// (binary metadata of gRPC). They count there together with the instance's token; a client's are removed.
pub const SESSION_ID_HEADER: &str = "x-spark-session-id";
pub const USER_HEADER: &str = "x-spark-session-user-bin";
