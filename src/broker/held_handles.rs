//! The handles of Thrift sessions that this replica has seen being opened: their secret halves are nowhere else.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::api::SessionState;
use crate::model::{Inventory, Opening, Session};
use crate::spark::thrift_session::SessionHandle;

/// More are not kept, in all sessions together: 100 bytes or so each.
const MOST: usize = 100_000;
/// Of one session: what its status lists. With one more, the one that was opened first is closed.
pub const MOST_OF_SESSION: usize = 500;

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
    /// How many were ever kept.
    serial: u64,
    /// By the session's UID.
    sessions: HashMap<String, OfSession>,
    /// Of sessions that go on and have too many: not counted any more.
    crowded_out: Vec<Due>,
}

struct OfSession {
    session: String,
    pool: String,
    user: String,
    /// Each with the serial number with which it came.
    handles: HashMap<Uuid, (u64, Held)>,
}

impl OfSession {
    fn new(session: String, pool: String, user: String) -> Self {
        Self { session, pool, user, handles: HashMap::new() }
    }

    /// Takes out the one that was opened first.
    fn take_first(&mut self) -> Option<Held> {
        let (id, _) = self.handles.iter().min_by_key(|(_, (serial, _))| *serial)?;
        let id = *id;
        self.handles.remove(&id).map(|(_, held)| held)
    }

    fn due(&self, uid: &str, handles: Vec<Held>) -> Due {
        let (session, user) = (self.session.clone(), self.user.clone());
        Due { session, uid: uid.to_owned(), user, handles }
    }
}

impl HeldHandles {
    /// Whether there was room for it. It gets the place of its session's first one, if there are many: that is due then.
    pub fn keep(&self, session: &Session, held: Held) -> bool {
        let (pool, user) = (session.spec.pool.clone(), session.spec.user.clone());
        self.insert(&session.meta.uid, OfSession::new(session.meta.name.clone(), pool, user), held)
    }

    /// The same for a handle whose session is gone: it is due at once.
    pub fn keep_stray(&self, opening: &Opening, held: Held) -> bool {
        let Opening { session, pool, user, .. } = opening.clone();
        // The UID of no session.
        let uid = format!("stray {}", held.handle.id);
        self.insert(&uid, OfSession::new(session, pool, user), held)
    }

    fn insert(&self, uid: &str, new: OfSession, held: Held) -> bool {
        let mut state = self.lock();
        if state.count >= MOST {
            return false;
        }
        state.serial += 1;
        let State { count, serial, sessions, crowded_out } = &mut *state;
        let of_session = sessions.entry(uid.to_owned()).or_insert(new);
        let new = of_session.handles.insert(held.handle.id, (*serial, held)).is_none();
        *count += usize::from(new);
        if of_session.handles.len() > MOST_OF_SESSION
            && let Some(first) = of_session.take_first()
        {
            crowded_out.push(of_session.due(uid, vec![first]));
            *count -= 1;
        }
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

    /// Takes out what is to be closed: all of sessions that are ending, have ended or are gone, and the first of those that
    /// have too many. Drops what is on servers that are not there any more. Looks at one pool, or at all.
    pub fn take_due(&self, inventory: &Inventory, pool: Option<&str>) -> Vec<Due> {
        let mut state = self.lock();
        let mut clusters = HashMap::new();
        let mut is_there = |held: &Held| {
            let cluster = clusters.entry(held.instance.clone());
            let now = cluster.or_insert_with(|| inventory.instance(&held.instance)?.cluster());
            now.as_deref() == Some(held.cluster.as_str())
        };
        let (mut due, mut dropped) = (std::mem::take(&mut state.crowded_out), 0);
        state.sessions.retain(|uid, of_session| {
            if pool.is_some_and(|pool| of_session.pool != pool) {
                return true;
            }
            let before = of_session.handles.len();
            of_session.handles.retain(|_, (_, held)| is_there(held));
            if goes_on(inventory, &of_session.session, uid) {
                dropped += before - of_session.handles.len();
                return !of_session.handles.is_empty();
            }
            dropped += before;
            let handles = of_session.handles.drain().map(|(_, (_, held))| held).collect();
            due.push(of_session.due(uid, handles));
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
