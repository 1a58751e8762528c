//! OpenSession calls that are on their way: let through to Spark, and not among their session's connections yet. While
//! there are any, the session does not end with the last connection that it lists.
//!
//! Not here: calls that other replicas have let through. Where one of those comes too late, its client hears so on its
//! next call, and what was opened is closed (`thrift_sessions`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

/// Until Envoy brings the call itself, which may wait for its cluster first. Its client may have gone, or Envoy may bring
/// it to another replica.
const TO_COME: Duration = Duration::from_secs(8);
/// Until Spark has opened it. Streams of Envoy's end before, unless nobody notices that it is gone.
const TO_OPEN: Duration = Duration::from_mins(5);
/// Calls that have yet to come, of all sessions together: more are let through and not counted.
const MOST: usize = 10_000;
/// The same of one session.
const MOST_OF_SESSION: usize = 500;
/// How often at most those that did not come are looked for.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct UnderWay {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<String, OfSession>,
    to_come: usize,
    swept_at: Option<Instant>,
    /// Of `OnItsWay`.
    last_number: u64,
    /// Sessions that are to end when nobody is on the way any more.
    closed: HashMap<String, Closed>,
}

/// By when a call has come, or is open: later it does not count any more.
#[derive(Default)]
struct OfSession {
    /// In order.
    to_come: VecDeque<Instant>,
    to_open: BTreeMap<u64, Instant>,
    /// Its end is being written.
    ending: bool,
}

/// The last listed connection of this very session was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub uid: String,
    pub at: Timestamp,
}

impl OfSession {
    /// Until when it may have calls on their way; `None` if it has none.
    fn until(&self, now: Instant) -> Option<Instant> {
        self.to_come
            .back()
            .into_iter()
            .chain(self.to_open.values())
            .copied()
            .max()
            .filter(|until| *until > now)
    }

    fn is_over(&self, now: Instant) -> bool {
        !self.ending && self.to_open.is_empty() && self.until(now).is_none()
    }
}

impl UnderWay {
    /// The check of an OpenSession is about to be answered with a way to this session. `false` where its end is just being
    /// written: then there is no session to open any more.
    pub fn let_through(&self, session: &str, now: Instant) -> bool {
        let mut state = self.lock();
        if state.sessions.get(session).is_some_and(|of_session| of_session.ending) {
            return false;
        }
        if state.to_come >= MOST && state.swept_at.is_none_or(|at| at + SWEEP <= now) {
            state.forget_late(now);
        }
        let of_session = state.sessions.get(session).map_or(0, |of_session| of_session.to_come.len());
        if state.to_come < MOST && of_session < MOST_OF_SESSION {
            state.to_come += 1;
            let of_session = state.sessions.entry(session.to_owned()).or_default();
            of_session.to_come.push_back(now + TO_COME);
        }
        true
    }

    /// The call has come.
    pub fn opens(self: &Arc<Self>, session: &str, now: Instant) -> OnItsWay {
        let mut state = self.lock();
        state.last_number += 1;
        let number = state.last_number;
        let of_session = state.sessions.entry(session.to_owned()).or_default();
        let came = of_session.to_come.pop_front().is_some();
        of_session.to_open.insert(number, now + TO_OPEN);
        state.to_come -= usize::from(came);
        drop(state);
        OnItsWay { under_way: Arc::clone(self), session: session.to_owned(), number }
    }

    /// Leave to write the session's end. `None` while somebody else has it, or calls are on their way: then the session
    /// is `due` when there are none any more.
    pub fn end(self: &Arc<Self>, session: &str, closed: Closed, now: Instant) -> Option<Ending> {
        let mut state = self.lock();
        let of_session = state.sessions.entry(session.to_owned()).or_default();
        if of_session.ending {
            return None;
        }
        if of_session.until(now).is_some() {
            state.closed.insert(session.to_owned(), closed);
            drop(state);
            self.changed.send_replace(());
            return None;
        }
        of_session.ending = true;
        state.closed.remove(session);
        Some(Ending { under_way: Arc::clone(self), session: session.to_owned() })
    }

    /// The next session that was to end while calls were on their way, as soon as there are none.
    pub async fn due(&self) -> (String, Closed) {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            let next = match self.lock().take_due(Instant::now()) {
                Ok(due) => return due,
                Err(next) => next,
            };
            let in_time = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                () = in_time => {}
            }
        }
    }

    /// Until nobody writes the session's end.
    pub async fn until_ended(&self, session: &str) {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            if self.lock().sessions.get(session).is_none_or(|of_session| !of_session.ending) {
                return;
            }
            // Its sender is here.
            let _ = changes.changed().await;
        }
    }

    fn edit(&self, session: &str, edit: impl FnOnce(&mut OfSession)) {
        let mut state = self.lock();
        let Some(of_session) = state.sessions.get_mut(session) else { return };
        edit(of_session);
        if of_session.is_over(Instant::now()) {
            let late = state.sessions.remove(session).map_or(0, |of_session| of_session.to_come.len());
            state.to_come -= late;
        }
        drop(state);
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves data that is whole: every edit is a map operation.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_late(&mut self, now: Instant) {
        self.swept_at = Some(now);
        self.sessions.retain(|_, of_session| {
            of_session.to_come.retain(|until| *until > now);
            !of_session.is_over(now)
        });
        self.to_come = self.sessions.values().map(|of_session| of_session.to_come.len()).sum();
    }

    /// Or when to look again.
    fn take_due(&mut self, now: Instant) -> Result<(String, Closed), Option<Instant>> {
        let until =
            |session: &String| self.sessions.get(session).and_then(|of_session| of_session.until(now));
        match self.closed.keys().map(|session| (until(session), session)).min() {
            Some((None, session)) => {
                let session = session.clone();
                let closed = self.closed.remove(&session);
                closed.map(|closed| (session, closed)).ok_or(None)
            }
            next => Err(next.and_then(|(until, _)| until)),
        }
    }
}

/// A call that is on its way for as long as this lives.
pub struct OnItsWay {
    under_way: Arc<UnderWay>,
    session: String,
    number: u64,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.under_way.edit(&self.session, |of_session| {
            of_session.to_open.remove(&self.number);
        });
    }
}

/// Leave to write a session's end, for as long as this lives.
pub struct Ending {
    under_way: Arc<UnderWay>,
    session: String,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.under_way.edit(&self.session, |of_session| of_session.ending = false);
    }
}

#[cfg(test)]
#[path = "under_way_tests.rs"]
mod tests;
