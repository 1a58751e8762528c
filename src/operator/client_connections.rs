//! Over which connections the clients of Connect sessions come, and how that gets into the sessions' statuses.
//!
//! ```text
//!  check over a new connection ──► used ──┐
//!                                         ├─► one write ──► status.clientConnections, disconnectedAt, disconnectCause
//!  Envoy: the connection ended ──► ended ─┘
//! ```
//!
//! The status brings the replicas together: a check may come to one of them, and the end of its connection to another. An end
//! is kept for [`KEPT_FOR`], since the write that lists the connection may be on its way. Whatever is lost (an Envoy that
//! restarts, an entry of the access log, a replica that ends) leaves a session connected.
//!
//! Not here: what an open or an ended connection means (`model::client_connections`), and what follows from it (`plan`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::session_patch::SessionPatch;
use super::stores::Stores;
use crate::api::SessionState;
use crate::authn::network;
use crate::fair_share::{FairShares, Limits, Share};
use crate::model::{
    ClientConnection, ClientConnections, EndedConnection, Inventory, MOST_CONNECTIONS, Session,
    UsedConnection,
};
use crate::plan;
use crate::telemetry::Causes;

/// Owner of `status.clientConnections`, `disconnectedAt` and `disconnectCause`.
const CONNECTIONS_MANAGER: &str = "spark-session-operator-client-connections";
/// Statuses that are written at the same time.
const WRITES: usize = 16;
/// The next round tries again what an API server that does not answer has kept waiting.
const ONE_WRITE: Duration = Duration::from_secs(10);
/// How soon ends are looked at, and writes that failed are tried again.
const ROUND: Duration = Duration::from_millis(200);
/// How long what concerns a session that is not known here, or a connection that no session lists, is kept.
const KEPT_FOR: Duration = Duration::from_secs(15);
/// Ended connections that are kept, shared fairly among the networks that they came from. JDBC clients may end hundreds in a
/// second; of more, the newest are left out.
const MOST_ENDS: usize = 20_000;

/// Keeps what this replica has heard about connections and not written yet. Clones share it.
#[derive(Clone, Default)]
pub struct ConnectionRecorder(Arc<Shared>);

struct Shared {
    heard: Mutex<Heard>,
    used: Notify,
    ends: Arc<FairShares<IpAddr>>,
}

impl Default for Shared {
    fn default() -> Self {
        let ends = Limits { most: MOST_ENDS, shares_of_one: usize::MAX };
        Self { heard: Mutex::default(), used: Notify::new(), ends: FairShares::new(ends) }
    }
}

#[derive(Clone, Default)]
struct Heard {
    /// New connections, by the name of the session.
    used: BTreeMap<String, Vec<(UsedConnection, Instant)>>,
    ended: HashMap<ClientConnection, End>,
}

#[derive(Clone)]
struct End {
    ended: EndedConnection,
    heard_at: Instant,
    /// Of what may be kept.
    _share: Arc<Share<IpAddr>>,
}

impl ConnectionRecorder {
    /// A request of the session came over a connection that its status does not list.
    pub fn used(&self, session: &str, used: UsedConnection) {
        {
            let mut heard = self.lock();
            let of_session = heard.used.entry(session.to_owned()).or_default();
            if of_session.iter().any(|(known, _)| known.connection == used.connection) {
                return;
            }
            // These say already that the client is a proxy.
            if of_session.len() > MOST_CONNECTIONS {
                return;
            }
            of_session.push((used, Instant::now()));
        }
        self.0.used.notify_one();
    }

    pub fn ended(&self, ended: EndedConnection) {
        let Ok(share) = self.0.ends.take(network(ended.connection.client.ip()), 1) else { return };
        let (connection, heard_at) = (ended.connection.clone(), Instant::now());
        self.lock().ended.insert(connection, End { ended, heard_at, _share: Arc::new(share) });
    }

    fn heard(&self) -> Heard {
        self.lock().clone()
    }

    /// Drops uses that are `over`, and what is too old to matter.
    fn forget(&self, over: &BTreeSet<String>, heard: &Heard, now: Instant) {
        let is_recent = |at: &Instant| now.duration_since(*at) < KEPT_FOR;
        let mut kept = self.lock();
        kept.used.retain(|session, of_session| {
            let looked_at = heard.used.get(session).map_or(&[][..], Vec::as_slice);
            of_session.retain(|(used, at)| {
                let is_over = over.contains(session) && looked_at.iter().any(|(it, _)| it == used);
                !is_over && is_recent(at)
            });
            !of_session.is_empty()
        });
        kept.ended.retain(|_, end| is_recent(&end.heard_at));
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        // A panic while the lock was held leaves data that is whole: every edit is one operation.
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what a [`ConnectionRecorder`] has heard, on every replica.
pub struct ConnectionWriter {
    patch: SessionPatch,
    stores: Arc<Stores>,
    recorder: ConnectionRecorder,
}

impl ConnectionWriter {
    pub fn new(patch: SessionPatch, stores: Arc<Stores>, recorder: ConnectionRecorder) -> Self {
        Self { patch, stores, recorder }
    }

    /// Never returns. New connections are written at once, ends within [`ROUND`].
    pub async fn run(self) -> anyhow::Result<()> {
        self.stores.until_synced().await;
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = rounds.tick() => {}
                () = self.recorder.0.used.notified() => {}
            }
            self.look(Instant::now()).await;
        }
    }

