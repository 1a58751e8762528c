//! The clients of a named Connect session: who joins, who leaves, and who has to make room.
//!
//! Each client has a Spark session of its own on the session's driver, and all of them are one place of the quota. So
//! their number is bounded, and how fast they come. A further one gets in when Spark has ended the session of one that has
//! not been used for long and in which nothing runs; where there is none it is refused, and nobody loses anything.
//!
//! Whoever is listed lives on the driver, or may: an id leaves the list only after Spark has released it, and those that
//! are listed at the end are released then (`plan`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::writer::{ATTEMPTS, SessionWriter};
use super::{RETRY_AFTER, detached};
use crate::authn::bucket::{Buckets, Rate};
use crate::model::{Denial, DenialKind, Session};
use crate::operator::{SparkClients, Unused};

/// Clients of a named session at the same time, clones included.
const MOST_CLIENTS: usize = 64;
/// How many may come at once, and after how long another one may.
const JOINS: Rate = Rate { burst: 64, refill: Duration::from_secs(10) };
/// Where there are more than this, the list is kept in the order in which they were used.
const CROWDED: usize = MOST_CLIENTS / 2;
/// How often at most this replica notes the use of a client among the crowd.
const NOTED_EVERY: Duration = Duration::from_mins(10);
/// Clients whose use this replica remembers to have noted.
const MOST_NOTED: u64 = 100_000;
/// Clients that Spark is asked about for one that wants to join.
const ASKED: usize = 8;

/// A Spark session that is to be among those of a named session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joining {
    pub id: Uuid,
    /// Spark is about to make it of another one, whose configuration it gets.
    pub cloned: bool,
}

#[derive(Clone)]
pub struct NamedClients {
    writer: SessionWriter,
    spark: SparkClients,
    joins: Arc<Buckets<String>>,
    /// By the session's UID and the Spark session.
    noted: moka::sync::Cache<(String, Uuid), ()>,
}

impl NamedClients {
    pub fn new(writer: SessionWriter, spark: SparkClients) -> Self {
        let noted = moka::sync::Cache::builder().max_capacity(MOST_NOTED).time_to_live(NOTED_EVERY).build();
        Self { writer, spark, joins: Arc::new(Buckets::new(JOINS)), noted }
    }

    /// Enters the client. If the session has changed since it was looked at, the caller looks again.
    pub async fn join(&self, name: &str, joining: Joining) -> Result<(), Denial> {
        let Some(session) = self.writer.known(name) else { return Ok(()) };
        if session.status.client_session_ids.contains(&joining.id.to_string()) {
            return Ok(());
        }
        let uid = session.meta.uid.clone();
        if let Err(empty) = self.joins.take(uid.clone(), Instant::now()) {
            return Err(too_fast(&session, empty.wait));
        }
        let leaves = match is_full(&session) {
            true => Some(self.make_room(&session).await.ok_or_else(|| too_many(&session))?),
            false => None,
        };
        let (writer, entered) = (self.writer.clone(), Clients::of(&session).without(leaves).with(joining));
        let (name, id) = (name.to_owned(), joining.id);
        let written = detached(async move {
            let written = writer.set_clients(&session, &entered.ids, &entered.clones).await?;
            match written {
                true => {
                    tracing::info!(session = name, session_id = %id, ?leaves, "client joined the session")
                }
                false => writer.refresh_one(&name).await?,
            }
            Ok(written)
        });
        // Others came or left at the same time, and this one has not.
        if !written.await? {
            self.joins.give_back(&uid);
        }
        Ok(())
    }

    /// The client that has not been used for longest among those in which nothing runs. It is released when this returns.
    async fn make_room(&self, session: &Session) -> Option<Uuid> {
        for id in may_leave(session).take(ASKED) {
            match self.spark.release_unused(session.name(), id).await {
                Ok(Unused::Released) => return Some(id),
                Ok(Unused::InUse) => {}
                Err(reason) => {
                    tracing::warn!(session = session.name(), session_id = %id, reason, "a client was not asked to leave");
                }
            }
        }
        None
    }

    /// Takes the client out again, when Spark has ended what it had. With the last one the session ends, and what is
    /// listed is released then.
    pub async fn leave(&self, name: &str, id: Uuid, at: Timestamp) -> Result<(), Denial> {
        let (clients, name) = (self.clone(), name.to_owned());
        detached(async move { clients.take_out(&name, id, at).await }).await
    }

