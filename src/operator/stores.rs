//! The inventory behind a lock, and who is told when it changes.

mod lists;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Notify, watch};

use super::history::History;
use super::outage::ApiServer;
use super::queue::WorkQueue;
use crate::model::{Inventory, Kind, Object, Policy, Session, SparkSide};

pub use lists::List;

/// What this replica knows of the cluster. Watches write it; the planner, the broker and the
/// translation to xDS read it. No lock is held across an `.await`.
pub struct Stores {
    inventory: RwLock<State>,
    /// Pools to plan.
    pub queue: WorkQueue,
    pub api_server: ApiServer,
    pub history: History,
    /// Something changed that Envoy or the readiness probes have to know.
    pub servers_changed: Notify,
    /// The same for the second listener: a `Notify` wakes one.
    pub routing_changed: Notify,
    /// And for the third.
    pub drivers_changed: Notify,
    watches: usize,
    synced: watch::Sender<usize>,
    probed: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    inventory: Inventory,
    /// The newest resource version that the watch of each kind has shown.
    seen: HashMap<Kind, u64>,
    /// Those who wait for a change in a pool.
    waiters: HashMap<String, watch::Sender<()>>,
    /// By pool: sessions that were deleted before they had ended.
    deleted: HashMap<String, Vec<Arc<Session>>>,
    lists: lists::UnderWay,
    /// How often the API server was set back.
    epoch: u64,
    /// In which of these times each kind was listed last.
    listed_in: HashMap<Kind, u64>,
}

/// What a change concerns.
#[derive(Default)]
struct Touched {
    pools: Vec<String>,
    /// Whether Envoy and the readiness probes may have to know.
    servers: bool,
}

impl State {
    /// Statuses change with every session, and Envoy is told of none of them: without this distinction a session would
    /// cost as much as there are pools and servers.
    fn put(&mut self, object: Object) -> Touched {
        let servers = object.kind() != Kind::Session && !self.inventory.differs_in_status_alone(&object);
        Touched { pools: self.inventory.put(object), servers }
    }

    fn remove(&mut self, kind: Kind, name: &str) -> Touched {
        if kind == Kind::Session
            && let Some(session) = self.inventory.session(name).filter(|session| !session.is_finished())
        {
            self.deleted.entry(session.spec.pool.clone()).or_default().push(Arc::clone(session));
        }
        Touched { pools: self.inventory.remove(kind, name), servers: kind != Kind::Session }
    }

    /// Enters an answer of the API server, if it is newer than what is known.
    fn answered(&mut self, object: Object) -> Touched {
        let (kind, version) = (object.kind(), object.meta().resource_version);
        let newer = match self.inventory.version(kind, &object.meta().name) {
            Some(known) => version > known,
            // Unknown, though the watch is past it: deleted in the meantime.
            None => version > self.seen.get(&kind).copied().unwrap_or(0),
        };
        if newer { self.put(object) } else { Touched::default() }
    }
}

/// How many kinds are watched in any case: pools, sessions, applications, Pods, tokens.
const WATCHES: usize = 5;

impl Stores {
    /// Without TLS towards clients, and without the interceptor of Connect servers.
    pub fn new() -> Arc<Self> {
        Self::with_policy(Policy::default())
    }

    pub fn with_policy(policy: Policy) -> Arc<Self> {
        let inventory = Inventory::with_policy(policy);
        Arc::new(Self {
            watches: WATCHES + usize::from(inventory.needs_certificates()),
            inventory: RwLock::new(State { inventory, ..State::default() }),
            queue: WorkQueue::default(),
            api_server: ApiServer::default(),
            history: History::default(),
            servers_changed: Notify::new(),
            routing_changed: Notify::new(),
            drivers_changed: Notify::new(),
            synced: watch::Sender::new(0),
            probed: watch::Sender::new(false),
        })
    }

    pub fn read<T>(&self, question: impl FnOnce(&Inventory) -> T) -> T {
        question(&self.lock_read().inventory)
    }

    /// Enters what a watch has shown. Not what it has listed: see [`List`].
    pub fn shown(&self, object: Object) {
        let kind = object.kind();
        self.change(|state| {
            state.entered(kind, &object.meta().name);
            let seen = state.seen.entry(kind).or_default();
            *seen = (*seen).max(object.meta().resource_version);
            // Someone else's write, from before the answer that is known already: what the plan
            // decided since then must not be taken back. Or that very answer: nothing to plan again.
            let known = state.inventory.version(kind, &object.meta().name).filter(|version| *version > 0);
            match known {
                Some(known) if object.meta().resource_version <= known => Touched::default(),
                _ => state.put(object),
            }
        });
    }

    /// Enters what the API server answered to a write, so that the next plan knows it before the
    /// watch has shown it. What the watch has shown since then stands.
    pub fn written(&self, object: Object) {
        self.change(|state| {
            state.entered(object.kind(), &object.meta().name);
            state.answered(object)
        });
    }

