//! The connections of Thrift sessions: which are open is in the session's status, for all replicas; what it takes to
//! close one is known to the replica that saw it being opened, and never leaves it.
//!
//! With its last connection a session ends, unless somebody is about to open one by way of this replica (`under_way`).
//! When a session ends, each replica closes the connections that it knows, those that come too late as well. Those of a
//! replica that is gone are left to the Thrift Server's own timeout. A session that opens more than each replica keeps of
//! one loses those that it opened first: clients that went without a word would fill the server.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::StreamMap;
use tokio_stream::wrappers::WatchStream;
use uuid::Uuid;

use super::held_handles::{Due, Held, HeldHandles, MOST_OF_SESSION};
use super::session_confs;
use super::under_way::{Closed, OnItsWay, UnderWay};
use super::writer::SessionWriter;
use crate::api::ThriftConnection;
use crate::edge;
use crate::fair_share::{FairShares, Limits};
use crate::model::{Denial, Opening, Session, SessionConf};
use crate::operator::Stores;
use crate::spark::thrift_client::{CloseError, ThriftClient};
use crate::spark::thrift_session::SessionHandle;

/// The connection's client waits so long for the status to tell of it: less than Envoy waits. The write goes on.
const WRITE_PATIENCE: Duration = Duration::from_secs(3);
/// Writes of one list, each after one that somebody else's came before.
const WRITE_ATTEMPTS: usize = 10;
/// Sessions whose connections are being closed, and connections of one.
const SESSIONS_AT_A_TIME: usize = 32;
const CLOSINGS_AT_A_TIME: usize = 8;
/// Writers of the same list in this replica would only get in each other's way. Those of lists that share a turn by
/// chance wait for each other, too.
const TURNS: usize = 256;
/// Connections of one session that wait to be listed: beyond, they are not.
const MOST_LISTINGS: usize = 64;

/// All clones are one.
#[derive(Clone)]
pub struct ThriftSessions {
    stores: Arc<Stores>,
    writer: SessionWriter,
    thrift: ThriftClient,
    held: Arc<HeldHandles>,
    kept: Arc<Notify>,
    pub(super) under_way: Arc<UnderWay>,
    closing: Arc<Semaphore>,
    turns: Arc<[Semaphore]>,
    /// By session.
    listings: Arc<FairShares<String>>,
}

impl ThriftSessions {
    pub fn new(stores: Arc<Stores>, writer: SessionWriter) -> anyhow::Result<Self> {
        Ok(Self {
            stores,
            writer,
            thrift: ThriftClient::new()?,
            held: Arc::default(),
            kept: Arc::default(),
            under_way: Arc::default(),
            closing: Arc::new(Semaphore::new(SESSIONS_AT_A_TIME)),
            turns: (0..TURNS).map(|_| Semaphore::new(1)).collect(),
            listings: FairShares::new(Limits { most: usize::MAX, shares_of_one: MOST_LISTINGS }),
        })
    }

    /// A session was opened on the Thrift Server: enters it into the status. A failure is logged: the connection works
    /// all the same.
    pub async fn opened(&self, opening: &Opening, on_its_way: OnItsWay, handle: SessionHandle) {
        let id = handle.id;
        let found = self.stores.read(|inventory| {
            let session = inventory.session(&opening.session)?;
            let same = (&session.spec.pool, &session.spec.user) == (&opening.pool, &opening.user);
            let instance = inventory.instance(session.status.assigned_instance.as_deref()?)?;
            let cluster = instance.cluster()?;
            let same = same && opening.cluster.as_ref().is_none_or(|opened_on| *opened_on == cluster);
            same.then(|| (Arc::clone(session), instance.name, cluster))
        });
        let Some((session, instance, cluster)) = found else { return self.stray(opening, handle) };
        let held = Held { handle, instance, cluster };
        let connection = ThriftConnection { id: id.to_string(), instance: held.instance.clone() };
        if !self.held.keep(&session, held) {
            tracing::warn!(session = opening.session, %id, "too many connections: one more cannot be closed from here");
        }
        self.kept.notify_one();
        let Ok(listing) = self.listings.take(opening.session.clone(), 1) else {
            tracing::debug!(session = opening.session, %id, "too many connections at once: one more is not listed");
            return;
        };
        let this = self.clone();
        let written = tokio::spawn(async move {
            let _listing = listing;
            let written = this.change(&session, |now, open| {
                // Those on an instance that it has left are lost.
                open.retain(|open| Some(&open.instance) == now.status.assigned_instance.as_ref());
                if open.iter().all(|open| open.id != connection.id) {
                    open.push(connection.clone());
                }
                // Of clients that went without a word.
                open.drain(..open.len().saturating_sub(MOST_OF_SESSION));
            });
            let written = written.await;
            drop(on_its_way);
            written
        });
        match tokio::time::timeout(WRITE_PATIENCE, written).await {
            Ok(Ok(Ok(_))) => tracing::debug!(session = opening.session, %id, "connection opened"),
            Ok(Ok(Err(error))) => {
                tracing::warn!(session = opening.session, %id, %error, "an open connection is not listed");
            }
            Ok(Err(error)) => {
                tracing::error!(session = opening.session, %id, %error, "an open connection is not listed");
            }
            Err(_) => tracing::warn!(session = opening.session, %id, "an open connection is not listed yet"),
        }
    }