    async fn take_out(&self, name: &str, id: Uuid, at: Timestamp) -> Result<(), kube::Error> {
        let left = id.to_string();
        let is_last =
            |session: &Session| session.status.client_session_ids.iter().all(|other| *other == left);
        let mut released = false;
        // Somebody joins or leaves at the same time: the one who was later looks again.
        for _ in 0..ATTEMPTS {
            let Some(session) = self.writer.known(name) else { return Ok(()) };
            if is_last(&session) {
                return self.writer.release_if(name, at, is_last).await;
            }
            if !session.status.client_session_ids.contains(&left) {
                return Ok(());
            }
            if !released && let Err(reason) = self.spark.release(name, id).await {
                tracing::warn!(session = name, session_id = %id, reason, "a client that left is still listed");
                return Ok(());
            }
            released = true;
            let rest = Clients::of(&session).without(Some(id));
            if self.writer.set_clients(&session, &rest.ids, &rest.clones).await? {
                return Ok(());
            }
            self.writer.refresh_one(name).await?;
        }
        tracing::warn!(session = name, session_id = %id, "a client that left is still listed");
        Ok(())
    }

    /// The client uses the session. Where there are many, the list tells who has been used last, to some minutes.
    pub fn used(&self, session: &Session, id: Uuid) {
        let place = session.status.client_session_ids.iter().position(|listed| *listed == id.to_string());
        let is_last = |place: usize| place + CROWDED >= session.status.client_session_ids.len();
        if place.is_none_or(is_last) {
            return;
        }
        let key = (session.meta.uid.clone(), id);
        if self.noted.contains_key(&key) {
            return;
        }
        self.noted.insert(key, ());
        let (writer, session) = (self.writer.clone(), session.clone());
        tokio::spawn(async move {
            let cloned = session.status.cloned_session_ids.contains(&id.to_string());
            let moved = Clients::of(&session).without(Some(id)).with(Joining { id, cloned });
            // Where somebody else has written meanwhile, it keeps its place in the list.
            if let Err(error) = writer.set_clients(&session, &moved.ids, &moved.clones).await {
                tracing::debug!(session = session.name(), %error, "the use of a client was not noted");
            }
        });
    }
}

/// Whether a use of it may have to be noted. Part of every check.
pub fn is_crowded(session: &Session) -> bool {
    session.status.client_session_ids.len() > CROWDED
}

fn is_full(session: &Session) -> bool {
    session.status.client_session_ids.len() >= MOST_CLIENTS
}

/// The clients that have not been used for longest, first. Programs come back to the session's own id, as it is told.
fn may_leave(session: &Session) -> impl Iterator<Item = Uuid> {
    let own = session.spark_session_id();
    let older = session.status.client_session_ids.iter().take(MOST_CLIENTS - CROWDED);
    older.filter_map(|id| id.parse().ok()).filter(move |id| Some(*id) != own)
}

/// As a status lists them.
struct Clients {
    ids: Vec<String>,
    clones: Vec<String>,
}

impl Clients {
    fn of(session: &Session) -> Self {
        let status = &session.status;
        Self { ids: status.client_session_ids.clone(), clones: status.cloned_session_ids.clone() }
    }

    fn without(mut self, leaves: Option<Uuid>) -> Self {
        if let Some(leaves) = leaves.map(|id| id.to_string()) {
            self.ids.retain(|id| *id != leaves);
            self.clones.retain(|id| *id != leaves);
        }
        self
    }

    fn with(mut self, joining: Joining) -> Self {
        self.ids.push(joining.id.to_string());
        if joining.cloned {
            self.clones.push(joining.id.to_string());
        }
        self
    }
}

fn too_many(session: &Session) -> Denial {
    let (called, pool) = (session.called(), &session.spec.pool);
    let message = format!(
        "Session {called} in pool {pool} has {MOST_CLIENTS} clients, as many as it may, and Spark does not say of any of \
         the longest unused ones that nothing runs for it. End one (spark.stop() in its program), end all of them (kubectl delete sis {}), or connect under another \
         name or none.",
        session.name()
    );
    Denial::new(DenialKind::QuotaExceeded, message)
}

fn too_fast(session: &Session, wait: Duration) -> Denial {
    let (called, pool, seconds) = (session.called(), &session.spec.pool, wait.as_secs() + 1);
    let message = format!(
        "Too many clients have joined session {called} in pool {pool} one after the other: the next one may in {seconds} s. \
         Programs that share nothing need no x-spark-session."
    );
    Denial { retry_after: Some(wait.max(RETRY_AFTER)), ..Denial::new(DenialKind::NotReady, message) }
}

#[cfg(test)]
#[path = "named_clients_tests.rs"]
mod tests;