    /// Enters that there is an object, which cannot be read. Only of pools that matters: a pool that is not there ends
    /// its sessions.
    pub fn unreadable(&self, kind: Kind, name: &str, problem: &str) {
        if kind == Kind::Pool {
            self.note(false, |inventory| inventory.pool_unreadable(name, problem));
        }
    }

    /// `version`: that of the deletion, 0 where it is not known.
    pub fn gone(&self, kind: Kind, name: &str, version: u64) {
        self.change(|state| {
            state.entered(kind, name);
            let seen = state.seen.entry(kind).or_default();
            *seen = (*seen).max(version);
            // A namesake has taken its place since then, and is known by what the API server answered.
            if version > 0 && state.inventory.version(kind, name).is_some_and(|known| known > version) {
                return Touched::default();
            }
            state.remove(kind, name)
        });
    }

    /// Sessions of the pool that were deleted before they had ended, since this was last asked.
    pub fn take_deleted(&self, pool: &str) -> Vec<Arc<Session>> {
        // Asked before every plan, and hardly ever there: that need not keep readers out.
        if !self.lock_read().deleted.contains_key(pool) {
            return Vec::new();
        }
        self.lock_write().deleted.remove(pool).unwrap_or_default()
    }

    pub fn server_answers(&self, pod_uid: &str) {
        self.note(true, |inventory| inventory.server_answers(pod_uid));
    }

    pub fn server_lost(&self, pod_uid: &str) {
        self.note(true, |inventory| inventory.server_lost(pod_uid));
    }

    pub fn server_found(&self, pod_uid: &str) {
        // Asked for every server in every round.
        if !self.read(|inventory| inventory.is_lost(pod_uid)) {
            return;
        }
        self.note(true, |inventory| inventory.server_found(pod_uid));
    }

    /// Notes the last lines of the log of a driver that failed.
    pub fn driver_said(&self, pod_uid: &str, words: String) {
        self.note(false, |inventory| inventory.driver_said(pod_uid, words));
    }

    /// Changes what is known of how busy the drivers are. Which pools have to be planned again is for the caller to say:
    /// figures change all the time, and seldom what they ask for.
    pub fn note_usage(&self, note: impl FnOnce(&mut Inventory)) {
        note(&mut self.lock_write().inventory);
    }

    /// Notes what came of an attempt on the session's Spark server.
    pub fn note_spark_side(&self, session: &str, uid: &str, note: impl FnOnce(&mut SparkSide)) {
        self.note(false, |inventory| inventory.note_spark_side(session, uid, note));
    }

    /// Enters what this replica has found out itself: `edit` returns the pool if that is news. `servers`: whether it is
    /// news for Envoy and the readiness probes, too.
    fn note(&self, servers: bool, edit: impl FnOnce(&mut Inventory) -> Option<String>) {
        self.change(|state| {
            let pools = edit(&mut state.inventory).into_iter().collect();
            Touched { pools, servers }
        });
    }

    fn change(&self, edit: impl FnOnce(&mut State) -> Touched) {
        let touched = {
            let mut state = self.lock_write();
            let touched = edit(&mut state);
            for pool in &touched.pools {
                if state.waiters.get(pool).is_some_and(|waiters| waiters.send(()).is_err()) {
                    // Nobody waits any more.
                    state.waiters.remove(pool);
                }
            }
            touched
        };
        if touched.pools.is_empty() {
            return;
        }
        for pool in touched.pools {
            self.queue.add(&pool);
        }
        if touched.servers {
            self.servers_changed.notify_one();
            self.routing_changed.notify_one();
            self.drivers_changed.notify_one();
        }
    }

    /// Tells of every change in the pool, its instances and its sessions from now on.
    pub fn changes(&self, pool: &str) -> watch::Receiver<()> {
        let mut state = self.lock_write();
        state.waiters.entry(pool.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// A watch has listed everything once.
    pub fn watch_synced(&self) {
        self.synced.send_modify(|count| *count += 1);
    }

    pub fn is_synced(&self) -> bool {
        *self.synced.borrow() >= self.watches
    }

    pub async fn until_synced(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|count| *count >= self.watches).await;
    }

    /// Every server that was there at the start has been asked once.
    pub fn first_probes_done(&self) {
        self.probed.send_replace(true);
    }

    /// Until then servers that answer look as if they did not: nothing should be planned on that.
    pub async fn until_probed(&self) {
        let _ = self.probed.subscribe().wait_for(|probed| *probed).await;
    }

    // A panic while the lock was held leaves data that is whole: every edit is a map operation.
    fn lock_read(&self) -> RwLockReadGuard<'_, State> {
        self.inventory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_write(&self) -> RwLockWriteGuard<'_, State> {
        self.inventory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "stores_tests.rs"]
mod tests;
