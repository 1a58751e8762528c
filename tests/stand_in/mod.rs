//! A stand-in for Spark: what the Spark Operator, the kubelet and the driver's JVM do together, in milliseconds and
//! within this process. For tests and figures that are about the way to Spark, not about Spark.
//!
//! ```text
//! SparkApplication ──► StandIn ──┬─► SparkApplication's status, driver Pod with an address of its own
//!                                └─► at that address: Spark Connect (connect.rs) or Thrift over HTTP (thrift.rs)
//! ```
//!
//! The objects are those that the Spark Operator (v2) makes, as far as the operator under test reads them; nothing
//! computes. Every answer repeats the request's headers under [`RECEIVED`], so that a client can tell what reached Spark.

#[path = "../support/token_secret.rs"]
pub mod token_secret;

mod connect;
mod instance;
mod raw;
mod seen;
mod thrift;

use std::collections::HashMap;

use futures::TryStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client};
use spark_session_operator::api::SparkApplication;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

pub use connect::{Head, UserContext};
pub use raw::Raw;
#[allow(unused_imports, reason = "not every test asks for what Spark was told")]
pub use seen::{REFUSED_KEY, Seen, SparkSession};

/// Before the name of each header that the client's request had when it arrived; `:path` and `:authority` are
/// `path` and `authority`.
pub const RECEIVED: &str = "x-received-";
/// In every answer: the driver Pod that gave it.
pub const POD: &str = "x-stand-in-pod";
/// In every answer: bytes of all messages (Connect) or of the body (Thrift) of the request.
pub const BYTES: &str = "x-stand-in-bytes";
/// Before the name of each trailer that the request had.
pub const RECEIVED_TRAILER: &str = "x-trailer-received-";

// What a test asks of the stand-in stands in the request's `user-agent`, as `PAUSE/500`: it is a header that reaches Spark
// in both protocols.

/// Milliseconds of silence before the answer; before the second message of an ExecutePlan.
pub const PAUSE: &str = "x-stand-in-pause-ms";
/// In a GetOperationStatus call: the operation's state, as the number of Thrift's TOperationState.
#[allow(dead_code, reason = "only some tests ask for one")]
pub const OPERATION_STATE: &str = "x-stand-in-operation-state";
/// The second message of an ExecutePlan comes after [`StandIn::release_streams`].
pub const UNTIL_RELEASED: &str = "x-stand-in-until-released";
/// So many megabytes of results, as fast as they are taken: in messages of one between the two of an ExecutePlan, or at the
/// end of a Thrift answer.
pub const MEGABYTES: &str = "x-stand-in-megabytes";

/// Serves the SparkApplications of a namespace until it is dropped.
pub struct StandIn {
    gates: Gates,
    stop: CancellationToken,
    watching: AbortHandle,
}

/// What a test holds back, and asks for.
#[derive(Clone)]
struct Gates {
    starts: watch::Sender<bool>,
    streams: watch::Sender<bool>,
    /// How often all servers have lost their addresses.
    losses: watch::Sender<u32>,
    seen: Seen,
}

impl StandIn {
    pub fn start(client: Client, namespace: &str) -> Self {
        let gates = Gates {
            starts: watch::Sender::new(true),
            streams: watch::Sender::new(false),
            losses: watch::Sender::new(0),
            seen: Seen::default(),
        };
        let stop = CancellationToken::new();
        let watching = tokio::spawn(follow(client, namespace.to_owned(), gates.clone(), stop.clone()));
        Self { gates, stop, watching: watching.abort_handle() }
    }

    /// New SparkApplications wait from now on, as if there were no room for their Pods.
    pub fn hold_starts(&self) {
        self.gates.starts.send_replace(false);
    }

    pub fn let_start(&self) {
        self.gates.starts.send_replace(true);
    }

    /// What its servers have been told.
    #[allow(dead_code, reason = "not every test asks for it")]
    pub fn seen(&self) -> seen::State {
        self.gates.seen.state()
    }

    /// Every server stops listening, and its Pod is said to run as before.
    pub fn lose_addresses(&self) {
        self.gates.losses.send_modify(|losses| *losses += 1);
    }

    /// Lets the streams go on that asked to wait for this.
    pub fn release_streams(&self) {
        self.gates.streams.send_replace(true);
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.watching.abort();
        self.stop.cancel();
    }
}

/// Starts a driver for each SparkApplication, once, and ends it with the SparkApplication.
async fn follow(client: Client, namespace: String, gates: Gates, stop: CancellationToken) {
    let api: Api<SparkApplication> = Api::namespaced(client.clone(), &namespace);
    let mut events = std::pin::pin!(watch_objects(api, watcher::Config::default()).default_backoff());
    let mut running: HashMap<String, CancellationToken> = HashMap::new();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Apply(application) | Event::InitApply(application))) => {
                let uid = application.metadata.uid.clone().unwrap_or_default();
                running.entry(uid).or_insert_with(|| {
                    let ended = stop.child_token();
                    let driver = instance::run(
                        client.clone(),
                        namespace.clone(),
                        application,
                        gates.clone(),
                        ended.clone(),
                    );
                    tokio::spawn(driver);
                    ended
                });
            }
            Ok(Some(Event::Delete(application))) => {
                let uid = application.metadata.uid.unwrap_or_default();
                if let Some(ended) = running.remove(&uid) {
                    ended.cancel();
                }
            }
            Ok(Some(Event::Init | Event::InitDone)) => {}
            Ok(None) => return,
            Err(error) => eprintln!("stand-in: the watch of SparkApplications: {error}"),
        }
    }
}
