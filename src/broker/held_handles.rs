//! The handles of Thrift sessions that this replica has seen being opened: their secret halves are nowhere else.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::api::SessionState;
use crate::model::{Inventory, Session};
use crate::spark::thrift_session::SessionHandle;

/// More are not kept, in all sessions together: 100 bytes or so each.
const MOST: usize = 100_000;

/// A session on a Thrift Server, and which server that is.
#[derive(Clone, Debug)]
pub struct Held {
    pub handle: SessionHandle,
    pub instance: String,
    /// Envoy's name of the server: a driver that took its place knows nothing of the handle.
    pub cluster: String,
}

/// What there is to be closed of one session.
#[derive(Clone, Debug)]
pub struct Due {
    pub session: String,
    pub uid: String,
    pub user: String,
    pub handles: Vec<Held>,
}

#[derive(Default)]
pub struct HeldHandles(Mutex<State>);

#[derive(Default)]
struct State {
    count: usize,
    /// By the session's UID.
    sessions: HashMap<String, OfSession>,
}

struct OfSession {
    session: String,
    pool: String,
    user: String,
    handles: HashMap<Uuid, Held>,
}

impl HeldHandles {
    /// Whether there was room for it.
    pub fn keep(&self, session: &Session, held: Held) -> bool {
        let mut state = self.lock();
        if state.count >= MOST {
            return false;
        }
        let of_session = state.sessions.entry(session.meta.uid.clone()).or_insert_with(|| OfSession {
            session: session.meta.name.clone(),
            pool: session.spec.pool.clone(),
            user: session.spec.user.clone(),
            handles: HashMap::new(),
        });
        let new = of_session.handles.insert(held.handle.id, held).is_none();
        state.count += usize::from(new);
        true
    }

    /// Whether it was held.
    pub fn forget(&self, uid: &str, id: Uuid) -> bool {
        let mut state = self.lock();
        let Some(of_session) = state.sessions.get_mut(uid) else { return false };
        let held = of_session.handles.remove(&id).is_some();
        if of_session.handles.is_empty() {
            state.sessions.remove(uid);
        }
        state.count -= usize::from(held);
        held
    }

    /// Pools with sessions whose handles are held.
    pub fn pools(&self) -> BTreeSet<String> {
        let state = self.lock();
        let names: BTreeSet<&str> = state.sessions.values().map(|of_session| &*of_session.pool).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Takes out what is to be closed: all of sessions that are ending, have ended or are gone. Drops what is on servers
    /// that are not there any more. Looks at one pool, or at all.
    pub fn take_due(&self, inventory: &Inventory, pool: Option<&str>) -> Vec<Due> {
        let mut state = self.lock();
        let mut clusters = HashMap::new();
        let mut is_there = |held: &Held| {
            let cluster = clusters.entry(held.instance.clone());
            let now = cluster.or_insert_with(|| inventory.instance(&held.instance)?.cluster());
            now.as_deref() == Some(held.cluster.as_str())
        };
        let (mut due, mut dropped) = (Vec::new(), 0);
        state.sessions.retain(|uid, of_session| {
            if pool.is_some_and(|pool| of_session.pool != pool) {
                return true;
            }
            let before = of_session.handles.len();
            of_session.handles.retain(|_, held| is_there(held));
            if goes_on(inventory, &of_session.session, uid) {
                dropped += before - of_session.handles.len();
                return !of_session.handles.is_empty();
            }
            dropped += before;
            due.push(Due {
                session: of_session.session.clone(),
                uid: uid.clone(),
                user: of_session.user.clone(),
                handles: of_session.handles.drain().map(|(_, held)| held).collect(),
            });
            false
        });
        state.count -= dropped;
        due
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves data that is whole: every edit is a map operation.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn goes_on(inventory: &Inventory, session: &str, uid: &str) -> bool {
    let session = inventory.session(session).filter(|session| session.meta.uid == uid);
    session.is_some_and(|session| !session.is_finished() && session.status.state != SessionState::Terminating)
}
