//! Sessions by their pool, their owner, their Spark session id and the handles of their Thrift connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Inventory, remove_from};
use crate::api::{ClientConnectionStatus, SessionState, SparkInteractiveSessionStatus};
use crate::model::{ClientConnection, Meta, Protocol, Session, SparkSide};

impl Inventory {
    /// Sessions of a Spark Connect id in a pool, oldest first. More than one only where someone
    /// made a second object by hand.
    pub fn sessions_with_spark_id(&self, pool: &str, id: Uuid) -> Vec<&Arc<Session>> {
        let names = self.sessions_by_spark_id.get(&id).into_iter().flatten();
        let mut found: Vec<_> =
            names.filter_map(|name| self.sessions.get(name)).filter(|s| s.spec.pool == pool).collect();
        found.sort_by_key(|session| age(session));
        found
    }

    /// Sessions whose status lists the Thrift connection with this handle. More than one only where someone has written a
    /// status by hand.
    pub fn sessions_with_connection(&self, handle: Uuid) -> impl Iterator<Item = &Arc<Session>> {
        let names = self.sessions_by_thrift_handle.get(&handle).into_iter().flatten();
        names.filter_map(|name| self.sessions.get(name))
    }

    /// A session of this Spark Connect id that is over, wherever it was.
    pub fn ended_with_spark_id(&self, id: Uuid) -> Option<&Arc<Session>> {
        let names = self.sessions_by_spark_id.get(&id).into_iter().flatten();
        let known = names.filter_map(|name| self.sessions.get(name)).find(|session| session.is_finished());
        known.or_else(|| self.departed.with_spark_id(id))
    }

    /// The last session of this name in the pool, if it is gone.
    pub fn departed_named(&self, pool: &str, user: &str, name: &str) -> Option<&Arc<Session>> {
        self.departed.named(pool, user, name)
    }

    /// The last pool of this host and type that is gone.
    pub fn departed_pool(&self, host: &str, protocol: Protocol) -> Option<&str> {
        self.departed.pool_at(host, protocol)
    }

    /// Sessions of a user in a pool, oldest first.
    pub fn sessions_of(&self, pool: &str, user: &str) -> Vec<&Arc<Session>> {
        let names = self.sessions_by_owner.get(pool).and_then(|users| users.get(user)).into_iter().flatten();
        let mut found: Vec<_> = names.filter_map(|name| self.sessions.get(name)).collect();
        found.sort_by_key(|session| age(session));
        found
    }

