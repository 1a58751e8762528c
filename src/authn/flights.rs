//! Logins that are under way, one for the same credentials: whoever comes meanwhile waits for the same answer.
//!
//! A login that asks the provider runs to its end even if everybody who waited for it goes away, since its outcome counts
//! all the same. One that still waits for its turn is given up then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Notify;

use super::logins::{Key, Outcome};

#[derive(Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<Key, Flight>>,
}

struct Flight {
    outcome: Shared<BoxFuture<'static, Outcome>>,
    callers: Arc<Callers>,
}

/// Who waits for a login.
#[derive(Default)]
pub(super) struct Callers {
    /// Changed only while the flights are locked, but for those who leave.
    waiting: AtomicUsize,
    left: Notify,
}

impl Callers {
    /// Perhaps somebody has come since: [`Flights::give_up`] looks again.
    pub async fn all_left(&self) {
        self.left.notified().await;
    }
}

/// One of those who wait.
pub(super) struct Caller {
    outcome: Shared<BoxFuture<'static, Outcome>>,
    callers: Arc<Callers>,
}

impl Caller {
    pub async fn outcome(self) -> Outcome {
        self.outcome.clone().await
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if self.callers.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.callers.left.notify_one();
        }
    }
}

pub(super) enum Joined<T> {
    Done(T),
    UnderWay(Caller),
}

impl Flights {
    /// What `look` finds done already, else the login that is under way for `key`, else the one that `begin` makes. No
    /// login for `key` can end meanwhile, so that none is asked for twice. Whoever began one calls [`Self::landed`] in
    /// it, after it was remembered.
    pub fn join<T, P>(
        &self,
        key: Key,
        look: impl FnOnce() -> Result<T, P>,
        begin: impl FnOnce(P, Arc<Callers>) -> BoxFuture<'static, Outcome>,
    ) -> Joined<T> {
        let mut flights = self.lock();
        let plan = match look() {
            Ok(done) => return Joined::Done(done),
            Err(plan) => plan,
        };
        let flight = flights.entry(key).or_insert_with(|| {
            let callers = Arc::<Callers>::default();
            let outcome = begin(plan, Arc::clone(&callers)).shared();
            // A task of its own: what its callers leave (Envoy's timeout) is counted and told all the same.
            tokio::spawn(outcome.clone());
            Flight { outcome, callers }
        });
        flight.callers.waiting.fetch_add(1, Ordering::AcqRel);
        Joined::UnderWay(Caller { outcome: flight.outcome.clone(), callers: Arc::clone(&flight.callers) })
    }

    /// Whether really nobody waits for this login. Then nobody will: the next one with these credentials begins anew.
    pub fn give_up(&self, key: &Key, callers: &Arc<Callers>) -> bool {
        let mut flights = self.lock();
        let nobody = callers.waiting.load(Ordering::Acquire) == 0;
        if nobody {
            remove(&mut flights, key, callers);
        }
        nobody
    }

    pub fn landed(&self, key: &Key, callers: &Arc<Callers>) {
        remove(&mut self.lock(), key, callers);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Flight>> {
        // Every edit is one operation of the map: a panic leaves it whole.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only this one: after one was given up, another may be under way.
fn remove(flights: &mut HashMap<Key, Flight>, key: &Key, callers: &Arc<Callers>) {
    if flights.get(key).is_some_and(|flight| Arc::ptr_eq(&flight.callers, callers)) {
        flights.remove(key);
    }
}