    /// The session was deleted while its connection was being opened, or has another server by now: `run` closes it.
    fn stray(&self, opening: &Opening, handle: SessionHandle) {
        let id = handle.id;
        tracing::info!(session = opening.session, %id, "a connection was opened of a session that is gone");
        let Some(cluster) = opening.cluster.clone() else { return };
        let Some((instance, _)) = cluster.split_once('/') else { return };
        let held = Held { handle, instance: instance.to_owned(), cluster };
        if !self.held.keep_stray(opening, held) {
            tracing::warn!(session = opening.session, %id, "too many connections: one more cannot be closed from here");
        }
        self.kept.notify_one();
    }

    /// The client closes a connection, which ends the session with its last one. A failure is logged: Spark closes it all
    /// the same, and the session ends for being idle.
    pub async fn client_closes(&self, session: &str, id: Uuid, now: Timestamp) {
        let uid = self.stores.read(|inventory| inventory.session(session).map(|now| now.meta.uid.clone()));
        let Some(uid) = uid else { return };
        match self.closed(session, id).await {
            Ok(true) => self.end(session, Closed { uid, at: now }).await,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(session, %id, %error, "a connection that its client has closed is still listed");
            }
        }
    }

    /// Ends a session whose last connection was closed, unless somebody connects at this moment.
    async fn end(&self, session: &str, closed: Closed) {
        let Some(_ending) = self.under_way.end(session, closed.clone(), Instant::now()) else { return };
        let over = |now: &Session| now.meta.uid == closed.uid && now.status.connections.is_empty();
        if let Err(error) = self.writer.release_if(session, closed.at, over).await {
            tracing::warn!(session, %error, "a session whose last connection was closed goes on until it is idle");
        }
    }

    /// Takes a connection that its client closes out of the status. Whether it was the session's last one.
    async fn closed(&self, session: &str, id: Uuid) -> Result<bool, ConnectionsError> {
        let Some(session) = self.stores.read(|inventory| inventory.session(session).cloned()) else {
            return Ok(false);
        };
        let held = self.held.forget(&session.meta.uid, id);
        let (mut listed, mut left) = (false, 0);
        let id = id.to_string();
        if !held && session.status.connections.iter().all(|open| open.id != id) {
            // Another replica may have entered it just now.
            self.writer.refresh_one(session.name()).await?;
        }
        self.change(&session, |now, open| {
            open.retain(|open| Some(&open.instance) == now.status.assigned_instance.as_ref());
            let before = open.len();
            open.retain(|open| open.id != id);
            (listed, left) = (open.len() < before, open.len());
        })
        .await?;
        Ok((held || listed) && left == 0)
    }

    /// Closes the connections of sessions that end, and ends those that were to end while somebody connected, until the
    /// process does.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut changes = StreamMap::new();
        let mut closings = JoinSet::new();
        // Where something may have changed; `None`: anywhere.
        let mut changed: Option<String> = None;
        loop {
            let pools = self.held.pools();
            let forgotten: Vec<_> = changes.keys().filter(|pool| !pools.contains(*pool)).cloned().collect();
            for pool in forgotten {
                changes.remove(&pool);
            }
            for pool in pools {
                if !changes.contains_key(&pool) {
                    let stream = WatchStream::from_changes(self.stores.changes(&pool));
                    changes.insert(pool, stream);
                }
            }
            for due in self.stores.read(|inventory| self.held.take_due(inventory, changed.as_deref())) {
                closings.spawn(self.clone().close(due));
            }
            tokio::select! {
                () = self.kept.notified() => changed = None,
                Some((pool, ())) = changes.next(), if !changes.is_empty() => changed = Some(pool),
                (session, closed) = self.under_way.due() => {
                    let this = self.clone();
                    closings.spawn(async move { this.end(&session, closed).await });
                }
                Some(ended) = closings.join_next(), if !closings.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "closing a session or its connections failed");
                    }
                }
            }
        }
    }

    async fn close(self, due: Due) {
        // Closed by nobody.
        let _permit = self.closing.acquire().await;
        let Due { session: name, uid, user, handles } = due;
        let (this, told, user) = (&self, &name, &user);
        let closings = handles.into_iter().map(|held| async move {
            let id = held.handle.id;
            match this.close_one(user, &held).await {
                Ok(()) => {
                    tracing::info!(session = told, %id, "connection closed");
                    Some(id.to_string())
                }
                Err(error) => {
                    tracing::warn!(session = told, %id, %error, "connection not closed");
                    None
                }
            }
        });
        let closed: Vec<_> = stream::iter(closings).buffer_unordered(CLOSINGS_AT_A_TIME).collect().await;
        let closed: Vec<_> = closed.into_iter().flatten().collect();
        let session = self.stores.read(|inventory| inventory.session(&name).cloned());
        let Some(session) = session.filter(|session| session.meta.uid == uid) else { return };
        let written = self.change(&session, |_, open| open.retain(|open| !closed.contains(&open.id))).await;
        if let Err(error) = written {
            tracing::warn!(session = name, %error, "closed connections are still listed");
        }
    }

    /// With a server that is gone, so is the connection.
    async fn close_one(&self, user: &str, held: &Held) -> Result<(), CloseError> {
        let address = self.stores.read(|inventory| {
            let instance = inventory.instance(&held.instance)?;
            instance.endpoint.filter(|_| instance.cluster().as_ref() == Some(&held.cluster))
        });
        let Some(address) = address else { return Ok(()) };
        match self.thrift.close_session(address, user, &held.handle).await {
            // Once more: the server may just have closed an idle connection.
            Err(CloseError::NoAnswer { .. }) => self.thrift.close_session(address, user, &held.handle).await,
            outcome => outcome,
        }
    }

    /// Writes the list as `edit` leaves it, over this very session's present one. Nothing is written of a session that
    /// is gone.
    async fn change(
        &self,
        session: &Session,
        mut edit: impl FnMut(&Session, &mut Vec<ThriftConnection>) + Send,
    ) -> Result<(), ConnectionsError> {
        let mut hash = DefaultHasher::new();
        session.name().hash(&mut hash);
        // Closed by nobody.
        let _turn = self.turns[hash.finish() as usize % TURNS].acquire().await;
        for _ in 0..WRITE_ATTEMPTS {
            let now = self.stores.read(|inventory| inventory.session(session.name()).cloned());
            let Some(now) = now.filter(|now| now.meta.uid == session.meta.uid) else { return Ok(()) };
            let mut connections = now.status.connections.clone();
            edit(&now, &mut connections);
            if connections == now.status.connections
                || self.writer.set_connections(&now, &connections).await?
            {
                return Ok(());
            }
            self.writer.refresh_one(session.name()).await?;
            let newer = |newer: &Arc<Session>| newer.meta.resource_version > now.meta.resource_version;
            if !self.stores.read(|inventory| inventory.session(session.name()).is_some_and(newer)) {
                // It is gone, which the watch has yet to show.
                return Ok(());
            }
        }
        Err(ConnectionsError::Contended)
    }
}

impl edge::Openings for ThriftSessions {
    type OnItsWay = OnItsWay;

    async fn opens(&self, opening: &Opening) -> Result<(SessionConf, OnItsWay), Denial> {
        let on_its_way = self.under_way.opens(&opening.session, Instant::now());
        let conf = session_confs::conf_of_opened(&self.stores, opening).await?;
        Ok((conf, on_its_way))
    }

    async fn opened(&self, opening: &Opening, on_its_way: OnItsWay, handle: SessionHandle) {
        self.opened(opening, on_its_way, handle).await;
    }
}

/// Why the list of a session's connections is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionsError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the session has been changed by others at each of {WRITE_ATTEMPTS} attempts")]
    Contended,
}

#[cfg(test)]
#[path = "thrift_sessions_tests.rs"]
mod tests;