    /// Oldest first.
    pub fn sessions_in(&self, pool: &str) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions_by_pool.get(pool).into_iter().flat_map(BTreeMap::values)
    }

    /// Sessions whose clients have sent requests over this connection, by name.
    pub fn sessions_over(&self, connection: &ClientConnection) -> impl Iterator<Item = &Arc<Session>> {
        let names = self.sessions_by_connection.get(connection).into_iter().flatten();
        names.filter_map(|name| self.sessions.get(name))
    }

    /// What was done on its Spark server for the session with this UID.
    pub fn spark_side(&self, uid: &str) -> Option<&SparkSide> {
        self.spark_sides.get(uid)
    }

    /// Notes what came of an attempt on the session's Spark server. Returns the pool if that is news; nothing if the
    /// session with this UID is gone.
    pub fn note_spark_side(
        &mut self,
        session: &str,
        uid: &str,
        note: impl FnOnce(&mut SparkSide),
    ) -> Option<String> {
        let session = self.sessions.get(session).filter(|session| session.meta.uid == uid)?;
        let side = self.spark_sides.entry(uid.to_owned()).or_default();
        let before = side.clone();
        note(side);
        (*side != before).then(|| session.spec.pool.clone())
    }

    /// Touches no pool where nothing has changed that anybody decides by: labels, annotations and managed fields of
    /// sessions change without end, and each would have its whole pool planned. So does the last use of a session, of
    /// which the plan needs no news unless the session is idle: when it is to become so, the plan looks by itself.
    pub(super) fn put_session(&mut self, mut session: Session) -> Vec<String> {
        let name = session.meta.name.clone();
        let old = self.sessions.get(&name).filter(|old| old.meta.uid == session.meta.uid);
        if let Some(old) = old {
            session.arrived = old.arrived;
        }
        let same = old.is_some_and(|old| {
            decisive(&old.meta) == decisive(&session.meta)
                && old.spec == session.spec
                && is_same_to_planner(&old.status, &session.status)
        });
        let spark_side = self.spark_sides.remove(&session.meta.uid);
        self.remove_session(&name);
        if let Some(spark_side) = spark_side {
            self.spark_sides.insert(session.meta.uid.clone(), spark_side);
        }
        let pool = session.spec.pool.clone();
        let owners = self.sessions_by_owner.entry(pool.clone()).or_default();
        owners.entry(session.spec.user.clone()).or_default().insert(name.clone());
        for id in session.spark_session_ids() {
            self.sessions_by_spark_id.entry(id).or_default().insert(name.clone());
        }
        for connection in connections(&session) {
            self.sessions_by_connection.entry(connection).or_default().insert(name.clone());
        }
        for handle in session.thrift_handles() {
            self.sessions_by_thrift_handle.entry(handle).or_default().insert(name.clone());
        }
        let session = Arc::new(session);
        let in_pool = self.sessions_by_pool.entry(pool.clone()).or_default();
        in_pool.insert(age(&session), Arc::clone(&session));
        self.sessions.insert(name, session);
        if same { Vec::new() } else { vec![pool] }
    }

    pub(super) fn remove_session(&mut self, name: &str) -> Vec<String> {
        let Some(old) = self.sessions.remove(name) else { return Vec::new() };
        self.spark_sides.remove(&old.meta.uid);
        if let Some(in_pool) = self.sessions_by_pool.get_mut(&old.spec.pool) {
            in_pool.remove(&age(&old));
            if in_pool.is_empty() {
                self.sessions_by_pool.remove(&old.spec.pool);
            }
        }
        if let Some(users) = self.sessions_by_owner.get_mut(&old.spec.pool) {
            remove_from(users, &old.spec.user, name);
            if users.is_empty() {
                self.sessions_by_owner.remove(&old.spec.pool);
            }
        }
        for id in old.spark_session_ids() {
            remove_name(&mut self.sessions_by_spark_id, &id, name);
        }
        for handle in old.thrift_handles() {
            remove_name(&mut self.sessions_by_thrift_handle, &handle, name);
        }
        for connection in connections(&old) {
            remove_name(&mut self.sessions_by_connection, &connection, name);
        }
        vec![old.spec.pool.clone()]
    }
}

fn remove_name<K: Eq + Hash>(index: &mut HashMap<K, BTreeSet<String>>, key: &K, name: &str) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}

fn connections(session: &Session) -> impl Iterator<Item = ClientConnection> {
    let open = session.status.client_connections.iter();
    open.filter_map(ClientConnectionStatus::connection)
}

/// Which connections are open matters to nobody who plans, only that none is: `disconnected_at` says so.
fn is_same_to_planner(old: &SparkInteractiveSessionStatus, new: &SparkInteractiveSessionStatus) -> bool {
    let used = old.last_activity_at != new.last_activity_at && new.state != SessionState::Idle;
    if !used && old.client_connections == new.client_connections {
        return old == new;
    }
    let without = |status: &SparkInteractiveSessionStatus| SparkInteractiveSessionStatus {
        last_activity_at: status.last_activity_at.clone().filter(|_| !used),
        client_connections: Vec::new(),
        ..status.clone()
    };
    without(old) == without(new)
}

fn decisive(meta: &Meta) -> (&str, i64, Timestamp, bool, bool) {
    (&meta.uid, meta.generation, meta.created_at, meta.deleting, meta.held)
}

/// Orders sessions, the oldest first. Kubernetes knows the second in which a session was created.
pub(super) type Age = (Timestamp, u64, String);

fn age(session: &Session) -> Age {
    (session.meta.created_at, session.arrived, session.meta.name.clone())
}