    async fn look(&self, now: Instant) {
        let heard = self.recorder.heard();
        if heard.used.is_empty() && heard.ended.is_empty() {
            return;
        }
        let Look { updates, mut over } = self.stores.read(|inventory| look(inventory, &heard));
        let writes = updates.into_iter().map(|update| async move {
            let session = update.session.clone();
            (session, tokio::time::timeout(ONE_WRITE, self.write(update)).await)
        });
        let mut outcomes = futures::stream::iter(writes).buffer_unordered(WRITES);
        while let Some((session, outcome)) = outcomes.next().await {
            match outcome {
                Ok(Ok(true)) => {
                    over.insert(session);
                }
                // The next round looks at what is there then.
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(session, error = %Causes(&error), "a session's connections were not written");
                }
                Err(_) => {
                    tracing::warn!(session, "the API server does not answer: connections were not written")
                }
            }
        }
        self.recorder.forget(&over, &heard, now);
    }

    async fn write(&self, update: Update) -> Result<bool, kube::Error> {
        let Update { session, version, connections } = update;
        let (at, cause) = connections.disconnected.unzip();
        let mut status = json!({ "clientConnections": connections.open });
        // A field that is left out is removed.
        if let (Some(at), Some(cause)) = (at, cause) {
            tracing::info!(session, ?cause, "the last connection of the session's clients ended");
            status["disconnectedAt"] = json!(at);
            status["disconnectCause"] = json!(cause);
        }
        self.patch.apply(&session, CONNECTIONS_MANAGER, Some(version), status).await
    }
}

/// A change of the status of a session.
#[derive(Debug, PartialEq)]
struct Update {
    session: String,
    /// Resource version of the object that was looked at.
    version: u64,
    connections: ClientConnections,
}

#[derive(Debug, Default, PartialEq)]
struct Look {
    updates: Vec<Update>,
    /// Sessions whose statuses say it already, or that have ended.
    over: BTreeSet<String>,
}

fn look(inventory: &Inventory, heard: &Heard) -> Look {
    let mut concerned: BTreeSet<&str> = heard.used.keys().map(String::as_str).collect();
    let mut users: HashMap<&ClientConnection, BTreeSet<&str>> = HashMap::new();
    for (name, used) in &heard.used {
        let Some(session) = inventory.session(name) else { continue };
        for (used, _) in used {
            users.entry(&used.connection).or_default().insert(&session.spec.user);
        }
    }
    for connection in users.keys().copied().chain(heard.ended.keys()) {
        concerned.extend(inventory.sessions_over(connection).map(|session| session.name()));
    }
    let is_shared = |connection: &ClientConnection, user: &str| {
        users.get(connection).is_some_and(|users| users.iter().any(|other| *other != user))
            || inventory.sessions_over(connection).any(|session| session.spec.user != user)
    };
    let mut look = Look::default();
    for name in concerned {
        // An unknown session was created a moment ago, or does not exist any more.
        let Some(session) = inventory.session(name) else { continue };
        let connections = changed(session, heard, is_shared);
        if is_over(session) || connections == ClientConnections::of(session) {
            look.over.insert(name.to_owned());
        } else {
            let version = session.meta.resource_version;
            look.updates.push(Update { session: name.to_owned(), version, connections });
        }
    }
    look
}

fn is_over(session: &Session) -> bool {
    session.is_finished() || session.status.state == SessionState::Terminating
}

/// Returns the session's connections after all that was heard. `is_shared` says whether requests of others than this user
/// come over a connection, too.
fn changed(
    session: &Session,
    heard: &Heard,
    is_shared: impl Fn(&ClientConnection, &str) -> bool,
) -> ClientConnections {
    let (user, last_use) = (&session.spec.user, plan::last_use(session, None));
    let mut connections = ClientConnections::of(session);
    for (used, _) in heard.used.get(session.name()).into_iter().flatten() {
        connections.opened(used, is_shared(&used.connection, user));
    }
    let listed: Vec<_> = connections.open.iter().filter(|open| !open.shared).cloned().collect();
    for open in listed {
        let Some(connection) = open.connection() else { continue };
        if is_shared(&connection, user) {
            let used = UsedConnection { connection, since: open.since.0, proxied: false };
            connections.opened(&used, true);
        } else if let Some(end) = heard.ended.get(&connection) {
            connections.ended(&end.ended, last_use);
        }
    }
    connections
}

#[cfg(test)]
#[path = "client_connections_tests.rs"]
mod tests;
